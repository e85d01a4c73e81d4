"""Sums of table look-ups: a query's inner product with a code is one table entry a byte, added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.kernels import native


def table_sums(tables: NDArray[np.float32], codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``out[q, i] = sum over m of tables[q, m, codes[i, m]]``.

    Parameters
    ----------
    tables : ndarray of shape (q, m, 256)
        What each byte value contributes; float32, C-contiguous.
    codes : ndarray of shape (n, m)
        uint8.

    Returns
    -------
    ndarray of shape (q, n)
        float32.
    """
    out = np.zeros((len(tables), len(codes)), dtype=np.float32)
    for place in range(codes.shape[1]):
        column = codes[:, place]
        if len(tables) > 1:  # widen the indexes once rather than in every look-up
            column = column.astype(np.intp)
        for query, row in enumerate(tables):
            out[query] += row[place].take(column)
    return out


def byte_tables(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Tables for bytes that hold several codes, from tables for single codes.

    Parameters
    ----------
    values : ndarray of shape (q, m, 2**bits)
        What each code contributes at each of ``m`` places.
    bits : {2, 4, 8}
        Codes are packed as ``bits.pack`` does.

    Returns
    -------
    ndarray of shape (q, packed_bytes(m, bits), 256)
        float32.
    """
    queries, places, _ = values.shape
    length = -(-places * bits // 8)
    byte = np.arange(256)
    out = np.zeros((queries, length, 256), dtype=np.float32)
    for slot, first in enumerate(range(0, places, length)):
        part = values[:, first : first + length]
        out[:, : part.shape[1]] += part[:, :, (byte >> (bits * slot)) & ((1 << bits) - 1)]
    return out


@dataclass(frozen=True, eq=False)
class TableScan:
    """Queries prepared for a compiled scan of codes of which every byte adds a table entry.

    ``score(q, row) = constants[q] + scale[row] * (inner[q] + sum over m of tables[q, m, byte(row, m)])``, in float32
    and in the order of `table_sums`.

    Parameters
    ----------
    tables : ndarray of shape (q, m, 256)
        float32, C-contiguous.
    inner, constants : ndarray of shape (q,)
        float32.
    first : int
        Byte of a row at which the ``m`` bytes begin.
    scales : ndarray of shape (256,), optional
        float32: what the first byte of a row stands for. Without it every scale is 1.
    """

    tables: NDArray[np.float32]
    inner: NDArray[np.float32]
    constants: NDArray[np.float32]
    first: int = 0
    scales: NDArray[np.float32] | None = None

    def topk(
        self, codes: NDArray[np.uint8], k: int, rows: NDArray[np.int64] | None = None, core: Any = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The ``k`` best of ``codes`` ``(n, code_bytes)``, or of ascending ``rows``: scores and numbers ``(q, k')``."""
        core = core or native.core()
        found: tuple[NDArray[np.float32], NDArray[np.int64]] = core.scan_tables(
            np.ascontiguousarray(codes), self.first, self.tables, self.scales, self.inner, self.constants, k, rows,
            native.threads(),
        )  # fmt: skip
        return found
