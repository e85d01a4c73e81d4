"""Passkeys and needles: their texts hold what they say, where they say, and no more than asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.measure.longembed import LongTask, needle, passkey
from sememe.testing import HashingEncoder

FILLER = " ".join(f"word{i}" for i in range(5_000))


@pytest.mark.parametrize("make", [passkey, needle])
@pytest.mark.parametrize("size", [64, 300, 2_000])
def test_texts_have_the_length_asked_for(make: Callable[..., LongTask], size: int) -> None:
    task = make(FILLER, size, n=12, seed=1)
    assert len(task.documents) == len(task.queries) == len(set(task.queries)) == 12
    for text in task.documents:
        assert 0.9 * size <= len(text.split()) <= size
    assert task == make(FILLER, size, n=12, seed=1)
    assert task != make(FILLER, size, n=12, seed=2)


def test_each_key_stands_once_and_where_it_is_said_to() -> None:
    task = passkey(FILLER, 400, n=20)
    for text, query, depth in zip(task.documents, task.queries, task.depths, strict=True):
        person = query.removeprefix("What is the pass key of ").removesuffix("?")
        assert sum(person in other for other in task.documents) == 1
        before, _, after = text.partition(person)
        share = len(before.split()) / (len(before.split()) + len(after.split()))
        assert share == pytest.approx(depth, abs=0.05)


def test_a_counter_of_ones_own_is_heeded() -> None:
    task = passkey(FILLER, 1_000, n=5, count=len)
    assert all(900 <= len(text) <= 1_000 for text in task.documents)


def test_an_encoder_that_reads_all_finds_more_than_one_that_reads_the_beginning() -> None:
    task, encoder = passkey(FILLER, 200, n=16), HashingEncoder(4_096)
    queries = encoder.encode(task.queries)
    whole = task.accuracy(encoder.encode(task.documents), queries)
    cut = task.accuracy(encoder.encode([" ".join(text.split()[:50]) for text in task.documents]), queries)
    early = np.mean([depth < 0.25 for depth in task.depths])
    assert whole > cut + 0.3 and cut <= early + 0.15


def test_ties_are_wrong() -> None:
    task = passkey(FILLER, 64, n=3)
    assert task.accuracy(np.ones((3, 2), dtype=np.float32), np.ones((3, 2), dtype=np.float32)) == 0.0
    assert task.accuracy(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)) == 1.0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="shorter than"):
        passkey("too short", 100)
    with pytest.raises(InputError, match="at most"):
        needle(FILLER, 100, n=1_000)
    with pytest.raises(InputError, match="no task"):
        passkey(FILLER, 100, n=0)
    with pytest.raises(InputError, match="vectors for"):
        passkey(FILLER, 64, n=3).accuracy(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
