"""Lookups in a semantic cache of 100,000 entries, against a plain product with all rows and faiss.

    OMP_NUM_THREADS=1 python benchmarks/semantic_cache.py [--data DIR] [--lookups 400]

Entries are different sentences of the data folder (Brown corpus, Multi30k, banking77, STS benchmark), encoded by
``static``; half of the lookups are sentences held out of them, half are test questions of banking77. Each lookup is one
call, as a server makes it. Rounds are interleaved. CPU time is given beside wall time: on a machine that does other
work the two differ. The limit is the time to read the same rows once.
"""

from __future__ import annotations

import argparse
import gzip
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sememe.encode import make
from sememe.index import SemanticCache

FILES = (
    ("brown/brown.tsv.gz", 1),
    ("multi30k/train.en.gz", 0),
    ("banking77/train.tsv.gz", 1),
    ("stsb/stsb-train.tsv.gz", 1),
    ("stsb/stsb-train.tsv.gz", 2),
)
ENTRIES = 100_000
THRESHOLDS = (0.95, 0.9, 0.8, 0.7)


def column(path: Path, number: int) -> list[str]:
    """One column of a gzipped table without quoting."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [line.rstrip("\n").split("\t")[number] for line in lines]


def main(data: Path, lookups: int) -> None:
    """Print the table."""
    encoder = make("static")
    texts = list(dict.fromkeys(text for name, number in FILES for text in column(data / name, number) if text.strip()))
    rows = encoder.encode([texts[i] for i in np.random.default_rng(0).permutation(len(texts))])
    rows = rows[rows.any(axis=1)]
    asked = encoder.encode(column(data / "banking77/test.tsv.gz", 1)[1:])[: lookups // 2]
    queries = np.concatenate([rows[: lookups // 2], asked])[np.random.default_rng(1).permutation(lookups)]
    rows = np.ascontiguousarray(rows[lookups // 2 :][:ENTRIES])
    cache = SemanticCache(rows.shape[1])
    begun = time.perf_counter()
    cache.put_many(rows, [str(row) for row in range(len(rows))])
    print(f"{len(cache):,} entries of {rows.shape[1]} dimensions, {cache.nbytes / 1e6:.0f} MB, "
          f"filled in {time.perf_counter() - begun:.1f} s")  # fmt: skip
    ways: dict[str, Callable[[np.ndarray], object]] = {
        f"cache, threshold {at:g}": lambda query, at=at: cache.get(query, at_least=at) for at in THRESHOLDS
    }
    ways["all rows, NumPy"] = lambda query: int((rows @ query).argmax())
    try:
        import faiss

        flat = faiss.IndexFlatIP(rows.shape[1])
        flat.add(rows)
        ways["all rows, faiss"] = lambda query: flat.search(query[None], 1)
    except ImportError:
        pass
    ways["limit: read the rows once"] = lambda query: rows.view(np.int32).max()
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for query in queries:
        for name, call in ways.items():
            before, used = time.perf_counter(), time.thread_time()
            call(query)
            cpu[name].append(time.thread_time() - used)
            wall[name].append(time.perf_counter() - before)
    for query in queries[:100]:  # what is found is what the plain product finds
        exact = rows @ query
        hit = cache.get(query, at_least=0.0)
        assert hit is not None and abs(hit.cosine - float(exact.max())) < 1e-5
    print(f"{'milliseconds a lookup':28} {'wall p50':>9} {'p95':>7} {'CPU p50':>9} {'p95':>7}")
    for name in ways:
        w, c = (np.quantile(times[name], [0.5, 0.95]) * 1e3 for times in (wall, cpu))
        print(f"{name:28} {w[0]:9.2f} {w[1]:7.2f} {c[0]:9.2f} {c[1]:7.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("SEMEME_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--lookups", type=int, default=400)
    given = parser.parse_args()
    main(given.data, given.lookups)
