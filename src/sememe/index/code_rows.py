"""Exact scores of few rows of a segment's codes, where a code is its numbers: floats, halves, or int8 by dimension.

Such rows are picked out and multiplied where they lie, many queries in one call. Other codes go through `scan`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.codec.floating import FP16, FP32
from sememe.codec.integer import Int8
from sememe.contracts import Codes, Vectors
from sememe.kernels.rescore import Table, rescore
from sememe.kernels.row_scan import row_scan
from sememe.kernels.select import Checked, Filter, best_selected

Found = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(slots=True, eq=False)
class CodeRows:
    """Codes as a table of numbers, and queries that go with it: ``score = queries . values[row] + constants``.

    Attributes
    ----------
    values : ndarray of shape (n, d)
        float32, float16 or int8: the codes themselves.
    queries : ndarray of shape (q, d)
        float32.
    constants : ndarray of shape (q, 1), optional
        float32.
    """

    values: Table
    queries: Vectors
    constants: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, quantizer: Any, Q: Vectors, codes: Codes) -> CodeRows | None:
        """The codes ``(n, code_bytes)`` of a fitted quantizer and queries ``(q, d)``; None for other kinds of code."""
        if isinstance(quantizer, FP32):
            return cls(codes.view(np.float32), Q)
        if isinstance(quantizer, FP16):
            return cls(codes.view(np.float16), Q)
        if isinstance(quantizer, Int8) and quantizer.scale == "dimension":
            constants = (Q.astype(np.float64) @ np.asarray(quantizer.offset_, dtype=np.float64)).astype(np.float32)
            return cls(codes.view(np.int8), Q * quantizer.step_, constants[:, None])
        return None

    def best(
        self, rows: NDArray[np.int64], k: int, coarse: NDArray[np.float32] | None = None, margin: float = np.inf
    ) -> Found:
        """The ``k`` best of each query's ``rows`` ``(q, c)``; ``coarse`` and ``margin`` as for ``kernels.rescore``."""
        scores, found, _ = rescore(self.values, self.queries, rows, k, coarse=coarse, margin=margin)
        return self._whole(scores), found

    def best_of_all(self, k: int) -> Found:
        """The ``k`` best of all rows."""
        scores, found = row_scan(self.values, self.queries, k)
        return self._whole(scores), found

    def best_allowed(
        self, allow: Filter, k: int, most: int, file: Checked | None
    ) -> tuple[NDArray[np.uint64], Found | None]:
        """The ``k`` best of the rows that a filter lets through, and its bits, as ``kernels.select.best_selected``."""
        bits, found = best_selected(self.values, self.queries, allow, k, most, file)
        return bits, None if found is None else (self._whole(found[0]), found[1])

    def _whole(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.constants is None:
            return scores
        whole: NDArray[np.float32] = scores + self.constants
        whole[np.isnan(whole)] = -np.inf  # of a query whose products overflow: what has no order counts as the least
        return whole
