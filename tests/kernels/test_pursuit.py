"""Orthogonal matching pursuit at every dispatch level, against the plain loop in float64."""

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.kernels import native, reference
from sememe.kernels.pursuit import pursue

LEVELS = native.levels()


def made(b, n, d, seed=0, spread=0.0):
    """Targets and atoms around a common mean, as rows of embedding tables lie, with lengths that differ."""
    generator = np.random.default_rng(seed)
    mean = generator.standard_normal(d)
    rows = generator.standard_normal((b + n, d)) * np.exp(spread * generator.standard_normal((b + n, 1))) + mean
    return rows[:b].astype(np.float32), rows[b:].astype(np.float32)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("b", "n", "d", "k"), [(1, 1, 1, 1), (5, 40, 7, 5), (3, 64, 8, 8), (50, 130, 33, 12), (97, 500, 64, 10)]
)
def test_takes_the_atoms_of_the_plain_loop(level, b, n, d, k):
    targets, atoms = made(b, n, d, spread=0.5)
    with native.using(level):
        found = pursue(targets, atoms, k)
    assert found.atoms.shape == found.weights.shape == (b, k)
    for i, target in enumerate(targets):
        chosen, weights, left = reference.pursue(target, atoms, k)
        length = float(np.linalg.norm(target))
        # In so few dimensions nothing may be left before the last step, and then rounding says where a walk ends.
        sure = len(chosen) if left > 1e-6 * length else 0
        np.testing.assert_array_equal(found.atoms[i, :sure], chosen[:sure])
        if sure:
            np.testing.assert_allclose(found.weights[i, :sure], weights, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.residual[i], left, rtol=1e-9, atol=1e-6 * length)


@pytest.mark.skipif(len(LEVELS) < 3, reason="one compiled level at most")
@pytest.mark.parametrize("threads", ["1", "3"])
def test_compiled_levels_agree_to_the_bit(threads, monkeypatch):
    monkeypatch.setenv("SEMEME_THREADS", threads)
    targets, atoms = made(150, 700, 50, seed=1)
    results = []
    for level in LEVELS[1:]:
        with native.using(level):
            results.append(pursue(targets, atoms, 16))
    for found in results[1:]:
        for one, other in zip(found, results[0], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("level", LEVELS)
def test_rows_far_from_round_and_equal_atoms(level):
    """One coordinate drowns the others in the bytes, atoms repeat, some are zero: the order is still the exact one."""
    targets, atoms = made(20, 200, 24, seed=2)
    atoms[:, 3] *= 300
    targets[:, 3] *= 300
    atoms[100:150] = atoms[:50]
    atoms[150:155] = 0
    with native.using(level):
        found = pursue(targets, atoms, 6)
    for i, target in enumerate(targets):
        chosen, weights, _ = reference.pursue(target, atoms, 6)
        np.testing.assert_array_equal(found.atoms[i], chosen)
        np.testing.assert_allclose(found.weights[i], weights, rtol=1e-6)
    assert not ((found.atoms >= 100) & (found.atoms < 155)).any()


@pytest.mark.parametrize("level", LEVELS)
def test_ends_where_nothing_is_left(level):
    _, atoms = made(0, 60, 16, seed=3)
    targets = np.stack([np.zeros(16), atoms[7], 2 * atoms[7] - 3 * atoms[9]]).astype(np.float32)
    with native.using(level):
        found = pursue(targets, atoms, 20)
        loose = pursue(targets, atoms, 20, tolerance=0.5)
    assert (found.atoms[0] == -1).all() and found.residual[0] == 0
    np.testing.assert_allclose(found.residual, 0, atol=1e-5)
    assert (loose.atoms >= 0).sum() <= (found.atoms >= 0).sum()
    assert (loose.residual <= 0.5 * np.linalg.norm(targets, axis=1)).all()
    for row, result in zip(targets, zip(*found, strict=True), strict=True):
        taken = result[0][result[0] >= 0]
        assert len(set(taken.tolist())) == len(taken)
        assert (result[1][len(taken) :] == 0).all()
        np.testing.assert_allclose(result[1][: len(taken)] @ atoms[taken], row, atol=1e-4)


@pytest.mark.parametrize("level", LEVELS)
def test_numbers_at_the_ends_of_their_range(level):
    targets, atoms = made(4, 50, 12, seed=4)
    for size in (1e-25, 1e12):
        with native.using(level):
            found = pursue(targets * np.float32(size), atoms, 4)
            plain = pursue(targets, atoms, 4)
        np.testing.assert_array_equal(found.atoms, plain.atoms)
        np.testing.assert_allclose(found.weights, plain.weights * size, rtol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_no_targets(level):
    with native.using(level):
        found = pursue(np.empty((0, 4), dtype=np.float32), np.ones((3, 4), dtype=np.float32), 2)
    assert found.atoms.shape == (0, 2) and found.residual.shape == (0,)


@pytest.mark.parametrize(("shape", "k"), [((5, 3), 1), ((0, 4), 1), ((5, 4), 6), ((5, 4), 0)])
def test_refuses_what_does_not_fit(shape, k):
    with pytest.raises(InputError):
        pursue(np.ones((2, 4), dtype=np.float32), np.ones(shape, dtype=np.float32), k)
