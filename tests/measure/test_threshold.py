"""Calibrated thresholds: exact bounds against scipy, the promise against simulation, ties and bad input."""

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.measure.threshold import binomial_low, calibrate


@pytest.mark.parametrize(("hits", "trials"), [(1, 1), (59, 59), (95, 100), (1, 1000), (480, 500), (2990, 3000)])
@pytest.mark.parametrize("alpha", [0.05, 0.0016])
def test_bound_is_clopper_and_pearsons(hits, trials, alpha):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.beta.ppf(alpha, hits, trials - hits + 1)
    assert binomial_low(hits, trials, alpha) == pytest.approx(expected, abs=1e-6)
    assert binomial_low(0, trials, alpha) == 0


def drawn(n, generator):
    """Pairs whose probability to be the same grows with their similarity; the precision above any is known."""
    similarity = generator.random(n)
    return similarity, generator.random(n) < similarity ** (1 / 3)


def precision_above(threshold):
    return 0.75 * (1 - threshold ** (4 / 3)) / (1 - threshold)


def test_the_promise_is_kept_at_least_as_often_as_said():
    generator = np.random.default_rng(0)
    broken = tried = 0
    for _ in range(150):
        try:
            found = calibrate(*drawn(3000, generator), precision=0.9, confidence=0.8)
        except InputError:
            continue
        tried += 1
        broken += precision_above(found.threshold) < 0.9
    assert tried > 120
    assert broken <= 0.2 * tried


def test_the_lowest_safe_threshold_is_taken():
    similarity, same = drawn(200_000, np.random.default_rng(1))
    found = calibrate(similarity, same, precision=0.9)
    accepted = similarity >= found.threshold
    assert found.accepted == accepted.sum() and found.pairs == 200_000
    assert found.precision == pytest.approx(same[accepted].mean())
    assert found.recall == pytest.approx(same[accepted].sum() / same.sum())
    assert 0.9 <= found.precision_low <= found.precision
    grid = np.linspace(0, 0.99, 10_000)
    exact = float(np.interp(0.9, precision_above(grid), grid))  # about 0.48
    assert exact - 0.005 < found.threshold < exact + 1.5 / 31  # the next of 32 candidates


def test_pairs_of_equal_similarity_stand_or_fall_together():
    similarity = np.repeat([0.9, 0.5], [200, 200])
    same = np.concatenate([np.ones(200), np.tile([1, 0], 100)])
    found = calibrate(similarity, same)
    assert found.accepted == 200 and found.precision == 1 and 0.5 < found.threshold < 0.9
    assert found.recall == pytest.approx(2 / 3)


def test_too_few_pairs_promise_nothing():
    with pytest.raises(InputError, match="best lower bound is") as caught:
        calibrate(np.linspace(0, 1, 20), np.ones(20))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("similarity", "same", "settings", "message"),
    [
        ([0.5], [1, 0], {}, "same length"),
        ([np.nan, 0.1], [1, 0], {}, "at 0"),
        ([0.2, 0.1], [0, 0], {}, "no pair is labelled the same"),
        ([0.2, 0.1], [2, 0], {}, "true and false only"),
        (["a", "b"], [1, 0], {}, "not numbers"),
        ([0.2, 0.1], [1, 0], {"precision": 1.0}, "precision must lie"),
        ([0.2, 0.1], [1, 0], {"confidence": 0}, "confidence must lie"),
    ],
)
def test_bad_pairs_are_refused(similarity, same, settings, message):
    with pytest.raises(InputError, match=message):
        calibrate(similarity, same, **settings)
