"""The cores of the experiments on symbol streams, bytes and patches."""

import os
from pathlib import Path

import numpy as np
import pytest

from sememe.evidence.byte_bpe import broken, character_bpe, most_characters, paragraphs
from sememe.evidence.data import DataFolder
from sememe.evidence.sequence_bpe import LEVELS, WEEK, electricity, phones
from sememe.vocab.bpe import SequenceBPE

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[3] / "shared" / "data"))
real = pytest.mark.skipif(not (DATA / "ett").is_dir(), reason="the evaluation data is not here")


@real
def test_electricity_is_cut_in_time_and_level_on_what_is_known():
    base, train, held, isolated = electricity(DataFolder(str(DATA)))
    assert (base, isolated) == (LEVELS, ()) and {len(week) for week in train + held} == {WEEK}
    assert len(train) % 7 == len(held) % 7 == 0 and len(train) == pytest.approx(4 * len(held), rel=0.1)
    for series in range(7):
        weeks = len(train) // 7
        known = np.concatenate(train[series * weeks : (series + 1) * weeks])
        counts = np.bincount(known, minlength=LEVELS)
        assert counts.max() < 2 * counts.min()  # quantiles of just these; equal measurements stay together


@real
def test_words_are_kept_apart():
    base, train, held, isolated = phones(DataFolder(str(DATA)))
    assert isolated == (0,) and max(int(group.max()) for group in train + held) < base
    assert {int((group == 0).sum()) for group in train + held} == {20}
    merges = SequenceBPE(2 * base, base=base, isolated=isolated).fit(train[:50])
    assert all(0 not in spelled for spelled in merges.merge_list.spelled[base:])


@real
def test_articles_are_held_out_in_all_languages():
    known, held = paragraphs(DataFolder(str(DATA)))
    assert {len(texts) for texts in known.values()} == {len(known["en"])}
    assert len(known["zh"]) + len(held["zh"]) == 240
    assert not set(known["de"]) & set(held["de"])


def test_broken_bytes_are_counted_and_recovered():
    texts = ["日本語のテキスト" * 9, "Žluťoučký kůň " * 9]
    found = broken(texts, 0)
    assert found == broken(texts, 0) != broken(texts, 1)
    assert 0 < found["kept"] == found["possible"]
    assert most_characters("aé日🙂".encode()) == 4 and most_characters("é".encode()[1:] + b"a") == 1


def test_the_character_vocabulary_has_an_unknown_symbol():
    made = character_bpe(["abab abab"] * 3, 10)
    assert made.encode("ab?").ids[-1] == 0 == made.token_to_id("<unk>")
