"""From a filter to rows: how many pass, which, and a bit for each.

A filter of one's own for each query costs its whole length, however few rows pass, so this is one pass over the mask:
64 bytes become a word of bits, and words become row numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.kernels import native
from sememe.kernels.rescore import LOOPS, Table, bare, rescore

_WORD = np.dtype(np.uint64)
_BEST = {kind: f"best_selected_{loop}" for kind, loop in LOOPS.items()}
Filter = NDArray[np.bool_] | NDArray[np.uint8] | NDArray[np.uint64]


class Checked(Protocol):
    """A file whose blocks are verified before they are read first."""

    @property
    def unchecked(self) -> tuple[NDArray[np.uint8], int] | None:
        """For each block whether it has been verified, and its bytes; None once all have been."""

    def ensure_rows(self, rows: NDArray[np.integer], row_bytes: int) -> None:
        """Verify the blocks under some rows."""


class Selection(NamedTuple):
    """The rows that a filter lets through.

    Attributes
    ----------
    passing : int
        How many.
    bits : ndarray of shape (ceil(n / 64),)
        uint64, a bit a row, the first in the lowest bit.
    rows : ndarray of shape (passing,) or None
        int64, ascending; None where there are more than was asked for.
    """

    passing: int
    bits: NDArray[np.uint64]
    rows: NDArray[np.int64] | None


def as_mask(allow: Filter, n: int) -> NDArray[np.uint8]:
    """A mask over ``n`` rows as bytes that are zero where a row is refused, without a copy if it lies in order.

    Raises
    ------
    InputError
        For another shape or type.
    """
    if allow.dtype.char not in "?B" or allow.shape != (n,):
        raise InputError(f"a filter over {n} rows must be bool ({n},), got {allow.dtype} {allow.shape}")
    mask = allow if allow.flags.c_contiguous else np.ascontiguousarray(allow)
    return mask.view(np.uint8)


def as_bits(allow: Filter, n: int) -> NDArray[np.uint64]:
    """A bit for each of ``n`` rows, checked as in `as_mask`."""
    if allow.dtype != _WORD or allow.shape != (-(-n // 64),) or (n % 64 and int(allow[-1]) >> (n % 64)):
        raise InputError(f"a filter of {allow.shape} words does not fit {n} rows")
    return allow if allow.flags.c_contiguous else np.ascontiguousarray(allow)  # type: ignore[return-value]


def either(allow: Filter, n: int) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint64] | None]:
    """A filter over ``n`` rows as a mask or as bits, whichever it is; None for the other."""
    return (None, as_bits(allow, n)) if allow.dtype == _WORD else (as_mask(allow, n), None)


def unpack(bits: NDArray[np.uint64], n: int) -> NDArray[np.bool_]:
    """Bits, checked as in `as_bits`, as a mask over ``n`` rows."""
    return np.unpackbits(as_bits(bits, n).astype("<u8").view(np.uint8), count=n, bitorder="little").view(np.bool_)


def select(allow: Filter, n: int, most: int | None = None) -> Selection:
    """What a filter over ``n`` rows lets through.

    Parameters
    ----------
    allow : ndarray
        bool or uint8 ``(n,)``, zero where a row is refused; or uint64 ``(ceil(n / 64),)`` as in `Selection`.
    n : int
        Rows.
    most : int, optional
        Row numbers are written where at most so many pass.

    Raises
    ------
    InputError
        A filter of another shape or type, or with bits beyond the last row.
    """
    limit = n if most is None else most
    core = native.core()
    if allow.dtype == _WORD:
        bits = as_bits(allow, n)
        if core is not None:
            return Selection(*core.select_words(bits, n, limit))
        return _select(unpack(bits, n), limit)
    mask = as_mask(allow, n)
    return _select(mask, limit) if core is None else Selection(*core.select_mask(mask, limit))


def all_marked(marks: NDArray[np.bool_], rows: NDArray[np.int64], width: int, block: int) -> bool:
    """Whether every block of ``block`` bytes under some rows of ``width`` bytes is marked; False for rows outside.

    Parameters
    ----------
    marks : ndarray of shape (blocks,)
    rows : ndarray of shape (m,)
        In any order.
    width, block : int
        At least 1.
    """
    core = native.core()
    if core is not None:
        return bool(core.all_marked(marks.view(np.uint8), np.ascontiguousarray(rows), width, block))
    if not len(rows):
        return True
    starts = rows * width
    first, last = starts // block, (starts + width - 1) // block
    if int(first.min()) < 0 or int(last.max()) >= len(marks):
        return False
    return all(bool(marks[np.minimum(first + step, last)].all()) for step in range(int((last - first).max()) + 1))


def best_selected(
    vectors: Table,
    queries: NDArray[np.float32],
    allow: Filter,
    k: int,
    most: int,
    file: Checked | None = None,
) -> tuple[NDArray[np.uint64], tuple[NDArray[np.float32], NDArray[np.int64]] | None]:
    """The ``k`` best of the rows that a filter lets through, each scored exactly, if they are few.

    Parameters
    ----------
    vectors : ndarray of shape (n, d)
        float32, float16 or int8, C-contiguous; may be memory-mapped.
    queries : ndarray of shape (q, d)
        float32, C-contiguous.
    allow : ndarray
        As for `select`.
    k : int
        At least 1.
    most : int
        Rows that are scored at most.
    file : Checked, optional
        What the vectors lie in, from its first byte: rows are verified before they are read.

    Returns
    -------
    bits : ndarray of shape (ceil(n / 64),)
        As in `Selection`.
    best : tuple of ndarrays of shape (q, k'), or None
        float32 inner products, best first, and int64 rows, ties to the lower; ``k'`` is ``k`` or the number of rows
        that pass, if that is less. None where more than ``most`` pass.
    """
    core = native.core()
    best: tuple[NDArray[np.float32], NDArray[np.int64]] | None
    rows: NDArray[np.int64] | None
    if core is not None and vectors.dtype.char in LOOPS and vectors.flags.c_contiguous:
        mask, bits = either(allow, len(vectors))
        marks, block = (None if file is None else file.unchecked) or (None, 1)
        loop = getattr(core, _BEST[vectors.dtype.char])
        threads = native.threads() if len(queries) > 1 else 1
        packed, best, rows = loop(bare(vectors), queries, mask, bits, marks, block, k, most, threads)
        bits = packed if bits is None else bits
    else:
        _, bits, rows = select(allow, len(vectors), most)
        best = None
    if rows is not None:
        if file is not None:
            file.ensure_rows(rows, vectors.shape[1] * vectors.itemsize)
        scores, found, _ = rescore(vectors, queries, np.broadcast_to(rows, (len(queries), len(rows))), k)
        best = scores, found
    return bits, best


def _select(mask: NDArray[Any], most: int) -> Selection:
    """The same in NumPy."""
    packed = np.zeros(-(-len(mask) // 64) * 8, dtype=np.uint8)
    packed[: -(-len(mask) // 8)] = np.packbits(mask, bitorder="little")
    count = int(np.count_nonzero(mask))
    return Selection(count, packed.view("<u8").astype(np.uint64), np.flatnonzero(mask) if count <= most else None)
