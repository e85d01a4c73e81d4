"""Row-wise optimiser steps against the plain formula, at every level that this machine has."""

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.kernels import native, reference
from sememe.kernels.row_steps import step_rows

COMPILED = [name for name in native.levels() if name != "numpy"]
HOW = {"keep_first": 0.8, "keep_second": 0.95, "add_second": 0.05, "rate": 0.1, "eps": 1e-6}


def problem(d, by_row, momentum, seed=0, rows=5_000, count=300):
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((rows, d)).astype(np.float32)
    first = generator.standard_normal((rows, d)).astype(np.float32) if momentum else None
    second = generator.random(rows if by_row else (rows, d)).astype(np.float32)
    ids = generator.choice(generator.integers(0, rows, count // 2), count)  # repeats, and ids of two radix digits
    return weight, first, second, ids, generator.standard_normal((count, d)).astype(np.float32)


@pytest.mark.parametrize("level", native.levels())
@pytest.mark.parametrize("d", [1, 15, 16, 40])
@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("momentum", [True, False])
def test_moves_used_rows_by_the_formula_and_no_others(level, d, by_row, momentum):
    weight, first, second, ids, gradients = problem(d, by_row, momentum)
    before = weight.copy(), None if first is None else first.copy(), second.copy()
    with native.using(level):
        step_rows(weight, first, second, ids, gradients, **HOW)
    for row in np.unique(ids):
        w, m, v = reference.step_row(
            before[0][row],
            None if before[1] is None else before[1][row],
            before[2][row],
            list(gradients[ids == row]),
            (HOW["keep_first"], HOW["keep_second"]),
            HOW["add_second"],
            HOW["rate"],
            HOW["eps"],
        )
        np.testing.assert_allclose(weight[row], w, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(second[row], v, rtol=1e-5, atol=1e-6)
        if m is not None:
            np.testing.assert_allclose(first[row], m, rtol=1e-5, atol=1e-5)
    unused = np.setdiff1d(np.arange(len(weight)), ids)
    np.testing.assert_array_equal(weight[unused], before[0][unused])
    np.testing.assert_array_equal(second[unused], before[2][unused])


@pytest.mark.skipif(len(COMPILED) < 2, reason="one compiled level or none")
@pytest.mark.parametrize("by_row", [True, False])
def test_all_compiled_levels_agree_to_the_bit(by_row):
    found = []
    for level in COMPILED:
        weight, first, second, ids, gradients = problem(50, by_row, True, seed=2)
        with native.using(level):
            step_rows(weight, first, second, ids, gradients, **HOW)
        found.append((weight, first, second))
    for other in found[1:]:
        for a, b in zip(found[0], other):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("level", native.levels())
def test_threads_and_empty_batches_change_nothing(level):
    weight, first, second, ids, gradients = problem(64, False, True, rows=20_000, count=30_000)
    again = weight.copy(), first.copy(), second.copy()
    with native.using(level):
        step_rows(weight, first, second, ids, gradients, **HOW)
        with native.limited(1):
            step_rows(*again, ids, gradients, **HOW)
        np.testing.assert_array_equal(weight, again[0])
        step_rows(weight, first, second, ids[:0], gradients[:0], **HOW)
        np.testing.assert_array_equal(weight, again[0])


@pytest.mark.parametrize("level", native.levels())
def test_what_does_not_fit_is_refused_and_nothing_moves(level):
    weight, first, second, ids, gradients = problem(8, False, True)
    before = weight.copy()
    with native.using(level):
        for bad in (np.array([0, -1]), np.array([0, len(weight)])):
            with pytest.raises(InputError, match="ids from"):
                step_rows(weight, first, second, bad, gradients[:2], **HOW)
        with pytest.raises(InputError, match="gradients of shape"):
            step_rows(weight, first, second, ids, gradients[:-1], **HOW)
        with pytest.raises(InputError, match="moments"):
            step_rows(weight, first, second[:-1], ids, gradients, **HOW)
        with pytest.raises(InputError, match="in order"):
            step_rows(weight[:, ::2], first[:, ::2], second[:, ::2], ids, gradients[:, ::2], **HOW)
    np.testing.assert_array_equal(weight, before)
