"""MaxSim, the score of late interaction: each query vector takes its best match in a document, and the bests add up.

ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over BERT (2020, arXiv 2004.12832).

The compiled loop reads codes where they lie, and only the best products stay. Symbols that are whole steps apart (int8,
int4) are multiplied as integers with queries of 16 bits; other codes are put together as floats, a few at a time in the
nearest cache. Without it products are made by NumPy, a few MiB at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.kernels import native
from sememe.kernels.symbols import TRITS, SymbolScan

F32 = NDArray[np.float32]
_SCRATCH = 1 << 20  # products computed at a time: 4 MiB of float32
_KINDS = {"single": 0, "half": 1, "symbols": 2}
_TOGETHER = 4  # vectors of queries that the loop takes at a time


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
    core = native.core()
    if core is not None and values.size and values.dtype == np.float32:
        codes = np.ascontiguousarray(values).view(np.uint8)
        return TokenCodes(Q, "single").scores(codes, queries, offsets[:-1], offsets[1:], core)
    out = np.zeros((len(queries) - 1, len(offsets) - 1), dtype=np.float32)
    for start, stop in blocks(offsets, max(1, _SCRATCH // max(1, len(Q)))):
        products = Q @ values[offsets[start] : offsets[stop]].T
        out[:, start:stop] = best_sums(products, queries, offsets[start : stop + 1] - offsets[start])
    return out


@dataclass(frozen=True, eq=False)
class TokenCodes:
    """Vectors of queries, prepared for MaxSim with codes of the vectors of documents.

    ``product(q, code) = weights[q] . numbers(code) + centres[q, number of the centre] + constants[q]``, where a code
    has the number of its centre in its first ``head`` bytes, if it has one, and numbers from byte ``first`` on. With
    ``rows`` it is ``weights[q] . unit(rows[number of the centre] + spread * numbers(code)) + constants[q]``.

    Parameters
    ----------
    weights : ndarray of shape (m, d)
        float32.
    kind : {"single", "half", "symbols"}
        The numbers: float32, float16, or symbols of ``bits`` bits that stand for ``levels``.
    constants : ndarray of shape (m,), optional
        float32; zeros when not given.
    bits : int
        1 to 8, as ``kernels.bits`` packs them.
    levels : ndarray of shape (2**bits,), optional
        float32.
    signed : bool
        Symbols of 8 bits are int8; the first level is that of -128.
    first, head : int
        Bytes.
    centres : ndarray of shape (m, cells), optional
        float32 inner products with the centres.
    rows : ndarray of shape (cells, d), optional
        float32 centres, where vectors are brought to unit length; ``centres`` then has no part. Only with symbols.
    spread : ndarray of shape (d,), optional
        float32; what levels are multiplied by before a row is added.
    """

    weights: F32
    kind: str
    constants: F32 | None = None
    bits: int = 8
    levels: F32 | None = None
    signed: bool = False
    first: int = 0
    head: int = 0
    centres: F32 | None = None
    rows: F32 | None = None
    spread: F32 | None = None

    @classmethod
    def of_scan(cls, scan: SymbolScan) -> TokenCodes | None:
        """The same as a scan's queries ``(m, d)``; None where a row has a scale of its own, or ternary digits."""
        if scan.tail != "none" or scan.inner is not None or scan.bits == TRITS:
            return None
        weights, constants, levels = (a.astype(np.float32) for a in (scan.weights, scan.constants, scan.levels))
        return cls(weights, "symbols", constants, scan.bits, levels, scan.signed, scan.first)

    def scores(
        self,
        codes: NDArray[np.uint8],
        queries: NDArray[np.int64],
        starts: NDArray[np.int64],
        stops: NDArray[np.int64],
        core: Any = None,
    ) -> F32:
        """MaxSim of all queries with some documents, float32 ``(q, n)``.

        Parameters
        ----------
        codes : ndarray of shape (t, code_bytes)
            uint8; may be memory-mapped.
        queries : ndarray of shape (q + 1,)
            Query ``i`` has the vectors ``queries[i]`` to ``queries[i + 1]``.
        starts, stops : ndarray of shape (n,)
            Document ``j`` has the codes ``starts[j]`` to ``stops[j]``; without any it scores 0.
        core : module
            ``native.core()``, which must be there.
        """
        core = core or native.core()
        m, d = self.weights.shape
        if codes.ndim != 2 or queries[-1] > m:
            raise InputError(f"codes {codes.shape} and {m} vectors of queries do not fit together")
        centres = np.zeros(
            (0 if self.centres is None else self.centres.shape[1], -(-m // _TOGETHER) * _TOGETHER), np.float32
        )
        if self.centres is not None:
            centres[:, :m] = self.centres.T
        found: F32 = core.maxsim(
            _KINDS[self.kind], np.ascontiguousarray(codes), d, self.bits, 128 if self.signed else 0, self.first,
            np.zeros(0, np.float32) if self.levels is None else self.levels, self.head, centres,
            np.zeros((0, d), np.float32) if self.rows is None else np.ascontiguousarray(self.rows, np.float32),
            np.zeros(0, np.float32) if self.spread is None else np.ascontiguousarray(self.spread, np.float32),
            np.ascontiguousarray(self.weights, np.float32),
            np.zeros(m, np.float32) if self.constants is None else self.constants,
            *(np.ascontiguousarray(a, np.int64) for a in (queries, starts, stops)), native.threads(),
        )  # fmt: skip
        return found


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
