"""Exact search over inverted lists of one segment, in the compiled core.

A query is a list of terms with weights. A passage's score is the sum, over the query's terms that it holds and in their
order, of ``weight * value`` for learned weights, or of ``weight * count / (count + norm(length))`` for the counts of
BM25. Rough float sums choose candidates with a bound on their error; candidates are scored in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.kernels import native

_KINDS = {"u8": 0, "fp16": 1, "counts": 2}
Ranked = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Lengths:
    """What BM25 needs to know of the passages' lengths.

    ``norm(length) = k1 * (1 - b + b * length / mean)``; ``rough`` holds it in single precision, float32 ``(n,)``, and
    ``lengths`` is uint32 ``(n,)``.
    """

    lengths: NDArray[np.uint32]
    mean: float
    k1: float
    b: float
    rough: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SparseLists:
    """Inverted lists, one after another.

    Attributes
    ----------
    rows : uint32 ndarray of shape (postings,)
        Passages, below ``passages`` and ascending within a list.
    values : ndarray of shape (postings,)
        None negative: float16 weights, uint8 codes of weights, or uint8 or uint16 counts.
    weights : {"fp16", "u8", "counts"}
        Which of them.
    starts : uint32 ndarray of shape (v + 1,)
        Where each list begins.
    passages : int
    """

    rows: NDArray[np.uint32]
    values: NDArray[Any]
    weights: str
    starts: NDArray[np.uint32]
    passages: int

    def topk(
        self,
        numbers: NDArray[np.int64],
        weights: NDArray[np.float64],
        queries: NDArray[np.int64],
        k: int,
        *,
        scales: NDArray[np.float32] | None = None,
        lengths: Lengths | None = None,
        allowed: NDArray[np.bool_] | None = None,
        core: Any = None,
    ) -> Ranked:
        """The ``k`` best passages for each query: scores and rows ``(q, k')``, best first, ties to the lower row.

        Parameters
        ----------
        numbers : ndarray of shape (t,)
            The lists of the terms of all queries, -1 for a term that has none.
        weights : ndarray of shape (t,)
            None negative.
        queries : ndarray of shape (q + 1,)
            Query ``i`` has the terms ``queries[i]`` to ``queries[i + 1]``.
        scales : ndarray of shape (t,), optional
            What a step of a uint8 code stands for, for ``u8``.
        lengths : Lengths, optional
            For ``counts``.
        allowed : bool ndarray of shape (passages,), optional
            The passages that may be found; all by default.
        core : module, optional
            ``native.core()``, which must be there.

        Returns
        -------
        scores, rows
            Only passages with a score above zero; shorter lines end in -inf and -1.
        """
        core = core or native.core()
        kind, values = self._coded
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        by_length: tuple[Any, ...] = (None, None, 0.0, 0.0, 1.0)
        if lengths is not None:
            by_length = (lengths.rough, lengths.lengths, lengths.k1, lengths.b, lengths.mean)
        return core.search_lists(
            self.rows, values, kind, self.starts, numbers, weights, scales, queries, self.passages, bits,
            *by_length, k, native.threads(),
        )  # fmt: skip

    @cached_property
    def _coded(self) -> tuple[int, NDArray[np.uint8]]:
        """The sort of values as the core numbers it, and their bytes."""
        wide_counts = self.weights == "counts" and self.values.dtype.itemsize == 2
        return _KINDS[self.weights] + wide_counts, self.values.view(np.uint8)

    def words(self, data: NDArray[np.uint8], offsets: NDArray[Any], checked: NDArray[np.bool_], by: Lengths) -> Any:
        """What answers BM25 queries of words in one call, ``search(queries, allowed bits, k, threads)``; or None.

        ``data`` and ``offsets`` are the words as for `find_terms`, ``checked`` says of each list whether it was
        verified: a query with another list gets None. It is read anew for each query.
        """
        core = native.core()
        if core is None or offsets.dtype != np.uint32 or self.weights != "counts":
            return None
        kind, values = self._coded
        return core.Words(
            data, offsets, checked.view(np.uint8), self.rows, values, kind == _KINDS["counts"] + 1, self.starts,
            by.rough, by.lengths, by.k1, by.b, by.mean,
        )  # fmt: skip


def find_terms(data: NDArray[np.uint8], offsets: NDArray[Any], terms: list[str]) -> NDArray[np.int64] | None:
    """The numbers of ``terms`` among sorted strings, -1 where one is not there; None without the compiled core.

    String ``i`` is ``data[offsets[i]:offsets[i + 1]]``, UTF-8 that may carry lone surrogates; they are sorted by bytes.
    """
    core = native.core()
    if core is None or offsets.dtype != np.uint32:
        return None
    return core.find_terms(data, offsets, terms)
