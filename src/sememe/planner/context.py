"""Points for orientation: lexical search, and lexical beside dense. They are measured, but not chosen.

A user who sees that BM25 alone answers better than a dense recipe, or that the two together do, should know it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sememe.measure.stats import bootstrap_mean
from sememe.planner.choose import Point
from sememe.planner.corpus import Corpus
from sememe.planner.loss import compare, ndcg
from sememe.planner.trial import code
from sememe.planner.view import DEPTH, Asked, best_first, by_record, query_blocks
from sememe.recipe import Recipe

if TYPE_CHECKING:
    from sememe.planner.bench import Benches
    from sememe.planner.sweep import Sweep

_RRF = 60.0  # the constant of reciprocal rank fusion (Cormack et al., 2009)


def lexical_points(sweep: Sweep, makers: Benches, corpus: Corpus) -> list[Point]:
    """BM25 alone, and fused by reciprocal ranks with the reference; empty where nothing is judged."""
    from sememe.encode.bm25 import BM25Scorer

    bench = sweep.reference_bench
    if bench is None or bench.choose is None or bench.exact_choose is None or sweep.reference is None:
        return []
    questions = makers.judgement.questions.take(makers.judgement.split.choose)
    started = time.perf_counter()
    scorer = BM25Scorer(bench.judged.texts)
    seconds = time.perf_counter() - started
    recipe = Recipe.parse(sweep.reference.recipe)
    dense = code(recipe, bench.judged, seed=sweep.seed)
    lexical_rank, fused_rank, spent = [], [], []
    for block in query_blocks(len(questions), len(bench.judged.passages)):
        started = time.perf_counter()
        scores = by_record(scorer.scores(questions.texts[block]), bench.judged)
        spent.append((time.perf_counter() - started) / max(len(scores), 1) * 1e3)
        other = by_record(dense.chain.scores(bench.choose.vectors[block], dense.codes), bench.judged)
        lexical_rank.append(best_first(scores, DEPTH))
        fused_rank.append(best_first(_fuse(scores, other), DEPTH))
    head = "" if str(recipe.chunker) == "document" else f"{recipe.chunker} | "
    milliseconds = float(np.median(spent))
    points = []
    alone, both = f"{head}bm25 | inverted", f"{sweep.reference.recipe} | hybrid:bm25"
    for name, ranked, milli in (
        (alone, np.concatenate(lexical_rank), milliseconds),
        (both, np.concatenate(fused_rank), milliseconds + sweep.reference.latency_ms["p50"]),
    ):
        dim = 0 if name is alone else bench.real.passages.shape[1]
        ledger = makers.sizes.ledger(Recipe.parse(name), dim)
        passages = int(ledger.pop("passages"))
        values = _ndcg(ranked, bench.choose)
        points.append(
            Point(
                recipe=name,
                bytes_per_vector=(ledger["codes"] + ledger["postings"]) / max(passages, 1),
                total_bytes=ledger["total"],
                search_bytes=ledger["search"],
                quality=bootstrap_mean(values, seed=sweep.seed),
                latency_ms={"p50": milli, "p95": milli},
                build_seconds=seconds * sweep.scale,
                ledger=ledger,
                comparison=compare(values - bench.exact_choose, None, sweep.reference.quality.value, seed=sweep.seed),
                verdict="context",
                passages=passages,
            )
        )
    return points


def _fuse(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reciprocal rank fusion of two score matrices (q, r), each to depth 100."""
    fused = np.zeros(a.shape, dtype=np.float32)
    for scores in (a, b):
        top = best_first(scores, DEPTH)
        gain = 1.0 / (_RRF + np.arange(1, top.shape[1] + 1, dtype=np.float32))
        found = np.take_along_axis(scores, top, axis=1) > 0
        np.put_along_axis(fused, top, np.take_along_axis(fused, top, axis=1) + gain * found, axis=1)
    return fused


def _ndcg(ranked: NDArray[np.int64], asked: Asked) -> NDArray[np.float64]:
    assert asked.gains is not None and asked.ideal is not None
    return ndcg(ranked, asked.gains, asked.ideal)
