"""Vectors from counts: positive pointwise mutual information, reduced by a truncated singular value decomposition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def pair_counts(documents: Sequence[Sequence[int]], size: int, window: int = 5) -> csr_array:
    """How often two tokens stand within ``window`` places of each other, the nearer the more (``1 / distance``).

    Returns
    -------
    scipy.sparse.csr_array of shape (size, size)
        Symmetric, float64.
    """
    from scipy.sparse import coo_array, csr_array

    # A gap as wide as the window between documents: pairs do not reach over it.
    gap = np.full(window, -1, dtype=np.int64)
    ids = np.concatenate(
        [part for document in documents for part in (np.asarray(document, dtype=np.int64), gap)] or [gap]
    )
    total = csr_array((size, size))
    for distance in range(1, window + 1):
        left, right = ids[:-distance], ids[distance:]
        real = (left >= 0) & (right >= 0)
        ones = np.full(int(real.sum()), 1 / distance)
        total = total + coo_array((ones, (left[real], right[real])), shape=(size, size)).tocsr()
    return (total + total.T).tocsr()


def positive_information(counts: csr_array, smoothing: float = 0.75) -> csr_array:
    """``max(0, log(p(row, column) / (p(row) p(column))))``, columns smoothed by a power as in word2vec."""
    from scipy.sparse import csr_array

    table = counts.tocoo()
    rows = np.asarray(counts.sum(axis=1)).ravel()
    columns = np.asarray(counts.sum(axis=0)).ravel() ** smoothing
    share = columns / max(columns.sum(), 1e-300)
    values = np.log(table.data / (rows[table.row] * share[table.col]))
    keep = values > 0
    return csr_array((values[keep], (table.row[keep], table.col[keep])), shape=counts.shape)


def reduced(table: csr_array, dim: int, seed: int = 0) -> Vectors:
    """Rows ``(n, dim)`` whose inner products come nearest to the table's: left singular vectors times roots of values.

    A randomised range finder with two power iterations: products with a sparse table, and small dense ones.
    """
    n, m = table.shape
    width = min(dim + 16, n, m)
    if width < 1:
        raise InputError("there are no counts to make vectors of", fix="give more text")
    drawn = np.random.default_rng(seed).standard_normal((m, width))
    basis = np.linalg.qr(table @ drawn)[0]
    for _ in range(2):
        basis = np.linalg.qr(table @ np.linalg.qr(table.T @ basis)[0])[0]
    u, values, _ = np.linalg.svd(np.asarray(table.T @ basis).T, full_matrices=False)
    left = (basis @ u)[:, :dim]
    # The sign of a singular vector is arbitrary; the largest entry is made positive.
    sign = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    out: NDArray[np.float64] = left * (np.where(sign == 0, 1, sign) * np.sqrt(values[:dim]))
    return out.astype(np.float32)


def token_vectors(
    documents: Sequence[Sequence[int]], size: int, *, dim: int = 128, window: int = 5, seed: int = 0
) -> Vectors:
    """Static vectors ``(size, dim)`` of tokens, from which tokens stand near which; zero where a token never occurs.

    Raises
    ------
    InputError
        No text, or no two tokens beside each other.
    """
    counts = pair_counts(documents, size, window)
    if not counts.nnz:
        raise InputError("this text is too short to learn token vectors from", fix="give more text")
    return reduced(positive_information(counts), min(dim, size), seed)
