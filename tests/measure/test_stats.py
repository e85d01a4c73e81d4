"""Intervals: against scipy's BCa, their coverage on repeated samples, and what they refuse."""

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.measure.stats import Estimate, bootstrap_mean, paired_bootstrap, paired_differences, required_queries


def skewed(n, seed=0):
    return np.random.default_rng(seed).exponential(size=n) ** 1.5


def test_agrees_with_scipy_bca():
    stats = pytest.importorskip("scipy.stats")
    values = skewed(120)
    ours = bootstrap_mean(values, samples=20_000, seed=1)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(2))
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.03 * width)


def test_skew_moves_the_interval_to_the_long_tail():
    estimate = bootstrap_mean(skewed(80))
    assert estimate.high - estimate.value > 1.15 * (estimate.value - estimate.low)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(3)
    inside = 0
    for trial in range(200):
        estimate = bootstrap_mean(generator.exponential(size=150), level=0.9, samples=500, seed=trial)
        inside += estimate.low <= 1.0 <= estimate.high
    assert 168 <= inside <= 194  # 180 expected; about three standard deviations each way


def test_seed_decides():
    values = skewed(50)
    assert bootstrap_mean(values, seed=5) == bootstrap_mean(values, seed=5)
    assert bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)


def test_blocks_do_not_change_the_draws(monkeypatch):
    values = skewed(300)
    whole = bootstrap_mean(values, samples=2000)
    monkeypatch.setattr("sememe.measure.stats._BLOCK", 3_100)
    assert bootstrap_mean(values, samples=2000) == whole


def test_many_values_use_the_normal_interval_which_agrees(monkeypatch):
    values = skewed(20_000)
    resampled = bootstrap_mean(values, samples=2_000)
    monkeypatch.setattr("sememe.measure.stats._MOST_DRAWS", 1)
    normal = bootstrap_mean(values, samples=2_000)
    width = resampled.high - resampled.low
    assert normal.low == pytest.approx(resampled.low, abs=0.08 * width)
    assert normal.high == pytest.approx(resampled.high, abs=0.08 * width)


def test_pairing_is_narrower_than_two_intervals_and_needs_the_same_queries():
    hard = np.random.default_rng(4).uniform(size=200)
    better = hard + np.random.default_rng(5).normal(0.02, 0.02, size=200)
    difference = paired_bootstrap(better, hard)
    assert difference.low > 0
    apart = bootstrap_mean(better)
    assert difference.high - difference.low < 0.3 * (apart.high - apart.low)
    with pytest.raises(InputError, match="same queries"):
        paired_bootstrap(better, hard[:-1])
    with pytest.raises(InputError, match="'q2' is in only one"):
        paired_bootstrap({"q1": 1.0}, {"q1": 1.0, "q2": 0.0})


def test_mappings_pair_by_key_whatever_their_order():
    a, b = {"x": 1.0, "y": 5.0}, {"y": 2.0, "x": 1.0}
    assert paired_differences(a, b).tolist() == [0.0, 3.0]


@pytest.mark.parametrize("values", [[0.25], [0.5, 0.5, 0.5]])
def test_no_spread_is_a_point(values):
    assert bootstrap_mean(values) == Estimate(values[0], values[0], values[0])


def test_required_queries_is_where_the_interval_clears_the_margin():
    generator = np.random.default_rng(6)
    pilot = generator.normal(-0.005, 0.1, size=400)
    margin = 0.02
    needed = required_queries(pilot, margin, power=0.8)
    centre, spread = pilot.mean(), pilot.std(ddof=1)
    decided = 0
    for _ in range(300):
        sample = generator.normal(centre, spread, size=needed)
        decided += sample.mean() - 1.96 * sample.std(ddof=1) / np.sqrt(needed) > -margin
    assert 0.72 <= decided / 300 <= 0.88
    assert required_queries(pilot, margin * 2) < needed
    assert required_queries(pilot - 0.1, margin) < needed  # clearly worse is decided sooner
    assert required_queries([-1.0, 1.0], 0.0) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_mean([]), "at least one number"),
        (lambda: bootstrap_mean([0.0, float("nan")]), "position 1"),
        (lambda: bootstrap_mean([1.0], level=95), "between 0 and 1"),
        (lambda: bootstrap_mean([[1.0]]), "shape"),
        (lambda: bootstrap_mean(["a"]), "not a list of numbers"),
        (lambda: bootstrap_mean([1.0, 2.0], samples=3), "at least 100"),
        (lambda: required_queries([0.1], 0.02), "one query"),
        (lambda: required_queries([0.1, 0.2], -1), "margin"),
        (lambda: required_queries([0.1, 0.2], 0.1, power=1.0), "power"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_as_json_is_plain():
    assert Estimate(1.0, 0.5, 1.5).as_json() == {"value": 1.0, "low": 0.5, "high": 1.5}
