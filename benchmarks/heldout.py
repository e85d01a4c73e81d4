"""Does a plan keep its promise on queries it has not seen?

For each judged collection: half of the queries (or none) go to the planner, the chosen recipe and the reference are
built, and the other half is asked of both. Printed: bytes, the change of nDCG@10 on the unseen half, and the share of
bootstrap resamples of that half in which the change is within tolerance (2 % with judgements, 4 % without). Run it as

    SEMEME_DATA=... python benchmarks/heldout.py [SEEDS]
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

import sememe
from sememe.encode.cache import VectorCache
from sememe.measure.retrieval import evaluate
from sememe.text import read_qrels, read_queries

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
SETS = ("cranfield", "cisi", "dbpedia-entity-5k", "xquad/en", "scifact")


def unseen(folder: Path, recipe: str, queries: dict[str, str], qrels: dict[str, dict[str, int]]) -> np.ndarray:
    """nDCG@10 of each query, from an index on disk."""
    with tempfile.TemporaryDirectory() as place:
        index = sememe.build(str(folder), Path(place) / "index", recipe, cache=VectorCache())
        hits = index.search(list(queries.values()), 10)
        run = {
            name: dict(zip(ids.tolist(), scores.tolist(), strict=True))
            for name, ids, scores in zip(queries, hits.ids, hits.scores, strict=True)
        }
    values = evaluate(run, {name: qrels[name] for name in queries}, ("ndcg@10",))["ndcg@10"]
    return np.array([values[name] for name in queries])


def main(seeds: int) -> None:
    """Print a line a collection, seed and way of judging."""
    for name in SETS:
        folder = DATA / name
        queries, qrels = read_queries(folder / "queries.jsonl"), read_qrels(folder / "qrels.tsv")
        ids = sorted(q for q in queries if any(gain > 0 for gain in qrels.get(q, {}).values()))
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(ids))
            seen = {ids[i]: queries[ids[i]] for i in order[: len(ids) // 2]}
            other = {ids[i]: queries[ids[i]] for i in order[len(ids) // 2 :]}
            for judged, tolerance in ((True, 0.02), (False, 0.04)):
                labels = {"queries": seen, "qrels": {q: qrels[q] for q in seen}} if judged else {}
                # A list of records, so that the folder's own judgements are not found.
                plan = sememe.plan(list(sememe.read(str(folder))), seed=seed, **labels)
                before, after = (
                    unseen(folder, point["recipe"], other, qrels) for point in (plan.reference, plan.chosen)
                )
                draws = np.random.default_rng(seed).integers(0, len(before), (1000, len(before)))
                change = (after - before)[draws].mean(axis=1) / before[draws].mean(axis=1)
                print(
                    f"{name:18} seed {seed} {'judged' if judged else 'alone':6} {plan.recipe:36}"
                    f" {plan.chosen['bytes_per_vector']:g} of {plan.reference['bytes_per_vector']:g} B"
                    f" {(after - before).mean() / before.mean():+7.2%} on {len(other)} unseen queries,"
                    f" within {tolerance:.0%} in {(change >= -tolerance).mean():.0%} of resamples",
                    flush=True,
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
