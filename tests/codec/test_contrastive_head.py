"""The tuned head: its gradient, which pairs count, and that tuning separates what it should."""

import numpy as np
import pytest

from sememe.codec import ContrastiveHead
from sememe.codec.contrastive_head import _gradient, hard, loss
from sememe.contracts import unit_rows
from sememe.errors import InputError


def pairs(n=600, seed=0):
    """Meaning lies in four dimensions; twelve louder ones say nothing about it."""
    generator = np.random.default_rng(seed)
    meaning = generator.integers(5, size=(n, 1)) == np.arange(5)
    same = generator.random(n) < 0.5
    other = np.where(same[:, None], meaning, np.roll(meaning, 1, axis=1))
    noise = generator.standard_normal((2, n, 12))
    left, right = (np.hstack([side, part]) for side, part in zip((meaning, other), noise))
    return unit_rows(left.astype(np.float32)), unit_rows(right.astype(np.float32)), same


def separation(left, right, same):
    cosines = np.einsum("ij,ij->i", left, right)
    return (cosines[same][:, None] > cosines[~same][None]).mean()


def test_gradient_equals_finite_differences():
    generator = np.random.default_rng(1)
    a, b = generator.standard_normal((2, 8, 4))
    same = np.arange(8) % 2 == 0
    weight = np.eye(4) + 0.1 * generator.standard_normal((4, 4))
    found = _gradient(a, b, same, weight, 0.8)
    assert np.abs(found).max() > 1e-3
    for place in np.ndindex(4, 4):
        ends = []
        for step in (1e-3, -1e-3):  # unit rows are float32, so the step must not be small
            moved = weight.copy()
            moved[place] += step
            ends.append(loss(a, b, same, moved, 0.8))
        assert found[place] == pytest.approx((ends[0] - ends[1]) / 2e-3, abs=2e-3)


def test_only_pairs_on_the_wrong_side_of_the_best_of_the_other_sort_count():
    distance = np.array([0.1, 0.5, 0.2, 0.4, 0.9])
    same = np.array([True, True, False, False, False])
    assert hard(distance, same).tolist() == [False, True, True, True, False]
    assert hard(distance[:2], same[:2]).all() and hard(distance[2:], same[2:]).all()


def test_tuning_separates_pairs_it_has_not_seen():
    left, right, same = pairs()
    a, b, truth = pairs(seed=1)
    head = ContrastiveHead(epochs=40, batch=64).fit(left, right, same)
    before, after = separation(a, b, truth), separation(head.transform(a), head.transform(b), truth)
    assert after > before + 0.1
    np.testing.assert_allclose(np.linalg.norm(head.transform(a), axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(ContrastiveHead().load_state(head.state()).transform(a), head.transform(a))
    np.testing.assert_array_equal(ContrastiveHead(epochs=40, batch=64).fit(left, right, same).weight_, head.weight_)


def test_pairs_that_cannot_be_used_are_refused():
    left, right, same = pairs(20)
    with pytest.raises(InputError, match="belong together"):
        ContrastiveHead().fit(left, right[:-1], same)
    for labels in (np.ones(20), np.zeros(20), np.full(20, 0.5)):
        with pytest.raises(InputError, match="both true and false"):
            ContrastiveHead().fit(left, right, labels)
    with pytest.raises(InputError, match="batch=1"):
        ContrastiveHead(batch=1).fit(left, right, same)
