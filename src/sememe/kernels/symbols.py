"""Scanning codes whose dimensions are small symbols, each standing for a level: int8, int4, power, ternary, binary.

``score(q, row) = constants[q] + scale[row] * (inner[q] + sum over j of weights[q, j] * levels[symbol(row, j)])``. The
compiled loop scans in integers with a bound on what that rounds away, and scores every row that the bound leaves
possible in double precision, so its answer is the one of the formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.kernels import native
from sememe.kernels.select import Filter, either

TRITS = 0  # the value of ``bits`` that stands for five ternary digits a byte
_TAILS = {"none": 0, "bfloat16": 1, "half": 2, "single": 3, "table": 4}
_NO_SCALES = np.empty(0, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class SymbolScan:
    """Queries prepared for a scan of symbol codes.

    Parameters
    ----------
    weights : ndarray of shape (q, d)
        float64: what a unit of level in each dimension adds to the score.
    constants : ndarray of shape (q,)
        float64: added to every score.
    levels : ndarray of shape (2**bits,), or (3,) for ternary digits
        float64: what each symbol stands for. For ``signed`` codes the first is that of -128.
    bits : int
        1 to 8 as ``kernels.bits`` packs them, or ``TRITS``.
    signed : bool
        Bytes are int8 rather than uint8.
    first : int
        Byte of the row at which the symbols begin.
    tail : {"none", "bfloat16", "half", "single", "table"}
        A scale, not negative, that each row carries at byte ``tail_offset``: a number, or one of ``scales``.
    scales : ndarray of shape (256,), optional
        float32, for ``tail="table"``.
    inner : ndarray of shape (q,), optional
        float64: added before the scale multiplies.
    """

    weights: NDArray[np.float64]
    constants: NDArray[np.float64]
    levels: NDArray[np.float64]
    bits: int
    signed: bool = False
    tail: str = "none"
    tail_offset: int = 0
    first: int = 0
    scales: NDArray[np.float32] | None = None
    inner: NDArray[np.float64] | None = None

    def topk(
        self,
        codes: NDArray[np.uint8],
        k: int,
        rows: NDArray[np.int64] | None = None,
        core: Any = None,
        *,
        allow: Filter | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The ``k`` best of ``codes`` ``(n, code_bytes)``, or of some of its rows: scores and row numbers ``(q, k')``.

        Some are ``rows``, a list of numbers, or what the filter ``allow`` lets through (as for ``select``): few are
        picked out, many are passed in order. Best first, ties to the lower row; ``k'`` is ``k`` or the number of
        rows, if that is less. ``core`` is the extension module (``native.core()``), which must be there.
        """
        core = core or native.core()
        codes = np.ascontiguousarray(codes)
        mask: NDArray[np.uint8] | None = None
        bits: NDArray[np.uint64] | None = None
        if allow is not None:
            mask, bits = either(allow, len(codes))
        scores, found = core.scan_symbols(
            codes, self.weights.shape[1], self.bits, 128 if self.signed else 0, self.first, _TAILS[self.tail],
            self.tail_offset, _NO_SCALES if self.scales is None else self.scales, self.levels, self.weights,
            self.constants, np.zeros(len(self.constants)) if self.inner is None else self.inner, k, rows,
            mask, bits, native.threads(),
        )  # fmt: skip
        return scores, found
