"""The first quarter of the dimensions: what retrieval keeps, by how the vectors were trained."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.codec import PCA, Truncate
from sememe.contracts import Vectors, unit_rows
from sememe.encode import make
from sememe.evidence.data import VECTOR_SETS, RetrievalSet
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.rabitq import best
from sememe.measure.geometry import REDUNDANCY_PAPER
from sememe.measure.retrieval import Judged
from sememe.measure.stats import bootstrap_mean, paired_bootstrap

KEPT = (0.75, 0.5, 0.25, 0.125)
QUARTER = 0.25
LOSS = 0.03
ENCODERS = ("static", "minilm")


@experiment(
    "truncate",
    paper=REDUNDANCY_PAPER,
    claim="Keeping the first quarter of the dimensions costs retrieval at most 3 %.",
    needs=("embeddings-minilm", *VECTOR_SETS),
)
def run(setting: Setting) -> Finding:
    """NDCG@10 on three collections with the first, random and principal dimensions, two encoders."""
    found: dict[tuple[str, str, float], list[NDArray[np.float64]]] = {}
    for name in VECTOR_SETS:
        data = setting.data.retrieval(name)
        for encoder in ENCODERS:
            rows, queries = _vectors(data, encoder)
            d = rows.shape[1]
            found.setdefault((encoder, "all", 1.0), []).append(_ndcg(data, rows, queries))
            for part in KEPT:
                width = round(part * d)
                for kind, made in (("first", Truncate(width)), ("pca", PCA(width))):
                    shorter = made.fit(rows)
                    values = _ndcg(data, shorter.transform(rows), shorter.transform(queries))
                    found.setdefault((encoder, kind, part), []).append(values)
                random = []
                for seed in setting.seeds:
                    chosen = np.random.default_rng(seed).choice(d, width, replace=False)
                    random.append(_ndcg(data, rows[:, chosen], queries[:, chosen]))
                found.setdefault((encoder, "random", part), []).append(np.mean(random, axis=0))
    whole = {key: np.concatenate(values) for key, values in found.items()}
    kept = {key: float(values.mean() / whole[key[0], "all", 1.0].mean()) for key, values in whole.items()}
    change = {e: paired_bootstrap(whole[e, "first", QUARTER], whole[e, "all", 1.0]) for e in ENCODERS}
    over = {e: paired_bootstrap(whole[e, "first", QUARTER], whole[e, "random", QUARTER]) for e in ENCODERS}
    limit = {e: -LOSS * float(whole[e, "all", 1.0].mean()) for e in ENCODERS}
    checks = {
        **{f"{e}: the first quarter keeps at least 97 % of nDCG@10": change[e].value >= limit[e] for e in ENCODERS},
        "static, trained so that prefixes stand alone: the first quarter is better than a random one, with confidence":
            over["static"].low > 0,
        "minilm, not trained so: the first quarter is no better than a random one": over["minilm"].low <= 0,
    }  # fmt: skip
    held = bootstrap_mean(whole["static", "first", QUARTER])
    return Finding(
        measured=held.value,
        baseline=float(whole["static", "all", 1.0].mean()),
        interval=(change["static"].low, change["static"].high),
        unit="nDCG@10 with the first quarter of static's 256 dimensions, against all",
        interval_of="the change, over queries",
        checks=checks,
        details={
            encoder: {
                "all": float(whole[encoder, "all", 1.0].mean()),
                "share_kept": {
                    kind: {part: kept[encoder, kind, part] for part in KEPT} for kind in ("first", "random", "pca")
                },
                "first_quarter_minus_random_quarter": over[encoder].as_json(),
                "first_quarter_minus_principal_quarter": paired_bootstrap(
                    whole[encoder, "first", QUARTER], whole[encoder, "pca", QUARTER]
                ).as_json(),
            }
            for encoder in ENCODERS
        },
        conditions="SciFact, Cranfield and CISI, all queries; static has 256 dimensions and was trained so that its "
        "prefixes stand alone (Matryoshka), MiniLM has 384 and was not; random dimensions are drawn for each seed, "
        "principal ones are those of the collection.",
        reason=""
        if all(checks.values())
        else "the paper's models give a thousand dimensions and more, a quarter of which is several times the 64 and "
        "96 that are left here; principal dimensions show that this few can hold much more than the first ones do",
    )


def _vectors(data: RetrievalSet, encoder: str) -> tuple[Vectors, Vectors]:
    if encoder == "minilm":
        return data.vectors()
    made = make(encoder)
    return made.encode(list(data.documents.values())), made.encode(list(data.queries.values()), kind="query")


def _ndcg(data: RetrievalSet, rows: Vectors, queries: Vectors) -> NDArray[np.float64]:
    """NDCG@10 of each judged query by cosine."""
    judged = Judged(data.qrels, list(data.queries), list(data.documents))
    found = best(unit_rows(queries) @ unit_rows(rows).T)
    return np.asarray(judged.evaluate(found, ("ndcg@10",))["ndcg@10"][judged.keep])
