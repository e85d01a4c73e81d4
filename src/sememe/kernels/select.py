"""From a filter to rows: how many pass, which, and a bit for each.

A filter of one's own for each query costs its whole length, however few rows pass, so this is one pass over the mask:
64 bytes become a word of bits, and words become row numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.kernels import native

Filter = NDArray[np.bool_] | NDArray[np.uint8] | NDArray[np.uint64]


class Selection(NamedTuple):
    """The rows that a filter lets through.

    Attributes
    ----------
    count : int
        How many.
    bits : ndarray of shape (ceil(n / 64),)
        uint64, a bit a row, the first in the lowest bit.
    rows : ndarray of shape (count,) or None
        int64, ascending; None where there are more than was asked for.
    """

    count: int
    bits: NDArray[np.uint64]
    rows: NDArray[np.int64] | None


def as_mask(allow: Filter, n: int) -> NDArray[np.uint8]:
    """A mask over ``n`` rows as bytes that are zero where a row is refused, without a copy if it lies in order.

    Raises
    ------
    InputError
        For another shape or type.
    """
    if allow.dtype not in (np.bool_, np.uint8) or allow.shape != (n,):
        raise InputError(f"a filter over {n} rows must be bool ({n},), got {allow.dtype} {allow.shape}")
    mask = allow if allow.flags.c_contiguous else np.ascontiguousarray(allow)
    return mask.view(np.uint8)


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
    if allow.dtype == np.uint64:
        if allow.shape != (-(-n // 64),) or (n % 64 and int(allow[-1]) >> (n % 64)):
            raise InputError(f"a filter of {allow.shape} words does not fit {n} rows")
        if core is not None:
            return Selection(*core.select_words(np.ascontiguousarray(allow), n, limit))
        return _select(np.unpackbits(allow.astype("<u8").view(np.uint8), count=n, bitorder="little"), limit)
    mask = as_mask(allow, n)
    return _select(mask, limit) if core is None else Selection(*core.select_mask(mask, limit))


def _select(mask: NDArray[Any], most: int) -> Selection:
    """The same in NumPy."""
    packed = np.zeros(-(-len(mask) // 64) * 8, dtype=np.uint8)
    packed[: -(-len(mask) // 8)] = np.packbits(mask, bitorder="little")
    count = int(np.count_nonzero(mask))
    return Selection(count, packed.view("<u8").astype(np.uint64), np.flatnonzero(mask) if count <= most else None)
