"""Words beside vectors: BM25 as a way of searching the planner's views, alone and fused with dense rankings.

Postings are made, searched and fused by the code of the index, so what is ranked and timed here is what an index will
do. What BM25 finds for a query does not depend on how vectors are coded, so it is looked up once, and kept with the
query.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sememe.planner.view import DEPTH, Asked, View, best_first

if TYPE_CHECKING:
    from sememe.index.rerank import Hybrid
    from sememe.planner.bench import Benches
    from sememe.planner.questions import Questions
    from sememe.planner.sweep import Bench

MODEL = "bm25"
FUSION = "hybrid:bm25"
_CHUNKED_DEPTH = 4 * DEPTH  # passages read where several belong to one record


@dataclass
class WordRanks:
    """What BM25 finds for ``q`` queries.

    Attributes
    ----------
    scores : float32 (q, k)
        Best first; -inf where a query found fewer.
    rows : int64 (q, k)
        The passages, -1 where a query found fewer. The record that a query leaves out is not among them.
    milliseconds : float64 (q,)
        How long each query took, one at a time.
    """

    scores: NDArray[np.float32]
    rows: NDArray[np.int64]
    milliseconds: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> WordRanks:
        """Those of the queries at ``rows``."""
        return WordRanks(self.scores[rows], self.rows[rows], self.milliseconds[rows])


class Lists(ABC):
    """Inverted lists over the passages of a view.

    Attributes
    ----------
    seconds : float
        What making them took.
    """

    _view: View
    seconds: float

    @abstractmethod
    def _find(self, number: int, text: str, depth: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best passages for one question, which is the ``number``-th: scores and rows ``(1, k)``."""

    def ask(self, questions: Questions, left_out: NDArray[np.int64]) -> WordRanks:
        """Passages for each question; ``left_out`` int64 (q,) are columns of records, -1 for none."""
        view = self._view
        sizes = np.diff(np.append(view.starts, len(view.texts)))
        depth = min(_CHUNKED_DEPTH if view.chunked else DEPTH, len(view.texts))
        scores = np.full((len(questions), depth), -np.inf, dtype=np.float32)
        rows = np.full((len(questions), depth), -1, dtype=np.int64)
        times = np.zeros(len(questions))
        for query, (text, out) in enumerate(zip(questions.texts, left_out.tolist(), strict=True)):
            started = time.perf_counter()
            values, found = self._find(query, text, depth + (int(sizes[out]) if out >= 0 else 0))
            times[query] = (time.perf_counter() - started) * 1e3
            keep = found[0] >= 0
            if out >= 0:
                keep &= (found[0] < view.starts[out]) | (found[0] >= view.starts[out] + sizes[out])
            count = min(int(keep.sum()), depth)
            scores[query, :count], rows[query, :count] = values[0, keep][:count], found[0, keep][:count]
        return WordRanks(scores, rows, times)


class Words(Lists):
    """BM25 over the passages of a view."""

    def __init__(self, view: View) -> None:
        from sememe.encode.bm25 import BM25
        from sememe.index.arrays import Packed
        from sememe.index.inverted import Part
        from sememe.index.postings import Postings, PostingsWriter

        started = time.perf_counter()
        self._view, self._analyzer = view, BM25()
        writer = PostingsWriter(named=True)
        for text in view.texts:
            writer.add_terms(self._analyzer.terms(text))
        info, arrays = writer.arrays()
        self._parts = [Part(Postings(Packed.in_memory(arrays), info, len(view.texts)), 0, None, None)]
        self.seconds = time.perf_counter() - started

    def _find(self, number: int, text: str, depth: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        from sememe.index.inverted import bm25

        return bm25(self._parts, [self._analyzer.terms(text)], depth)


def records_of(rows: NDArray[np.int64], view: View) -> NDArray[np.int64]:
    """Passages best first (q, k) to their records, each once, int64 (q, min(DEPTH, r)); -1 where no more were found."""
    out = np.full((len(rows), min(DEPTH, len(view.starts))), -1, dtype=np.int64)
    owners = np.where(rows >= 0, np.searchsorted(view.starts, rows, side="right") - 1, -1)
    for line, found in zip(out, owners):
        known = found[found >= 0]
        if view.chunked:
            known = known[np.sort(np.unique(known, return_index=True)[1])]
        count = min(len(known), len(line))
        line[:count] = known[:count]
    return out


def fuse(scores: NDArray[np.float32], words: WordRanks, hybrid: Hybrid) -> NDArray[np.int64]:
    """Dense scores of passages (q, n) and what BM25 found, fused: passages best first, -1 where no more were found.

    A score of -inf says that the dense side cannot return a passage.
    """
    top = best_first(scores, hybrid.depth)
    values = np.take_along_axis(scores, top, axis=1)
    dense = (values, np.where(values > -np.inf, top, -1))
    lexical = (words.scores[:, : hybrid.depth], words.rows[:, : hybrid.depth])
    return hybrid.fuse(dense, lexical, 2 * hybrid.depth)[1]


def lexical_benches(benches: Sequence[Bench], makers: Benches) -> list[Bench]:
    """For each chunking a bench of BM25 alone, and for each of the (dense) ``benches`` one of its fusion with BM25."""
    made: list[Bench] = []
    known: dict[str, _Found] = {}
    for bench in benches:
        first = bench.chunker not in known
        found = known[bench.chunker] if not first else known.setdefault(bench.chunker, _look_up(bench, makers))
        both = replace(
            bench,
            fused=FUSION,
            choose=beside(bench.choose, found.choose),
            report=beside(bench.report, found.report),
            agreement=replace(bench.agreement, words=found.agreement),
            words_ms=float(np.median(found.agreement.milliseconds)) if len(bench.agreement) else 0.0,
            encode_seconds=bench.encode_seconds + found.seconds,
        )
        if first:
            made.append(replace(both, encoder=MODEL, fused="", encode_ms=0.0, encode_seconds=found.seconds))
        made.append(both)
    return made


@dataclass
class _Found:
    """What BM25 finds under one chunking for each set of questions, and how long making the postings took."""

    choose: WordRanks | None
    report: WordRanks | None
    agreement: WordRanks
    seconds: float


def _look_up(bench: Bench, makers: Benches) -> _Found:
    judgement = makers.judgement
    real = Words(bench.real)
    judged = real if bench.judged is bench.real else Words(bench.judged)
    choose, report = (
        None if asked is None else judged.ask(judgement.questions.take(rows), asked.left_out)
        for asked, rows in ((bench.choose, judgement.split.choose), (bench.report, judgement.split.report))
    )
    return _Found(choose, report, real.ask(makers.agreement()[0], bench.agreement.left_out), real.seconds)


def beside(asked: Asked | None, words: WordRanks | None) -> Asked | None:
    """The questions, where there are any, with what lists find for them."""
    return None if asked is None else replace(asked, words=words)
