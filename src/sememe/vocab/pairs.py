"""Joining neighbours in many symbol sequences at once: the inner part of byte-pair encoding, for training and encoding.

All sequences lie behind one another in flat arrays that also link each symbol to its neighbours, and every pair of
neighbouring symbols knows where it stands. Joining a pair touches the places where it stands and nothing else, in a
few array operations whatever their number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
_EMPTY = np.zeros(0, dtype=np.int64)


class Pairs:
    """Sequences whose neighbouring symbols are being joined.

    A pair ``(a, b)`` is the number ``a * limit + b``.

    Parameters
    ----------
    symbols : int64 ndarray of shape (n,)
        All sequences, one after the other.
    offsets : int64 ndarray of shape (m + 1,)
        Where each begins; pairs do not reach from one into the next.
    limit : int
        More than any symbol that there will be.
    weights : int64 ndarray of shape (m,), optional
        How often each sequence counts; once when not given.
    only : collection of int, optional
        The pairs to know about; all when not given.

    Attributes
    ----------
    symbols : int64 ndarray of shape (n,)
        A joined symbol stands where its first part stood; -1 marks the places of the others.
    places : dict of pair to list of arrays
        Places of the first symbol; some may be out of date.
    """

    def __init__(
        self,
        symbols: Ids,
        offsets: Ids,
        limit: int,
        weights: Ids | None = None,
        *,
        only: Collection[int] | None = None,
    ) -> None:
        self.symbols = symbols.copy()
        self.limit = limit
        self._only = only
        n = len(symbols)
        self._next = np.arange(1, n + 1)
        self._before = np.arange(-1, n - 1)
        starts = offsets[:-1][np.diff(offsets) > 0]  # a sequence without symbols has no ends
        self._before[starts] = -1
        self._next[np.append(starts[1:], n)[: len(starts)] - 1] = -1
        self._weights = None if weights is None else np.repeat(weights, np.diff(offsets))
        self._marked = np.zeros(n + 1, dtype=bool)  # the last entry is what -1 looks up; it stays False
        self.places: dict[int, list[Ids]] = {}
        first = np.flatnonzero(self._next >= 0)
        self.counts = dict(self._enter(self.symbols[first] * limit + self.symbols[first + 1], first))

    def join(self, pair: int, made: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Replace every occurrence of a pair, from the left where occurrences overlap, by the symbol ``made``.

        Returns
        -------
        gone, come : lists of (pair, weight)
            Neighbours that are neighbours no more, and new ones. The pair itself is forgotten.
        """
        a, b = divmod(pair, self.limit)
        at = self._current(pair, a, b)
        if not len(at):
            return [], []
        second = self._next[at]
        left, right = self._before[at], self._next[second]
        # What follows an occurrence may be the next one; the pair between the two counts on the right of the first.
        self._marked[second] = True
        alone = (left >= 0) & ~self._marked[left]
        self._marked[second] = False
        left, left_of = left[alone], at[alone]
        ends = right >= 0
        gone_keys = np.concatenate((self.symbols[left] * self.limit + a, b * self.limit + self.symbols[right[ends]]))
        gone_at = np.concatenate((left_of, at[ends]))
        self.symbols[at] = made
        self.symbols[second] = -1
        self._next[at] = right
        self._before[right[ends]] = at[ends]
        come_keys = np.concatenate(
            (self.symbols[left] * self.limit + made, made * self.limit + self.symbols[right[ends]])
        )
        gone = [(key, total) for key, total, _ in self._grouped(gone_keys, gone_at) if key != pair]
        return gone, self._enter(come_keys, np.concatenate((left, at[ends])))

    def _current(self, pair: int, a: int, b: int) -> Ids:
        """Where the pair stands now, overlaps resolved; it is forgotten."""
        parts = self.places.pop(pair, [_EMPTY])
        at = parts[0] if len(parts) == 1 else np.concatenate(parts)
        following = self._next[at]
        at = at[(self.symbols[at] == a) & (following >= 0) & (self.symbols[following] == b)]
        if a != b or not len(at):
            return at
        at = np.sort(at)  # a run of n equal symbols has n - 1 pairs; every other one is taken
        self._marked[at] = True
        inside = self._marked[self._before[at]]
        self._marked[at] = False
        order = np.arange(len(at))
        run = np.maximum.accumulate(np.where(inside, 0, order))
        return at[(order - run) % 2 == 0]

    def _enter(self, keys: Ids, at: Ids) -> list[tuple[int, int]]:
        entered = []
        for key, total, where in self._grouped(keys, at):
            if self._only is None or key in self._only:
                self.places.setdefault(key, []).append(where)
                entered.append((key, total))
        return entered

    def _grouped(self, keys: Ids, at: Ids) -> Iterator[tuple[int, int, Ids]]:
        """Each distinct key with the weight and the places of its entries."""
        if not len(keys):
            return
        order = np.argsort(keys, kind="stable")
        keys, at = keys[order], at[order]
        cuts = np.append(0, np.flatnonzero(keys[1:] != keys[:-1]) + 1)
        ends = np.append(cuts[1:], len(keys))
        totals = ends - cuts if self._weights is None else np.add.reduceat(self._weights[at], cuts)
        for key, total, start, stop in zip(keys[cuts].tolist(), totals.tolist(), cuts.tolist(), ends.tolist()):
            yield key, total, at[start:stop]


def flat(sequences: Sequence[Ids]) -> tuple[Ids, Ids]:
    """Sequences behind one another, and the offsets of each: ``(n,)`` and ``(m + 1,)``."""
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    return np.concatenate([_EMPTY, *sequences]), np.concatenate(([0], np.cumsum(lengths)))
