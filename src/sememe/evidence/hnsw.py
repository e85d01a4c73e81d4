"""A graph of neighbours: how much of the exact top 10 a walk finds, and how few rows it scores on its way."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.codec import Int8
from sememe.contracts import Vectors
from sememe.errors import MissingDependency
from sememe.evidence.bigranular import overlap
from sememe.evidence.ivf import NEEDS, K, drawn
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.index.ivf import Ivf, arranged
from sememe.index.scan import scan
from sememe.kernels import native
from sememe.kernels.graph import LinkGraph
from sememe.kernels.symbols import SymbolScan
from sememe.measure.stats import bootstrap_mean

ROWS, QUERIES, WALKED = 40_000, 300, 60
DEGREE, BUILD = 32, 128
WIDE = (32, 64, 128)
FEW = 0.1  # "a small share"


@experiment(
    "hnsw",
    paper=Paper("Efficient and robust approximate nearest neighbor search using HNSW graphs", 2016, "1603.09320"),
    claim="A walk finds at least 95 % of the exact top 10 while it scores a small share of the vectors.",
    needs=NEEDS,
)
def run(setting: Setting) -> Finding:
    """Recall@10, rows scored and time by width of the walk; inverted lists that scan as many rows beside it."""
    if native.core() is None:
        raise MissingDependency(
            "sememe's native core",
            command="pip install --no-binary sememe sememe (with a C++ compiler)",
            need="the experiment of hnsw",
        )
    recall: dict[int, list[NDArray[np.float64]]] = {wide: [] for wide in WIDE}
    lists: dict[int, list[NDArray[np.float64]]] = {wide: [] for wide in WIDE}
    scored: dict[int, list[float]] = {wide: [] for wide in WIDE}
    faster: dict[int, list[float]] = {wide: [] for wide in WIDE}
    agreed: list[float] = []
    for seed, X, Q, _ in drawn(setting, ROWS, QUERIES):
        coder = Int8().fit(X)
        codes = coder.encode(X)
        truth = scan(coder, Q, codes, K)[1]
        table, prepared = codes.view(np.int8), _prepared(coder, Q)
        graph = LinkGraph.build(table, DEGREE, BUILD, seed=seed)
        cells = Ivf(512, seed=seed).fit(X, len(X))
        offsets, order = arranged(cells, [X])
        promise = np.argsort(-cells.promise(Q), axis=1, kind="stable")
        for wide in WIDE:
            found = graph.search(codes, prepared.weights, K, wide, constants=prepared.constants)[1]
            recall[wide].append(overlap(found, truth))
            walks = [walked(graph, table, prepared.weights[row], wide) for row in range(WALKED)]
            scored[wide].append(float(np.mean([count for _, count in walks])) / len(X))
            kept = np.array([rows[:K] for rows, _ in walks])
            agreed.append(float(overlap(kept, found[:WALKED]).mean()))
            lists[wide].append(_by_lists(truth, promise, offsets, order, scored[wide][-1] * len(X)))
            faster[wide].append(_times(coder, codes, Q, graph, wide))
    middle = WIDE[1]
    whole = np.concatenate(recall[middle])
    estimate = bootstrap_mean(whole)
    checks = {
        f"a walk that keeps {middle} rows finds at least 95 % of the exact top 10, with confidence": estimate.low
        >= 0.95,
        f"and scores at most {FEW:.0%} of the rows": float(np.mean(scored[middle])) <= FEW,
        "inverted lists that scan as many rows find less": bool(
            np.mean([v.mean() for v in lists[middle]]) < whole.mean()
        ),
        "walks made in Python, where rows are counted, keep what the compiled ones keep": min(agreed) >= 0.95,
        "a walk is faster than a scan of the same codes": float(np.median(faster[middle])) > 1,
    }
    return Finding(
        measured=float(whole.mean()),
        baseline=float(np.mean([v.mean() for v in lists[middle]])),
        interval=(estimate.low, estimate.high),
        unit=f"recall@10 of a walk that keeps {middle} rows, against inverted lists that scan as many as it scores",
        interval_of="the recall, over queries",
        checks=checks,
        details={
            f"keeps {wide}": {
                "recall@10": float(np.concatenate(recall[wide]).mean()),
                "share_of_rows_scored": float(np.mean(scored[wide])),
                "lists_recall@10": float(np.mean([v.mean() for v in lists[wide]])),
                "times_as_fast_as_a_scan": faster[wide],
            }
            for wide in WIDE
        },
        conditions=f"{ROWS} windows of text drawn for each seed, static vectors of 256 dimensions as int8, {QUERIES} "
        f"queries that people wrote; exact means a scan of the same codes. One level of {DEGREE} links, not several of "
        f"{DEGREE // 2} as in the paper. Rows are counted on {WALKED} queries, walked in Python; CPU time, one thread.",
        reason="" if all(checks.values()) else "not known",
    )


def walked(graph: LinkGraph, table: NDArray[np.int8], weights: NDArray[np.float64], wide: int) -> tuple[list[int], int]:
    """The rows that a walk keeps, best first, and how many it scored: ``kernels.reference.graph_walk`` in floats."""
    seen = np.zeros(len(table), dtype=bool)
    fresh = np.unique(graph.starts.astype(np.int64))
    kept: dict[int, float] = {}
    followed: set[int] = set()
    count = 0
    while True:
        seen[fresh] = True
        count += len(fresh)
        kept |= dict(zip(fresh.tolist(), (table[fresh] @ weights).tolist()))
        kept = dict(sorted(kept.items(), key=lambda item: -item[1])[:wide])
        row = next((row for row in kept if row not in followed), -1)
        if row < 0:
            return list(kept), count
        followed.add(row)
        links = graph.links[row].astype(np.int64)
        end = np.flatnonzero(links == row)
        links = links[: end[0]] if len(end) else links
        fresh = links[~seen[links]]


def _prepared(coder: Int8, Q: Vectors) -> SymbolScan:
    found = coder.native_scan(Q)
    assert isinstance(found, SymbolScan)
    return found


def _by_lists(
    truth: NDArray[np.int64], promise: NDArray[Any], offsets: NDArray[np.int64], order: NDArray[np.uint32], rows: float
) -> NDArray[np.float64]:
    """Recall of the most promising lists that hold at least so many rows together."""
    owner = np.empty(len(order), dtype=np.int64)
    owner[order] = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    sizes = np.diff(offsets)
    found = np.empty(len(truth))
    for query, line in enumerate(promise):
        opened = line[: int(np.searchsorted(np.cumsum(sizes[line]), rows)) + 1]
        found[query] = np.isin(owner[truth[query]], opened).mean()
    return found


def _times(coder: Int8, codes: NDArray[np.uint8], Q: Vectors, graph: LinkGraph, wide: int) -> float:
    """CPU seconds of a scan over those of a walk, one query at a time, in turns; the best of three rounds each."""
    walks, scans = [], []
    with native.limited(1):
        for _ in range(3):
            begun = time.process_time()
            for row in range(WALKED):
                prepared = _prepared(coder, Q[row : row + 1])
                graph.search(codes, prepared.weights, K, wide, constants=prepared.constants)
            middle = time.process_time()
            for row in range(WALKED):
                scan(coder, Q[row : row + 1], codes, K)
            walks.append(middle - begun)
            scans.append(time.process_time() - middle)
    return min(scans) / min(walks)
