"""Exact scores for the candidates of a scan of codes: rows of vectors, picked out, multiplied, the best kept.

A row that lies far away in memory costs as much as several kilobytes of scan, so rows are requested ahead and, where
scores from the codes are at hand, not all of them are read. The first candidates give a line from coarse to exact
scores and the scatter about it; of the rest only those are read whose coarse score leaves them a chance, the best of
them first: whenever as many more have been read, line and chance are worked out again. Choosing rows by the coarse
score does not bias that line, because it is the variable that the line starts from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.kernels import native

FIRST = 64  # candidates read before the line is drawn
_SCRATCH = 1 << 20  # bytes of gathered rows at a time in the NumPy path
Table = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int8]
LOOPS = {"f": "single", "e": "half", "b": "bytes"}  # which of the compiled loops takes vectors of that type


def rescore(
    vectors: Table,
    queries: NDArray[np.float32],
    rows: NDArray[np.int64],
    k: int,
    *,
    coarse: NDArray[np.float32] | None = None,
    margin: float = np.inf,
    first: int = FIRST,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """The ``k`` best of each query's candidates by inner product.

    Parameters
    ----------
    vectors : ndarray of shape (n, d)
        float32, float16 or int8; may be memory-mapped.
    queries : ndarray of shape (q, d)
        float32.
    rows : ndarray of shape (q, c)
        int64: each query's candidates, in any order, none twice.
    k : int
        At least 1.
    coarse : ndarray of shape (q, c), optional
        float32: approximate scores of the candidates; on a scale of their own, if need be.
    margin : float
        With ``coarse``: a candidate is read if its expected score plus ``margin`` standard deviations reaches the
        k-th best of those read before.
    first : int
        Candidates that are read in any case: those with the best coarse scores.

    Returns
    -------
    scores : ndarray of shape (q, k')
        float32, best first; ``k'`` is ``k`` or ``c``, if that is less. NaN counts as ``-inf``.
    rows : ndarray of shape (q, k')
        int64; ties go to the lower row.
    read : ndarray of shape (q,)
        How many rows were read.
    """
    if k < 1 or rows.ndim != 2 or len(rows) != len(queries) or queries.shape[1] != vectors.shape[1]:
        raise InputError(
            f"vectors {vectors.shape}, queries {queries.shape}, candidates {rows.shape} and k={k} do not fit together"
        )
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    core = native.core()
    if core is not None and vectors.flags.c_contiguous and vectors.dtype.char in LOOPS:
        loop = getattr(core, f"rescore_{LOOPS[vectors.dtype.char]}")
        found = loop(bare(vectors), queries, np.ascontiguousarray(rows), coarse, k, first, margin, native.threads())
        return found[0], found[1], found[2]
    return _rescore(vectors, queries, rows, k, coarse, margin, max(first, min(k, rows.shape[1])))


def bare(vectors: Table) -> NDArray[np.generic]:
    """Vectors as the compiled loops take them: half precision as uint16."""
    return vectors.view(np.uint16) if vectors.dtype.char == "e" else vectors


def multiply(queries: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """``queries @ rows.T``, float32 ``(q, n)``, for small matrices.

    A product of a few hundred microseconds is not worth the threads that a BLAS library wakes for it: they keep
    spinning afterwards and take the cores from the scan that follows. Threads of our own end with the product.
    """
    core = native.core()
    if core is None:
        return np.asarray(queries @ rows.T)
    out: NDArray[np.float32] = core.multiply(
        np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(rows), native.threads()
    )
    return out


def _rescore(
    vectors: Table,
    queries: NDArray[np.float32],
    rows: NDArray[np.int64],
    k: int,
    coarse: NDArray[np.float32] | None,
    margin: float,
    first: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """The same in NumPy."""
    count, each = rows.shape
    k = min(k, each)
    scores, found = np.empty((count, k), dtype=np.float32), np.empty((count, k), dtype=np.int64)
    read = np.zeros(count, dtype=np.int64)
    for q, query in enumerate(queries):
        some = rows[q]
        if coarse is None or first >= each or margin == np.inf:
            exact = _dots(vectors, some, query)
        else:
            some, exact = _while_promising(vectors, query, some, coarse[q].astype(np.float64), k, margin, first)
        read[q] = len(some)
        best = np.lexsort((some, -exact))[:k]
        scores[q], found[q] = exact[best], some[best]
    return scores, found, read


def _while_promising(
    vectors: Table, query: NDArray[np.float32], rows: NDArray[np.int64], guess: NDArray[np.float64], k: int,
    margin: float, first: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:  # fmt: skip
    """The candidates of one query that are read, and their exact scores."""
    order = np.lexsort((rows, -guess))
    rows, guess = rows[order], guess[order]
    done, exact = first, _dots(vectors, rows[:first], query)
    while done < len(rows):
        y = exact.astype(np.float64)
        x, mean = guess[:done] - guess[:done].mean(), y.mean()
        y -= mean
        slope = max(0.0, float(x @ y / (x @ x))) if x @ x > 0 else 0.0
        offset = mean - slope * guess[:done].mean()
        scatter = np.sqrt(max(0.0, float(y @ y - slope * (x @ y))) / max(1, done - 2))
        need = float(np.partition(exact, done - k)[done - k]) - offset - margin * scatter
        promising = int(np.count_nonzero(slope * guess[done:] >= need))  # the next ones: they lie in that order
        if not promising:
            break
        some = rows[done : done + min(done, promising)]
        exact, done = np.concatenate([exact, _dots(vectors, some, query)]), done + len(some)
    return rows[:done], exact


def _dots(vectors: Table, rows: NDArray[np.int64], query: NDArray[np.float32]) -> NDArray[np.float32]:
    out = np.empty(len(rows), dtype=np.float32)
    step = max(1, _SCRATCH // (4 * vectors.shape[1]))
    with np.errstate(invalid="ignore"):
        for start in range(0, len(rows), step):
            out[start : start + step] = vectors[rows[start : start + step]].astype(np.float32, copy=False) @ query
    out[np.isnan(out)] = -np.inf
    return out
