"""Search over inverted lists: BM25 for words, inner products for learned sparse vectors. Exact.

BM25 needs statistics of the whole collection: how many passages there are, how long they are, and how many hold a term.
They are counted over the live passages of all segments at search time, so that an index that grew and shrank gives the
scores that a fresh one would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.encode.bm25 import K1, B
from sememe.errors import InputError
from sememe.index.best import TopK
from sememe.index.postings import Postings

WEIGHTS = ("fp16", "u8")
Ranked = tuple[NDArray[np.float32], NDArray[np.int64]]


@register(
    "inverted",
    room="index",
    kind="index",
    summary="Inverted lists for bm25 and learned sparse encoders; exact.",
    paper=Paper("The Probabilistic Relevance Framework: BM25 and Beyond", 2009),
    exact=True,
    sparse=True,
)
class Inverted:
    """Inverted lists as an index kind, ``inverted[:weights=fp16]``.

    Parameters
    ----------
    weights : {"fp16", "u8"}
        How weights of learned sparse encoders are kept; term counts of bm25 are kept exactly.
    """

    sparse = True

    def __init__(self, *, weights: str = "fp16") -> None:
        if weights not in WEIGHTS:
            raise InputError(f"inverted has no weights {weights!r}", fix=f"use {' or '.join(WEIGHTS)}")
        self.weights = weights


@dataclass(frozen=True, slots=True)
class Part:
    """The postings of one segment: where its passages begin, which are alive, and which may be found.

    ``alive`` and ``allowed`` are masks over passages, None where all are.
    """

    postings: Postings
    offset: int
    alive: NDArray[np.bool_] | None
    allowed: NDArray[np.bool_] | None


class Statistics:
    """Counts over the live passages of all segments: number, mean length, and passages with a term."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        lengths = [p.postings.lengths if p.alive is None else p.postings.lengths[p.alive] for p in parts]
        self.passages = sum(len(part) for part in lengths)
        total = sum(int(part.sum(dtype=np.int64)) for part in lengths)
        self.mean_length = total / self.passages if total else 1.0

    def frequency(self, lists: list[tuple[Part, NDArray[np.int64], Any]]) -> int:
        """Live passages in the lists of one term."""
        return sum(len(rows) if part.alive is None else int(part.alive[rows].sum()) for part, rows, _ in lists)


def bm25(parts: Sequence[Part], queries: Sequence[Sequence[str]], k: int) -> Ranked:
    """The ``k`` passages with the highest BM25 for each query, global rows; passages without a term are not found.

    Each term of the query adds ``idf * tf / (tf + k1 * (1 - b + b * length / mean length))`` with
    ``idf = ln(1 + (N - df + 0.5) / (df + 0.5))``: Lucene's form of Robertson and Zaragoza (2009).
    """
    statistics = Statistics(parts)
    lengths = [part.postings.lengths for part in parts]
    best = TopK(len(queries), min(k, statistics.passages))
    for row, query in enumerate(queries):
        totals = [np.zeros(part.postings.passages) for part in parts]
        for term, times in Counter(query).items():
            lists = _lists(parts, term)
            frequency = statistics.frequency([(parts[i], rows, values) for i, rows, values in lists])
            idf = np.log1p((statistics.passages - frequency + 0.5) / (frequency + 0.5))
            for i, rows, counts in lists:
                norms = K1 * (1 - B + B * lengths[i][rows] / statistics.mean_length)
                totals[i][rows] += times * idf * counts / (counts + norms)
        _offer(best, row, parts, totals)
    return best.result()


def inner_product(parts: Sequence[Part], queries: Any, k: int) -> Ranked:
    """The ``k`` passages with the highest inner product with each sparse query; zero is not found.

    Parameters
    ----------
    queries : scipy.sparse.csr_array of shape (q, v)
    """
    live = sum(p.postings.passages if p.alive is None else int(p.alive.sum()) for p in parts)
    best = TopK(queries.shape[0], min(k, live))
    for row in range(queries.shape[0]):
        start, stop = queries.indptr[row], queries.indptr[row + 1]
        totals = [np.zeros(part.postings.passages) for part in parts]
        for term, weight in zip(queries.indices[start:stop].tolist(), queries.data[start:stop].tolist()):
            for i, rows, values in _lists(parts, term):
                totals[i][rows] += weight * values
        _offer(best, row, parts, totals)
    return best.result()


def _lists(parts: Sequence[Part], term: str | int) -> list[tuple[int, NDArray[np.int64], NDArray[np.float32]]]:
    """The list of one term in each part that has it."""
    found = []
    for i, part in enumerate(parts):
        number = part.postings.find(term)
        if number is not None:
            found.append((i, *part.postings.postings(number)))
    return found


def _offer(best: TopK, query: int, parts: Sequence[Part], totals: list[NDArray[np.float64]]) -> None:
    for part, total in zip(parts, totals):
        allowed = total > 0 if part.allowed is None else (total > 0) & part.allowed
        rows = np.flatnonzero(allowed)
        scores = total[rows].astype(np.float32)
        if len(rows) > best.k:
            cut = np.partition(scores, len(scores) - best.k)[-best.k]
            rows, scores = rows[scores >= cut], scores[scores >= cut]
        best.offer(query, scores, rows + part.offset)
