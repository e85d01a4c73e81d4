"""Bags of pieces: a text's vector is the sum of a table's rows for its pieces, made a unit row or a mean.

The table is half precision. Every finite value of it is a whole number of ``2**-24``, and sums are kept as such:
they are exact. A text therefore has the same vector, to the last bit, in any company, at every dispatch level, on any
number of threads, and whether words were remembered or not.

The compiled core takes text: it splits it into the pieces of a byte-pair tokenizer itself and remembers the pieces of
words. Without it the caller's tokenizer gives the pieces, and NumPy adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNIT = 2.0**-24
_GATHER = 4096  # rows gathered at once
_TOGETHER = 512  # rows of 256 numbers that stay in a second-level cache
_SETS = 15  # 2**15 sets of 4 words of 64 bytes: 8 MB, the words that a thread remembers
_WORKERS = 4  # threads at most, with a memory of words each: 32 MB


@dataclass(frozen=True, eq=False)
class Whole:
    """A table in whole numbers of ``UNIT``: int32 ``values (v, d)``, any ``most`` rows of which add up in 32 bits."""

    values: NDArray[np.int32]
    most: int


def compiled(
    core: Any, table: NDArray[np.float16], d: int, tokens: list[str], merges: list[str], markers: list[int]
) -> Any:
    """The compiled encoder for a table and its byte-pair tokenizer.

    Parameters
    ----------
    core : module
        ``native.core()``, which must be there.
    table : ndarray of shape (v, stride), float16
        A row a token, of finite values below 128. It may be a mapped file, and is not copied.
    d : int
        Leading columns that are used.
    tokens : list of str
        The vocabulary by number, at most ``v``; with ``<0x00>`` to ``<0xFF>`` for characters that it lacks.
    merges : list of str
        Pairs ``"left right"``, the first to merge first.
    markers : list of int
        Tokens that are found in the text before anything else is done with it.

    Returns
    -------
    object
        ``encode(texts, normalize, threads) -> (n, d)`` float32 and ``tokenize(texts) -> list of list of int``. Both
        release the lock of the interpreter; the list must not change meanwhile. Any number of threads may call.

    Notes
    -----
    The tokenizer is one that writes U+2581 for a space and one more in front of each text (and after each marker), and
    has no token in which that character follows another one: then no merge reaches across the beginning of a word, and
    a word has its own pieces whatever stands around it.
    """
    return core.Bags(table.view(np.uint16), d, tokens, merges, markers, _SETS, _WORKERS)


def whole(table: NDArray[np.float16]) -> Whole:
    """The table ``(v, d)`` in whole numbers."""
    values = (table.astype(np.float32) * np.float32(1 / UNIT)).astype(np.int32)
    largest = max(int(values.max(initial=1)), -int(values.min(initial=-1)))
    return Whole(values, np.iinfo(np.int32).max // largest)


def rows(table: Whole, ids: list[list[int]], normalize: bool) -> NDArray[np.float32]:
    """The row of each bag.

    Parameters
    ----------
    table : Whole
        ``(v, d)``
    ids : list of list of int
        Rows of the table, for each of ``n`` bags.
    normalize : bool
        Unit rows; False gives means.

    Returns
    -------
    ndarray of shape (n, d), float32
        Zero for an empty bag.
    """
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    sums = _sums(table, ids, lengths).astype(np.float64)
    if not normalize:
        return (sums * UNIT / np.maximum(lengths, 1)[:, None]).astype(np.float32)
    # Eight running sums, in the order of the compiled loop: NumPy adds in sequence along an axis that is not the last.
    turns = -(-sums.shape[1] // 8)
    squares = np.zeros((len(ids), turns * 8))
    np.square(sums, out=squares[:, : sums.shape[1]])
    lanes = squares.reshape(len(ids), turns, 8).sum(axis=1)
    pairs = lanes[:, :4] + lanes[:, 4:]
    norms = np.sqrt((pairs[:, 0] + pairs[:, 1]) + (pairs[:, 2] + pairs[:, 3]))
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return (sums * scale[:, None]).astype(np.float32)


def _sums(table: Whole, ids: list[list[int]], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Exact sums ``(n, d)``. Bags of equal size are added together, so that the loop runs over places and not bags."""
    starts = np.cumsum(lengths) - lengths
    flat = np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=int(lengths.sum()))
    out = np.zeros((len(ids), table.values.shape[1]), dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order]
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    for first, last in pairwise([0, *changes.tolist(), len(ids)]):
        some, length = order[first:last], int(ordered[first]) if first < last else 0
        if length and (len(some) < 4 or length > _GATHER):
            for row in some:
                for start in range(starts[row], starts[row] + length, _GATHER):
                    stop = min(start + _GATHER, starts[row] + length)
                    out[row] += table.values.take(flat[start:stop], axis=0).sum(axis=0, dtype=np.int64)
        elif length:
            _add_places(table, flat, starts, some, length, out)
    return out


def _add_places(
    table: Whole,
    flat: NDArray[np.int64],
    starts: NDArray[np.int64],
    some: NDArray[np.int64],
    length: int,
    out: NDArray[np.int64],
) -> None:
    """Adds bags of one length, so many places at a time as add up in 32 bits."""
    for block in range(0, len(some), _TOGETHER):
        bags = some[block : block + _TOGETHER]
        for first in range(0, length, table.most):
            part = table.values.take(flat[starts[bags] + first], axis=0)
            for place in range(first + 1, min(first + table.most, length)):
                part += table.values.take(flat[starts[bags] + place], axis=0)
            out[bags] += part
