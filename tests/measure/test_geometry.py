"""Intrinsic dimension on manifolds of known dimension, IsoScore's end points, and dropping dimensions."""

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.measure.geometry import (
    RedundancyReport,
    geometry,
    isoscore,
    mle_dimension,
    neighbour_distances,
    participation_ratio,
    reducer,
    spectrum,
    twonn,
)


def sphere(d, n=3000, width=40, seed=0):
    """A ``d``-sphere, isometrically placed in ``width`` dimensions: no border, so no border bias."""
    generator = np.random.default_rng(seed)
    points = generator.standard_normal((n, d + 1))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    basis = np.linalg.qr(generator.standard_normal((width, d + 1)))[0]
    return points @ basis.T + 3.0


def bent_torus(n=3000, seed=1):
    """A flat 2-torus, curled up in 4 dimensions and stretched unevenly into 20."""
    generator = np.random.default_rng(seed)
    a, b = generator.uniform(0, 2 * np.pi, size=(2, n))
    points = np.stack([np.cos(a), np.sin(a), 2 * np.cos(b), 2 * np.sin(b)], axis=1)
    return points @ generator.standard_normal((4, 20))


@pytest.mark.parametrize("d", [2, 5, 8])
@pytest.mark.parametrize("estimate", [twonn, mle_dimension])
def test_dimension_of_spheres_within_15_percent(d, estimate):
    assert estimate(sphere(d)) == pytest.approx(d, rel=0.15)


@pytest.mark.parametrize("estimate", [twonn, mle_dimension])
def test_dimension_of_a_bent_torus(estimate):
    assert estimate(bent_torus()) == pytest.approx(2, rel=0.15)


def test_neighbour_distances_are_exact_and_ignore_repeats():
    rows = np.random.default_rng(2).standard_normal((300, 6)).astype(np.float32)
    apart = np.sqrt(((rows[:, None, :].astype(np.float64) - rows[None]) ** 2).sum(axis=2))
    expected = np.sort(apart, axis=1)[:, 1:6]
    found = neighbour_distances(np.concatenate([rows, rows[:40]]), 5)
    np.testing.assert_allclose(
        found[np.argsort(found.sum(axis=1))], expected[np.argsort(expected.sum(axis=1))], rtol=1e-5
    )


def test_isoscore_end_points():
    generator = np.random.default_rng(3)
    even = generator.standard_normal((20_000, 8))
    assert isoscore(even) > 0.98
    assert isoscore(even * np.array([100] + [0.01] * 7)) < 0.01
    half = isoscore(even * np.array([1] * 4 + [1e-4] * 4))
    assert half == pytest.approx((8 * 0.5 - 1) / 7, abs=0.02)  # four of eight dimensions used
    assert isoscore(generator.standard_normal((10, 1))) == 1.0


def test_spectrum_and_participation():
    rows = np.random.default_rng(4).standard_normal((5000, 4)) * np.array([4, 2, 1, 0])
    np.testing.assert_allclose(spectrum(rows), [16, 4, 1, 0], rtol=0.08, atol=1e-6)
    assert participation_ratio(rows) == pytest.approx(21**2 / (256 + 16 + 1), rel=0.06)


def test_geometry_gives_all_numbers():
    shape = geometry(sphere(3, n=800))
    assert shape.twonn == pytest.approx(3, rel=0.2)
    assert 0 < shape.isoscore < 0.2 and shape.participation == pytest.approx(4, rel=0.1)


def test_redundancy_report_keeps_what_it_says():
    generator = np.random.default_rng(5)
    rows = (generator.standard_normal((400, 20)) * np.array([3.0] * 5 + [0.01] * 15)).astype(np.float32)
    whole = rows @ rows.T

    def score(reduce):
        kept = reduce(rows)
        return [np.corrcoef(kept[i] @ kept.T, whole[i])[0, 1] for i in range(0, 400, 10)]

    report = RedundancyReport((0.5, 0.25), seeds=3).measure(rows, score)
    assert report["full"][1.0].value == pytest.approx(1.0)
    assert report["first"][0.25].value > 0.99 and report["pca"][0.25].value > 0.99
    assert report["random"][0.25].value < 0.95
    assert report["random"][0.5].low <= report["random"][0.5].value <= report["random"][0.5].high


def test_reducers_have_the_width_asked_for():
    rows = np.random.default_rng(6).standard_normal((50, 10)).astype(np.float32)
    for kind in ("first", "random", "pca"):
        assert reducer(rows, 3, kind)(rows).shape == (50, 3)
    np.testing.assert_array_equal(reducer(rows, 3, "random", seed=1)(rows), reducer(rows, 3, "random", seed=1)(rows))
    np.testing.assert_array_equal(reducer(rows, 3, "first")(rows), rows[:, :3])


@pytest.mark.parametrize(
    "call",
    [
        lambda: twonn(np.zeros((5, 3))),
        lambda: mle_dimension(np.eye(30), k=2),
        lambda: isoscore(np.ones((4, 3))),
        lambda: spectrum(np.ones((1, 3))),
        lambda: reducer(np.eye(3, dtype=np.float32), 4, "first"),
    ],
)
def test_what_has_no_geometry_is_refused(call):
    with pytest.raises(InputError):
        call()
