"""Compression that learns nothing, and some that learns, against float on growing corpora and two encoders."""

from __future__ import annotations

import re

import numpy as np

from sememe.evidence.data import VECTOR_SETS
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.measure.compression_bench import CORECT_PAPER, BenchRow, CompressionBench

SIZES = (1_500, 3_500, 8_041)
CASTS = ("fp16", "bf16", "fp8", "int8:vector")  # these learn nothing, or one scale, from the corpus
OTHERS = ("int8", "int4", "binary", "truncate:192 | fp32", "pca:192 | fp32", "pca:128 | int8")


@experiment(
    "compression-bench",
    paper=CORECT_PAPER,
    claim="Compression that learns nothing reduces the index substantially at a statistically insignificant loss, at "
    "any corpus size; which method is best depends on the model.",
    needs=("embeddings-minilm", *VECTOR_SETS),
)
def run(setting: Setting) -> Finding:
    """SciFact's queries over three collections pooled, nested sizes, MiniLM and static vectors."""
    from sememe.encode import make

    pooled = [setting.data.retrieval(name) for name in VECTOR_SETS]
    documents = [f"{data.name}/{document}" for data in pooled for document in data.documents]
    queries, qrels = pooled[0].queries, pooled[0].qrels
    judged = {q: {f"{pooled[0].name}/{d}": grade for d, grade in grades.items()} for q, grades in qrels.items()}
    static = make("static")
    texts = [text for data in pooled for text in data.documents.values()]
    vectors = {
        "minilm": (
            np.concatenate([data.vectors()[0] for data in pooled]),
            pooled[0].vectors()[1],
        ),
        "static": (static.encode(texts), static.encode(list(queries.values()), kind="query")),
    }
    rows: dict[str, list[list[BenchRow]]] = {}
    for encoder, (corpus, asked) in vectors.items():
        recipes = [scaled(recipe, corpus.shape[1]) for recipe in (*CASTS, *OTHERS)]
        rows[encoder] = []
        for seed in setting.seeds:
            bench = CompressionBench(recipes, metrics=("ndcg@10", "recall@100"), distractors=4, seed=seed)
            rows[encoder].append(bench.run(corpus, asked, judged, documents, list(queries), SIZES))
    table = {
        f"{encoder} | {row.compressor} | {row.size}": {
            "bits": row.bits,
            "ndcg@10": row.quality["ndcg@10"].value,
            "change": float(np.mean([run[i].change["ndcg@10"].value for run in runs])),
            "p_values": [run[i].p_value["ndcg@10"] for run in runs],
            "relevant in 10": row.relevant,
            "distractors in 10": row.distractors,
        }
        for encoder, runs in rows.items()
        for i, row in enumerate(runs[0])
    }
    casts = [row for runs in rows.values() for run in runs for row in run if row.compressor in CASTS]
    eight_bits = [row for row in casts if row.compressor in ("fp8", "int8:vector")]
    worst = min(eight_bits, key=lambda row: row.change["ndcg@10"].value)
    tested = sorted(row.p_value["ndcg@10"] for row in casts)
    significant = tested[0] <= 0.05 / len(tested)  # Holm's first step: if it rejects nothing, no step does
    binary = [row for runs in rows.values() for run in runs for row in run if row.compressor == "binary"]
    return Finding(
        measured=worst.change["ndcg@10"].value,
        baseline=min(row.change["ndcg@10"].value for row in binary),
        interval=(worst.change["ndcg@10"].low, worst.change["ndcg@10"].high),
        unit="largest change of nDCG@10 from float at 8 bits a dimension over sizes, encoders and seeds, against "
        "binary codes",
        interval_of="that largest change, over queries",
        checks={
            "no cast (fp16, bf16, fp8, int8 by vector) loses significantly at 5 % (Holm), at any size": not significant,
            "no cast changes nDCG@10 by more than one point": all(
                abs(r.change["ndcg@10"].value) <= 0.01 for r in casts
            ),
        },
        details={
            "tests": len(tested),
            "smallest_p_value": tested[0],
            "recipes_whose_significance_depends_on_the_seed": unstable(rows),
            "table": table,
        },
        conditions=f"300 claims of SciFact over up to {len(documents):,} passages (SciFact, Cranfield, CISI), 4 hard "
        f"distractors a "
        "query, the rest random.",
    )


def scaled(recipe: str, d: int) -> str:
    """The recipe with its widths, written for 384 dimensions, in proportion to ``d``."""
    return re.sub(r"\b(pca|truncate):(\d+)", lambda found: f"{found[1]}:{int(found[2]) * d // 384}", recipe)


def unstable(rows: dict[str, list[list[BenchRow]]]) -> list[str]:
    """Recipes at the full size whose p-value is below 5 % in some seeds only (fitting samples rows anew)."""
    return [
        f"{encoder} | {row.compressor}"
        for encoder, runs in rows.items()
        for i, row in enumerate(runs[0])
        if row.size >= SIZES[-1] and len({run[i].p_value["ndcg@10"] <= 0.05 for run in runs}) > 1
    ]
