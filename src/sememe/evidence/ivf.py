"""Inverted lists: how few of the rows hold the exact top 10, against as many rows chosen without learning."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.contracts import Vectors
from sememe.encode import make
from sememe.evidence.bigranular import COLLECTIONS, TABLES, overlap, windows
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.index.ivf import Ivf, arranged
from sememe.index.vectors import VectorIndex
from sememe.measure.stats import bootstrap_mean, paired_bootstrap

ROWS, QUERIES, K, LISTS = 100_000, 300, 10, 1024
PROBES = (8, 16, 24, 32, 40, 48)
FEW = 0.05  # "a few percent"
NEEDS = (*COLLECTIONS, *sorted({folder for folder, _ in TABLES}))


@experiment(
    "ivf",
    paper=Paper("Product Quantization for Nearest Neighbor Search", 2011),
    claim="Scanning a few percent of the rows, those in the lists nearest to the query, finds nearly all of the exact "
    "nearest neighbours.",
    needs=NEEDS,
)
def run(setting: Setting) -> Finding:
    """Recall@10 and share of rows scanned by probes, learned centres against random rows as centres."""
    found: dict[int, list[NDArray[np.float64]]] = {probes: [] for probes in PROBES}
    plain: dict[int, list[NDArray[np.float64]]] = {probes: [] for probes in PROBES}
    share: dict[tuple[str, int], list[float]] = {}
    for seed, X, Q, truth in drawn(setting):
        owner = _owners(X, seed)
        with tempfile.TemporaryDirectory() as folder:
            index = VectorIndex.build(Path(folder) / "i", X, f"fp32 | ivf:{LISTS},seed={seed}")
            for probes in PROBES:
                found[probes].append(overlap(index.search(Q, K, probes=probes)[1], truth))
        learned = Ivf(LISTS, seed=seed).fit(X, len(X))
        drawn_rows = X[np.random.default_rng(seed).choice(len(X), LISTS, replace=False)]
        for name, cells, order in (
            ("learned", learned.promise(Q), np.diff(arranged(learned, [X])[0])),
            ("random", Q @ drawn_rows.T, np.bincount(owner, minlength=LISTS)),
        ):
            for probes in PROBES:
                opened = np.argsort(-cells, axis=1, kind="stable")[:, :probes]
                share.setdefault((name, probes), []).append(float(order[opened].sum(axis=1).mean() / len(X)))
                if name == "random":
                    inside = (owner[truth][:, :, None] == opened[:, None, :]).any(axis=2)
                    plain[probes].append(inside.mean(axis=1))
    scanned = {key: float(np.mean(values)) for key, values in share.items()}
    widest = max(probes for probes in PROBES if probes == PROBES[0] or scanned["learned", probes] <= FEW)
    whole = {probes: np.concatenate(values) for probes, values in found.items()}
    estimate = bootstrap_mean(whole[widest])
    gain = paired_bootstrap(whole[widest], np.concatenate(plain[widest]))
    checks = {
        f"at most {FEW:.0%} of the rows are scanned with {widest} of {LISTS} lists": scanned["learned", widest] <= FEW,
        "they hold at least 95 % of the exact top 10, with confidence": estimate.low >= 0.95,
        "they hold more of it than as many lists around rows drawn at random, with confidence": gain.low > 0,
    }
    return Finding(
        measured=float(whole[widest].mean()),
        baseline=float(np.concatenate(plain[widest]).mean()),
        interval=(estimate.low, estimate.high),
        unit=f"recall@10 of exact search with {widest} of {LISTS} lists, against lists around rows drawn at random",
        interval_of="the recall, over queries",
        checks=checks,
        details={
            f"{probes} lists": {
                "recall@10": float(whole[probes].mean()),
                "share_of_rows": scanned["learned", probes],
                "random_centres_recall@10": float(np.concatenate(plain[probes]).mean()),
                "random_centres_share_of_rows": scanned["random", probes],
            }
            for probes in PROBES
        },
        conditions=f"{ROWS} overlapping windows of text drawn for each seed, static vectors of 256 dimensions as "
        f"floats, {QUERIES} queries that people wrote; centres are learned from the rows alone. Of the numbers of "
        f"lists tried, the largest whose rows are at most {FEW:.0%} of all.",
        reason=""
        if all(checks.values())
        else "queries are short questions and rows are windows of running text: a query's neighbours lie in more lists "
        "than those of a row would; faiss' lists over 20,000 such rows held no more at that share",
    )


def drawn(
    setting: Setting, rows: int = ROWS, queries: int = QUERIES
) -> Iterator[tuple[int, Vectors, Vectors, NDArray[np.intp]]]:
    """For each seed: the seed, static vectors of windows of text and of queries, and the exact top 10."""
    passages = windows(setting.data)
    asked = [text for name in COLLECTIONS for text in setting.data.retrieval(name).queries.values()]
    encoder = make("static")
    for seed in setting.seeds:
        generator = np.random.default_rng(seed)
        X = encoder.encode([passages[i] for i in generator.choice(len(passages), rows, replace=False)])
        Q = encoder.encode([asked[i] for i in generator.choice(len(asked), queries, replace=False)])
        yield seed, X, Q, np.argsort(-(Q @ X.T), axis=1, kind="stable")[:, :K]


def _owners(X: Vectors, seed: int) -> NDArray[Any]:
    """The nearest of as many rows drawn at random as there are lists, for each row."""
    centres = X[np.random.default_rng(seed).choice(len(X), LISTS, replace=False)]
    return np.concatenate([(block @ centres.T).argmax(axis=1) for block in np.array_split(X, 50)])
