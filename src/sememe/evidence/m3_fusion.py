"""Dense, lexical and multi-vector rankings of one collection together, against each alone."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.contracts import Record
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.tokens import Remembered
from sememe.index import fusion
from sememe.measure.retrieval import Judged
from sememe.measure.stats import paired_bootstrap

RECIPES = {
    "dense": "minilm | flat",
    "bm25": "bm25 | inverted",
    "multi-vector": "minilm | residual:2,cells=256 | multivector",
}
FLOORS = (-1.0, 0.0, -1.0)
DEPTH = 100
SHARES = (0.0, 0.15, 0.3, 0.5, 0.7, 1.0)  # of the second and third list; the first has 1


@experiment(
    "m3-fusion",
    paper=Paper(
        "BGE M3-Embedding: Multi-Lingual, Multi-Functionality, Multi-Granularity Text Embeddings Through "
        "Self-Knowledge Distillation",
        2024,
        "2402.03216",
    ),
    claim="Dense, sparse and multi-vector scores of the same texts, added with weights, retrieve better than any of "
    "them alone.",
    needs=("cranfield",),
)
def run(setting: Setting) -> Finding:
    """NDCG@10 on Cranfield: method and weights chosen on a random half of the queries, measured on the other half."""
    from sememe.encode import make

    data = setting.data.retrieval("cranfield")
    encoder = Remembered(make("minilm"), list(data.documents.values()), list(data.queries.values()))
    judged = Judged(data.qrels, list(data.queries), list(data.documents))
    lists = {name: ranked(recipe, encoder, data.documents, data.queries) for name, recipe in RECIPES.items()}
    alone = {name: ndcg(judged, rows) for name, (_, rows) in lists.items()}
    settings = [
        (method, (1.0, *shares)) for method in fusion.METHODS for shares in product(SHARES, SHARES) if any(shares)
    ]
    scored = np.stack([together(judged, lists, method, weights) for method, weights in settings])
    pairs = np.array([weights[1] == 0 or weights[2] == 0 for _, weights in settings])

    reported: dict[str, list[np.ndarray]] = {name: [] for name in (*alone, "all three", "best pair")}
    chosen = []
    for seed in setting.seeds:
        order = np.random.default_rng(seed).permutation(scored.shape[1])
        learn, test = order[: len(order) // 2], order[len(order) // 2 :]
        means = scored[:, learn].mean(axis=1)
        best, pair = int(means.argmax()), int(np.where(pairs, means, -1).argmax())
        chosen.append({"method": settings[best][0], "weights": settings[best][1]})
        for name, values in {**alone, "all three": scored[best], "best pair": scored[pair]}.items():
            reported[name].append(values[test])
    held_out = {name: np.concatenate(values) for name, values in reported.items()}
    gain = paired_bootstrap(held_out["all three"], held_out["dense"])
    best_alone = max(alone, key=lambda name: float(held_out[name].mean()))
    over_best = paired_bootstrap(held_out["all three"], held_out[best_alone])
    equal = {method: float(scored[settings.index((method, (1.0, 1.0, 1.0)))].mean()) for method in fusion.METHODS}
    checks = {
        "all three together are at least 3 points above dense alone": gain.value >= 0.03 and gain.low > 0,
        "all three together are better than the best alone, with confidence": over_best.low > 0,
        "with equal weights every method is better than dense alone": min(equal.values())
        > float(alone["dense"].mean()),
    }
    return Finding(
        measured=float(held_out["all three"].mean()),
        baseline=float(held_out["dense"].mean()),
        interval=(gain.low, gain.high),
        unit="nDCG@10 on Cranfield: dense, bm25 and token vectors together, against dense alone",
        interval_of="together minus dense, over queries that chose nothing",
        checks=checks,
        details={
            "held_out": {name: float(values.mean()) for name, values in held_out.items()},
            "gain_over_best_alone": {"alone": best_alone, **over_best.as_json()},
            "multi-vector_minus_dense_all_queries": paired_bootstrap(alone["multi-vector"], alone["dense"]).as_json(),
            "gain_over_best_pair": paired_bootstrap(held_out["all three"], held_out["best pair"]).as_json(),
            "chosen_by_seed": chosen,
            "all_queries_alone": {name: float(values.mean()) for name, values in alone.items()},
            "all_queries_equal_weights_by_method": equal,
        },
        conditions="Cranfield, all queries and documents; MiniLM's mean and its own token vectors in 2 bits, not heads "
        f"trained for the task as in the paper; three indexes, joined by row from their best {DEPTH}.",
        reason="" if all(checks.values()) else "the three rankings share what MiniLM gets wrong here",
    )


def ranked(recipe: str, encoder: Any, documents: dict[str, str], queries: dict[str, str]) -> fusion.Ranked:
    """The best rows of an index of the documents, scores and rows ``(q, DEPTH)``; rows are document numbers."""
    from sememe.index import build

    records = [Record(name, text) for name, text in documents.items()]
    own = {} if recipe.startswith("bm25") else {"encoder": encoder}
    with TemporaryDirectory() as folder:
        index = build(records, Path(folder) / "index", recipe, **own)
        hits = index.search(list(queries.values()), k=DEPTH)
        index.close()
    return hits.scores, hits.rows


def together(judged: Judged, lists: dict[str, fusion.Ranked], method: str, weights: tuple[float, ...]) -> np.ndarray:
    """NDCG@10 of each query where the lists are fused."""
    return ndcg(judged, fusion.fuse(method, list(lists.values()), 10, weights, FLOORS)[1])


def ndcg(judged: Judged, rows: np.ndarray) -> np.ndarray:
    """NDCG@10 of each judged query for ranked rows ``(q, k)``."""
    return np.asarray(judged.evaluate(rows[:, :10], ("ndcg@10",))["ndcg@10"][judged.keep])
