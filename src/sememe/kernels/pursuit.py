"""Orthogonal matching pursuit of many targets over one table of atoms.

A target takes one atom after another: the one whose inner product with what is still unexplained is largest in size;
after each, the weights of all atoms taken so far are fitted again by least squares. The compiled loop screens atoms as
bytes. Rounding to bytes loses at most what the lengths of the lost parts allow (Cauchy-Schwarz), so of thousands of
atoms a few dozen remain, and those are compared in double precision: the atoms are those of the plain loop in float64,
whatever the screen's rounding. Inner products among atoms are computed when they are needed, ``k**2 / 2`` a target; a
table of all of them would cost more to fill, and to read, than it saves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.kernels import native

_BLOCK = 1 << 21  # numbers held at a time without the native core, of products and of bases
_FREE = 1e-6  # share of an atom outside the span of those before it, below which it brings nothing new


class Pursuit(NamedTuple):
    """What was found for ``b`` targets.

    Attributes
    ----------
    atoms : ndarray of shape (b, k)
        int32 numbers of atoms in the order they were taken; -1 where a walk ended early.
    weights : ndarray of shape (b, k)
        float64, of the last fit; 0 where no atom is.
    residual : ndarray of shape (b,)
        float64 lengths of what is left unexplained.
    """

    atoms: NDArray[np.int32]
    weights: NDArray[np.float64]
    residual: NDArray[np.float64]


def pursue(targets: NDArray[np.float32], atoms: NDArray[np.float32], k: int, *, tolerance: float = 0.0) -> Pursuit:
    """Each target as a weighted sum of at most ``k`` atoms.

    A walk ends early where nothing is left (a target that is zero, or in the span of what it took), and where the
    residual's length falls to ``tolerance`` times the target's.

    Parameters
    ----------
    targets : ndarray of shape (b, d)
        float32, finite.
    atoms : ndarray of shape (n, d)
        float32, finite; of any lengths: inner products are compared as they are.
    k : int
        From 1 to ``n``.
    tolerance : float
        From 0 on.

    Raises
    ------
    InputError
        Tables of different widths or without rows, and ``k`` outside its range.
    """
    if targets.ndim != 2 or atoms.ndim != 2 or targets.shape[1] != atoms.shape[1] or not atoms.size:
        raise InputError(f"targets of shape {targets.shape} and atoms of shape {atoms.shape} do not fit together")
    if not 1 <= k <= len(atoms):
        raise InputError(f"k={k} atoms cannot be taken from {len(atoms)}", fix=f"give 1 to {len(atoms)}")
    targets = np.ascontiguousarray(targets, dtype=np.float32)
    atoms = np.ascontiguousarray(atoms, dtype=np.float32)
    core = native.core()
    if core is not None:
        *found, _ = core.pursue(targets, atoms, k, float(tolerance), native.threads())
        return Pursuit(*found)
    step = max(1, _BLOCK // max(len(atoms), k * atoms.shape[1]))
    parts = [_pursue(targets[start : start + step], atoms, k, tolerance) for start in range(0, len(targets), step)]
    if not parts:
        return Pursuit(np.empty((0, k), dtype=np.int32), np.empty((0, k)), np.empty(0))
    return Pursuit(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _pursue(targets: NDArray[np.float32], atoms: NDArray[np.float32], k: int, tolerance: float) -> Pursuit:
    """The same in NumPy: all targets a step at a time, on an orthonormal basis of what each has taken."""
    residual = targets.astype(np.float64)
    b, d = residual.shape
    length = np.sqrt(np.einsum("ij,ij->i", residual, residual))
    reach = np.sqrt(np.einsum("ij,ij->i", atoms, atoms, dtype=np.float64))
    chosen = np.full((b, k), -1, dtype=np.int32)
    basis, upper = np.zeros((b, k, d)), np.tile(np.eye(k), (b, 1, 1))
    going = np.flatnonzero(length > 0)
    for step in range(k):
        best, size = _most_correlated(residual[going], atoms, float(reach.max()), chosen[going, :step])
        row, along = atoms[best].astype(np.float64), np.zeros((len(going), step))
        for _ in range(2):  # the second time takes away what rounding left of the first
            part = np.matmul(basis[going, :step], row[:, :, None])[:, :, 0]
            row -= np.matmul(part[:, None, :], basis[going, :step])[:, 0]
            along += part
        height = np.sqrt(np.einsum("ij,ij->i", row, row))
        keep = (size > 1e-10 * length[going] * reach[best]) & (height > _FREE * reach[best])
        going, best, row, along, height = (part[keep] for part in (going, best, row, along, height))
        if not len(going):
            break
        row /= height[:, None]
        chosen[going, step] = best
        basis[going, step], upper[going, :step, step], upper[going, step, step] = row, along, height
        residual[going] -= np.einsum("ij,ij->i", row, residual[going])[:, None] * row
        left = np.sqrt(np.einsum("ij,ij->i", residual[going], residual[going]))
        going = going[left > tolerance * length[going]]
    inner = np.matmul(basis, targets.astype(np.float64)[:, :, None])
    weights = np.asarray(np.linalg.solve(upper, inner)[:, :, 0], dtype=np.float64)
    return Pursuit(chosen, weights, np.sqrt(np.einsum("ij,ij->i", residual, residual)))


def _most_correlated(
    residual: NDArray[np.float64], atoms: NDArray[np.float32], reach: float, taken: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The atom of the largest inner product in size, of equal ones the first, and that size; both of shape ``(g,)``."""
    rows = np.arange(len(residual))
    scores = np.abs(residual.astype(np.float32) @ atoms.T)
    scores[rows[:, None], taken] = -1
    lengths = np.sqrt(np.einsum("ij,ij->i", residual, residual))
    slack = 2 * (residual.shape[1] + 1) * float(np.finfo(np.float32).eps) * lengths * reach
    row, atom = np.nonzero(scores >= (scores.max(axis=1, initial=0) - slack)[:, None])
    row, atom = row[scores[row, atom] >= 0], atom[scores[row, atom] >= 0]
    exact = np.abs(np.einsum("ij,ij->i", residual[row], atoms[atom].astype(np.float64)))
    order = np.lexsort((atom, -exact, row))
    first = order[np.searchsorted(row[order], rows)] if len(order) else order
    return atom[first], exact[first]
