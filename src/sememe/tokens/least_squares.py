"""Exact least squares for layers that are linear in their parameters with a fixed sparse code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sememe.errors import MissingDependency

try:
    import torch
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_DENSE = 4_096  # unknowns up to which the normal equations are factorised; above, conjugate gradients


def solve_sparse(
    index: Any, values: Any, shape: tuple[int, int], table: Any, weights: Any = None, ridge: float = 1e-4
) -> Any:
    """``X (m, d)`` that minimises ``sum_i w_i |(A X)_i - table_i|^2 + ridge |X|^2``.

    Parameters
    ----------
    index : int64 Tensor of shape (2, entries)
        Rows (symbols) and columns (unknowns) of the code ``A``; equal places add up.
    values : Tensor of shape (entries,)
    shape : (int, int)
        Of ``A``: symbols and unknowns ``m``.
    table : Tensor of shape (v, d)
    weights : Tensor of shape (v,), optional
    ridge : float
        In units of the mean diagonal of ``A' W A``; unknowns that no symbol uses become zero.
    """
    from scipy import sparse
    from scipy.linalg import cho_factor, cho_solve

    code = sparse.csr_matrix((values.numpy().astype(np.float64), index.numpy()), shape=shape)
    wanted = table.numpy().astype(np.float64)
    weight = np.ones(shape[0]) if weights is None else weights.numpy().astype(np.float64)
    weighted = (sparse.diags(weight) @ code).tocsr()
    right, diagonal = weighted.T @ wanted, np.asarray(weighted.multiply(code).sum(axis=0)).ravel()
    shift = ridge * max(float(diagonal.mean()), 1e-12)
    if shape[1] <= _DENSE:
        dense = (code.T @ weighted).toarray()
        dense[np.diag_indices(len(dense))] += shift
        found = cho_solve(cho_factor(dense, overwrite_a=True, check_finite=False), right, check_finite=False)
    else:
        found = _conjugate_gradients(lambda x: weighted.T @ (code @ x) + shift * x, right, diagonal + shift)
    return torch.from_numpy(found.astype(np.float32))


def _conjugate_gradients(
    normal: Callable[[Any], Any], right: Any, diagonal: Any, steps: int = 300, tolerance: float = 1e-6
) -> Any:
    """All columns at once, with the diagonal as preconditioner; ``normal`` multiplies, and is never written out."""
    inverse = 1 / diagonal[:, None]
    x = np.zeros_like(right)
    rest = right.copy()
    z = inverse * rest
    direction, old = z.copy(), (rest * z).sum(0)
    enough = tolerance**2 * np.maximum((right * right).sum(0), 1e-300)
    for _ in range(steps):
        if ((rest * rest).sum(0) <= enough).all():
            break
        moved = normal(direction)
        step = old / np.maximum((direction * moved).sum(0), 1e-300)
        x += step * direction
        rest -= step * moved
        z = inverse * rest
        new = (rest * z).sum(0)
        direction = z + (new / np.maximum(old, 1e-300)) * direction
        old = new
    return x
