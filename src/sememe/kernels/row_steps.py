"""A step of a row-wise optimiser: the rows of a large table that a batch used move; no others are looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.kernels import native

F32 = NDArray[np.float32]


def step_rows(
    weight: F32,
    first: F32 | None,
    second: F32,
    ids: NDArray[np.int64],
    gradients: F32,
    *,
    keep_first: float = 0.9,
    keep_second: float = 0.999,
    add_second: float = 0.001,
    rate: float = 1e-3,
    eps: float = 1e-8,
) -> None:
    """Move rows in place by ``rate * m / (sqrt(v) + eps)``.

    With ``g`` the sum of the gradients of a row, ``m`` becomes ``keep_first m + (1 - keep_first) g`` (or is ``g``
    without ``first``) and ``v`` becomes ``keep_second v + add_second g^2``, where ``g^2`` is taken number by number, or
    is the mean over the row where ``second`` has one number a row.

    Parameters
    ----------
    weight : float32 ndarray of shape (n, d)
        C-contiguous, as are the moments; all change in place.
    first : float32 ndarray of shape (n, d), optional
    second : float32 ndarray of shape (n, d) or (n,)
    ids : int64 ndarray of shape (m,)
        Rows, in any order, repeats allowed.
    gradients : float32 ndarray of shape (m, d)
    keep_first, keep_second, add_second, rate, eps : float

    Raises
    ------
    InputError
        Arrays that do not fit together, or an id outside the table.
    """
    if weight.ndim != 2 or gradients.shape != (len(ids), weight.shape[1]):
        raise InputError(f"gradients of shape {gradients.shape} for {len(ids)} rows of a table {weight.shape}")
    if second.shape not in (weight.shape, weight.shape[:1]) or (first is not None and first.shape != weight.shape):
        raise InputError(f"moments that do not fit a table {weight.shape}")
    if not all(a.flags.c_contiguous for a in (weight, second, *([] if first is None else [first]))):
        raise InputError("the table and its moments must lie in order", fix="make them contiguous")
    if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= len(weight)):
        raise InputError(f"ids from {int(ids.min())} to {int(ids.max())} of a table with {len(weight)} rows")
    ids, gradients = np.ascontiguousarray(ids), np.ascontiguousarray(gradients)
    core = native.core()
    if core is not None:
        core.step_rows(
            weight, first, second, ids, gradients, keep_first, keep_second, add_second, rate, eps, native.threads()
        )
        return
    _step(weight, first, second, ids, gradients, keep_first, keep_second, add_second, rate, eps)


def _step(
    weight: F32,
    first: F32 | None,
    second: F32,
    ids: NDArray[np.int64],
    gradients: F32,
    keep_first: float,
    keep_second: float,
    add_second: float,
    rate: float,
    eps: float,
) -> None:
    """The same in NumPy, with as few passes over the rows as it allows."""
    order = np.argsort(ids, kind="stable")
    rows = ids[order]
    new = np.empty(len(rows), dtype=bool)
    new[:1] = True
    np.not_equal(rows[1:], rows[:-1], out=new[1:])
    step = gradients[order]
    if not new.all():
        starts = np.flatnonzero(new)
        step, rows = np.add.reduceat(step, starts, axis=0), rows[starts]
    if second.ndim == 1:
        square = np.einsum("ij,ij->i", step, step) * np.float32(add_second / weight.shape[1])
    else:
        square = step * step
        square *= np.float32(add_second)
    moment = second[rows]
    moment *= np.float32(keep_second)
    moment += square
    second[rows] = moment
    np.sqrt(moment, out=moment)
    moment += np.float32(eps)
    if first is not None:
        mean = first[rows]
        step -= mean
        step *= np.float32(1 - keep_first)
        step += mean
        first[rows] = step
    np.divide(np.float32(rate), moment, out=moment)
    step *= moment[:, None] if second.ndim == 1 else moment
    weight[rows] -= step
