"""A vector for each token against one for the text, and how few of them are enough."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sememe.catalog import Paper
from sememe.contracts import Record
from sememe.evidence.data import RetrievalSet
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.tokens import Remembered
from sememe.measure.retrieval import Judged
from sememe.measure.stats import paired_bootstrap

OTHERS = 200  # abstracts of SciFact that answer no claim
FULL, QUARTER = "multivector", "multivector:0.25"
BUDGETS = (
    FULL,
    "multivector:0.5",
    QUARTER,
    "multivector:0.25,pool=sequential",
    "multivector:8",
    "multivector:8,pool=prefix",
)
CODED = "residual:2,cells=256,seed={} | multivector:0.25"


@experiment(
    "multivector",
    paper=Paper(
        "Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact via Token Pooling",
        2024,
        "2409.14683",
    ),
    claim="Late interaction over token vectors can be kept with half of them at virtually no loss, and with a third "
    "to a quarter at less than 5 % on most collections.",
    needs=("scifact", "limit-small", "embeddings-minilm"),
)
def run(setting: Setting) -> Finding:
    """NDCG@10 of a SciFact sample and recall@2 of LIMIT-small: one vector, token vectors, and fewer by pooling."""
    from sememe.encode import make

    minilm = make("minilm")
    collections = {
        "scifact": (sampled(setting.data.retrieval("scifact"), setting.seeds[0]), "ndcg@10"),
        "limit-small": (setting.data.retrieval("limit-small"), "recall@2"),
    }
    found: dict[str, dict[str, np.ndarray]] = {}
    size: dict[str, dict[str, float]] = {}
    for name, (data, metric) in collections.items():
        encoder = Remembered(minilm, list(data.documents.values()), list(data.queries.values()))
        seeded = [CODED.format(seed) for seed in setting.seeds] if name == "scifact" else []
        found[name], size[name] = {}, {}
        for recipe in ("flat", *BUDGETS, *seeded):
            found[name][recipe], size[name][recipe] = measured(data, encoder, f"minilm | {recipe}", metric)

    science, limit = found["scifact"], found["limit-small"]
    gain = paired_bootstrap(science[FULL], science["flat"])
    on_limit = paired_bootstrap(limit[FULL], limit["flat"])
    kept = {name: {recipe: float(v.mean() / values[FULL].mean()) for recipe, v in values.items() if recipe != "flat"}
            for name, values in found.items()}  # fmt: skip
    coded = [kept["scifact"][CODED.format(seed)] / kept["scifact"][QUARTER] for seed in setting.seeds]
    checks = {
        "SciFact: token vectors are better than one vector, with confidence": gain.low > 0,
        "LIMIT-small: token vectors gain at least 20 points of recall@2, with confidence": on_limit.low >= 0.20,
        "SciFact: half of the vectors keep at least 99 % of nDCG@10": kept["scifact"]["multivector:0.5"] >= 0.99,
        "SciFact: a quarter of the vectors keeps at least 97 %": kept["scifact"][QUARTER] >= 0.97,
        "LIMIT-small: a quarter of the vectors keeps at least 97 % of recall@2": kept["limit-small"][QUARTER] >= 0.97,
        "SciFact: 2-bit residual codes of that quarter keep at least 98 % of it": min(coded) >= 0.98,
    }
    return Finding(
        measured=float(science[FULL].mean()),
        baseline=float(science["flat"].mean()),
        interval=(gain.low, gain.high),
        unit="nDCG@10 on a sample of SciFact: MaxSim over MiniLM's token vectors, against its one vector",
        interval_of="token vectors minus one vector, over claims",
        checks=checks,
        details={
            "scifact_ndcg@10": {recipe: float(values.mean()) for recipe, values in science.items()},
            "limit-small_recall@2": {recipe: float(values.mean()) for recipe, values in limit.items()},
            "share_of_all_token_vectors": kept,
            "scifact_quarter_minus_all": paired_bootstrap(science[QUARTER], science[FULL]).as_json(),
            "limit-small_gain": on_limit.as_json(),
            "bytes_a_document": size,
        },
        conditions=f"SciFact: all claims, the abstracts that answer them and {OTHERS} others, so absolute figures are "
        "higher than on all of it, and differences smaller. MiniLM was trained for one mean vector, not for late "
        "interaction. Ward's clustering where no other pooling is named; bytes count codes, lists and maps, not text.",
        reason=""
        if all(checks.values())
        else "with so few abstracts to confuse it with, one vector finds most answers already; what pooling saves is "
        "redundancy, and LIMIT's documents have none: each is a list of some fifty "
        "unrelated things that somebody likes, of which every one is asked for, so forty vectors merge what differs",
    )


def sampled(data: RetrievalSet, seed: int, others: int = OTHERS) -> RetrievalSet:
    """All queries, the documents that answer one, and ``others`` more."""
    wanted = {document for found in data.qrels.values() for document in found}
    rest = [document for document in data.documents if document not in wanted]
    drawn = {rest[row] for row in np.random.default_rng(seed).permutation(len(rest))[:others]}
    documents = {name: text for name, text in data.documents.items() if name in wanted or name in drawn}
    return RetrievalSet(data.name, documents, data.queries, data.qrels, data.titles)


def measured(data: RetrievalSet, encoder: Remembered, recipe: str, metric: str) -> tuple[np.ndarray, float]:
    """The metric of each judged query over an index built for it, and the bytes a document that searches touch."""
    from sememe.index import build

    judged = Judged(data.qrels, list(data.queries), list(data.documents))
    with TemporaryDirectory() as folder:
        records = [Record(name, text) for name, text in data.documents.items()]
        index = build(records, Path(folder) / "index", recipe, encoder=encoder)
        rows = index.search(list(data.queries.values()), k=10).rows
        ledger = index.ledger()
        index.close()
    return judged.evaluate(rows, (metric,))[metric][judged.keep], (ledger.ram - ledger.side) / len(records)
