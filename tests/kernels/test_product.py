"""Product encoding without a table of distances, at every dispatch level, against float64 distances."""

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.kernels import native, reference
from sememe.kernels.product import encode_subspaces

LEVELS = native.levels()


def made(n, widths, count, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n, sum(widths))).astype(np.float32)
    return X, [generator.standard_normal((count, width)).astype(np.float32) for width in widths]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("n", "widths", "count"),
    [
        (1, [1], 1), (63, [2, 3], 16), (64, [4, 4], 255), (65, [3, 4, 5], 256), (200, [16, 16], 256), (70, [33], 5),
        (1100, [8, 6], 33), (0, [2, 2], 7),
    ],
)  # fmt: skip
def test_encode(level, n, widths, count):
    X, codebooks = made(n, widths, count)
    with native.using(level):
        codes = encode_subspaces(X, codebooks)
    assert codes.shape == (n, len(widths)) and codes.dtype == np.uint8
    edges = np.cumsum([0, *widths])
    for g, centres in enumerate(codebooks if n else ()):
        part = X[:, edges[g] : edges[g + 1]]
        gaps = ((part[:, None].astype(np.float64) - centres[None]) ** 2).sum(axis=2)
        want = reference.nearest(part, centres)
        other = codes[:, g] != want
        # Another centre only where float32 cannot tell them apart.
        np.testing.assert_allclose(gaps[np.arange(n), codes[:, g]][other], gaps[np.arange(n), want][other], rtol=1e-5)
        assert other.mean() < 0.01


@pytest.mark.skipif(len(LEVELS) < 3, reason="one compiled level at most")
@pytest.mark.parametrize("threads", ["1", "3"])
def test_compiled_levels_agree_to_the_bit(threads, monkeypatch):
    monkeypatch.setenv("SEMEME_THREADS", threads)
    X, codebooks = made(3000, [1, 2, 3, 4, 5, 6, 8, 12, 16, 20], 256, seed=1)
    X[::3] = np.round(X[::3], 1)  # many rows on the border of two cells
    codebooks = [np.round(centres, 1) for centres in codebooks]
    results = []
    for level in LEVELS[1:]:
        with native.using(level):
            results.append(encode_subspaces(X, codebooks))
    for codes in results[1:]:
        np.testing.assert_array_equal(codes, results[0])


@pytest.mark.parametrize("level", LEVELS)
def test_the_first_of_equal_centres(level):
    X, (centres,) = made(100, [4], 64)
    centres[32:] = centres[:32]
    with native.using(level):
        assert encode_subspaces(X, [centres]).max() < 32


@pytest.mark.parametrize(("widths", "counts"), [([2, 3], [3, 3]), ([2, 2], [3, 4]), ([4], [257]), ([4, 0], [3, 3])])
def test_refuses_codebooks_that_do_not_fit(widths, counts):
    codebooks = [np.zeros((count, width), dtype=np.float32) for width, count in zip(widths, counts, strict=True)]
    with pytest.raises(InputError, match="codebooks"):
        encode_subspaces(np.zeros((5, 4), dtype=np.float32), codebooks)
