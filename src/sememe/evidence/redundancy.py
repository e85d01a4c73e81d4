"""How many dimensions a task needs, and the geometry of its vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sememe.contracts import Encoder, Vectors, unit_rows
from sememe.evidence.data import DataFolder, RetrievalSet
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.whiten import cosine, ranks
from sememe.measure.compression_bench import top_rows
from sememe.measure.geometry import REDUNDANCY_PAPER, Reduce, RedundancyReport, geometry
from sememe.measure.retrieval import Judged

FRACTIONS = (0.5, 0.25, 0.1, 0.02)
TRAINED_ON = 1_000  # questions of the classifier
PENALTY = 1.0  # ridge
Task = tuple[Vectors, Callable[[Reduce], np.ndarray]]


@experiment(
    "redundancy",
    paper=REDUNDANCY_PAPER,
    claim="Keeping only the first 25 % of dimensions costs very little on all tasks; classification survives far "
    "fewer, and its vectors have a lower intrinsic dimension and are less isotropic than those for retrieval and "
    "similarity.",
    needs=("embeddings-minilm", "scifact", "stsb", "trec-questions"),
)
def run(setting: Setting) -> Finding:
    """Classification, similarity and retrieval with the first, random and principal dimensions, two encoders."""
    from sememe.encode import make

    scifact = setting.data.retrieval("scifact")
    details: dict[str, dict[str, object]] = {}
    kept: dict[str, dict[str, float]] = {}
    shapes: dict[str, dict[str, dict[str, float]]] = {}
    for name in ("minilm", "static"):
        encoder = make(name)
        tasks = {
            "classification": classification(setting.data, encoder),
            "similarity": similarity(setting.data, encoder),
            "retrieval": retrieval(scifact, encoder if name == "static" else None),
        }
        details[name], kept[name], shapes[name] = {}, {}, {}
        for task, (vectors, score) in tasks.items():
            found = RedundancyReport(FRACTIONS, seeds=len(setting.seeds)).measure(vectors, score)
            details[name][task] = {
                kind: {fraction: value.as_json() for fraction, value in by_fraction.items()}
                for kind, by_fraction in found.items()
            }
            kept[name][task] = found["first"][0.25].value / found["full"][1.0].value
            shape = geometry(vectors[:5_000])
            shapes[name][task] = {"twonn": shape.twonn, "mle": shape.mle, "isoscore": shape.isoscore}
    worst = min(kept["minilm"], key=kept["minilm"].__getitem__)
    full, quarter = details["minilm"][worst]["full"][1.0], details["minilm"][worst]["first"][0.25]  # type: ignore[index]
    small = details["minilm"]["classification"]["pca"][0.02]["value"]  # type: ignore[index]
    whole = details["minilm"]["classification"]["full"][1.0]["value"]  # type: ignore[index]
    form = shapes["minilm"]
    checks = {
        "MiniLM: the first 25 % keep at least 97 % of every task's score": min(kept["minilm"].values()) >= 0.97,
        "MiniLM: classification loses the smallest share": max(kept["minilm"], key=kept["minilm"].__getitem__)
        == "classification",
        "MiniLM: 2 % of the dimensions, by PCA, keep 80 % of classification": small >= 0.8 * whole,
        "MiniLM: classification's vectors have a lower intrinsic dimension (TwoNN) than retrieval's": form[
            "classification"
        ]["twonn"]
        < form["retrieval"]["twonn"],
        "MiniLM: classification's vectors are less isotropic than retrieval's": form["classification"]["isoscore"]
        < form["retrieval"]["isoscore"],
    }
    return Finding(
        measured=quarter["value"],
        baseline=full["value"],
        interval=(quarter["low"], quarter["high"]),
        unit=f"score of the task that suffers most ({worst}) with the first 25 % of MiniLM's dimensions, against all",
        interval_of="the score with 25 %, over items",
        checks=checks,
        details={"scores": details, "share_kept_by_first_quarter": kept, "geometry": shapes},
        conditions="TREC questions (6 classes, ridge regression, accuracy), STS benchmark test (agreement of ranks), "
        "SciFact (nDCG@10); full vectors are 384 (MiniLM) and 256 (static) wide.",
        reason=""
        if all(checks.values())
        else "the paper's models give thousands of dimensions and take a prompt for each task; a quarter of 384 is "
        "96, fewer than its smallest settings for retrieval, and one unprompted model serves all tasks here",
    )


def classification(data: DataFolder, encoder: Encoder) -> Task:
    """Right or wrong for each test question of TREC's coarse classes, by a linear classifier (ridge regression)."""
    train, test = (data.table("trec-questions", f"{part}.tsv.gz") for part in ("train", "test"))
    train = train[:: max(1, len(train) // TRAINED_ON)]
    labels = [np.array([row[0].partition(":")[0] for row in rows]) for rows in (train, test)]
    known, asked = (encoder.encode([row[1] for row in rows]) for rows in (train, test))
    classes = np.unique(labels[0])
    targets = (labels[0][:, None] == classes) - 0.5

    def score(reduce: Reduce) -> np.ndarray:
        a, b = (with_constant(unit_rows(reduce(rows))) for rows in (known, asked))
        weights = np.linalg.solve(a.T @ a + PENALTY * np.eye(a.shape[1]), a.T @ targets)
        return np.asarray(classes[np.argmax(b @ weights, axis=1)] == labels[1], dtype=np.float64)

    return known, score


def with_constant(rows: Vectors) -> np.ndarray:
    """``rows`` with a column of ones, float64."""
    return np.concatenate([rows.astype(np.float64), np.ones((len(rows), 1))], axis=1)


def similarity(data: DataFolder, encoder: Encoder) -> Task:
    """Rank agreement on STS benchmark test, one value a pair.

    The values are products of standardised ranks, so that their mean is Spearman's coefficient.
    """
    rows = data.table("stsb", "stsb-test.tsv.gz")
    gold = np.array([float(row[0]) for row in rows])
    vectors = encoder.encode([text for row in rows for text in row[1:3]])
    pairs = np.arange(len(vectors)).reshape(-1, 2)

    def score(reduce: Reduce) -> np.ndarray:
        a, b = ranks(cosine(reduce(vectors), pairs)), ranks(gold)
        return np.asarray((a - a.mean()) / a.std() * (b - b.mean()) / b.std())

    return vectors, score


def retrieval(data: RetrievalSet, encoder: Encoder | None) -> Task:
    """nDCG@10 of each query, with the ready vectors or those of an encoder."""
    if encoder is None:
        rows, asked = data.vectors()
    else:
        rows = encoder.encode(list(data.documents.values()))
        asked = encoder.encode(list(data.queries.values()), kind="query")
    judged = Judged(data.qrels, list(data.queries), list(data.documents))

    def score(reduce: Reduce) -> np.ndarray:
        scores = unit_rows(reduce(asked)) @ unit_rows(reduce(rows)).T
        return judged.evaluate(top_rows(scores, 10), ("ndcg@10",))["ndcg@10"][judged.keep]

    return rows, score
