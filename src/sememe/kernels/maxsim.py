"""MaxSim, the score of late interaction: each query vector takes its best match in a document, and the bests add up.

ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over BERT (2020, arXiv 2004.12832).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
_SCRATCH = 1 << 20  # products computed at a time: 4 MiB of float32


def maxsim(Q: F32, queries: NDArray[np.int64], values: F32, offsets: NDArray[np.int64]) -> F32:
    """Sum over the vectors of a query of the largest inner product with a vector of the document.

    Parameters
    ----------
    Q : ndarray of shape (m, d)
        The vectors of all queries, float32.
    queries : ndarray of shape (q + 1,)
        Query ``i`` is ``Q[queries[i]:queries[i + 1]]``.
    values : ndarray of shape (t, d)
        The vectors of all documents, float32.
    offsets : ndarray of shape (n + 1,)
        Document ``j`` is ``values[offsets[j]:offsets[j + 1]]``.

    Returns
    -------
    ndarray of shape (q, n)
        float32; a document or a query without vectors scores 0.
    """
    out = np.zeros((len(queries) - 1, len(offsets) - 1), dtype=np.float32)
    for start, stop in blocks(offsets, max(1, _SCRATCH // max(1, len(Q)))):
        products = Q @ values[offsets[start] : offsets[stop]].T
        out[:, start:stop] = best_sums(products, queries, offsets[start : stop + 1] - offsets[start])
    return out


def best_sums(products: F32, queries: NDArray[np.int64], offsets: NDArray[np.int64]) -> F32:
    """The same from inner products ``(m, t)`` that are known already, as codes give them without being decoded."""
    out = np.zeros((len(queries) - 1, len(offsets) - 1), dtype=np.float32)
    asked, held = np.flatnonzero(np.diff(queries)), np.flatnonzero(np.diff(offsets))
    if len(asked) and len(held):
        best = np.maximum.reduceat(products, offsets[held], axis=1)
        out[np.ix_(asked, held)] = np.add.reduceat(best, queries[asked], axis=0)
    return out


def blocks(offsets: NDArray[np.int64], vectors: int) -> Iterator[tuple[int, int]]:
    """Runs ``[start, stop)`` of whole documents with at most so many vectors, or of one document that has more."""
    start, n = 0, len(offsets) - 1
    while start < n:
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + vectors, side="right")) - 1)
        yield start, stop
        start = stop
