"""Limits of single vectors: closed forms, constructions, gradients, the LIMIT generator."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.measure import free_embeddings
from sememe.measure.free_embeddings import is_solved, optimise
from sememe.measure.limits import (
    LimitBenchmark,
    all_subsets,
    best_margin,
    critical_n,
    free_embedding_capacity,
    margin,
    max_margin,
    moment_curve,
    sign_rank_bounds,
)


def test_all_subsets_are_all_and_different():
    table = all_subsets(7, 3)
    assert table.shape == (comb(7, 3), 7)
    assert {tuple(np.flatnonzero(row)) for row in table} == set(combinations(range(7), 3))


@pytest.mark.parametrize("loss", ["_infonce", "_sigmoid"])
def test_gradients_are_those_of_the_loss(loss):
    generator = np.random.default_rng(0)
    scores = generator.uniform(-1, 1, size=(5, 4)).astype(np.float64)
    relevance = generator.uniform(size=(5, 4)) < 0.4
    relevance[np.arange(5), np.arange(5) % 4] = True
    extra = np.array([1.2, 0.1])
    function = getattr(free_embeddings, loss)
    _, slope, extra_slope = function(scores, relevance, extra)
    step = 1e-5
    for row in range(5):
        for column in range(4):
            moved = scores.copy()
            moved[row, column] += step
            back = scores.copy()
            back[row, column] -= step
            numeric = (function(moved, relevance, extra)[0] - function(back, relevance, extra)[0]) / (2 * step)
            assert slope[row, column] == pytest.approx(numeric, abs=1e-6)
    for which in range(2):
        shift = np.eye(2)[which] * step
        numeric = (function(scores, relevance, extra + shift)[0] - function(scores, relevance, extra - shift)[0]) / (
            2 * step
        )
        assert extra_slope[which] == pytest.approx(numeric, abs=1e-5)


@pytest.mark.parametrize(("n", "k"), [(12, 1), (20, 2), (9, 3), (64, 2)])
def test_moment_curve_ranks_every_subset_first(n, k):
    queries, documents = moment_curve(n, k)
    assert queries.shape == (comb(n, k), 2 * k)
    np.testing.assert_allclose(np.linalg.norm(documents, axis=1), 1)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1)
    assert is_solved(queries @ documents.T, all_subsets(n, k))


@pytest.mark.parametrize(("n", "k"), [(8, 1), (10, 2), (12, 3)])
def test_closed_form_margin_is_reached_by_its_own_construction(n, k):
    relevance = all_subsets(n, k)
    simplex = np.eye(n) - 1 / n
    documents = simplex / np.linalg.norm(simplex, axis=1, keepdims=True)
    queries = relevance @ documents
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    assert margin(queries, documents, relevance) == pytest.approx(best_margin(n, k, free_threshold=True))
    # moving the threshold to zero costs one direction that all share
    shift = abs(n - 2 * k) / (2 * (n - 1) * np.sqrt(k * (n - k) / (n - 1)))
    share = np.sqrt(shift / (1 + shift))
    down = np.full((n, 1), share)
    lifted = np.concatenate([documents * np.sqrt(1 - share**2), down], axis=1)
    asked = np.concatenate([queries * np.sqrt(1 - share**2), np.full((len(queries), 1), -share)], axis=1)
    assert margin(asked, lifted, relevance, threshold=0.0) == pytest.approx(best_margin(n, k))


def test_optimiser_reaches_the_closed_form_at_full_width_and_never_exceeds_it():
    relevance = all_subsets(16, 2)
    best = best_margin(16, 2, free_threshold=True)
    found = max_margin(relevance, 16)
    assert found.solved
    assert 0.99 * best <= margin(found.queries, found.documents, relevance) <= best + 1e-6
    narrow = max_margin(relevance, 6, steps=400)
    assert margin(narrow.queries, narrow.documents, relevance) < 0.8 * best


def test_margin_is_of_order_one_over_root_k():
    scaled = [best_margin(10_000, k, free_threshold=True) * 2 * np.sqrt(k) for k in (1, 4, 16)]
    np.testing.assert_allclose(scaled, 1, rtol=2e-3)
    assert best_margin(50, 2) < best_margin(50, 2, free_threshold=True)


def test_critical_n_grows_with_the_dimension_and_with_a_lower_temperature():
    low, high = free_embedding_capacity(3), free_embedding_capacity(5)
    assert 4 <= low < high
    assert free_embedding_capacity(4, temperature=0.05) >= free_embedding_capacity(4)
    assert free_embedding_capacity(8, most=6) == 7  # not found within the limit
    assert critical_n(8) == pytest.approx(26.94, abs=0.01)


def test_optimise_is_deterministic_and_solves_what_it_says():
    relevance = all_subsets(6, 2)
    first, second = (optimise(relevance, 5, seed=3) for _ in range(2))
    assert first.solved and first.steps == second.steps
    np.testing.assert_array_equal(first.queries, second.queries)
    assert is_solved(first.queries @ first.documents.T, relevance)
    assert not optimise(all_subsets(8, 2), 1, max_steps=50).solved


def test_sign_rank_bounds_enclose():
    below, above = sign_rank_bounds(all_subsets(12, 2))
    assert 1 <= below <= above == 5
    identity = np.eye(9, dtype=bool)
    assert sign_rank_bounds(identity)[1] == 3


def test_limit_benchmark_is_what_it_promises():
    limit = LimitBenchmark(60, core=12, queries=66, k=2, likes=30, seed=4)
    assert len(limit.records) == 60 and len({record.id for record in limit.records}) == 60
    assert len(set(limit.queries.values())) == 66 == comb(12, 2)
    texts = {record.id: record.text for record in limit.records}
    for query, text in limit.queries.items():
        thing = text.removeprefix("Who likes ").removesuffix("?")
        liking = {
            name for name, body in texts.items() if thing in body.removesuffix(".").partition(" likes ")[2].split(", ")
        }
        assert liking == set(limit.qrels[query]) and len(liking) == 2
    lengths = {len(body.partition(" likes ")[2].split(", ")) for body in texts.values()}
    assert min(lengths) == 30
    assert limit.records[0].text == LimitBenchmark(60, core=12, queries=66, likes=30, seed=4).records[0].text


@pytest.mark.parametrize(
    "call",
    [
        lambda: LimitBenchmark(10, core=12),
        lambda: LimitBenchmark(10, core=4, queries=7),
        lambda: LimitBenchmark(100, core=100, queries=4000),
        lambda: optimise(np.zeros((2, 3), dtype=bool), 4),
        lambda: optimise(all_subsets(4, 2), 0),
        lambda: best_margin(4, 4),
    ],
)
def test_impossible_settings_are_refused(call):
    with pytest.raises(InputError):
        call()
