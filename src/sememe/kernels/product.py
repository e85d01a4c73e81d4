"""Encoding to product codes: in each sub-space the number of the nearest centre, with no table of distances between.

The compiled loop keeps the best distance of 64 rows in registers while it runs through the centres of one sub-space.
Its distances are ``((|c|^2 / 2 - x_0 c_0) - x_1 c_1) - ...``, each step fused (rounded once), the same at every
level; NumPy's matrix product adds in another order, so a row almost equally far from two centres may get either.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.kernels import native
from sememe.kernels.kmeans import nearest

MOST = 256  # centres that a byte can number


def encode_subspaces(
    X: NDArray[np.float32], edges: NDArray[np.int64], centres: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Numbers of the nearest centres, uint8 ``(n, m)``; the first of equally near ones.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        float32, without NaN.
    edges : ndarray of shape (m + 1,)
        Sub-space ``g`` is dimensions ``edges[g]`` to ``edges[g + 1]``.
    centres : ndarray of shape (m, count, widest)
        float32, at most 256 each; narrower sub-spaces use their first columns.
    """
    m, count, wide = centres.shape
    edges = np.ascontiguousarray(edges, dtype=np.int64)
    widths = np.diff(edges)
    if count > MOST or edges.shape != (m + 1,) or edges[0] < 0 or edges[-1] > X.shape[1] or not m * count:
        raise InputError(f"{centres.shape} centres and edges {edges.shape} do not fit {X.shape[1]} dimensions")
    if widths.min() < 1 or widths.max() > wide:
        raise InputError("a sub-space is empty or wider than its centres", fix="edges must ascend")
    core = native.core()
    if core is not None:
        half = np.stack([_half(centres[g, :, : widths[g]]) for g in range(m)])
        rows, table = np.ascontiguousarray(X, dtype=np.float32), np.ascontiguousarray(centres, dtype=np.float32)
        codes: NDArray[np.uint8] = core.encode_subspaces(rows, edges, table, half, native.threads())
        return codes
    out = np.empty((len(X), m), dtype=np.uint8)
    for g in range(m):
        out[:, g] = nearest(X[:, edges[g] : edges[g + 1]], centres[g, :, : widths[g]])
    return out


def _half(centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half the squared length of each centre, as ``kmeans.nearest`` computes it."""
    return (np.einsum("ij,ij->i", centres, centres, dtype=np.float64) / 2).astype(np.float32)
