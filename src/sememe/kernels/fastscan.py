"""Scanning 4-bit codes by table look-up: sign codes, 2-bit codes and product codes of 16 centres, in one loop.

A row is a sequence of numbers 0 to 15, one a *place*; ``score(q, row) = sum over places p of queries[q, p] .
centres[p, number(row, p)]``. Four dimensions whose signs are kept make a number, or two with 2 bits each, or a group
of any width with 16 learned centres. The look-ups are in bytes: each query's tables are rounded to 127 steps, so a
score is off by at most half a step a place; callers score the best rows again (``kernels.rescore``).

The layout follows "Cache locality is not enough: High-Performance Nearest Neighbor Search with Product Quantization
Fast Scan" (2015), but sums in 32 bits and cut so that one permutation of 64 bytes serves four places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.kernels import native

BLOCK = 64  # rows that lie together
TOP = 127  # the largest entry of a table: two fit a byte
_ROWS = 1 << 13  # rows that the NumPy path scores at a time


@dataclass(frozen=True, eq=False)
class NibbleBlocks:
    """Rows of 4-bit numbers, laid out for the scan.

    Attributes
    ----------
    words : ndarray of shape (blocks, width, 64)
        uint32: ``words[b, w, r]`` are bytes ``4 w`` to ``4 w + 3`` of row ``64 b + r``.
    n : int
        Rows; the rest of the last block is zeros.
    places : int
        Numbers in a row.
    """

    words: NDArray[np.uint32]
    n: int
    places: int

    @classmethod
    def from_codes(cls, codes: NDArray[np.uint8], places: int) -> NibbleBlocks:
        """From rows ``(n, ceil(places / 2))`` as ``bits.pack(numbers, 4)`` writes them."""
        n, width = codes.shape
        if width != (places + 1) // 2 or places < 1:
            raise InputError(f"{places} numbers of 4 bits do not make rows of {width} bytes")
        wide = -(-width // 4)
        words = _aligned((-(-n // BLOCK), wide, BLOCK))
        for start in range(0, len(words), 256):  # a few hundred KiB at a time, so that the turned copy stays in cache
            rows = codes[start * BLOCK : (start + 256) * BLOCK]
            some = np.zeros((-(-len(rows) // BLOCK) * BLOCK, 4 * wide), dtype=np.uint8)
            some[: len(rows), :width] = rows
            words[start : start + 256] = some.view("<u4").reshape(-1, BLOCK, wide).transpose(0, 2, 1)
        return cls(words, n, places)

    @property
    def nbytes(self) -> int:
        """Bytes that a scan of all rows reads."""
        return self.words.nbytes

    def codes(self, rows: slice | NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
        """The rows as they came, uint8 ``(rows, ceil(places / 2))``."""
        chosen = np.arange(self.n)[slice(None) if rows is None else rows]
        out = self.words[chosen // BLOCK, :, chosen % BLOCK].astype("<u4", copy=False)
        return np.ascontiguousarray(out).view(np.uint8)[:, : (self.places + 1) // 2]

    def topk(
        self,
        queries: NDArray[np.float32],
        centres: NDArray[np.float32],
        k: int,
        *,
        allow: NDArray[np.bool_] | NDArray[np.uint64] | None = None,
        first: int = 0,
        last: int | None = None,
        ordered: bool = True,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The ``k`` rows with the highest sums for each query.

        Parameters
        ----------
        queries : ndarray of shape (q, places * depth)
            float32, already in the space of the centres.
        centres : ndarray of shape (places, 16, depth)
            float32: what each number stands for.
        k : int
            At least 1.
        allow : ndarray of shape (n,), optional
            True where a row counts; or uint64 ``(blocks,)``, a bit a row, the first in the lowest bit.
        first, last : int
            Only rows of this range count.
        ordered : bool
            Best first, ties to the lower row; without it the same rows in any order.

        Returns
        -------
        scores : ndarray of shape (q, k')
            float32, from the rounded tables; ``k'`` is ``k`` or the number of rows that count, if that is less.
        rows : ndarray of shape (q, k')
            int64.
        """
        last = self.n if last is None else last
        if k < 1 or not 0 <= first <= last <= self.n:
            raise InputError(f"k={k} of rows {first} to {last} of {self.n} is not possible", fix="give 1 or more")
        queries, centres = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(centres, np.float32)
        if centres.shape[:2] != (self.places, 16) or queries.shape[1:] != (self.places * centres.shape[2],):
            raise InputError(f"queries {queries.shape} and centres {centres.shape} do not fit {self.places} places")
        bits = None if allow is None else self.bitmap(allow)
        core = native.core()
        if core is not None:
            scores, rows = core.scan_nibble_codes(
                self.words, self.n, queries, centres, k, bits, first, last, ordered, native.threads()
            )
            return scores, rows
        return self._topk(queries, centres, k, bits, first, last)

    def bitmap(self, allow: NDArray[np.bool_] | NDArray[np.uint64]) -> NDArray[np.uint64]:
        """One bit a row, ``(blocks,)``: worth making once where several calls share a filter."""
        if allow.dtype == np.uint64 and allow.shape == (len(self.words),):
            return np.ascontiguousarray(allow)
        if allow.shape != (self.n,):
            raise InputError(f"a filter of shape {allow.shape} does not fit {self.n} rows")
        packed = np.zeros(8 * len(self.words), dtype=np.uint8)
        packed[: -(-self.n // 8)] = np.packbits(allow, bitorder="little")
        return packed.view("<u8").astype(np.uint64, copy=False)

    def _topk(
        self,
        queries: NDArray[np.float32],
        centres: NDArray[np.float32],
        k: int,
        bits: NDArray[np.uint64] | None,
        first: int,
        last: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The same in NumPy: the same tables, the same sums, the same order."""
        rows = np.arange(first, last)
        if bits is not None:
            rows = rows[(bits[rows // BLOCK] >> (rows % BLOCK).astype(np.uint64)) & np.uint64(1) == 1]
        tables, bias, unit = byte_tables(queries, centres)
        k = min(k, len(rows))
        best = np.zeros((len(queries), 0), dtype=np.int64)  # sum and row as one number: higher is better
        length = (self.places + 1) // 2
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            codes = self.codes(some).astype(np.intp)
            sums = np.zeros((len(queries), len(some)), dtype=np.int64)
            for place in range(self.places):
                byte = codes[:, place % length]
                sums += tables[:, place].take(byte & 15 if place < length else byte >> 4, axis=1)
            best = np.concatenate([best, (sums << 32) + (0xFFFFFFFF - some)], axis=1)
            if best.shape[1] > k:
                best = np.partition(best, best.shape[1] - k, axis=1)[:, best.shape[1] - k :]
        best = -np.sort(-best, axis=1)
        scores = bias[:, None] + unit[:, None] * (best >> 32)
        return scores.astype(np.float32), 0xFFFFFFFF - (best & 0xFFFFFFFF)


def _aligned(shape: tuple[int, ...]) -> NDArray[np.uint32]:
    """Zeros whose first byte begins a cache line: a load that straddles two lines counts as two."""
    size = 4 * int(np.prod(shape))
    raw = np.zeros(size + 64, dtype=np.uint8)
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size].view(np.uint32).reshape(shape)


def byte_tables(
    queries: NDArray[np.float32], centres: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Products of queries with centres, in ``TOP`` steps: ``value = low[place] + unit * byte``.

    Returns
    -------
    tables : ndarray of shape (q, places, 16)
        uint8.
    bias, unit : ndarray of shape (q,)
        float64: the lows added up, and the step.
    """
    places, _, depth = centres.shape
    parts = queries.reshape(len(queries), places, 1, depth)
    values = parts[..., 0] * centres[None, :, :, 0]
    for j in range(1, depth):
        values += parts[..., j] * centres[None, :, :, j]
    low, high = values.min(axis=2), values.max(axis=2)
    widest = (high - low).max(axis=1)
    unit = np.where(widest > 0, widest.astype(np.float64) / TOP, 1.0)
    bias = np.zeros(len(queries))
    for place in range(places):  # one after the other, as the compiled loop adds
        bias += low[:, place]
    steps = (values - low[:, :, None]) * (1 / unit).astype(np.float32)[:, None, None] + np.float32(0.5)
    return np.minimum(steps, np.float32(TOP)).astype(np.uint8), bias, unit
