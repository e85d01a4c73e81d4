"""Words and vectors together: fusion by reciprocal ranks against each ranking alone, over collections."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.contracts import Vectors
from sememe.encode import make
from sememe.evidence.data import VECTOR_SETS, RetrievalSet
from sememe.evidence.m3_fusion import DEPTH, ranked
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.index.rerank import Hybrid
from sememe.measure.retrieval import Judged
from sememe.measure.stats import bootstrap_mean

COLLECTIONS = (*VECTOR_SETS, "dbpedia-entity-5k", "xquad/en")
METHODS = ("rrf", "zscore")
SAMPLES = 2_000


@experiment(
    "hybrid",
    paper=Paper("Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning Methods", 2009),
    claim="Fused by reciprocal ranks, two rankings are better on average over collections than either of them.",
    needs=("embeddings-minilm", *VECTOR_SETS, "dbpedia-entity-5k", "xquad"),
    random=False,
)
def run(setting: Setting) -> Finding:
    """NDCG@10 of BM25, of dense vectors, and of both fused, on up to five collections and with two encoders."""
    found: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = {}
    for name in COLLECTIONS:
        data = setting.data.retrieval(name)
        judged = Judged(data.qrels, list(data.queries), list(data.documents))
        words = ranked("bm25 | inverted", None, data.documents, data.queries)
        for encoder in ("static", "minilm"):
            if encoder == "minilm" and name not in VECTOR_SETS:
                continue  # no ready vectors, and encoding takes too long here
            dense = _dense(*_vectors(data, encoder))
            rankings = {"bm25": words[1], "dense": dense[1]}
            rankings |= {method: Hybrid(fusion=method, depth=DEPTH).fuse(dense, words, 10)[1] for method in METHODS}
            found[encoder, name] = {
                kind: np.asarray(judged.evaluate(rows[:, :10], ("ndcg@10",))["ndcg@10"][judged.keep])
                for kind, rows in rankings.items()
            }
    gains = {
        (encoder, kind): _over_collections(
            [values["rrf"] - values[kind] for (used, _), values in found.items() if used == encoder], setting.seeds[0]
        )
        for encoder in ("static", "minilm")
        for kind in ("bm25", "dense")
    }
    mean = {
        (encoder, kind): float(np.mean([v[kind].mean() for (used, _), v in found.items() if used == encoder]))
        for encoder in ("static", "minilm")
        for kind in ("bm25", "dense", *METHODS)
    }
    best_alone = max(("bm25", "dense"), key=lambda kind: mean["minilm", kind])
    checks = {
        f"{encoder}: fused is better than {kind} on average over collections, with confidence": gain[0] > 0
        for (encoder, kind), gain in gains.items()
    }
    return Finding(
        measured=mean["minilm", "rrf"],
        baseline=mean["minilm", best_alone],
        interval=gains["minilm", best_alone],
        unit=f"nDCG@10, mean of collections: MiniLM and BM25 fused by reciprocal ranks, against {best_alone} alone",
        interval_of="the mean gain of collections, queries drawn again within each",
        checks=checks,
        details={
            **{
                f"{encoder}, {name}": {kind: float(values.mean()) for kind, values in both.items()}
                for (encoder, name), both in found.items()
            },
            "mean_gain_of_fusion": {f"{e} over {kind}": list(gain) for (e, kind), gain in gains.items()},
            "gain_by_query_minilm": bootstrap_mean(
                np.concatenate([v["rrf"] - v[best_alone] for (e, _), v in found.items() if e == "minilm"])
            ).as_json(),
        },
        conditions=f"static on {len(COLLECTIONS)} collections, MiniLM on the {len(VECTOR_SETS)} that have ready "
        f"vectors; all queries; the best {DEPTH} of each ranking are fused with equal weight, nothing is tuned. The "
        "paper fused the runs of many systems.",
        reason=""
        if all(checks.values())
        else "where one ranking is much the better one, equal weights let the other spoil it; weights chosen on other "
        "queries would not (see m3-fusion)",
    )


def _vectors(data: RetrievalSet, encoder: str) -> tuple[Vectors, Vectors]:
    if encoder == "minilm":
        return data.vectors()
    made = make(encoder)
    return made.encode(list(data.documents.values())), made.encode(list(data.queries.values()), kind="query")


def _dense(rows: Vectors, queries: Vectors) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best ``DEPTH`` rows of each query: scores and rows."""
    scores = queries @ rows.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    return np.take_along_axis(scores, order, axis=1), order.astype(np.int64)


def _over_collections(gains: list[NDArray[np.float64]], seed: int) -> tuple[float, float]:
    """95 % interval of the mean over collections of their mean gains."""
    generator = np.random.default_rng(seed)
    means = np.mean(
        [gain[generator.integers(len(gain), size=(SAMPLES, len(gain)))].mean(axis=1) for gain in gains], axis=0
    )
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))
