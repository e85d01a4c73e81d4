"""Product encoding without a table of distances, at every dispatch level, against float64 distances."""

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.kernels import native, reference
from sememe.kernels.product import encode_subspaces

LEVELS = native.levels()


def made(n, edges, count, seed=0):
    generator = np.random.default_rng(seed)
    widths = np.diff(edges)
    X = generator.standard_normal((n, edges[-1])).astype(np.float32)
    centres = np.zeros((len(widths), count, widths.max()), dtype=np.float32)
    for g, width in enumerate(widths):
        centres[g, :, :width] = generator.standard_normal((count, width))
    return X, centres


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("n", "edges", "count"),
    [
        (1, [0, 1], 1), (63, [0, 2, 5], 16), (64, [0, 4, 8], 255), (65, [0, 3, 7, 12], 256), (200, [0, 16, 32], 256),
        (70, [0, 33], 5), (1100, [0, 8, 14], 33), (10, [2, 5], 7),
    ],
)  # fmt: skip
def test_encode(level, n, edges, count):
    edges = np.array(edges)
    X, centres = made(n, edges, count)
    with native.using(level):
        codes = encode_subspaces(X, edges, centres)
    assert codes.shape == (n, len(edges) - 1) and codes.dtype == np.uint8
    for g in range(len(edges) - 1):
        part, table = X[:, edges[g] : edges[g + 1]], centres[g, :, : edges[g + 1] - edges[g]]
        gaps = ((part[:, None].astype(np.float64) - table[None]) ** 2).sum(axis=2)
        want = reference.nearest(part, table)
        other = codes[:, g] != want
        # Another centre only where float32 cannot tell them apart.
        chosen = gaps[np.arange(n), codes[:, g]]
        np.testing.assert_allclose(chosen[other], gaps[np.arange(n), want][other], rtol=1e-5)
        assert other.mean() < 0.01


@pytest.mark.skipif(len(LEVELS) < 3, reason="one compiled level at most")
@pytest.mark.parametrize("threads", ["1", "3"])
def test_compiled_levels_agree_to_the_bit(threads, monkeypatch):
    monkeypatch.setenv("SEMEME_THREADS", threads)
    edges = np.array([0, 1, 3, 6, 10, 15, 21, 29, 41, 57])
    X, centres = made(3000, edges, 256, seed=1)
    X[::3] = np.round(X[::3], 1)  # many rows on the border of two cells
    centres = np.round(centres, 1)
    results = []
    for level in LEVELS[1:]:
        with native.using(level):
            results.append(encode_subspaces(X, edges, centres))
    for codes in results[1:]:
        np.testing.assert_array_equal(codes, results[0])


@pytest.mark.parametrize("level", LEVELS)
def test_the_first_of_equal_centres(level):
    X, centres = made(100, np.array([0, 4]), 64)
    centres[0, 32:] = centres[0, :32]
    with native.using(level):
        assert encode_subspaces(X, np.array([0, 4]), centres).max() < 32


@pytest.mark.parametrize("edges", [[0, 2], [0, 2, 2], [0, 2, 9], [-1, 2, 4], [0, 3, 4]])
def test_refuses_edges_that_do_not_fit(edges):
    X, centres = made(5, np.array([0, 2, 4]), 3)
    with pytest.raises(InputError):
        encode_subspaces(X, np.array(edges), centres)
