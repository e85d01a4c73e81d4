"""Keyed vectors: words and their vectors in one mapped store that opens at once and answers for unseen words.

``KeyedVectors.load`` reads the files of word2vec, GloVe and fastText; ``save`` writes a folder of immutable,
checksummed files, and ``open`` maps it: no byte is read before it is needed, and none is believed before its checksum
is. Neighbours come from a scan of 4-bit codes of the randomly turned vectors, looked up in registers
(`kernels.fastscan`), then from the vectors themselves. The turn makes the direction of a code's error random, so its
effect on a score is bounded but for odds of one in a billion a row, and the scan goes on until no row that it left out
can matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import Vectors, as_vectors, unit_rows
from sememe.errors import CorruptIndex, InputError
from sememe.index import keyed_parts
from sememe.index.arrays import decode_text, encode_text
from sememe.index.keyed_files import read_table
from sememe.index.keyed_parts import Parts, Rows
from sememe.index.spelling import Spelling, edits, subwords
from sememe.kernels import bits as packing
from sememe.kernels.fastscan import TOP, NibbleBlocks

_SPELLED, _RANDOM = 0.7, 0.3  # how an unseen word's vector is blended where the model has no n-grams
_KIN = 3  # nearest-spelled words that count
_SPARE = 1014  # rows compared beyond those asked for, so that one scan is usually proof enough
_ODDS = 1e-9  # of a row whose score is further off than the bound
_LOOSE = 0.002  # share of rows whose codes are furthest off: always compared, so that they do not loosen the bound
_STEP = 0.38  # between the 16 levels, in standard deviations of a turned unit row: leaves the widest errors smallest
_CLOSE = 1e-5  # cosines in float32 are nearer than this to the exact ones

MAGNITUDE = Paper("Magnitude: A Fast, Efficient Universal Vector Embedding Utility Package", 2018, "1810.11190")


@register(
    "keyed",
    room="index",
    kind="store",
    summary="words and vectors in a mapped store: instant reopening, unseen words, exact neighbours",
    paper=MAGNITUDE,
    claim="Opens and answers at once where a text file takes tens of seconds; a misspelt word finds its original.",
)
class KeyedVectors:
    """Vectors by word: ``KeyedVectors(words, vectors)``, ``KeyedVectors.load(file)`` or ``KeyedVectors.open(folder)``.

    Parameters
    ----------
    keys : sequence of str
        Different from each other.
    vectors : array-like of shape (n, d)
        float32, of any length.

    Raises
    ------
    InputError
        For keys that repeat, a number of keys that differs from the rows, or NaN.
    """

    def __init__(self, keys: Sequence[str], vectors: Vectors) -> None:
        rows = as_vectors(vectors, name="vectors")
        if len(keys) != len(rows):
            raise InputError(f"{len(keys)} keys for {len(rows)} vectors")
        if len(set(keys)) < len(keys):
            seen: set[str] = set()
            key = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise InputError(f"the key {key!r} comes twice", fix="keep one of the two")
        self._parts = _parts([encode_text(key) for key in keys], rows)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> KeyedVectors:
        """Read a file of word2vec (text, binary), GloVe or fastText (``.vec``, ``.bin``), also as ``.gz``.

        Of a word that comes twice the first counts; ``report["repeated"]`` tells how many were left out.

        Raises
        ------
        InputError
            The file is none of these, cut short or damaged: with the line or the byte.
        """
        table = read_table(str(path))
        first: dict[bytes, int] = {}
        for row, key in enumerate(table.keys):
            first.setdefault(key, row)
        repeated = len(table.keys) - len(first)
        vectors = table.vectors[list(first.values())] if repeated else table.vectors
        store = cls.__new__(cls)
        store._parts = _parts(list(first), vectors)
        store._parts.report = {"format": table.form, "repeated": repeated}
        if table.grams is not None and table.longest > 0 and len(table.grams):
            store._parts.grams, store._parts.lengths = Rows(table.grams), (table.shortest, table.longest)
        return store

    @classmethod
    def open(cls, path: str | PathLike[str]) -> KeyedVectors:
        """Map a saved store.

        Raises
        ------
        FormatError, CorruptIndex
            Not such a store, or a damaged one; damage in the data shows at the first touch.
        """
        store = cls.__new__(cls)
        store._parts = keyed_parts.load(path)
        return store

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the store into a new folder."""
        keyed_parts.save(self._parts, path, overwrite=overwrite)

    # What is there

    def __len__(self) -> int:
        return len(self._parts.vectors.array)

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return int(self._parts.vectors.array.shape[1])

    @property
    def report(self) -> dict[str, object]:
        """What ``load`` found: the format of the file, and how many repeated words were left out."""
        return self._parts.report

    def key(self, row: int) -> str:
        """The word of a row."""
        offsets = self._parts.get("offsets")
        return decode_text(self._parts.get("keys")[offsets[row] : offsets[row + 1]])

    def row(self, key: str) -> int:
        """The row of a word, -1 where there is none."""
        return self._row(encode_text(key))

    def _row(self, key: bytes) -> int:
        import xxhash

        table, keys, offsets = (self._parts.get(name) for name in ("table", "keys", "offsets"))
        mask = len(table) - 1
        at = xxhash.xxh3_64_intdigest(key) & mask
        for _ in range(len(table)):  # a table half full has free places; a damaged one may not
            row = int(table[at])
            if row < 0:
                return -1
            if row >= len(self):
                raise CorruptIndex(f"the table of words names row {row} of {len(self)}", fix="get the store anew")
            start, stop = int(offsets[row]), int(offsets[row + 1])
            if stop - start == len(key) and keys[start:stop].tobytes() == key:
                return row
            at = (at + 1) & mask
        return -1

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.row(key) >= 0

    def __getitem__(self, key: str) -> NDArray[np.float32]:
        return self.vectors([key])[0]

    def vectors(self, keys: Sequence[str]) -> Vectors:
        """Vectors of words, float32 ``(len(keys), d)``; those of unseen words are made as ``unseen`` says."""
        rows = np.array([self.row(key) for key in keys], dtype=np.int64)
        out = np.empty((len(keys), self.dim), dtype=np.float32)
        known = rows >= 0
        out[known] = self._parts.vectors.take(rows[known])
        for place in np.flatnonzero(~known).tolist():
            out[place] = self.unseen(keys[place])
        return out

    def unseen(self, key: str) -> NDArray[np.float32]:
        """A vector for a word that is not stored, float32 ``(d,)``; the same word always gets the same.

        With n-gram rows of a fastText model, their mean, as that model would. Otherwise a unit vector: 0.7 of the mean
        of the nearest-spelled words, each weighed by how near it is, and 0.3 of a random one, seeded by the word.
        """
        parts = self._parts
        if parts.grams is not None:
            found = subwords(key, *parts.lengths, len(parts.grams.array))
            rows = parts.grams.take(np.array(sorted(found), dtype=np.int64))
            return rows.mean(axis=0, dtype=np.float64).astype(np.float32) if found else np.zeros(self.dim, np.float32)
        import xxhash

        seed = xxhash.xxh3_64_intdigest(encode_text(key))
        noise = unit_rows(np.random.default_rng(seed).standard_normal((1, self.dim), dtype=np.float32))[0]
        kin = self.spelled_like(key, _KIN)
        if not kin:
            return noise
        near = unit_rows(parts.vectors.take(np.array([row for row, _ in kin], dtype=np.int64)))
        weights = np.array([likeness for _, likeness in kin]) ** 4  # a single edit outweighs several further ones
        mean = unit_rows((weights @ near)[None].astype(np.float32))[0]
        return unit_rows((_SPELLED * mean + _RANDOM * noise)[None])[0]

    def spelled_like(self, key: str, k: int = 3) -> list[tuple[int, float]]:
        """Rows of the ``k`` nearest-spelled words, with 1 - edits / letters, best first; ties to the earlier word."""
        low = key.lower()
        found = []
        for row in self._parts.spelling().nearest(encode_text(key)).tolist():
            other = self.key(row).lower()
            likeness = 1 - edits(low, other) / max(len(low), len(other), 1)
            if likeness > 0:
                found.append((row, likeness))
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:k]

    # Neighbours

    def neighbours(
        self, query: str | NDArray[np.float32], k: int = 10, exclude: Iterable[str] = ()
    ) -> list[tuple[str, float]]:
        """The ``k`` words of largest cosine to a word (which is left out itself) or a vector ``(d,)``, best first."""
        if isinstance(query, str):
            exclude, query = [*exclude, query], self[query]
        vector = as_vectors(np.asarray(query)[None], name="query", dim=self.dim)
        left_out = {row for key in exclude if (row := self.row(key)) >= 0}
        if k <= 0:
            raise InputError(f"k must be at least 1, got {k}")
        rows, cosines = self._nearest(unit_rows(vector), k + len(left_out))
        pairs = [(row, value) for row, value in zip(rows.tolist(), cosines.tolist()) if row not in left_out]
        return [(self.key(row), value) for row, value in pairs[:k]]

    def _nearest(self, unit: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows of the ``k`` largest cosines to one unit vector ``(1, d)``, and these."""
        parts, wanted = self._parts, k + _SPARE
        if not len(self):
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        turned = unit @ parts.get("turn").reshape(self.dim, self.dim)
        codes = NibbleBlocks(parts.codes.all(), len(self), self.dim)
        levels = np.broadcast_to(_levels(self.dim)[:, None], (self.dim, 16, 1))
        # |u . e| > t |e| for a random direction e has odds of at most 2 exp(-d t^2 / 2). A rounded look-up is off by
        # half a step at most in each of d places (Hoeffding: 2 exp(-2 t^2 / d) for t steps); the variances add up.
        step = float(np.abs(turned).max()) * 15 * _STEP / self.dim**0.5 / TOP
        error = (2 * np.log(2 / _ODDS) * (parts.error**2 / self.dim + self.dim * step**2 / 4)) ** 0.5
        most = parts.error + self.dim * step / 2
        while True:
            rough, found = codes.topk(turned, levels, min(wanted, len(self)))
            rows, cosines = self._best(unit[0], np.sort(found[0]), k)
            # No row that was left out can be better than this, give or take float32's own rounding.
            reach = float(rough[0, -1]) + min(error, most) + 1e-6
            if not len(rows) or len(rough[0]) == len(self) or cosines[-1] >= reach:
                return rows, cosines
            wanted *= 4

    def _best(
        self, unit: NDArray[np.float32], rows: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The ``k`` of these rows and the loose ones with the largest cosines, ties to the lower row."""
        parts = self._parts
        some = np.concatenate([parts.vectors.take(rows), parts.outlying()])
        rows = np.concatenate([rows, parts.get("loose")])
        size = np.sqrt(np.einsum("ij,ij->i", some, some))
        near = np.divide(some @ unit, size, out=np.zeros(len(size), dtype=np.float32), where=size > 0)
        # Rows may come twice; among twice as many there are k different ones.
        least = np.partition(near, len(near) - 2 * k)[-2 * k] if len(near) > 2 * k else -np.inf
        chosen = np.flatnonzero(near >= least - np.float32(_CLOSE))
        rows, first = np.unique(rows[chosen], return_index=True)
        vectors = some[chosen[first]].astype(np.float64)
        length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        cosine = np.divide(vectors @ unit, length, out=np.zeros(len(length)), where=length > 0)
        order = np.lexsort((rows, -cosine))[:k]
        return rows[order], cosine[order]

    def analogy(self, a: str, b: str, c: str, k: int = 1) -> list[tuple[str, float]]:
        """Words that are to ``c`` as ``b`` is to ``a``: nearest to ``b - a + c`` of unit vectors, without the three."""
        unit = unit_rows(self.vectors([a, b, c])).astype(np.float64)
        return self.neighbours((unit[1] - unit[0] + unit[2]).astype(np.float32), k, exclude=(a, b, c))

    def does_not_match(self, keys: Sequence[str]) -> str:
        """The word furthest from the mean of them all."""
        if not keys:
            raise InputError("no words were given")
        unit = unit_rows(self.vectors(keys)).astype(np.float64)
        return keys[int(np.argmin(unit @ unit.mean(axis=0)))]


def _levels(d: int) -> NDArray[np.float32]:
    """What the sixteen numbers stand for, float32 ``(16,)``: the same in every dimension, since rows are turned."""
    return ((np.arange(16) - 7.5) * (_STEP / d**0.5)).astype(np.float32)


def _parts(keys: list[bytes], vectors: Vectors) -> Parts:
    unit = unit_rows(vectors)
    d = vectors.shape[1]
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0].astype(np.float32)
    codes, far = np.empty((len(unit), -(-d // 2)), dtype=np.uint8), np.empty(len(unit))
    levels, steps = _levels(d), np.float32(d**0.5 / _STEP)
    for start in range(0, len(unit), 1 << 12):
        part = slice(start, start + (1 << 12))
        rows = unit[part] @ turn
        numbers = np.clip(np.floor(rows * steps) + 8, 0, 15).astype(np.uint8)
        codes[part] = packing.pack(numbers, 4)
        rows -= levels.take(numbers)
        far[part] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    loose = np.sort(np.argsort(-far, kind="stable")[: int(_LOOSE * len(far))])
    error = float(np.sqrt(np.delete(far, loose).max(initial=0.0)))
    offsets = np.zeros(len(keys) + 1, dtype=np.int64)
    np.cumsum([len(key) for key in keys], out=offsets[1:])
    blob = np.frombuffer(b"".join(keys), dtype=np.uint8)
    spelling = Spelling.of(blob, offsets)
    small: dict[str, NDArray[Any]] = {
        "keys": blob, "offsets": offsets, "table": _hash_table(keys),
        "ends": spelling.ends, "rows": spelling.rows, "counts": spelling.counts,
        "loose": loose.astype(np.int32), "turn": turn.reshape(-1),
    }  # fmt: skip
    words = NibbleBlocks.from_codes(codes, d).words
    return Parts(Rows(vectors), Rows(words), error, None, (0, 0), {"repeated": 0}, small)


def _hash_table(keys: list[bytes]) -> NDArray[np.int32]:
    """Open addressing with linear probing, at most half full: the row of each key, -1 where free."""
    import xxhash

    size = 1 << max(1, (2 * len(keys)).bit_length())
    mask, slots = size - 1, [-1] * size
    for row, key in enumerate(keys):
        at = xxhash.xxh3_64_intdigest(key) & mask
        while slots[at] >= 0:
            at = (at + 1) & mask
        slots[at] = row
    return np.array(slots, dtype=np.int32)
