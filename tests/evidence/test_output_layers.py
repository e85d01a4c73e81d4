"""The cores of the experiments on output layers, wider models and joint spaces."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sememe.evidence.data import DataFolder
from sememe.evidence.decoupled import interval
from sememe.evidence.machinery import Setting
from sememe.evidence.surface_fusion import LETTERS, SIDE, TASKS, problem, words
from sememe.evidence.tied_output import brown, cosines, judged

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[3] / "shared" / "data"))
real = pytest.mark.skipif(not (DATA / "brown").is_dir(), reason="the evaluation data is not here")
SETTING = Setting(DataFolder(str(DATA)), (0,))


def test_problems_can_be_solved_by_a_program():
    known = ["abcd", "zebra", "fusionist"]
    for seed in (0, 1):
        noisy = problem(known, TASKS[0], seed)
        turned = problem(known, TASKS[1], seed)
        for rows, solve in ((noisy, lambda s: s[s <= LETTERS]), (turned, lambda s: s[::-1])):
            for row in rows:
                source, target = row[:SIDE], row[SIDE:]
                np.testing.assert_array_equal(solve(source[source > 0]), target[target > 0])
        spelled = {"".join(chr(96 + c) for c in row[SIDE:] if c) for row in noisy}
        assert spelled == set(known)
    assert (noisy > LETTERS).any()


@real
def test_words_fit_the_model():
    found = words(SETTING)
    assert len(found) == len(set(found)) == 8_000
    assert {len(word) for word in found} == set(range(4, 10))


@real
def test_words_of_brown_and_their_pairs():
    known, documents = brown(SETTING)
    ids = np.concatenate(documents)
    counts = np.bincount(ids, minlength=len(known))
    assert len(known) == len(set(known)) == 4_000
    assert (np.diff(counts[1:]) <= 0).all()
    pairs = judged(SETTING, known)
    assert len(pairs) > 500
    assert all(known[a] != known[b] for _, a, b in pairs)


def test_cosines_are_about_the_mean():
    rows = np.random.default_rng(0).standard_normal((6, 4)) + 100
    found = cosines(rows, np.array([[0, 1], [2, 2]]))
    a, b = rows[0] - rows.mean(0), rows[1] - rows.mean(0)
    assert found[0] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert found[1] == pytest.approx(1)


def test_the_interval_holds_the_mean_and_narrows():
    generator = np.random.default_rng(0)
    few, many = generator.normal(0.3, 1, (3, 50)), generator.normal(0.3, 1, (3, 5_000))
    assert interval(few)[0] < few.mean() < interval(few)[1]
    assert np.ptp(interval(many)) < np.ptp(interval(few))


def test_codes_of_digits_belong_to_their_places():
    pytest.importorskip("sklearn")
    from sememe.evidence.joint_table import CODES, EACH, PLACES, digits

    codes, labels = digits(0)
    assert codes.shape == (len(labels), PLACES)
    np.testing.assert_array_equal(codes // EACH, np.broadcast_to(np.arange(PLACES), codes.shape))
    assert codes.max() < CODES
    assert set(labels) == set(range(10))
