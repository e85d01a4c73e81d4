"""Encode rate and scan time of every quantizer beside the best peer and the memory limit, in one run.

    OMP_NUM_THREADS=1 python benchmarks/codec.py [--rows 100000] [--dim 256] [--rounds 5]

Each figure is a median over interleaved rounds. The limit of a scan is the time a plain sum over as many bytes takes:
nothing that reads every code once can be faster. Peers: faiss scalar and product quantizers (which keep the ten best,
where ours write every score), NumPy on float32. Values do not matter to speed, so the vectors are drawn; what each
code costs in quality is in the tests and in ``sememe plan``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from sememe.codec import PCA, ProductQuantizer
from sememe.recipe import Recipe
from sememe.testing import clustered_vectors

STAGES = [
    "fp32", "fp16", "bf16", "fp8", "int8", "int8:vector", "int4", "int4:vector", "uniform:4", "uniform:3", "power:4",
    "power:3", "ternary", "binary", "pq:32", "pq:64,bits=4",
]  # fmt: skip
Timed = dict[str, list[float]]


def clock(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def interleaved(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each action, over rounds that run all of them in turn."""
    times: Timed = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            seconds = clock(action)
            if number:  # the first round warms up
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def faiss_peers(X: np.ndarray) -> dict[str, tuple[object, int]]:
    """Trained and filled faiss indexes by name, with bytes a vector."""
    import faiss

    d = X.shape[1]
    kinds = faiss.ScalarQuantizer
    made = {
        "faiss flat": faiss.IndexFlatIP(d),
        "faiss SQ fp16": faiss.IndexScalarQuantizer(d, kinds.QT_fp16, faiss.METRIC_INNER_PRODUCT),
        "faiss SQ8": faiss.IndexScalarQuantizer(d, kinds.QT_8bit, faiss.METRIC_INNER_PRODUCT),
        "faiss SQ4": faiss.IndexScalarQuantizer(d, kinds.QT_4bit, faiss.METRIC_INNER_PRODUCT),
        "faiss PQ32": faiss.IndexPQ(d, 32, 8, faiss.METRIC_INNER_PRODUCT),
    }
    out = {}
    for name, index in made.items():
        index.train(X[:10_000])
        out[name] = (index, index.sa_code_size())
    return out


def scratch(action: Callable[[], object], result_bytes: int) -> float:
    """MiB allocated at the peak beyond the result."""
    tracemalloc.start()
    action()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (peak - result_bytes) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    X, Q = clustered_vectors(given.rows, given.dim), clustered_vectors(100, given.dim, seed=1)

    encode: dict[str, Callable[[], object]] = {}
    single: dict[str, Callable[[], object]] = {}
    batch: dict[str, Callable[[], object]] = {}
    size: dict[str, int] = {}
    spare: dict[str, float] = {}
    for stage in STAGES:
        quantizer = Recipe.parse(f"static | {stage} | flat").quantizer.make().fit(X[:10_000])
        codes = quantizer.encode(X)
        size[stage] = quantizer.code_bytes_
        encode[stage] = lambda q=quantizer: q.encode(X[:20_000])
        single[stage] = lambda q=quantizer, c=codes: q.scores(Q[:1], c)
        batch[stage] = lambda q=quantizer, c=codes: q.scores(Q, c)
        spare[stage] = scratch(batch[stage], 4 * 100 * given.rows)
    try:
        peers = faiss_peers(X)
    except ImportError:
        peers = {}
        sys.stderr.write("faiss is not installed; peers are left out\n")
    for name, (index, bytes_) in peers.items():
        index.add(X)
        size[name] = bytes_
        encode[name] = lambda i=index: i.sa_encode(X[:20_000])
        single[name] = lambda i=index: i.search(Q[:1], 10)
        batch[name] = lambda i=index: i.search(Q, 10)
    size["numpy matmul"] = 4 * given.dim
    single["numpy matmul"] = lambda: Q[:1] @ X.T
    batch["numpy matmul"] = lambda: Q @ X.T

    once, many, rate = (interleaved(group, given.rounds) for group in (single, batch, encode))
    words = np.ones(given.rows * given.dim // 2, dtype=np.int64)  # as many bytes as the float32 vectors
    bandwidth = words.nbytes / min(clock(words.sum) for _ in range(10))
    print(
        f"{given.rows:,} x {given.dim}; read bandwidth {bandwidth / 1e9:.1f} GB/s; medians of {given.rounds} rounds\n"
    )
    print("| code | B/vec | encode kvec/s | 1 query ms | limit ms | x limit | 100 queries ms | scratch MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, bytes_ in size.items():
        limit = given.rows * bytes_ / bandwidth
        speed = f"{20 / rate[name]:.0f}" if name in rate else "-"
        memory = f"{spare[name]:.1f}" if name in spare else "-"
        print(
            f"| {name} | {bytes_} | {speed} | {once[name] * 1e3:.2f} | {limit * 1e3:.2f} | {once[name] / limit:.1f} "
            f"| {many[name] * 1e3:.0f} | {memory} |"
        )
    fits = {
        "pca:128 on 10,000": lambda: PCA(128).fit(X[:10_000]),
        "pq:32 on 10,000": lambda: ProductQuantizer(32).fit(X[:10_000]),
        "pq:32,rotate=true on 10,000": lambda: ProductQuantizer(32, rotate=True).fit(X[:10_000]),
    }
    print("\n| fit | seconds |\n|---|---|")
    for name, seconds in interleaved(fits, 1).items():
        print(f"| {name} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
