"""How much of the loss that rankings predict comes true? The table behind ``OWN`` and ``SENTENCES`` in the planner.

For each judged collection and code: the measured relative change of nDCG@10 with its standard error, and the expected
change from agreement on the judged queries themselves and on sentences of the text. Run it as

    SEMEME_DATA=... python benchmarks/agreement.py [hybrid]

With ``hybrid`` every recipe and the full precision it is compared with are fused with BM25.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from sememe.planner import planning
from sememe.planner import questions as ask_by
from sememe.planner.bench import Benches, Collections
from sememe.planner.corpus import load
from sememe.planner.lexical import FUSION, Words, lexical_benches
from sememe.planner.loss import expected_change, ndcg, relevance_by_rank
from sememe.planner.trial import code, rank
from sememe.planner.view import ask
from sememe.recipe import Recipe
from sememe.text import read, read_qrels, read_queries

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
SETS = (
    ("scifact", "tokens:128,16"),
    ("scifact", "document"),
    ("cranfield", "document"),
    ("cisi", "document"),
    ("dbpedia-entity-5k", "document"),
    ("xquad/en", "document"),
)
CODES = (
    *("int4", "pq:128", "power:4", "pq:96", "uniform:3", "pca:192 | int8", "pca:192 | int4", "pq:64"),
    *("ternary", "truncate:128 | int8", "binary"),
)


def main(fused: bool) -> None:
    """Print the table and the weighted slopes."""
    rows = []
    tail = f"flat | {FUSION}" if fused else "flat"
    print(f"{'collection':34} {'code':20} {'measured':>16} {'own':>8} {'sentences':>10}")
    for name, chunker in SETS:
        folder = DATA / name
        corpus = load(name, read(str(folder)), keep=set(), limit=10**6, seed=0)
        queries, qrels = read_queries(folder / "queries.jsonl"), read_qrels(folder / "qrels.tsv")
        judgement = planning._judgement(corpus, queries, qrels, 0)
        judgement.split = ask_by.Split(np.arange(len(judgement.questions)), np.zeros(0, dtype=np.int64))
        makers = Benches(Collections(corpus, None), judgement, cache=None, seed=0)
        bench = makers.make(chunker, "static")
        assert bench.choose is not None and bench.choose.gains is not None and bench.choose.ideal is not None
        sentences = ask(bench.real, judgement.agreement, makers.encoder("static"), corpus.records)
        if fused:
            bench = lexical_benches([bench], makers)[1]
            sentences = replace(sentences, words=Words(bench.real).ask(judgement.agreement, sentences.left_out))
            assert bench.choose is not None and bench.choose.gains is not None and bench.choose.ideal is not None
        head = "static" if chunker == "document" else f"{chunker} | static"
        exact = code(Recipe.parse(f"{head} | {tail}"), bench.real, seed=0)
        own, other = rank(exact, bench.real, bench.choose), rank(exact, bench.real, sentences)
        before = ndcg(own, bench.choose.gains, bench.choose.ideal)
        curve = relevance_by_rank(own, bench.choose.gains, bench.choose.ideal)
        for codec in CODES:
            coded = code(Recipe.parse(f"{head} | {codec} | {tail}"), bench.real, seed=0)
            found = rank(coded, bench.real, bench.choose)
            change = (ndcg(found, bench.choose.gains, bench.choose.ideal) - before) / before.mean()
            error = change.std() / np.sqrt(len(change))
            by_own = expected_change(own, found, curve).mean()
            by_sentences = expected_change(other, rank(coded, bench.real, sentences), curve).mean()
            rows.append((change.mean(), error, by_own, by_sentences))
            print(
                f"{name + ' ' + chunker:34} {codec:20} {change.mean():+8.2%} ±{error:6.2%} {by_own:+8.2%}"
                f" {by_sentences:+10.2%}",
                flush=True,
            )
    table = np.array([row for row in rows if row[1] > 0 and abs(row[2]) < 0.08])
    weight = 1 / (table[:, 1] ** 2 + 0.003**2)  # 0.3 %: what separates collections beyond sampling
    for label, column in (("own queries", 2), ("sentences", 3)):
        slope = (weight * table[:, 0] * table[:, column]).sum() / (weight * table[:, column] ** 2).sum()
        print(f"part that comes true, {label}: {slope:.2f}")


if __name__ == "__main__":
    main(sys.argv[1:] == ["hybrid"])
