"""Texts with needles: what is asked for is what was said last."""

import numpy as np
import pytest

pytest.importorskip("torch")

from sememe.errors import InputError
from sememe.evidence.needles import NAMES, VALUES, hay, recurring
from sememe.evidence.positions import BYTES

TEXT = np.arange(5_000) % BYTES


@pytest.mark.parametrize("repeats", [1, 3])
def test_answers_are_the_last_values_of_their_names(repeats: int) -> None:
    found = hay(TEXT, 20, 128, 5, np.random.default_rng(0), repeats=repeats)
    body = 128 - 2 * 5
    for ids, depths in zip(found.ids, found.depths):
        for answer, depth in zip(found.answers, depths):
            name, value = ids[answer - 1], ids[answer]
            assert BYTES <= name < BYTES + NAMES
            at = np.flatnonzero(ids[:body] == name)
            assert len(at) == repeats
            assert ids[at[-1] + 1] == value
            assert answer - depth == at[-1] + 1
            assert (value - BYTES - NAMES) // VALUES == name - BYTES


def test_a_cut_text_keeps_its_questions() -> None:
    whole = hay(TEXT, 4, 128, 5, np.random.default_rng(0))
    cut = whole.cut(40)
    assert cut.ids.shape == (4, 40)
    np.testing.assert_array_equal(cut.ids[:, cut.answers], whole.ids[:, whole.answers])
    assert whole.cut(500).ids.shape == (4, 128)


def test_too_many_needles_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit"):
        hay(TEXT, 1, 32, 8, np.random.default_rng(0), repeats=3)


def test_a_name_keeps_its_value_within_a_text() -> None:
    found = recurring(TEXT, 20, 128, np.random.default_rng(0), every=16)
    assert found.shape == (20, 128)
    values = set()
    for ids in found:
        at = np.flatnonzero((ids >= BYTES) & (ids < BYTES + NAMES))
        np.testing.assert_array_equal(at // 16, np.arange(8))  # one in every sixteen symbols
        said: dict[int, int] = {}
        for name, value in zip(ids[at], ids[at + 1]):
            assert (value - BYTES - NAMES) // VALUES == name - BYTES
            assert said.setdefault(int(name), int(value)) == value
        values.update(said.values())
    assert len(values) > 50  # and another one in other texts
