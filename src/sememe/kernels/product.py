"""Encoding to product codes: in each sub-space the number of the nearest centre, with no table of distances between.

The compiled loop keeps the best distance of 64 rows in registers while it runs through the centres of one sub-space.
Its distances are ``((|c|^2 / 2 - x_0 c_0) - x_1 c_1) - ...``, each step fused (rounded once), the same at every
level; NumPy's matrix product adds in another order, so a row almost equally far from two centres may get either.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.kernels import native
from sememe.kernels.kmeans import nearest

MOST = 256  # centres that a byte can number


def encode_subspaces(X: NDArray[np.float32], codebooks: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """The number of the nearest centre of each group of consecutive columns; the first of equally near ones.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        float32, without NaN; the widths of the codebooks add up to ``d``.
    codebooks : sequence of m ndarrays of shape (k, width)
        float32; as many centres for each group, at most 256.

    Returns
    -------
    ndarray of shape (n, m)
        uint8.
    """
    counts, widths = {len(centres) for centres in codebooks}, [centres.shape[1] for centres in codebooks]
    if len(counts) != 1 or not 1 <= max(counts) <= MOST or min(widths) < 1 or sum(widths) != X.shape[1]:
        raise InputError(
            f"codebooks of {sorted(counts)} centres and {sum(widths)} columns do not fit rows of {X.shape[1]}",
            fix=f"give each group of columns as many centres, {MOST} at most",
        )
    edges = np.cumsum([0, *widths], dtype=np.int64)
    core = native.core()
    if core is None:
        out = np.empty((len(X), len(codebooks)), dtype=np.uint8)
        for group, centres in enumerate(codebooks):
            out[:, group] = nearest(np.ascontiguousarray(X[:, edges[group] : edges[group + 1]]), centres)
        return out
    table = np.zeros((len(codebooks), max(counts), max(widths)), dtype=np.float32)
    half = np.empty(table.shape[:2], dtype=np.float32)
    for group, centres in enumerate(codebooks):
        table[group, :, : widths[group]] = centres
        half[group] = np.einsum("ij,ij->i", centres, centres, dtype=np.float64) / 2
    codes: NDArray[np.uint8] = core.encode_subspaces(
        np.ascontiguousarray(X, dtype=np.float32), edges, table, half, native.threads()
    )
    return codes
