"""Filtered search, one query at a time, each with a filter of its own: against faiss, turbovec and hnswlib.

Filters let 50, 5, 0.5 and 0.05 % of the rows through, at random; and 5 and 0.5 % that lie together, far from the
query. Everybody gets the filter in the form that it takes (a mask, a bitmap, a callback), made outside the time.
Contenders take turns; each figure is the median over rounds. Run it as

    python benchmarks/filter.py vectors.npy queries.npy --rows 100000 --graph --out filter.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

K = 10
FILTERS = (("random", 0.5), ("random", 0.05), ("random", 0.005), ("random", 0.0005), ("far", 0.05), ("far", 0.005))
TARGET = {0.5: 1.0, 0.05: 1.0, 0.005: 2.0, 0.0005: 8.0}  # times the best peer
SLOW = {"hnswlib"}  # asked for a few queries, once: its filter is a Python callback


def main() -> None:
    """Measure and print; the number of threads must be known before any library starts its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vectors", type=Path, help="float32 .npy (n, d), unit rows")
    parser.add_argument("queries", type=Path, help="float32 .npy (q, d), texts that are not among the vectors")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries-used", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--graph", action="store_true", help="also hnswlib and faiss HNSW, which take a minute to build"
    )
    parser.add_argument("--elapsed", action="store_true", help="elapsed rather than CPU time")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "SEMEME_THREADS"):
        os.environ[name] = "1"
    result = run(options)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All cells as one dictionary."""
    import numpy as np

    from sememe.kernels import native

    X = np.array(np.load(options.vectors, mmap_mode="r")[: options.rows], dtype=np.float32)  # a copy: in large pages
    Q = np.ascontiguousarray(np.load(options.queries)[: options.queries_used], dtype=np.float32)
    clock = time.perf_counter if options.elapsed else time.process_time
    contenders = makers(X, options.graph, clock)
    generator = np.random.default_rng(0)
    scores = Q @ X.T
    found: dict[str, Any] = {"vectors": list(X.shape), "level": native.level(), "machine": platform.processor()}
    found |= {"clock": "elapsed" if options.elapsed else "cpu", "cells": []}
    for kind, share in FILTERS:
        masks = [filter_of(X, line, kind, share, generator) for line in scores]
        truth = [best(line, np.flatnonzero(mask)) for line, mask in zip(scores, masks, strict=True)]
        times: dict[str, list[float]] = {name: [] for name in contenders}
        recall: dict[str, float] = {}
        for turn in range(options.rounds):
            for name, (prepare, search) in contenders.items():
                if name in SLOW and turn:
                    continue
                some = range(5 if name in SLOW else len(Q))
                ready = [prepare(masks[i]) for i in some]
                begin = clock()
                answers = [search(Q[i : i + 1], ready[i]) for i in some]
                times[name].append((clock() - begin) / len(some))
                recall[name] = float(
                    np.mean([len(np.intersect1d(a, truth[i])) / len(truth[i]) for i, a in enumerate(answers)])
                )
        seconds = {name: float(np.median(taken)) for name, taken in times.items()}
        # A peer counts where its answers are as good as ours must be.
        peers = {name: s for name, s in seconds.items() if not name.startswith("sememe") and recall[name] >= 0.99}
        strongest = min(peers, key=lambda name: peers[name])
        print(f"\n{kind} {share:.2%}: the best peer at recall 0.99 is {strongest}; wanted {TARGET[share]:g} times it")
        for name, taken in seconds.items():
            ratio = peers[strongest] / taken
            cell = {"filter": kind, "share": share, "name": name, "qps": 1 / taken, "recall": recall[name]}
            found["cells"].append({**cell, "times_best_peer": ratio})
            print(f"  {name:28} {1 / taken:8.0f} q/s  {taken * 1e6:8.1f} us  recall {recall[name]:.4f}  {ratio:5.2f}")
    return found


def makers(X: Any, graph: bool, clock: Callable[[], float]) -> dict[str, tuple[Callable[[Any], Any], Any]]:
    """For each contender what turns a mask into what it takes, and a function of query and that."""
    import numpy as np

    from sememe.index.cascade import Cascade
    from sememe.index.vectors import VectorIndex
    from sememe.kernels.rescore import rescore

    out: dict[str, tuple[Callable[[Any], Any], Any]] = {}
    n, d = X.shape

    def timed(name: str, make: Callable[[], Any]) -> Any:
        begin = clock()
        made = make()
        print(f"build {name:28} {clock() - begin:.2f} s", flush=True)
        return made

    def same(mask: Any) -> Any:
        return mask

    def packed(mask: Any) -> Any:
        return np.packbits(mask, bitorder="little")

    for name, rows in (("float32", X), ("float16", X.astype(np.float16))):
        cascade = timed(f"sememe 2 bits + {name}", lambda rows=rows: Cascade(rows, bits=2))

        def ours(q: Any, allow: Any, cascade: Any = cascade) -> Any:
            return cascade.topk(q, K, candidates=25 * K, margin=5.0, allow=allow)[1][0]

        out[f"sememe {name}, mask"] = (same, ours)
        out[f"sememe {name}, bitmap"] = (cascade.blocks.bitmap, ours)
    folder = tempfile.TemporaryDirectory()
    recipe = "int4 | flat | rescore:fp32"
    index = timed(f"sememe index {recipe}", lambda: VectorIndex.build(Path(folder.name) / "v", X, recipe))
    out["sememe index"] = (same, lambda q, mask: index.search(q, K, allow=mask)[1][0])
    keep.append(folder)

    def again(q: Any, rows: Any) -> Any:
        return rescore(X, q, rows, K)[1][0]

    try:
        import turbovec

        def codes() -> Any:
            made = turbovec.TurboQuantIndex(d, 4)
            made.add(X)
            made.prepare()
            return made

        turbo = timed("turbovec 4 bit", codes)
        out["turbovec mask + rescoring"] = (
            same, lambda q, mask: again(q, np.asarray(turbo.search(q, 5 * K, mask=mask)[1]).astype(np.int64))
        )  # fmt: skip
    except ImportError:
        print("turbovec is not installed")
    try:
        import faiss

        faiss.omp_set_num_threads(1)
        flat = faiss.IndexFlatIP(d)
        flat.add(X)

        def selected(library: Any, **effort: int) -> Any:
            kind = library.SearchParametersHNSW if effort else library.SearchParameters
            return lambda bits: kind(sel=library.IDSelectorBitmap(bits), **effort)

        def by_faiss(index: Any, parameters: Any) -> Any:
            return lambda q, bits: index.search(q, K, params=parameters(bits))[1][0]

        out["faiss flat + bitmap"] = (packed, by_faiss(flat, selected(faiss)))
        if graph:
            links = faiss.IndexHNSWFlat(d, 32, faiss.METRIC_INNER_PRODUCT)
            links.hnsw.efConstruction = 100
            timed("faiss HNSW32", lambda: links.add(X))
            for effort in (64, 256):
                out[f"faiss HNSW ef {effort} + bitmap"] = (packed, by_faiss(links, selected(faiss, efSearch=effort)))
    except ImportError:
        print("faiss is not installed")
    if graph:
        try:
            import hnswlib

            walk = hnswlib.Index("ip", d)
            walk.init_index(n, M=16, ef_construction=100)
            walk.set_num_threads(1)
            timed("hnswlib", lambda: walk.add_items(X))
            walk.set_ef(64)

            def called(q: Any, mask: Any) -> Any:
                count = min(K, int(mask.sum()))
                return walk.knn_query(q, count, filter=lambda row: bool(mask[row]))[0][0].astype(np.int64)

            out["hnswlib"] = (same, called)
        except ImportError:
            print("hnswlib is not installed")
    return out


def filter_of(X: Any, scores: Any, kind: str, share: float, generator: Any) -> Any:
    """A mask: rows at random, or the nearest rows of one that is among the tenth farthest from the query."""
    import numpy as np

    n = len(X)
    if kind == "random":
        return generator.random(n) < share
    size = round(share * n)
    centre = generator.choice(np.argpartition(scores, n // 10)[: n // 10])
    mask = np.zeros(n, dtype=bool)
    mask[np.argpartition(-(X @ X[centre]), size)[:size]] = True
    return mask


def best(scores: Any, rows: Any) -> Any:
    """The ``K`` best of ``rows``."""
    import numpy as np

    return rows[np.argsort(-scores[rows], kind="stable")[:K]]


keep: list[Any] = []

if __name__ == "__main__":
    main()
