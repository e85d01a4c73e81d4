"""Inverted lists of a segment: for each term, the passages that hold it and with what count or weight.

Stored by term (compressed columns): ``starts`` int64 ``(v + 1,)``, ``rows`` uint32 ``(postings,)`` ascending within a
term, and ``values``. Term counts take one byte (or two where one is not enough), weights two bytes as float16 or one as
a fraction of the term's largest weight. A query touches, and verifies, only the lists of its own terms.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sememe.errors import CorruptIndex
from sememe.index.arrays import OFFSETS, Lazy, Packed, Strings, StringsWriter, encode_text, narrow
from sememe.kernels.impact import ImpactLists
from sememe.kernels.sparse import Lengths, SparseLists

Mask = NDArray[np.bool_]
Arrays = dict[str, NDArray[Any]]
List = tuple[str | int, NDArray[np.int64], NDArray[np.float32]]  # term, passages, counts or weights


class PostingsWriter:
    """Collects postings passage by passage.

    Terms are strings (with counts) or column numbers (with weights); a writer takes one sort only.
    """

    def __init__(self, *, named: bool) -> None:
        self._named = named
        self._vocabulary: dict[str, int] = {}
        self._terms, self._values = array("q"), array("f")
        self._sizes, self._lengths = array("q"), array("q")

    def add_terms(self, terms: list[str]) -> None:
        """The next passage as words; its length is their number."""
        counts: dict[int, int] = {}
        for term in terms:
            number = self._vocabulary.setdefault(term, len(self._vocabulary))
            counts[number] = counts.get(number, 0) + 1
        self._terms.extend(counts)
        self._values.extend(counts.values())
        self._sizes.append(len(counts))
        self._lengths.append(len(terms))

    def add_weights(
        self, bounds: NDArray[np.integer], columns: NDArray[np.integer], weights: NDArray[np.floating]
    ) -> None:
        """The next passages as weighted columns of a fixed vocabulary.

        Passage ``i`` has the columns, and weights, ``bounds[i]`` to ``bounds[i + 1]``: the parts of a CSR matrix.
        """
        sizes = np.diff(bounds).astype(np.int64).tobytes()
        self._terms.frombytes(columns[bounds[0] : bounds[-1]].astype(np.int64).tobytes())
        self._values.frombytes(weights[bounds[0] : bounds[-1]].astype(np.float32).tobytes())
        self._sizes.frombytes(sizes)
        self._lengths.frombytes(sizes)

    def add_lists(self, lists: Sequence[List], lengths: NDArray[np.integer]) -> None:
        """Whole inverted lists, as another segment holds them, for the next ``len(lengths)`` passages."""
        numbers = [
            self._vocabulary.setdefault(t, len(self._vocabulary)) if isinstance(t, str) else t for t, _, _ in lists
        ]
        rows = np.concatenate([np.zeros(0, dtype=np.int64), *(r for _, r, _ in lists)])
        terms = np.repeat(np.asarray(numbers, dtype=np.int64), [len(r) for _, r, _ in lists])
        values = np.concatenate([np.zeros(0, dtype=np.float32), *(v for _, _, v in lists)])
        order = np.argsort(rows, kind="stable")
        self._terms.frombytes(terms[order].tobytes())
        self._values.frombytes(values[order].tobytes())
        self._sizes.frombytes(np.bincount(rows, minlength=len(lengths)).astype(np.int64).tobytes())
        self._lengths.frombytes(lengths.astype(np.int64).tobytes())

    def arrays(self, weights: str = "counts") -> tuple[dict[str, Any], Arrays]:
        """The facts for the manifest and the arrays to store.

        ``weights`` is ``counts``, ``fp16`` or ``u8``, or ``impact`` for the lists of ``sememe.index.impact``.
        """
        terms = np.frombuffer(self._terms, dtype=np.int64)
        values = np.frombuffer(self._values, dtype=np.float32)
        rows = np.repeat(np.arange(len(self._sizes), dtype=np.int64), self._sizes)
        arrays: Arrays = {}
        if self._named:
            names = sorted(self._vocabulary, key=encode_text)
            place = np.zeros(len(names), dtype=np.int64)
            writer = StringsWriter()
            for rank, name in enumerate(names):
                place[self._vocabulary[name]] = rank
                writer.add(name)
            terms, count = place[terms], len(names)
            arrays |= writer.arrays("terms")
        else:
            used, terms = _ranked(terms)
            count = len(used)
            arrays["columns"] = used
        if weights == "impact":
            from sememe.index.impact import impact_arrays

            arrays |= impact_arrays(rows, terms, values, count=count, passages=len(self._sizes))
        else:
            # Rows ascend already, so a stable sort by term will do; for two-byte keys it is a radix sort.
            order = np.argsort(terms.astype(np.uint16) if count <= 1 << 16 else terms, kind="stable")
            starts = np.concatenate([[0], np.cumsum(np.bincount(terms, minlength=count))])
            arrays |= {"starts": narrow(starts), "rows": rows[order].astype(np.uint32)}
            arrays |= _encode_values(values[order], terms[order], starts, weights)
        arrays["lengths"] = np.asarray(self._lengths, dtype=np.uint32)
        return {"named": self._named, "terms": count, "weights": weights}, arrays


def _ranked(columns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different columns, ascending, and the place of each column among them."""
    top = int(columns.max(initial=-1)) + 1
    if top > 1 << 22 or (len(columns) and columns.min() < 0):  # a table would be larger than a sort is slow
        used, places = np.unique(columns, return_inverse=True)
        return used, places
    there = np.zeros(top, dtype=bool)
    there[columns] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[columns]


def _encode_values(
    values: NDArray[np.float32], terms: NDArray[np.int64], starts: NDArray[np.int64], weights: str
) -> Arrays:
    if weights == "counts":
        widest = 65_535 if len(values) and values.max() > 255 else 255  # a count beyond 65,535 stays there
        return {"values": np.minimum(values, widest).astype(np.uint16 if widest > 255 else np.uint8)}
    if weights == "fp16":
        return {"values": values.astype(np.float16)}
    scales = np.zeros(len(starts) - 1, dtype=np.float32)
    np.maximum.at(scales, terms, values)
    scales /= 255.0
    steps = np.divide(values, scales[terms], out=np.zeros_like(values), where=scales[terms] > 0)
    return {"values": np.clip(np.rint(steps), 0, 255).astype(np.uint8), "scales": scales}


_VALUES: dict[str, tuple[type[np.generic], ...]] = {
    "counts": (np.uint8, np.uint16),
    "fp16": (np.float16,),
    "u8": (np.uint8,),
}


class Postings:
    """The inverted lists of one segment of ``passages`` passages."""

    def __init__(self, packed: Packed, info: dict[str, Any], passages: int) -> None:
        self.passages, self.named, self.weights = passages, bool(info["named"]), str(info["weights"])
        self.count = int(info["terms"])
        self._terms = Strings.of(packed, "terms", self.count) if self.named else None
        self._columns = None if self.named else packed.get("columns", np.int64)
        self._lengths = packed.get("lengths", np.uint32)
        self._scales: Lazy | None = None
        if len(self._lengths) != passages:
            raise CorruptIndex("the postings do not fit their segment", fix="run: sememe verify")
        self._open(packed)
        self._alive: tuple[Mask | None, int, int] | None = None
        self._frequencies: dict[int, int] = {}
        self._norms: Lengths | None = None
        self._words: tuple[tuple[float, float], Any] | None = None

    def _open(self, packed: Packed) -> None:
        # Compiled loops read these as they lie, so a row that could be negative is refused with its type.
        if self.weights not in _VALUES:
            raise CorruptIndex(f"the postings hold {self.weights!r}, which is none of ours", fix="run: sememe verify")
        self._starts, self._rows = packed.get("starts", *OFFSETS), packed.get("rows", np.uint32)
        self._values = packed.get("values", *_VALUES[self.weights])
        if self.weights == "u8":
            self._scales = packed.get("scales", np.float32)
        if len(self._starts) != self.count + 1:
            raise CorruptIndex("the postings do not fit their segment", fix="run: sememe verify")
        self._checked = np.append(np.zeros(self.count, dtype=bool), True)  # the last is that of number -1
        self._lists: SparseLists | None = None
        self._sizes: NDArray[Any] | None = None

    @property
    def lengths(self) -> NDArray[np.uint32]:
        """Terms in each passage, ``(passages,)``."""
        return self._lengths.all()

    def find(self, terms: list[str] | NDArray[np.integer]) -> NDArray[np.int64]:
        """The numbers of terms (strings, or columns) here; -1 where no passage holds one."""
        if self._terms is not None:
            return self._terms.find(cast("list[str]", terms))
        assert self._columns is not None
        columns, wanted = self._columns.all(), np.asarray(terms, dtype=np.int64)
        if not len(columns):
            return np.full(len(wanted), -1, dtype=np.int64)
        place = np.minimum(np.searchsorted(columns, wanted), len(columns) - 1)
        return np.where(columns[place] == wanted, place, -1)

    def postings(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The passages of a term, ascending, and its counts or weights there."""
        start, stop = self._starts.slice(number, number + 2).tolist()
        rows = self._rows.slice(start, stop).astype(np.int64)
        values = self._values.slice(start, stop).astype(np.float32)
        if len(rows) and int(rows.max()) >= self.passages:
            raise CorruptIndex("a posting names a passage that is not there", fix="run: sememe verify")
        if self._scales is not None:
            values *= self._scales.slice(number, number + 1)[0]
        return rows, values

    def scales(self, numbers: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """What a step of each term's codes stands for, ``(t,)``; None where weights are not codes."""
        return None if self._scales is None else self._scales.all()[numbers]

    def whole(self, numbers: NDArray[np.int64]) -> SparseLists | ImpactLists | None:
        """All lists as the compiled loops take them; those of the terms ``numbers`` are verified, others may not be.

        None where the loops do not take them: one has a negative weight, or the postings are more than 2**32.
        """
        if not self._checked[numbers].all() and not self._check(numbers):
            return None
        if self._lists is None and self._starts.dtype == np.uint32:
            rows, values, starts = self._rows.unverified, self._values.unverified, self._starts.all()
            if len(values) != len(rows) or starts[-1] > len(rows) or (starts[1:] < starts[:-1]).any():
                raise CorruptIndex("the postings do not fit their segment", fix="run: sememe verify")
            self._lists = SparseLists(rows, values, self.weights, starts, self.passages)
        return self._lists

    def _check(self, numbers: NDArray[np.int64]) -> bool:
        for number in np.unique(numbers[~self._checked[numbers]]).tolist():
            start, stop = self._starts.slice(number, number + 2).tolist()
            rows, values = self._rows.slice(start, stop), self._values.slice(start, stop)
            if stop > start and (rows[-1] >= self.passages or (rows[1:] <= rows[:-1]).any()):
                raise CorruptIndex("the rows of a term are not in order", fix="run: sememe verify")
            if not (values >= 0).all():
                return False
            self._checked[number] = True
        return True

    def live(self, alive: Mask | None) -> tuple[int, int]:
        """Passages that are alive, and the sum of their lengths; ``alive`` is a mask, None for all."""
        if self._alive is None or self._alive[0] is not alive:
            lengths = self.lengths if alive is None else self.lengths[alive]
            self._alive = alive, len(lengths), int(lengths.sum(dtype=np.int64))
            self._frequencies = {}
        return self._alive[1:]

    def frequencies(self, numbers: NDArray[np.int64], alive: Mask | None) -> list[int]:
        """Passages that are alive and hold each term, for ``t`` terms."""
        if alive is None:
            if self._sizes is None:
                self._sizes = np.append(np.diff(self._starts.all()), 0)  # the last is that of number -1
            return self._sizes[numbers].tolist()
        self.live(alive)
        known = self._frequencies
        for number in set(numbers.tolist()) - known.keys():
            known[number] = 0 if number < 0 else int(np.count_nonzero(alive[self.postings(number)[0]]))
        return [known[number] for number in numbers.tolist()]

    def norms(self, mean: float, k1: float, b: float) -> Lengths:
        """Lengths as BM25 weighs them; kept for the next query."""
        if self._norms is None or (self._norms.mean, self._norms.k1, self._norms.b) != (mean, k1, b):
            lengths = self.lengths
            self._norms = Lengths(lengths, mean, k1, b, (k1 * (1 - b + b * lengths / mean)).astype(np.float32))
        return self._norms

    def words(self, k1: float, b: float) -> Any:
        """What answers BM25 queries where nothing is deleted, as ``SparseLists.words``; None where that is not."""
        if self._words is None or self._words[0] != (k1, b):
            lists = self.whole(np.empty(0, dtype=np.int64)) if self.named and self.passages else None
            strings = None if self._terms is None else self._terms.whole()
            made = None
            if isinstance(lists, SparseLists) and strings is not None:
                live, total = self.live(None)
                made = lists.words(*strings, self._checked, self.norms(total / live if total else 1.0, k1, b))
            self._words = (k1, b), made
        return self._words[1]

    def lists(self, keep: NDArray[np.bool_]) -> Sequence[List]:
        """Every list over the passages to keep, renumbered: what a merge needs."""
        new_rows = np.cumsum(keep) - 1
        columns = self._columns.all() if self._columns is not None else None
        found: list[List] = []
        for number in range(self.count):
            rows, values = self.postings(number)
            kept = keep[rows]
            if kept.any():
                name = self._terms[number] if self._terms is not None else int(columns[number])  # type: ignore[index]
                found.append((name, new_rows[rows[kept]], values[kept]))
        return found
