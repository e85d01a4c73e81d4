"""Which stored words are spelled like a given one: shared byte trigrams first, then edits.

Also the subword hashing of fastText, which gives unseen words vectors of their own where a model carries them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BUCKETS = 1 << 17
_CANDIDATES = 32  # compared letter by letter


def _trigrams(blob: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Bucket of the trigram that begins at each byte but the last two."""
    wide = blob.astype(np.uint32)
    mixed = wide[:-2] * np.uint32(0x9E3779B1) ^ wide[1:-1] * np.uint32(0x85EBCA77) ^ wide[2:] * np.uint32(0xC2B2AE3D)
    return ((mixed ^ (mixed >> np.uint32(15))) % np.uint32(BUCKETS)).astype(np.int64)


def _framed(word: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(b"\x02" + word.lower() + b"\x03", dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Spelling:
    """Lists of the words that hold each trigram.

    ``ends`` int64 ``(BUCKETS + 1,)`` cuts ``rows`` int32 into one ascending list a bucket; ``counts`` int32 ``(n,)`` is
    the number of trigrams of each word.
    """

    ends: NDArray[np.int64]
    rows: NDArray[np.int32]
    counts: NDArray[np.int32]

    @classmethod
    def of(cls, blob: NDArray[np.uint8], offsets: NDArray[np.int64]) -> Spelling:
        """From all words as one ``blob`` of UTF-8 and their ``offsets`` ``(n + 1,)``."""
        n = len(offsets) - 1
        lengths = np.diff(offsets)
        # Every word framed by two marks, so that no trigram crosses words unseen: those that do are masked below.
        framed = np.empty(len(blob) + 2 * n, dtype=np.uint8)
        starts = offsets[:-1] + 2 * np.arange(n)
        inside = np.arange(len(blob)) + 1 + 2 * np.repeat(np.arange(n), lengths)
        framed[starts], framed[starts + lengths + 1], framed[inside] = 2, 3, _lowered(blob)
        owner = np.repeat(np.arange(n, dtype=np.int32), lengths + 2)
        if len(framed) < 3:
            return cls(np.zeros(BUCKETS + 1, dtype=np.int64), np.empty(0, dtype=np.int32), lengths.astype(np.int32))
        whole = owner[:-2] == owner[2:]
        buckets, owners = _trigrams(framed)[whole], owner[:-2][whole]
        order = np.argsort(buckets, kind="stable")
        ends = np.zeros(BUCKETS + 1, dtype=np.int64)
        np.cumsum(np.bincount(buckets, minlength=BUCKETS), out=ends[1:])
        return cls(ends, owners[order], lengths.astype(np.int32))

    def nearest(self, word: bytes) -> NDArray[np.int64]:
        """Up to 32 rows that share most trigrams with ``word``, by Dice's coefficient, best first."""
        framed = _framed(word)
        if len(framed) < 3 or not len(self.counts):
            return np.empty(0, dtype=np.int64)
        lists = [self.rows[self.ends[b] : self.ends[b + 1]] for b in np.unique(_trigrams(framed)).tolist()]
        shared = np.bincount(np.concatenate(lists), minlength=len(self.counts))
        candidates = np.flatnonzero(shared)
        dice = 2.0 * shared[candidates] / (self.counts[candidates] + len(framed) - 2)
        return candidates[np.argsort(-dice, kind="stable")[:_CANDIDATES]]


def _lowered(blob: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where((blob >= 65) & (blob <= 90), blob + np.uint8(32), blob)


def edits(left: str, right: str) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours between two words (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        line = [i]
        for j, b in enumerate(right, 1):
            cost = min(last[j] + 1, line[-1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            line.append(cost)
        before, last = last, line
    return last[-1]


def subwords(word: str, shortest: int, longest: int, buckets: int) -> list[int]:
    """Buckets of the character n-grams of ``<word>``, hashed as fastText does (FNV-1a over signed bytes)."""
    framed = [char.encode("utf-8", "surrogatepass") for char in f"<{word}>"]
    found = []
    for start in range(len(framed)):
        for length in range(shortest, longest + 1):
            stop = start + length
            if stop > len(framed):
                break
            if length == 1 and (start == 0 or stop == len(framed)):
                continue
            value = 2166136261
            for byte in b"".join(framed[start:stop]):
                value = ((value ^ (byte | 0xFFFFFF00 if byte >= 128 else byte)) * 16777619) & 0xFFFFFFFF
            found.append(value % buckets)
    return found
