"""Search over inverted lists: BM25 for words, inner products for learned sparse vectors. Exact.

BM25 needs statistics of the whole collection: how many passages there are, how long they are, and how many hold a term.
They are counted over the live passages of all segments at search time, so that an index that grew and shrank gives the
scores that a fresh one would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import log1p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.encode.bm25 import K1, B
from sememe.errors import InputError
from sememe.index.best import TopK
from sememe.index.postings import Postings
from sememe.kernels import native
from sememe.kernels.impact import MOST_TERMS, ImpactLists

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

    def posting_bytes(self, postings: int, terms: int, passages: int, *, counts: bool = False) -> int:
        """Bytes of that many postings, of counts or of weights, without the names of the terms."""
        width = 4 + (2 if self.weights == "fp16" and not counts else 1)
        scales = 4 * terms if self.weights == "u8" and not counts else 0
        return postings * width + 4 * passages + 4 * (terms + 1) + scales


@dataclass(frozen=True, slots=True)
class Part:
    """The postings of one segment: where its passages begin, which are alive, and which may be found.

    ``alive`` and ``allowed`` are masks over passages, None where all are.
    """

    postings: Postings
    offset: int
    alive: NDArray[np.bool_] | None
    allowed: NDArray[np.bool_] | None


@dataclass(slots=True)
class Asked:
    """Queries as weighted terms.

    Attributes
    ----------
    numbers : list of int64 ndarrays of shape (t,)
        For each part the numbers of the terms of all queries there, -1 where it has no such list.
    weights : float64 ndarray of shape (t,)
        What one unit of a posting adds to a score.
    bounds : int64 ndarray of shape (q + 1,)
        Query ``i`` has the terms ``bounds[i]`` to ``bounds[i + 1]``.
    mean_length : float or None
        Of live passages, where postings are counts to be weighed by BM25.
    """

    numbers: list[NDArray[np.int64]]
    weights: NDArray[np.float64]
    bounds: NDArray[np.int64]
    mean_length: float | None = None

    def __len__(self) -> int:
        return len(self.bounds) - 1


def bm25(parts: Sequence[Part], queries: Sequence[Sequence[str]], k: int) -> Ranked:
    """The ``k`` passages with the highest BM25 for each query, global rows; passages without a term are not found.

    Each term of the query adds ``idf * tf / (tf + k1 * (1 - b + b * length / mean length))`` with
    ``idf = ln(1 + (N - df + 0.5) / (df + 0.5))``: Lucene's form of Robertson and Zaragoza (2009).
    """
    found = _at_once(parts, queries, k)
    if found is not None:
        return found
    counts = [Counter(query) for query in queries]
    terms = [term for count in counts for term in count]
    numbers = [part.postings.find(terms) for part in parts]
    live = [part.postings.live(part.alive) for part in parts]
    passages, length = sum(n for n, _ in live), sum(total for _, total in live)
    frequencies = [part.postings.frequencies(places, part.alive) for part, places in zip(parts, numbers)]
    times = [t for count in counts for t in count.values()]
    weights = [t * log1p((passages - df + 0.5) / (df + 0.5)) for t, df in zip(times, map(sum, zip(*frequencies)))]
    bounds = np.array([0, *accumulate(map(len, counts))])
    return search(parts, Asked(numbers, np.array(weights), bounds, length / passages if length else 1.0), k)


def _at_once(parts: Sequence[Part], queries: Sequence[Sequence[str]], k: int) -> Ranked | None:
    """The same in one call of the native core, where all passages of the only part are alive; None where not."""
    if len(parts) != 1 or not len(queries) or native.core() is None:
        return None
    part = parts[0]
    words = part.postings.words(K1, B) if part.alive is None else None
    if words is None:
        return None
    bits = None if part.allowed is None else np.packbits(part.allowed, bitorder="little")
    found: Ranked | None = words.search(list(queries), bits, k, native.threads())
    if found is not None and part.offset:
        found[1][found[1] >= 0] += part.offset
    return found


def inner_product(parts: Sequence[Part], queries: Any, k: int, **effort: float) -> Ranked:
    """The ``k`` passages with the highest inner product with each sparse query; zero is not found.

    Parameters
    ----------
    queries : scipy.sparse.csr_array of shape (q, v)
    **effort : float
        ``share`` and ``slack`` of impact-ordered lists; exact without them.
    """
    numbers = [part.postings.find(queries.indices) for part in parts]
    bounds = np.asarray(queries.indptr, dtype=np.int64)
    return search(parts, Asked(numbers, queries.data.astype(np.float64), bounds), k, **effort)


def search(parts: Sequence[Part], asked: Asked, k: int, **effort: float) -> Ranked:
    """The ``k`` best live and allowed passages of all parts for each query, global rows ``(q, k')``."""
    live = sum(part.postings.live(part.alive)[0] for part in parts)
    k = min(k, live)
    if not k or not len(asked):
        return TopK(len(asked), 0).result()
    found = [_part(part, asked, numbers, k, effort) for part, numbers in zip(parts, asked.numbers)]
    if len(found) == 1:
        return found[0]
    best = TopK(len(asked), k)
    for scores, rows in found:
        query, column = np.nonzero(rows >= 0)
        best.merge(query, scores[query, column], rows[query, column])
    return best.result()


def _part(part: Part, asked: Asked, numbers: NDArray[np.int64], k: int, effort: dict[str, float]) -> Ranked:
    """The best of one part, global rows."""
    postings, mean = part.postings, asked.mean_length
    signed = mean is None and bool((asked.weights < 0).any())
    lists = None if native.core() is None or signed else postings.whole(numbers)
    if lists is None or (isinstance(lists, ImpactLists) and np.diff(asked.bounds).max() > MOST_TERMS):
        return _plain(part, asked, numbers, k)
    if isinstance(lists, ImpactLists):
        scores, rows = lists.topk(numbers, asked.weights, asked.bounds, k, allowed=part.allowed, **effort)
    else:
        lengths = None if mean is None else postings.norms(mean, K1, B)
        scales = postings.scales(numbers)
        scores, rows = lists.topk(
            numbers, asked.weights, asked.bounds, k, scales=scales, lengths=lengths, allowed=part.allowed
        )
    if part.offset:
        rows[rows >= 0] += part.offset
    return scores, rows


def _plain(part: Part, asked: Asked, numbers: NDArray[np.int64], k: int) -> Ranked:
    """The same without the native core: a term at a time over totals of all passages."""
    postings, mean = part.postings, asked.mean_length
    best = TopK(len(asked), min(k, postings.passages))
    for query, (start, stop) in enumerate(pairwise(asked.bounds.tolist())):
        totals = np.zeros(postings.passages)
        for number, weight in zip(numbers[start:stop].tolist(), asked.weights[start:stop].tolist()):
            if number < 0:
                continue
            rows, narrow = postings.postings(number)
            values = narrow.astype(np.float64)
            if mean is None:
                totals[rows] += weight * values
            else:
                totals[rows] += weight * values / (values + K1 * (1 - B + B * postings.lengths[rows] / mean))
        rows = np.flatnonzero(totals > 0 if part.allowed is None else (totals > 0) & part.allowed)
        scores = totals[rows].astype(np.float32)
        if len(rows) > best.k:
            cut = np.partition(scores, len(scores) - best.k)[-best.k]
            rows, scores = rows[scores >= cut], scores[scores >= cut]
        best.offer(query, scores, rows + part.offset)
    return best.result()
