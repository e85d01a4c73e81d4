"""RaBitQ and transform codes: unbiased, bounded, nested, and of the bytes they promise."""

from itertools import pairwise

import numpy as np
import pytest

from sememe.codec.klt import KLT, allocation
from sememe.codec.planes import ERRORS
from sememe.codec.rabitq import RaBitQ, hadamard_rotation
from sememe.errors import InputError
from sememe.kernels.product import encode_subspaces
from sememe.testing import clustered_vectors


def error(quantizer, X):
    return float(np.mean((X - quantizer.decode(quantizer.encode(X))) ** 2))


@pytest.mark.parametrize("d", [1, 3, 8, 20, 96, 100])
def test_rotation_is_orthogonal(d):
    turn = hadamard_rotation(d, 3).astype(np.float64)
    np.testing.assert_allclose(turn.T @ turn, np.eye(d), atol=1e-6)
    assert turn.shape == (8 * -(-d // 8), d)
    assert d < 8 or np.abs(turn - hadamard_rotation(d, 4)).max() > 0.05


def products(X, Q, mean):
    """Exact inner products and the lengths that errors are measured in, float64."""
    wide, queries = X.astype(np.float64), Q.astype(np.float64)
    return queries @ wide.T, np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(wide - mean, axis=1)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_scores_are_unbiased_over_rotations(bits):
    X, Q = clustered_vectors(60, 64), clustered_vectors(12, 64, seed=8)
    exact, size = products(X, Q, X.mean(axis=0))
    rounds = 40
    gaps = np.empty((rounds, *exact.shape))
    for seed in range(rounds):
        quantizer = RaBitQ(bits, seed=seed).fit(X)
        gaps[seed] = (quantizer.scores(Q, quantizer.encode(X)) - exact) / size
    deviation = gaps.std(axis=0, ddof=1) / np.sqrt(rounds)
    z = gaps.mean(axis=0) / deviation
    assert abs(z.mean()) < 0.3  # the mean error of each pair, in its own standard errors: 720 of them
    assert np.mean(np.abs(z) < 2) > 0.9
    # Without the factor, the grid point alone is far too short along the row: the same measure notices a bias.
    along = np.einsum("ij,ij->i", quantizer.decode(quantizer.encode(X)) - X, X - X.mean(axis=0))
    assert np.abs(along).max() < 0.02


@pytest.mark.parametrize("bits", [1, 3, 6])
def test_error_bound_holds_at_the_stated_rate(bits):
    X, Q = clustered_vectors(400, 72), clustered_vectors(40, 72, seed=8)
    exact, _ = products(X, Q, 0)
    for epsilon in (1.5, 2.0, 3.0):
        inside, widest = [], 0.0
        for seed in range(4):
            quantizer = RaBitQ(bits, seed=seed).fit(X)
            codes = quantizer.encode(X)
            bound = quantizer.error_bound(Q, codes, epsilon)
            gap = np.abs(quantizer.scores(Q, codes) - exact)
            inside.append(np.mean(gap <= bound))
            widest = max(widest, float(np.median(gap / bound)))
        assert np.mean(inside) >= 1 - 2 * np.exp(-(epsilon**2) / 2)
        assert widest > 0.02  # not true by being vast
    with pytest.raises(InputError, match="epsilon"):
        quantizer.error_bound(Q, codes, -1.0)


@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_error_bound_scales_with_the_vectors(size):
    X, Q = clustered_vectors(100, 24), clustered_vectors(5, 24, seed=1)
    plain = RaBitQ(2).fit(X)
    other = RaBitQ(2).fit(X * np.float32(size))
    ratio = other.error_bound(Q, other.encode(X * np.float32(size))) / plain.error_bound(Q, plain.encode(X))
    np.testing.assert_allclose(ratio / size, 1, rtol=0.1)


def test_error_falls_as_bits_grow():
    X = clustered_vectors(600, 48)
    for make in (lambda bits: RaBitQ(bits), lambda bits: KLT(6 * bits + 1)):
        errors = [error(make(bits).fit(X), X) for bits in range(1, 9)]
        assert all(b < 0.6 * a for a, b in pairwise(errors)), errors


def test_a_prefix_is_the_coarser_code():
    X, Q = clustered_vectors(500, 40), clustered_vectors(12, 40, seed=2)
    for fine in (RaBitQ(4).fit(X), KLT(19).fit(X)):
        codes = fine.encode(X)
        errors = []
        for depth in range(1, int(fine.octets_.max()) + 1):
            view = fine.coarse(depth)
            part = codes[:, : view.code_bytes_]
            np.testing.assert_array_equal(view.encode(X), part)
            exact = Q.astype(np.float64) @ view.decode(part).astype(np.float64).T
            for few in (2, 12):
                np.testing.assert_allclose(view.scores(Q[:few], part), exact[:few], atol=2e-6)
            errors.append(float(np.mean((view.decode(part) - X) ** 2)))
        np.testing.assert_array_equal(view.decode(part), fine.decode(codes))
        assert all(b < a for a, b in pairwise(errors)), errors
        with pytest.raises(InputError, match="depth"):
            fine.coarse(0)
    signs = np.packbits((X - X.mean(axis=0)) @ hadamard_rotation(40, 0).T > 0, axis=1)
    rabitq = RaBitQ(4).fit(X)
    assert np.mean(np.unpackbits(signs ^ rabitq.encode(X)[:, 1:6])) < 1e-3  # float32 rounding near zero


def test_allocation_equals_the_best_of_all():
    """Every way to deal four bits to three octets, tried in turn."""
    variance = np.array([1.0, 0.4, 0.1])
    weight = variance**1.25
    ways = [(a, b, c) for a in range(5) for b in range(5) for c in range(5) if a + b + c == 4]
    best = min(ways, key=lambda bits: float(weight @ ERRORS[list(bits)]))
    assert tuple(allocation(variance, 4).tolist()) == best


def test_any_number_of_bytes():
    X = clustered_vectors(200, 30)
    for size in (2, 3, 7, 20, 33):
        quantizer = KLT(size).fit(X)
        assert quantizer.encode(X).shape == (200, size) and int(quantizer.octets_.sum()) == size - 1
    for size in (0, 34):
        with pytest.raises(InputError, match="size"):
            KLT(size).fit(X)
    with pytest.raises(InputError, match="give 1 to 8"):
        RaBitQ(9).fit(X)


def test_subspaces_against_distances_in_float64():
    generator = np.random.default_rng(1)
    X = generator.standard_normal((50, 7)).astype(np.float32)
    books = [generator.standard_normal((9, w)).astype(np.float32) for w in (3, 1, 3)]
    found = encode_subspaces(X, books)
    first = 0
    for group, book in enumerate(books):
        part = X[:, first : first + book.shape[1]].astype(np.float64)
        first += book.shape[1]
        expected = ((part[:, None] - book[None]) ** 2).sum(axis=2).argmin(axis=1)
        np.testing.assert_array_equal(found[:, group], expected)
