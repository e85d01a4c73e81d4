"""Lloyd's k-means on small dimensions: one matrix product and one argmin an iteration, seeded, no empty clusters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.kernels import native

F32 = NDArray[np.float32]
_NARROW = 32  # columns up to which the compiled loop beats a matrix product
_BLOCK = 1 << 18  # distances computed at a time: 1 MiB of float32


def nearest(X: F32, centres: F32) -> NDArray[np.intp]:
    """The index of the nearest of ``k`` centres ``(k, d)`` for each row of ``X`` ``(n, d)``; the first of equals."""
    core = native.core()
    if core is not None and len(centres) <= 256 and X.shape[1] <= _NARROW:
        half = (np.einsum("ij,ij->i", centres, centres, dtype=np.float64) / 2).astype(np.float32)
        edges = np.array([0, X.shape[1]], dtype=np.int64)
        rows, table = np.ascontiguousarray(X, dtype=np.float32), np.ascontiguousarray(centres, dtype=np.float32)
        found: NDArray[np.uint8] = core.encode_subspaces(rows, edges, table[None], half[None], native.threads())
        return found[:, 0].astype(np.intp)
    # ||x - c||^2 without the part that is the same for every centre; halved, so that it is one product and one sum.
    half = (np.einsum("ij,ij->i", centres, centres, dtype=np.float64) / 2).astype(np.float32)
    turned = np.ascontiguousarray(-centres.T)
    out = np.empty(len(X), dtype=np.intp)
    step = max(1, _BLOCK // len(centres))
    for start in range(0, len(X), step):
        block = X[start : start + step] @ turned
        block += half
        block.argmin(axis=1, out=out[start : start + step])
    return out


def kmeans(X: F32, k: int, *, iterations: int, seed: int, start: F32 | None = None) -> F32:
    """Centres float32 ``(k, d)`` of the rows of ``X`` ``(n, d)``.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        With fewer than ``k`` rows, some centres repeat rows.
    k, iterations, seed : int
        Number of centres, Lloyd steps, and the seed of the starting rows.
    start : ndarray of shape (k, d), optional
        Centres to start from instead of random rows.
    """
    generator = np.random.default_rng(seed)
    n = len(X)
    if start is None:
        order = generator.permutation(n)
        start = X[np.resize(order, k)]
    centres = np.array(start, dtype=np.float32)
    for _ in range(iterations):
        owner = nearest(X, centres)
        counts = np.bincount(owner, minlength=k)
        sums = np.stack([np.bincount(owner, weights=column, minlength=k) for column in X.T], axis=1)
        held = counts > 0
        centres[held] = (sums[held] / counts[held, None]).astype(np.float32)
        _refill(centres, counts, generator)
    return centres


def _refill(centres: F32, counts: NDArray[np.int64], generator: np.random.Generator) -> None:
    """Move each empty centre beside a crowded one, a hair away, so that the next step splits the crowd."""
    empty = np.flatnonzero(counts == 0)
    if not len(empty):
        return
    crowded = np.argsort(-counts, kind="stable")[: len(empty)]
    crowded = np.resize(crowded[counts[crowded] > 1], len(empty)) if (counts[crowded] > 1).any() else crowded
    nudge = generator.choice(np.array([-1.0, 1.0], dtype=np.float32), size=(len(empty), centres.shape[1]))
    centres[empty] = centres[crowded] * (1 + np.float32(1e-4) * nudge)
