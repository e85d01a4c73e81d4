"""Flat search with rescoring: the cascade against turbovec and faiss at equal recall, and against memory bandwidth.

Every contender is tuned on one half of the queries (the cheapest setting whose loss there is at most 0.8 of the one
allowed) and measured on the other, in turns, one query at a time and a hundred at once. turbovec and faiss give
candidates by code; their users score them again, which is done here in NumPy, as they would, and once more with our
own compiled rescoring. Run it as

    python benchmarks/flat.py vectors.npy queries.npy --threads 1 --out flat.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

K = 10
BATCH = 100


def main() -> None:
    """Measure and print; the number of threads must be known before any library starts its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vectors", type=Path, help="float32 .npy (n, d), unit rows")
    parser.add_argument("queries", type=Path, help="float32 .npy (q, d), texts that are not among the vectors")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu", action="store_true", help="CPU time rather than elapsed: for a machine that is busy")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "SEMEME_THREADS"):
        os.environ[name] = str(options.threads)
    result = run(options)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All cells as one dictionary."""
    import numpy as np

    from sememe.kernels import native

    X, Q = np.load(options.vectors), np.load(options.queries)
    tune, test = Q[: len(Q) // 2], Q[len(Q) // 2 :]
    truth = {"tune": exact(X, tune), "test": exact(X, test)}
    clock = time.process_time if options.cpu else time.perf_counter
    found: dict[str, Any] = {
        "vectors": list(X.shape), "threads": options.threads, "level": native.level(), "machine": platform.processor(),
        "clock": "cpu" if options.cpu else "elapsed", "cells": [],
    }  # fmt: skip
    contenders = makers(X, options.threads, clock)
    for recall in (0.99, 0.999):
        chosen = {}
        for name, (settings, search, size) in contenders.items():
            for setting in settings:
                if agreement(search(tune, setting), truth["tune"]) >= 1 - 0.8 * (1 - recall):
                    chosen[name] = (setting, search, size)
                    break
        times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in chosen}
        stream: list[float] = []
        for _ in range(options.rounds):
            stream.append(bandwidth(clock))
            for name, (setting, search, _size) in chosen.items():
                begin = clock()
                for i in range(20):
                    search(test[i : i + 1], setting)
                times[name][0].append((clock() - begin) / 20)
                begin = clock()
                search(test[:BATCH], setting)
                times[name][1].append((clock() - begin) / BATCH)
        memory = float(np.median(stream))
        for name, (setting, search, size) in chosen.items():
            one, many = (float(np.median(t)) for t in times[name])
            cell = {
                "recall": recall, "name": name, "setting": setting, "code_bytes": size,
                "measured": agreement(search(test, setting), truth["test"]),
                "one_qps": 1 / one, "batch_qps": 1 / many, "one_GBps": size * len(X) / one / 1e9,
                "bandwidth_GBps": memory, "share": size * len(X) / one / 1e9 / memory,
            }  # fmt: skip
            found["cells"].append(cell)
            print(
                f"{recall:<6} {name:24} {setting!s:16} {size:4} B  recall {cell['measured']:.4f}"
                f"  one {1 / one:6.0f} q/s ({cell['one_GBps']:4.1f} of {memory:4.1f} GB/s)  batch {1 / many:6.0f} q/s",
                flush=True,
            )
    return found


def makers(X: Any, threads: int, clock: Callable[[], float]) -> dict[str, Any]:
    """For each contender its settings, cheapest first, a function of queries and setting, and its bytes a vector."""
    import numpy as np

    from sememe.index.cascade import Cascade
    from sememe.kernels.rescore import rescore

    n, d = X.shape
    out: dict[str, Any] = {}

    def timed(name: str, make: Callable[[], Any]) -> Any:
        begin = clock()
        made = make()
        print(f"build  {name:24} {clock() - begin:.2f} s", flush=True)
        return made

    for bits in (1, 2):
        cascade = timed(f"cascade {bits} bit", lambda bits=bits: Cascade(X, bits=bits))

        def ours(Q: Any, setting: tuple[int, float], cascade: Any = cascade) -> Any:
            return cascade.topk(Q, K, candidates=setting[0], margin=setting[1])[1]

        sizes = (40, 60, 80, 100, 125, 150, 200, 250, 300, 400, 600, 800, 1200, 1600, 2400, 3200)
        grid = [(size, margin) for size in sizes for margin in (3.0, 3.5, 4.0, 4.5, 5.0, np.inf)]
        # Roughly microseconds: a candidate kept, and a row read.
        grid.sort(key=lambda s: 0.05 * s[0] + 0.13 * min(s[0], 64 + 4 * s[1] ** 3))
        out[f"cascade {bits} bit"] = (grid, ours, cascade.blocks.nbytes // n)

    def by_numpy(Q: Any, rows: Any) -> Any:
        best = np.empty((len(Q), K), dtype=np.int64)
        for i, query in enumerate(Q):
            scores = X[rows[i]] @ query
            top = np.argpartition(-scores, K - 1)[:K]
            best[i] = rows[i][top[np.argsort(-scores[top])]]
        return best

    def by_core(Q: Any, rows: Any) -> Any:
        return rescore(X, Q, rows, K)[1]

    depths = (10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 400, 600, 800)
    try:
        import turbovec

        for bits in (2, 4):

            def build(bits: int = bits) -> Any:
                index = turbovec.TurboQuantIndex(d, bits)
                index.add(X)
                index.prepare()
                return index

            index = timed(f"turbovec {bits} bit", build)
            for way, again in (("NumPy", by_numpy), ("ours", by_core)):

                def peer(Q: Any, depth: int, index: Any = index, again: Any = again) -> Any:
                    return again(Q, np.asarray(index.search(Q, depth)[1]).astype(np.int64))

                out[f"turbovec {bits} bit + {way}"] = (depths, peer, d * bits // 8)
    except ImportError:
        print("turbovec is not installed")
    try:
        import faiss

        faiss.omp_set_num_threads(threads)

        def coarse() -> Any:
            index = faiss.index_factory(d, f"PQ{d // 2}x4fs", faiss.METRIC_INNER_PRODUCT)
            index.train(X[:: max(1, n // 20000)])
            index.add(X)
            return index

        quick = timed("faiss PQ x4 fast-scan", coarse)

        def scanned(Q: Any, depth: int) -> Any:
            return by_numpy(Q, quick.search(Q, depth)[1])

        out["faiss PQfs + NumPy"] = (depths, scanned, d // 4)
        flat = timed("faiss flat", lambda: faiss.IndexFlatIP(d))
        flat.add(X)
        out["faiss flat"] = ((K,), lambda Q, depth: flat.search(Q, depth)[1], 4 * d)
    except ImportError:
        print("faiss is not installed")
    return out


def exact(X: Any, Q: Any) -> Any:
    """Rows ``(q, K)`` of the best inner products."""
    import numpy as np

    best = np.full((len(Q), 2 * K), -np.inf, dtype=np.float32)
    rows = np.zeros((len(Q), 2 * K), dtype=np.int64)
    for start in range(0, len(X), 20000):
        scores = Q @ X[start : start + 20000].T
        top = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        best[:, K:], rows[:, K:] = np.take_along_axis(scores, top, axis=1), top + start
        order = np.argsort(-best, axis=1)
        best, rows = np.take_along_axis(best, order, axis=1), np.take_along_axis(rows, order, axis=1)
    return rows[:, :K].copy()


def agreement(found: Any, truth: Any) -> float:
    """Mean share of the true rows that were found."""
    return float(sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist(), strict=True)) / truth.size)


def bandwidth(clock: Callable[[], float]) -> float:
    """GB/s of one thread that reads 256 MiB in order."""
    import numpy as np

    data = _memory.setdefault("data", np.ones(1 << 25, dtype=np.float64))
    begin = clock()
    data.max()
    return data.nbytes / (clock() - begin) / 1e9


_memory: dict[str, Any] = {}

if __name__ == "__main__":
    main()
