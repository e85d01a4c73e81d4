"""A shortlist scored again by a finer code: does it rank as the finer code alone would?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.contracts import Vectors
from sememe.evidence.data import VECTOR_SETS
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.rabitq import best, overlap
from sememe.index.vectors import VectorIndex
from sememe.measure.retrieval import Judged
from sememe.measure.stats import paired_bootstrap

PAIRS = (
    ("binary", "int8"),
    ("rabitq:1,seed={seed}", "int8"),
    ("ternary", "int8"),
    ("int4", "fp16"),
    ("pq:24,seed={seed}", "int8"),
)
OVERSAMPLE = (2, 4, 8, 16)
USUAL = 4  # what ``rescore`` does unless told otherwise
NEAR = 0.01


@experiment(
    "rescore",
    paper=Paper("Searching in one billion vectors: re-rank with source coding", 2011, "1102.3828"),
    claim="A shortlist from coarse codes, scored again by finer ones, is nearly as good as the finer codes alone at a "
    "small part of what they would cost to scan.",
    needs=("embeddings-minilm", *VECTOR_SETS),
)
def run(setting: Setting) -> Finding:
    """NDCG@10 and recall@10 of five coarse codes, alone and with shortlists of growing length, three collections."""
    gained: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
    recall: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
    finer: dict[str, list[NDArray[np.float64]]] = {}
    for name in VECTOR_SETS:
        data = setting.data.retrieval(name)
        rows, queries = data.vectors()
        judged = Judged(data.qrels, list(data.queries), list(data.documents))
        truth = best(queries.astype(np.float64) @ rows.T.astype(np.float64))
        with tempfile.TemporaryDirectory() as folder:
            for fine in sorted({pair[1] for pair in PAIRS}):
                index = VectorIndex.build(Path(folder) / fine, rows, f"{fine} | flat")
                finer.setdefault(fine, []).append(_ndcg(judged, index.search(queries, 10)[1]))
            for coarse, fine in PAIRS:
                drawn = [coarse.format(seed=seed) for seed in setting.seeds if "{" in coarse] or [coarse]
                for factor in (1, *OVERSAMPLE):
                    found = [_found(Path(folder), code, fine, factor, rows, queries) for code in drawn]
                    gained.setdefault((coarse, factor), []).append(
                        np.mean([_ndcg(judged, rows) for rows in found], axis=0)
                    )
                    recall.setdefault((coarse, factor), []).append(
                        np.mean([overlap(rows, truth) for rows in found], axis=0)
                    )
    quality = {key: np.concatenate(values) for key, values in gained.items()}
    hits = {key: np.concatenate(values) for key, values in recall.items()}
    whole = {name: np.concatenate(values) for name, values in finer.items()}
    change = {coarse: paired_bootstrap(quality[coarse, USUAL], whole[fine]) for coarse, fine in PAIRS}
    headline, against = PAIRS[0]
    checks = {
        f"{_name(coarse)}, {10 * USUAL} rows scored again by {fine}: nDCG@10 within a point of {fine} alone, with "
        "confidence": change[coarse].low >= -NEAR
        for coarse, fine in PAIRS
    }
    return Finding(
        measured=float(quality[headline, USUAL].mean()),
        baseline=float(quality[headline, 1].mean()),
        interval=(change[headline].low, change[headline].high),
        unit=f"nDCG@10 of {headline} codes with {USUAL * 10} rows scored again by {against}, against the codes alone",
        interval_of=f"what is lost to a scan of {against}, over queries",
        checks=checks,
        details={
            f"{_name(coarse)}, then {fine}": {
                "ndcg@10_of_the_finer_code_alone": float(whole[fine].mean()),
                "change": change[coarse].as_json(),
                "ndcg@10_by_shortlist": {10 * f: float(quality[coarse, f].mean()) for f in (1, *OVERSAMPLE)},
                "recall@10_by_shortlist": {10 * f: float(hits[coarse, f].mean()) for f in (1, *OVERSAMPLE)},
            }
            for coarse, fine in PAIRS
        },
        conditions="MiniLM vectors of three collections, all queries and judgements; the finer code is that of the "
        "vector, not of what the coarse one leaves as in the paper. Rotations and codebooks are drawn for each seed; "
        "the other codes draw nothing.",
        reason=""
        if all(checks.values())
        else "forty rows are few for the shortest codes: where they fail, the longer shortlists in the details do not",
    )


def _found(folder: Path, coarse: str, fine: str, factor: int, rows: Vectors, queries: Vectors) -> NDArray[np.int64]:
    """The ten best rows with a shortlist ``factor`` times as long; 1 is the coarse code alone."""
    recipe = f"{coarse} | flat" if factor == 1 else f"{coarse} | flat | rescore:{fine}"
    path = folder / f"{abs(hash(recipe))}"
    index = VectorIndex.open(path) if path.exists() else VectorIndex.build(path, rows, recipe)
    return index.search(queries, 10, oversample=factor)[1]


def _name(coarse: str) -> str:
    return coarse.partition(",")[0]


def _ndcg(judged: Judged, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(judged.evaluate(rows, ("ndcg@10",))["ndcg@10"][judged.keep])
