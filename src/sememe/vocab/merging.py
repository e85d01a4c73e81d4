"""Byte-pair encoding over any integers: learn merges from sequences, apply them, undo them.

Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016, arXiv 1508.07909. The most
frequent pair of neighbours becomes one symbol, again and again; of equally frequent pairs the one of smallest ids comes
first, so that the result depends on the counts alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe import progress
from sememe.errors import InputError
from sememe.vocab.pairs import Ids, Pairs

_MOST_SPELLED = 10_000_000


@dataclass(frozen=True, eq=False)
class MergeList:
    """Symbols from 0 to ``base - 1``, and what is made of them.

    Attributes
    ----------
    base : int
        Symbols before any merge.
    merges : int64 ndarray of shape (m, 3)
        Left, right and made symbol, in the order in which they were learned. Two merges whose symbols spell the same
        make the same symbol.
    counts : int64 ndarray of shape (m,), optional
        How often each pair stood there when it was learned.
    """

    base: int
    merges: Ids
    counts: Ids | None = None
    spelled: list[tuple[int, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        spelled: list[tuple[int, ...]] = [(symbol,) for symbol in range(self.base)]
        for left, right, made in self.merges.tolist():
            if made == len(spelled):
                spelled.append(spelled[left] + spelled[right])
        object.__setattr__(self, "spelled", spelled)

    @classmethod
    def of_pairs(cls, base: int, pairs: Sequence[Sequence[int]], *, where: str | None = None) -> MergeList:
        """From pairs of symbols alone, which say what is made; an InputError where one is not made yet."""
        lengths, total = [1] * base, base
        spelled: list[tuple[int, ...]] = [(symbol,) for symbol in range(base)]
        known = {tokens: symbol for symbol, tokens in enumerate(spelled)}
        merges = []
        for rank, (left, right) in enumerate(pairs):
            if not (0 <= left < len(spelled) and 0 <= right < len(spelled)):
                raise InputError(f"merge {rank} joins {left} and {right}, of which one is not made yet", where=where)
            total += lengths[left] + lengths[right]
            if total > _MOST_SPELLED:  # doubling merges of a hostile file would fill the memory
                raise InputError(f"the symbols up to merge {rank} spell more than {_MOST_SPELLED:,}", where=where)
            whole = spelled[left] + spelled[right]
            made = known.setdefault(whole, len(spelled))
            if made == len(spelled):
                spelled.append(whole)
                lengths.append(len(whole))
            merges.append((left, right, made))
        return cls(base, np.array(merges, dtype=np.int64).reshape(-1, 3))

    @property
    def size(self) -> int:
        """Symbols in all."""
        return len(self.spelled)

    def apply(self, symbols: Ids, offsets: Ids) -> tuple[Ids, Ids]:
        """Merge every sequence as learned, lowest rank first: symbols and offsets of the shorter sequences."""
        limit = self.size
        ranks: dict[int, int] = {}
        for rank, (left, right, _) in enumerate(self.merges.tolist()):
            ranks.setdefault(left * limit + right, rank)
        pairs = Pairs(symbols, offsets, limit, only=ranks)
        waiting = [ranks[pair] for pair in pairs.places]
        heapq.heapify(waiting)
        queued = set(waiting)
        while waiting:
            rank = heapq.heappop(waiting)
            queued.discard(rank)
            left, right, made = self.merges[rank].tolist()
            for pair, _ in pairs.join(left * limit + right, made)[1]:
                if ranks[pair] not in queued:
                    queued.add(ranks[pair])
                    heapq.heappush(waiting, ranks[pair])
        left_over = pairs.symbols >= 0
        return pairs.symbols[left_over], np.concatenate(([0], np.cumsum(left_over)))[offsets]

    def expand(self, symbols: Ids) -> Ids:
        """The base symbols that a sequence stands for."""
        if len(symbols) and not 0 <= symbols.min() <= symbols.max() < self.size:
            raise InputError(f"symbols from {symbols.min()} to {symbols.max()} in a vocabulary of {self.size}")
        flat, starts, lengths = self._spelling()
        counts = lengths[symbols]
        place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.asarray(flat[np.repeat(starts[symbols], counts) + place])

    def _spelling(self) -> tuple[Ids, Ids, Ids]:
        lengths = np.array([len(tokens) for tokens in self.spelled], dtype=np.int64)
        flat = np.fromiter((s for tokens in self.spelled for s in tokens), np.int64, int(lengths.sum()))
        return flat, np.cumsum(lengths) - lengths, lengths


def learn(
    symbols: Ids,
    offsets: Ids,
    weights: NDArray[np.int64] | None,
    *,
    base: int,
    size: int,
    least: int = 2,
    longest: int = 0,
    texts: Sequence[Any] | None = None,
) -> MergeList:
    """Learn merges until there are ``size`` symbols, or no pair is left that stands ``least`` times.

    Parameters
    ----------
    symbols : int64 ndarray of shape (n,)
        All sequences, one after the other, of symbols below ``base``.
    offsets : int64 ndarray of shape (m + 1,)
    weights : int64 ndarray of shape (m,) or None
        How often each sequence occurs.
    base, size : int
        Symbols before and after.
    least : int
        Smallest count that is worth a symbol.
    longest : int
        Most base symbols in one; 0 is no limit.
    texts : sequence of str or bytes, optional
        What each base symbol writes, where several sequences of them may write the same: they become one symbol, and
        no merge makes what a base symbol writes already. By default a sequence of symbols is what it is.
    """
    if size < base or base < 1:
        raise InputError(f"a vocabulary of {size} cannot hold the {base} symbols that are there already")
    pairs = Pairs(symbols, offsets, size, weights)
    counts = pairs.counts
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    lengths = [1] * base
    words: list[Any] = [(symbol,) for symbol in range(base)] if texts is None else list(texts)
    spelled: dict[Any, int] = {word: symbol for symbol, word in enumerate(words)}
    merges: list[tuple[int, int, int]] = []
    learned: list[int] = []
    with progress.task("learning merges", total=size - base, unit="symbols") as step:
        while len(words) < size and heap:
            negative, pair = heapq.heappop(heap)
            count = counts.get(pair, 0)
            if count != -negative:  # counted down since it was put here
                if count >= least:
                    heapq.heappush(heap, (-count, pair))
                continue
            if count < least:
                break
            left, right = divmod(pair, size)
            del counts[pair]
            if longest and lengths[left] + lengths[right] > longest:
                continue
            whole = words[left] + words[right]
            made = spelled.setdefault(whole, len(words))
            if made < base:
                continue
            if made == len(words):
                words.append(whole)
                lengths.append(lengths[left] + lengths[right])
                step()
            merges.append((left, right, made))
            learned.append(count)
            gone, come = pairs.join(pair, made)
            for other, weight in gone:
                if other in counts:
                    counts[other] -= weight
            for other, weight in come:
                counts[other] = counts.get(other, 0) + weight
                heapq.heappush(heap, (-counts[other], other))
    return MergeList(base, np.array(merges, dtype=np.int64).reshape(-1, 3), np.array(learned, dtype=np.int64))
