"""Inverted lists of a segment: for each term, the passages that hold it and with what count or weight.

Stored by term (compressed columns): ``starts`` int64 ``(v + 1,)``, ``rows`` uint32 ``(postings,)`` ascending within a
term, and ``values``. Term counts take one byte (or two where one is not enough), weights two bytes as float16 or one as
a fraction of the term's largest weight. A query touches, and verifies, only the lists of its own terms.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import CorruptIndex
from sememe.index.arrays import Packed, Strings, StringsWriter, encode_text, narrow

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

    def add_weights(self, columns: NDArray[np.integer], weights: NDArray[np.floating]) -> None:
        """The next passage as weighted columns of a fixed vocabulary."""
        self._terms.extend(columns.tolist())
        self._values.extend(weights.tolist())
        self._sizes.append(len(columns))
        self._lengths.append(len(columns))

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
        """The facts for the manifest and the arrays to store; ``weights`` is ``counts``, ``fp16`` or ``u8``."""
        terms = np.array(self._terms, dtype=np.int64)
        values = np.array(self._values, dtype=np.float32)
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
            used, terms = np.unique(terms, return_inverse=True)
            count = len(used)
            arrays["columns"] = used.astype(np.int64)
        order = np.lexsort((rows, terms))
        terms, values = terms[order], values[order]
        starts = np.searchsorted(terms, np.arange(count + 1)).astype(np.int64)
        arrays |= {"starts": narrow(starts), "rows": rows[order].astype(np.uint32)}
        arrays |= _encode_values(values, terms, starts, weights)
        arrays["lengths"] = np.asarray(self._lengths, dtype=np.uint32)
        return {"named": self._named, "terms": count, "weights": weights}, arrays


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


class Postings:
    """The inverted lists of one segment of ``passages`` passages."""

    def __init__(self, packed: Packed, info: dict[str, Any], passages: int) -> None:
        self.passages, self.named, self.weights = passages, bool(info["named"]), str(info["weights"])
        self.count = int(info["terms"])
        self._terms = Strings.of(packed, "terms", self.count) if self.named else None
        self._columns = None if self.named else packed.get("columns")
        self._starts, self._rows, self._values = (packed.get(name) for name in ("starts", "rows", "values"))
        self._scales = packed.get("scales") if self.weights == "u8" else None
        self._lengths = packed.get("lengths")
        if len(self._starts) != self.count + 1 or len(self._lengths) != passages:
            raise CorruptIndex("the postings do not fit their segment", fix="run: sememe verify")

    @property
    def lengths(self) -> NDArray[np.uint32]:
        """Terms in each passage, ``(passages,)``."""
        return self._lengths.all()

    def find(self, term: str | int) -> int | None:
        """The number of a term here, by binary search; None where no passage holds it."""
        if self._terms is None:
            assert self._columns is not None
            columns = self._columns.all()
            place = int(np.searchsorted(columns, int(term)))
            return place if place < len(columns) and columns[place] == term else None
        wanted = encode_text(str(term))
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            if self._terms.raw(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < self.count and self._terms.raw(low) == wanted else None

    def postings(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The passages of a term, ascending, and its counts or weights there."""
        start, stop = self._starts.slice(number, number + 2).tolist()
        values = self._values.slice(start, stop).astype(np.float32)
        if self._scales is not None:
            values *= self._scales.slice(number, number + 1)[0]
        return self._rows.slice(start, stop).astype(np.int64), values

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
