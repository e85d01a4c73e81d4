"""Beam search over sums of centres, at every dispatch level, against float64 distances and plain loops."""

import itertools

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.kernels import native, reference
from sememe.kernels.additive import CHOICES, cross_products, own_costs, search_sums

LEVELS = native.levels()


def made(n, books, d, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n, d)).astype(np.float32)
    centres = generator.standard_normal((books, CHOICES, d)).astype(np.float32) / np.float32(books) ** 0.5
    held = generator.integers(0, CHOICES, (n, books)).astype(np.uint8)
    return X, centres, held


def errors(X, codes, centres):
    gap = X.astype(np.float64) - sum(centres[m].astype(np.float64)[codes[:, m]] for m in range(len(centres)))
    return (gap**2).sum(axis=1)


def test_tables_give_the_distance():
    X, centres, codes = made(20, 3, 7)
    own, cross = own_costs(X, centres), cross_products(centres)
    rows = np.arange(len(X))
    cost = sum(own[rows, m, codes[:, m]] for m in range(3))
    cost = cost + sum(cross[m, j, codes[:, j], codes[:, m]] for m in range(3) for j in range(m))
    np.testing.assert_allclose(cost + (X**2).sum(axis=1), errors(X, codes, centres), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("n", "books", "places", "beam"),
    [
        (3, 1, [0], 1),
        (5, 3, [0, 1, 2], 1),
        (67, 3, [2, 0, 1], 2),
        (3, 4, [2, 0, 3, 1], 5),
        (9, 5, [3, 1], 4),
        (4, 3, [1], 300),
        (0, 2, [0], 2),
    ],
)
def test_search_is_that_of_the_loops(level, n, books, places, beam):
    X, centres, held = made(n, books, 6)
    # Small whole numbers: sums are exact in any precision, and many are equal.
    own, cross = np.rint(4 * own_costs(X, centres)), np.rint(4 * cross_products(centres))
    with native.using(level):
        codes = search_sums(own, cross, held, places, beam)
    np.testing.assert_array_equal(codes, reference.search_sums(own, cross, held, places, beam))


@pytest.mark.parametrize("threads", ["1", "3"])
def test_levels_agree_to_the_bit(threads, monkeypatch):
    monkeypatch.setenv("SEMEME_THREADS", threads)
    X, centres, held = made(130, 4, 11, seed=1)
    own, cross = own_costs(X, centres), cross_products(centres)
    for places in ([0, 1, 2, 3], [3, 1]):
        found = []
        for level in LEVELS:
            with native.using(level):
                found.append(search_sums(own, cross, held, places, 6))
        for codes in found[1:]:
            np.testing.assert_array_equal(codes, found[0])


@pytest.mark.parametrize("level", LEVELS)
def test_a_beam_of_all_beginnings_finds_the_best_of_all(level):
    X, centres, held = made(6, 2, 3, seed=2)
    with native.using(level):
        codes = search_sums(own_costs(X, centres), cross_products(centres), held, [0, 1], CHOICES)
    every = np.array(list(itertools.product(range(CHOICES), repeat=2)))
    for row, code in zip(X, codes):
        best = errors(np.repeat(row[None], len(every), axis=0), every, centres).min()
        assert errors(row[None], code[None], centres)[0] == pytest.approx(best, abs=1e-5)


def test_searching_a_part_again_never_raises_the_error():
    X, centres, held = made(80, 6, 9, seed=3)
    own, cross = own_costs(X, centres), cross_products(centres)
    before = errors(X, held, centres)
    after = errors(X, search_sums(own, cross, held, [4, 0], 3), centres)
    assert (after <= before + 1e-4).all() and after.mean() < 0.8 * before.mean()


@pytest.mark.parametrize(("places", "beam"), [([0, 0], 1), ([2], 1), ([-1], 1), ([0], 0)])
def test_wrong_arguments(places, beam):
    X, centres, held = made(4, 2, 3)
    with pytest.raises(InputError, match="do not fit together"):
        search_sums(own_costs(X, centres), cross_products(centres), held, places, beam)
