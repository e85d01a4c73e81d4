"""Chunk sizes for short facts and for questions about a whole, at equal retrieved text."""

from __future__ import annotations

import numpy as np

from sememe.evidence.articles import stitched, titles
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.measure.chunk_size import CHUNK_PAPER, ChunkSizeSweep, SizeResult, recommend
from sememe.measure.stats import paired_bootstrap

SIZES = (32, 64, 128, 256, 512, 1024)
DEFAULT = 512


@experiment(
    "chunk-size",
    paper=CHUNK_PAPER,
    claim="Chunks of 64 to 128 tokens are best for short fact-based answers, 512 to 1,024 where the answer needs "
    "broad context, and encoders differ in what suits them.",
    needs=("xquad", "scifact"),
)
def run(setting: Setting) -> Finding:
    """XQuAD questions over stitched articles (facts); SciFact titles over stitched abstracts (a whole)."""
    from sememe.encode import make

    encoder, sweep = make("static"), ChunkSizeSweep(SIZES, budget=DEFAULT)
    articles = stitched(setting.data, "en")
    facts = sweep.run(encoder, articles.documents, articles.queries, articles.answers())
    broad = []
    for seed in setting.seeds:
        drawn = titles(setting.data, "scifact", together=10, most=1_000, seed=seed)
        broad.append(sweep.run(encoder, drawn.documents, drawn.queries, drawn.answers()))
    chosen = recommend(facts)
    gain = paired_bootstrap(facts[chosen].coverage, facts[DEFAULT].coverage)
    best = max(facts, key=lambda size: float(facts[size].coverage.mean()))
    short = paired_bootstrap(facts[128].coverage, facts[best].coverage)
    wide = [recommend(found) for found in broad]
    checks = {
        "128 tokens are best for facts, or not significantly worse than the best": best == 128 or short.high >= 0,
        "the best size beats 512 tokens by at least 2 points on facts": gain.low >= 0.02,
        "512 tokens or more are best for questions about a whole, for each seed": min(wide) >= 512,
    }
    return Finding(
        measured=float(facts[chosen].coverage.mean()),
        baseline=float(facts[DEFAULT].coverage.mean()),
        interval=(gain.low, gain.high),
        unit=f"share of the answering paragraph within {DEFAULT} retrieved tokens, facts: chunks of {chosen}, against "
        f"{DEFAULT}",
        interval_of="their difference, over questions",
        checks=checks,
        details={
            "facts": {size: summary([found]) for size, found in facts.items()},
            "whole": {size: summary([found[size] for found in broad]) for size in SIZES},
            "recommended_for_facts": chosen,
            "best_mean_for_facts": best,
            "128_minus_best_for_facts": short.as_json(),
            "recommended_for_whole_by_seed": wide,
            "recommended_for_facts_by_first_hit": recommend(facts, prefer="first"),
            "recommended_for_whole_by_first_hit": [recommend(found, prefer="first") for found in broad],
        },
        conditions="Static encoder; every size may return the same 512 tokens. The data give the answering paragraph, "
        "not the words of the answer, so a fact counts by how much of its paragraph (about 150 tokens) was retrieved.",
        reason=""
        if all(checks.values())
        else "at equal retrieved text a chunk larger than the passage that answers spends its tokens on neighbours, "
        "and the abstracts that answer a title have about 230 tokens; the paper compares at equal k, where large "
        "chunks return more",
    )


def summary(runs: list[SizeResult]) -> dict[str, float]:
    """Means over runs."""
    return {
        "coverage": float(np.mean([run.coverage.mean() for run in runs])),
        "first": float(np.mean([run.first.mean() for run in runs])),
        "chunks": float(np.mean([run.chunks for run in runs])),
    }
