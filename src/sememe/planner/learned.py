"""Learned sparse encoders as ways of searching the planner's views: their lists are made and searched as an index does.

What the lists of an encoder find does not depend on how vectors are coded, so, as with BM25, it is looked up once for
each chunking and kept with the queries.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.planner.lexical import Lists, WordRanks, beside
from sememe.planner.space import lists_of
from sememe.planner.view import Asked, View
from sememe.recipe import Recipe

if TYPE_CHECKING:
    from sememe.planner.bench import Benches
    from sememe.planner.questions import Questions
    from sememe.planner.sweep import Bench


class Weights(Lists):
    """The weights that an encoder gives the words of the passages of a view, in impact-ordered lists.

    Attributes
    ----------
    postings, terms : int
        Weights above zero, and different terms that have one.
    """

    def __init__(self, view: View, encoder: Any) -> None:
        from sememe.index.arrays import Packed
        from sememe.index.impact import ImpactPostings
        from sememe.index.inverted import Part
        from sememe.index.postings import PostingsWriter

        started = time.perf_counter()
        matrix = encoder.encode_sparse(view.texts)
        writer = PostingsWriter(named=False)
        writer.add_weights(matrix.indptr, matrix.indices, matrix.data)
        info, arrays = writer.arrays("impact")
        self._view, self._encoder, self._queries = view, encoder, None
        self._parts = [Part(ImpactPostings(Packed.in_memory(arrays), info, len(view.texts)), 0, None, None)]
        self.postings, self.terms = len(matrix.data), len(np.unique(matrix.indices))
        self.seconds = time.perf_counter() - started

    def ask(self, questions: Questions, left_out: NDArray[np.int64]) -> WordRanks:
        """As `Lists.ask`; queries are encoded together, outside the time that is told."""
        self._queries = self._encoder.encode_sparse(questions.texts, kind="query") if len(questions) else None
        return super().ask(questions, left_out)

    def _find(self, number: int, text: str, depth: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        from sememe.index.impact import Impact
        from sememe.index.inverted import inner_product

        assert self._queries is not None
        kind, query = Impact(), self._queries[number : number + 1]
        return inner_product(self._parts, query, depth, share=kind.share, slack=kind.slack)


def learned_benches(benches: Sequence[Bench], makers: Benches, encoders: Sequence[str]) -> list[Bench]:
    """For each chunking of the (dense) ``benches`` and each sparse encoder a bench of its lists alone."""
    made = []
    for name in encoders:
        encoder, shown = makers.sparse_encoder(name), str(Recipe.parse(f"{name} | {lists_of(name)}").encoder)
        for chunker in dict.fromkeys(bench.chunker for bench in benches):
            bench = next(each for each in benches if each.chunker == chunker)
            real = Weights(bench.real, encoder)
            judged = real if bench.judged is bench.real else Weights(bench.judged, encoder)
            split, questions = makers.judgement.split, makers.judgement.questions
            choose, report = (
                None if asked is None else beside(asked, judged.ask(questions.take(rows), asked.left_out))
                for asked, rows in ((bench.choose, split.choose), (bench.report, split.report))
            )
            agreement = real.ask(makers.agreement()[0], bench.agreement.left_out)
            makers.sizes.learn(chunker, shown, real.postings / max(1, len(bench.real.texts)), real.terms)
            made.append(
                replace(
                    bench,
                    encoder=shown,
                    fused="",
                    choose=choose,
                    report=report,
                    agreement=_with(bench.agreement, agreement),
                    words_ms=float(np.median(agreement.milliseconds)) if len(bench.agreement) else 0.0,
                    encode_ms=makers.query_ms(name),
                    encode_seconds=real.seconds,
                )
            )
    return made


def _with(asked: Asked, words: WordRanks) -> Asked:
    return replace(asked, words=words)
