"""Frequent n-grams of a token stream, and the longest of them that ends at each place."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError

Ids = NDArray[np.int64]
_NONE = np.uint64(2**64 - 1)


class NgramTable:
    """A set of n-grams that holds the last symbols of each of its n-grams, too: a tree read from the end.

    An n-gram is found from its last symbol backwards, one sorted search a symbol, so a look-up is exact (no hashing),
    costs ``longest - 1`` searches for all places of a batch together, and works for any vocabulary below ``2^32``.

    Parameters
    ----------
    keys : sequence of uint64 ndarrays
        For n = 2, 3, ...: sorted ``node << 32 | symbol``, where ``node`` is the number of the n-gram without its
        first symbol (of a single symbol, its id) and ``symbol`` that first symbol.

    Notes
    -----
    N-grams are numbered level by level in the order of their keys, beginning with 0 for the first of two symbols.
    """

    def __init__(self, keys: Sequence[NDArray[np.uint64]]) -> None:
        self.keys = tuple(np.ascontiguousarray(level, dtype=np.uint64) for level in keys)
        self.starts = np.concatenate(([0], np.cumsum([len(level) for level in self.keys]))).astype(np.int64)
        if any(len(level) > 1 and not (level[1:] > level[:-1]).all() for level in self.keys):
            raise InputError("keys of n-grams that are not sorted", fix="give what NgramTable.frequent made")

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def longest(self) -> int:
        """Symbols of the longest n-grams, at least 1."""
        return len(self.keys) + 1

    @classmethod
    def frequent(cls, documents: Sequence[Ids], most: int, longest: int = 3, least: int = 2) -> NgramTable:
        """The ``most`` frequent n-grams of 2 to ``longest`` symbols that occur ``least`` times or more.

        Of equally frequent ones the shorter win, then those with the lower keys. The end of a frequent n-gram is at
        least as frequent and shorter, so it is chosen, too.
        """
        if most < 0 or longest < 2 or least < 1:
            raise InputError(f"most={most}, longest={longest}, least={least}", fix="give longest of 2 or more")
        ids = np.concatenate([np.zeros(0, dtype=np.int64), *documents]).astype(np.int64)
        if len(ids) and (ids.min() < 0 or ids.max() >= 2**32):
            raise InputError("ids outside of 0 to 2^32", where="documents")
        place = np.concatenate([np.zeros(0, dtype=np.int64), *(np.arange(len(each)) for each in documents)])
        node, alive = ids.copy(), np.ones(len(ids), dtype=bool)
        found, counts = [], []
        for n in range(2, longest + 1):
            alive = alive & (place >= n - 1)
            at = np.flatnonzero(alive)
            keys = (node[at].astype(np.uint64) << np.uint64(32)) | ids[at - n + 1].astype(np.uint64)
            level, number, count = np.unique(keys, return_inverse=True, return_counts=True)
            often = count >= least
            found.append(level[often])
            counts.append(count[often])
            renumbered = np.where(often, np.cumsum(often) - 1, -1)
            node[at] = renumbered[number]
            alive[at] = often[number]
        return cls(_cut(found, counts, most))

    def match(self, ids: Ids) -> tuple[Ids, Ids]:
        """Number of the longest n-gram that ends at each place (-1 for none), and its length (1 for none).

        Parameters
        ----------
        ids : int64 ndarray of shape (b, l)
            Rows are sequences of their own.
        """
        best, size = np.full(ids.shape, -1, dtype=np.int64), np.ones(ids.shape, dtype=np.int64)
        flat, number, length = ids.reshape(-1), best.reshape(-1), size.reshape(-1)
        column = np.broadcast_to(np.arange(ids.shape[-1]), ids.shape).reshape(-1)
        at = np.arange(len(flat))
        node = flat.copy()
        for level, keys in enumerate(self.keys):
            at = at[column[at] > level]
            if not len(at) or not len(keys):
                break
            wanted = (node[at].astype(np.uint64) << np.uint64(32)) | flat[at - level - 1].astype(np.uint64)
            where = np.searchsorted(keys, wanted)
            where[where == len(keys)] = 0
            hit = keys[where] == wanted
            at = at[hit]
            node[at] = where[hit]
            number[at] = self.starts[level] + node[at]
            length[at] = level + 2
        return best, size

    def spelled(self) -> tuple[Ids, Ids]:
        """Symbols of each n-gram, ``(n, longest)`` with the last symbol in the last column and zeros before the first,
        and their numbers, ``(n,)``."""
        out = np.zeros((len(self), self.longest), dtype=np.int64)
        sizes = np.zeros(len(self), dtype=np.int64)
        for level, keys in enumerate(self.keys):
            rows = slice(self.starts[level], self.starts[level + 1])
            node, first = (keys >> np.uint64(32)).astype(np.int64), (keys & np.uint64(2**32 - 1)).astype(np.int64)
            if level:
                out[rows] = out[self.starts[level - 1] + node]
            else:
                out[rows, -1] = node
            out[rows, self.longest - 2 - level] = first
            sizes[rows] = level + 2
        return out, sizes

    def packed(self, size: int) -> tuple[Any, Any]:
        """Keys of all levels one after the other, padded to ``size``, and where each level begins, for storage."""
        if size < len(self):
            raise InputError(f"{len(self)} n-grams do not fit {size} places")
        keys = np.full(size, _NONE, dtype=np.uint64)
        keys[: len(self)] = np.concatenate([np.zeros(0, dtype=np.uint64), *self.keys])
        return keys.view(np.int64), self.starts

    @classmethod
    def unpacked(cls, keys: NDArray[Any], starts: Ids) -> NgramTable:
        """What `packed` packed."""
        words = np.asarray(keys).view(np.uint64)
        return cls([words[a:b] for a, b in pairwise(starts)])


def _cut(found: list[NDArray[np.uint64]], counts: list[Ids], most: int) -> list[NDArray[np.uint64]]:
    """The most frequent of all levels; nodes are renumbered as the levels below them shrink."""
    count = np.concatenate([np.zeros(0, dtype=np.int64), *counts])
    chosen = np.zeros(len(count), dtype=bool)
    chosen[np.argsort(-count, kind="stable")[:most]] = True  # stable: levels are in order of length
    out: list[NDArray[np.uint64]] = []
    start, renumbered = 0, None
    for keys in found:
        keep = chosen[start : start + len(keys)]
        level = keys[keep]
        if renumbered is not None:
            node = renumbered[(level >> np.uint64(32)).astype(np.int64)].astype(np.uint64)
            level = (node << np.uint64(32)) | (level & np.uint64(2**32 - 1))
        out.append(level)
        renumbered = np.cumsum(keep) - 1
        start += len(keys)
    return out
