"""The best of all rows of a table of plain numbers, by exact inner products: one pass over memory, nothing widened.

A few queries share each block of rows while it lies in a cache. For more than eight or so, widening a block and one
matrix product are faster.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.kernels import native
from sememe.kernels.rescore import LOOPS, Table, bare, rescore


def row_scan(vectors: Table, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``k`` best rows for each query.

    Parameters
    ----------
    vectors : ndarray of shape (n, d)
        float32, float16 or int8; may be memory-mapped.
    queries : ndarray of shape (q, d)
        float32.
    k : int
        At least 1.

    Returns
    -------
    scores : ndarray of shape (q, k')
        float32, best first; ``k'`` is ``k`` or ``n``, if that is less. NaN counts as ``-inf``.
    rows : ndarray of shape (q, k')
        int64; ties go to the lower row.
    """
    if k < 1 or queries.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise InputError(f"vectors {vectors.shape}, queries {queries.shape} and k={k} do not fit together")
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    core = native.core()
    if core is not None and vectors.flags.c_contiguous and vectors.dtype.char in LOOPS:
        loop = getattr(core, f"row_scan_{LOOPS[vectors.dtype.char]}")
        scores, rows = loop(bare(vectors), queries, k, native.threads())
        return scores, rows
    all_rows = np.broadcast_to(np.arange(len(vectors)), (len(queries), len(vectors)))
    scores, rows, _ = rescore(vectors, queries, all_rows, k)
    return scores, rows
