"""The statistics behind the choice, against brute force and against known truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.planner.loss import (
    DISCOUNT,
    compare,
    default_relevance,
    expected_change,
    ndcg,
    relevance_by_rank,
)


def brute_ndcg(ranked: np.ndarray, gains: np.ndarray) -> float:
    got = sum(gains[d] / np.log2(i + 2) for i, d in enumerate(ranked[:10]))
    best = sum(g / np.log2(i + 2) for i, g in enumerate(sorted(gains, reverse=True)[:10]))
    return got / best if best else 0.0


@given(st.integers(0, 10_000), st.integers(3, 40))
@settings(max_examples=40)
def test_ndcg_is_the_textbook_formula(seed: int, records: int) -> None:
    generator = np.random.default_rng(seed)
    gains = generator.integers(0, 3, size=(4, records)).astype(np.float32)
    ranked = np.array([generator.permutation(records) for _ in range(4)])
    ideal = np.zeros((4, 10), dtype=np.float32)
    top = -np.sort(-gains, axis=1)[:, :10]
    ideal[:, : top.shape[1]] = top
    expected = [brute_ndcg(ranked[i], gains[i]) for i in range(4)]
    assert np.allclose(ndcg(ranked, gains, ideal), expected, atol=1e-6)


def test_expected_change_is_zero_for_equal_rankings_and_negative_for_swaps() -> None:
    generator = np.random.default_rng(0)
    reference = np.array([generator.permutation(300)[:100] for _ in range(20)])
    relevance = default_relevance(100)
    assert np.allclose(expected_change(reference, reference, relevance), 0)
    worse = reference.copy()
    worse[:, [0, 9]] = worse[:, [9, 0]]
    moved = (relevance[0] - relevance[9]) * (DISCOUNT[9] - DISCOUNT[0]) / (relevance[:10] @ DISCOUNT)
    assert np.allclose(expected_change(reference, worse, relevance), moved)


def test_expected_change_predicts_the_mean_loss_of_a_noisy_ranking() -> None:
    """Relevance drawn from the reference's scores; a noisy copy loses what the ranks alone predict."""
    generator = np.random.default_rng(1)
    queries, records = 3000, 200
    truth = generator.normal(size=(queries, records))
    noisy = truth + 0.5 * generator.normal(size=truth.shape)
    reference, candidate = np.argsort(-truth, axis=1)[:, :100], np.argsort(-noisy, axis=1)[:, :100]
    probability = 1 / (1 + np.exp(-(2.5 * truth - 5)))
    gains = (generator.random(truth.shape) < probability).astype(np.float32)
    gains[np.arange(queries), generator.integers(records, size=queries)] = 1  # no query without an answer
    ideal = -np.sort(-gains, axis=1)[:, :10]
    before, after = ndcg(reference, gains, ideal), ndcg(candidate, gains, ideal)
    relevance = relevance_by_rank(reference[:300], gains[:300], ideal[:300])
    predicted = expected_change(reference, candidate, relevance).mean() * before.mean()
    assert predicted == pytest.approx((after - before).mean(), rel=0.25)


def test_relevance_never_rises_with_rank() -> None:
    generator = np.random.default_rng(2)
    gains = (generator.random((50, 120)) < 0.1).astype(np.float32)
    ideal = np.sort(gains, axis=1)[:, ::-1][:, :10] + 1e-9
    ranked = np.array([generator.permutation(120)[:100] for _ in range(50)])
    curve = relevance_by_rank(ranked, gains, ideal)
    assert len(curve) == 101 and (np.diff(curve) <= 1e-12).all()


def test_agreement_narrows_the_interval_where_it_agrees() -> None:
    generator = np.random.default_rng(3)
    differences = generator.normal(0, 0.1, size=100)
    changes = -np.abs(generator.normal(0.005, 0.005, size=600))
    alone = compare(differences, None, 0.5, seed=0)
    both = compare(differences, changes, 0.5, seed=0)
    assert both.high - both.low < 0.5 * (alone.high - alone.low)
    assert both.basis == "judgements and agreement"


def test_agreement_is_set_aside_where_judgements_contradict_it() -> None:
    generator = np.random.default_rng(4)
    differences = generator.normal(-0.1, 0.05, size=300)  # clearly worse
    changes = np.full(600, -0.001)  # rankings say nothing happened
    verdict = compare(differences, changes, 0.5, seed=0)
    assert verdict.basis == "judgements" and verdict.high < -0.05


def test_few_equal_answers_do_not_prove_equality() -> None:
    same = compare(np.zeros(10), np.full(500, -0.02), 0.5, seed=0)
    assert same.low < -0.005


def test_steady_is_what_nine_of_ten_other_sets_of_queries_show() -> None:
    """Simulated: with the spread at which ``steady`` turns, about nine of ten new sets keep nine of ten resamples."""
    generator = np.random.default_rng(5)
    q, margin = 100, 0.01
    spreads = np.linspace(0.005, 0.2, 40)
    verdicts = [
        compare(np.resize([-1.0, 1.0], q) * spread - 0.001, np.full(2000, -0.004), 0.5, seed=0).steady(margin)
        for spread in spreads
    ]
    assert verdicts[0] and not verdicts[-1]
    spread = spreads[verdicts.index(False)]
    kept = 0
    for _ in range(300):
        new = generator.normal(-0.001, spread, size=q)
        means = new[generator.integers(0, q, (200, q))].mean(axis=1)
        kept += (means >= -margin).mean() >= 0.9
    assert 0.8 <= kept / 300 <= 0.97
