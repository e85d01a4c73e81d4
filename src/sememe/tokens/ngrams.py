"""Strings as one array of characters: their n-grams, shapes and hashes, for a whole vocabulary at once.

Hashing a vocabulary string by string in Python costs seconds; here the characters of all strings lie in one array, and
each step is one operation on it. Bytes that are no UTF-8 become characters of their own (as Python's
``surrogateescape`` does), so that pieces of broken characters stay distinct.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_BASE = np.uint64(0x5851F42D4C957F2D)  # of the polynomial that folds characters into one number
_MASK = (1 << 64) - 1


def mix(values: Hashes, salt: int = 0) -> Hashes:
    """A hash function for each ``salt``: 64 bits in, 64 well-mixed ones out, one to one (SplitMix64's finisher)."""
    x = values + np.uint64((salt + 1) * _GOLDEN & _MASK)
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


def ranges(starts: Places, lengths: Places) -> Places:
    """The numbers ``starts[i] .. starts[i] + lengths[i] - 1`` of each ``i``, one range after the other."""
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def raw(texts: Sequence[bytes | str]) -> list[bytes]:
    """Texts as bytes, as a `Vocabulary` holds them: UTF-8, lone surrogates as the three bytes they would take."""
    return [text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass") for text in texts]


@dataclass(frozen=True, slots=True, eq=False)
class Strings:
    """Strings as characters.

    Attributes
    ----------
    points : uint32 ndarray of shape (t,)
        Code points of all strings, one after the other.
    offsets : int64 ndarray of shape (n + 1,)
        String ``i`` is ``points[offsets[i]:offsets[i + 1]]``.
    """

    points: NDArray[np.uint32]
    offsets: Places

    @classmethod
    def of(cls, texts: Sequence[bytes | str]) -> Strings:
        """Read texts, or UTF-8 bytes."""
        read = [text.decode("utf-8", "surrogateescape") for text in raw(texts)]
        points = np.frombuffer("".join(read).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint32)
        return cls(points, np.concatenate(([0], np.cumsum([len(text) for text in read], dtype=np.int64))))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Places:
        """Characters of each string, ``(n,)``."""
        return np.diff(self.offsets)

    def _part(self, keep: NDArray[np.bool_], points: NDArray[np.uint32] | None = None) -> Strings:
        """Only the characters that are kept."""
        counted = np.concatenate(([0], np.cumsum(keep)))
        return Strings((self.points if points is None else points)[keep], counted[self.offsets])

    def mapped(self, change: Callable[[str], str]) -> Strings:
        """Every character changed by a function; where that would not be one character, it stays as it is."""
        known, place = np.unique(self.points, return_inverse=True)
        made = [change(chr(point)) for point in known]
        new = np.array([ord(b) if len(b) == 1 else a for a, b in zip(known.tolist(), made)], dtype=np.uint32)
        return Strings(new[place], self.offsets)

    def lower(self) -> Strings:
        """Without capitals."""
        return self.mapped(str.lower)

    def stripped(self) -> Strings:
        """Without spaces at the beginning; a string of nothing but spaces stays as it is."""
        text = self.points != 32
        before = np.concatenate(([0], np.cumsum(text)))
        owner = np.repeat(np.arange(len(self)), self.lengths)
        inside = before[1:] - before[self.offsets[owner]] > 0
        blank = before[self.offsets[1:]] == before[self.offsets[:-1]]
        return self._part(inside | blank[owner])

    def head(self, count: int) -> Strings:
        """The first characters of each string."""
        place = np.arange(len(self.points)) - np.repeat(self.offsets[:-1], self.lengths)
        return self._part(place < count)

    def tail(self, count: int) -> Strings:
        """The last characters of each string."""
        place = np.repeat(self.offsets[1:], self.lengths) - np.arange(len(self.points))
        return self._part(place <= count)

    def shape(self, longest: int = 4) -> Strings:
        """Capitals as ``X``, other letters as ``x``, digits as ``d``, the rest as it is; runs cut to ``longest``."""
        classes = self.mapped(_class)
        points = classes.points
        begins = np.ones(len(points), dtype=bool)
        begins[1:] = points[1:] != points[:-1]
        begins[self.offsets[:-1][self.lengths > 0]] = True
        start = np.maximum.accumulate(np.where(begins, np.arange(len(points)), 0))
        return classes._part(np.arange(len(points)) - start < longest)

    def padded(self, mark: str = " ") -> Strings:
        """With a mark before and behind each string."""
        offsets = self.offsets + 2 * np.arange(len(self.offsets))
        points = np.full(len(self.points) + 2 * len(self), ord(mark), dtype=np.uint32)
        points[ranges(offsets[:-1] + 1, self.lengths)] = self.points
        return Strings(points, offsets)

    def hashes(self, salt: int = 0) -> Hashes:
        """A hash of each string, ``(n,)``."""
        place = np.arange(len(self.points)) - np.repeat(self.offsets[:-1], self.lengths)
        powers = np.ones(int(self.lengths.max(initial=0)) + 1, dtype=np.uint64)
        powers[1:] = np.multiply.accumulate(np.full(len(powers) - 1, _BASE))
        sums = np.concatenate(
            (np.zeros(1, dtype=np.uint64), np.cumsum(mix(self.points.astype(np.uint64)) * powers[place]))
        )
        folded = sums[self.offsets[1:]] - sums[self.offsets[:-1]]
        return mix(folded + self.lengths.astype(np.uint64), salt)

    def grams(self, least: int, most: int) -> tuple[Places, Hashes, Places]:
        """N-grams of ``least`` to ``most`` characters inside the strings.

        Returns
        -------
        owner : int64 ndarray of shape (g,)
            String of each, ascending.
        hashes : uint64 ndarray of shape (g,)
        starts : int64 ndarray of shape (g,)
            Where each begins in `points`.
        """
        letters = mix(self.points.astype(np.uint64))
        owner = np.repeat(np.arange(len(self)), self.lengths)
        left = np.repeat(self.offsets[1:], self.lengths) - np.arange(len(self.points))  # characters from here on
        found: list[tuple[Places, Hashes, Places]] = []
        folded = np.zeros(len(letters), dtype=np.uint64)
        for size in range(1, most + 1):
            room = len(letters) - size + 1
            if room <= 0:
                break
            folded = folded[:room] * _BASE + letters[size - 1 :]
            if size >= least:
                starts = np.flatnonzero(left[:room] >= size)
                found.append((owner[starts], mix(folded[starts] + np.uint64(size)), starts))
        if not found:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
        owners, hashes, starts = (np.concatenate(part) for part in zip(*found))
        order = np.argsort(owners, kind="stable")
        return owners[order], hashes[order], starts[order]


def distinct(owner: Places, hashes: Hashes) -> Places:
    """Places of one of each n-gram of every string, in the order of the strings."""
    order = np.lexsort((hashes, owner))
    first = np.ones(len(order), dtype=bool)
    first[1:] = (owner[order][1:] != owner[order][:-1]) | (hashes[order][1:] != hashes[order][:-1])
    return np.sort(order[first])


def _class(character: str) -> str:
    """What a character is in a word's shape."""
    if character.isalpha():
        return "X" if character.isupper() else "x"
    return "d" if character.isdigit() else character
