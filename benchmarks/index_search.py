"""Search through the whole index against faiss on the same vectors: one query at a time, in batches, and filtered.

    OMP_NUM_THREADS=1 python benchmarks/index_search.py [--data DIR] [--queries 200]

The passages are the single sentences of every retrieval set in the data folder and of the documentation that Python
carries, encoded by ``static``; queries are sentences held out of it. Ours goes through ``Index.search`` (checks, merge,
ids), faiss through its bare index. Rounds are interleaved; medians of one run. The limit beside the flat scans is the
time a plain sum over the same bytes takes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import sememe
from sememe.contracts import Record
from sememe.encode import make
from sememe.text import Sentences, demo_records, read

SETS = ("scifact", "cranfield", "cisi", "dbpedia-entity-5k")
RECIPES = (
    "static | flat",
    "static | int8 | flat",
    "static | binary | flat | rescore:int8,oversample=10",
    "static | int8 | hnsw:16,ef=64",
)


def sentences(data: Path) -> list[str]:
    """Every different sentence of at least 30 characters, in a fixed random order."""
    cutter = Sentences(1)
    found: dict[str, None] = {}
    sources: list[Any] = [read(data / name) for name in SETS if (data / name).is_dir()]
    for source in [*sources, demo_records()]:
        for record in source:
            for span in cutter.spans(record.text):
                if span.stop - span.start >= 30:
                    found[" ".join(record.text[span.start : span.stop].split())] = None
    texts = list(found)
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]


def race(rivals: dict[str, Callable[[int], object]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each call, the rivals taking turns; the argument is the number of the round."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(-2, rounds):
        for name, call in rivals.items():
            start = time.perf_counter()
            call(number % rounds)
            if number >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(times) for name, times in seconds.items()}


def show(title: str, times: dict[str, np.ndarray], base: str, notes: dict[str, str] | None = None) -> None:
    """A table: median, 95th percentile, and the ratio to ``base``."""
    print(f"\n{title}\n{'':58}{'p50 ms':>9}{'p95 ms':>9}{'speed':>8}")
    for name, seconds in times.items():
        p50, p95 = np.percentile(seconds, [50, 95]) * 1e3
        ratio = np.median(times[base]) / np.median(seconds)
        print(f"{name:58}{p50:9.3f}{p95:9.3f}{ratio:7.2f}x  {(notes or {}).get(name, '')}")


def main() -> None:
    """Build everything once, then race."""
    import faiss

    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("SEMEME_DATA", str(Path(__file__).parent.parent.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()

    faiss.omp_set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    texts = sentences(options.data)
    encoder = make("static")
    Q = encoder.encode(texts[: options.queries], kind="query")
    passages = texts[options.queries :]
    X = encoder.encode(passages)
    exact = np.argsort(-(Q @ X.T), axis=1, kind="stable")[:, :10]
    print(f"{len(X):,} sentences of {X.shape[1]} dimensions, {len(Q)} queries")

    with tempfile.TemporaryDirectory() as folder:
        ours: dict[str, Any] = {}
        for number, recipe in enumerate(RECIPES):
            records = (Record(str(i), text, metadata={"n": i}) for i, text in enumerate(passages))
            started = time.perf_counter()
            ours[recipe] = sememe.build(records, Path(folder) / str(number), recipe)
            built = time.perf_counter() - started
            started = time.perf_counter()
            ours[recipe] = sememe.open(Path(folder) / str(number))
            opened = time.perf_counter() - started
            ram = ours[recipe].ledger().ram / 1e6
            print(f"  {recipe:56} build {built:6.1f} s   open {opened * 1e3:5.1f} ms   {ram:7.1f} MB touched by search")

        peers: dict[str, Any] = {"faiss IndexFlatIP": faiss.IndexFlatIP(X.shape[1])}
        peers["faiss SQ8"] = faiss.IndexScalarQuantizer(
            X.shape[1], faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        peers["faiss HNSW32, ef 64"] = faiss.IndexHNSWFlat(X.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        peers["faiss HNSW32, ef 64"].hnsw.efSearch = 64
        for peer in peers.values():
            peer.train(X)
            peer.add(X)

        single: dict[str, Callable[[int], Any]] = {
            **{name: lambda i, index=index: index.search(Q[i : i + 1], k=10).rows for name, index in ours.items()},
            **{name: lambda i, peer=peer: peer.search(Q[i : i + 1], 10)[1] for name, peer in peers.items()},
        }
        recall = {
            name: f"recall@10 {np.mean([len({*call(i)[0]} & {*exact[i]}) / 10 for i in range(len(Q))]):.3f}"
            for name, call in single.items()
        }
        codes = np.concatenate([np.asarray(s.codes).ravel() for s in ours["static | int8 | flat"].segments])
        words = codes[: len(codes) // 8 * 8].view(np.int64)
        single["limit: a sum over the int8 codes"] = lambda i: words.sum()
        show("One query at a time", race(single, len(Q)), "faiss SQ8", recall)

        batch: dict[str, Callable[[int], Any]] = {
            **{name: lambda i, index=index: index.search(Q, k=10).rows for name, index in ours.items()},
            **{name: lambda i, peer=peer: peer.search(Q, 10)[1] for name, peer in peers.items()},
        }
        show(f"All {len(Q)} queries in one call", race(batch, 5), "faiss SQ8")

        for share in (0.5, 0.05, 0.005, 0.0005):
            limit = max(1, round(share * len(X)))
            bitmap = np.packbits(np.arange(len(X)) < limit, bitorder="little")
            chosen = faiss.IDSelectorBitmap(len(X), faiss.swig_ptr(bitmap))
            settings = faiss.SearchParameters(sel=chosen)
            rivals: dict[str, Callable[[int], Any]] = {
                "static | int8 | flat, where": lambda i, n=limit: ours["static | int8 | flat"].search(
                    Q[i : i + 1], k=10, where=f"n < {n}"
                ),
                "faiss SQ8, IDSelectorBitmap made beforehand": lambda i, s=settings: peers["faiss SQ8"].search(
                    Q[i : i + 1], 10, params=s
                ),
            }
            title = f"Filtered, {share:.2%} pass (ours parses and evaluates the filter each time)"
            show(title, race(rivals, 50), "faiss SQ8, IDSelectorBitmap made beforehand")


if __name__ == "__main__":
    main()
