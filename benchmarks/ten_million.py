"""Ten million vectors on one machine: build within a memory limit, resume, search with disk rescoring.

    OMP_NUM_THREADS=1 SEMEME_THREADS=2 python benchmarks/ten_million.py [--data DIR] [--rows 10000000] [--memory 4GB]
        [--recipe "binary | ivf:4096 | rescore:fp16"] [--folder DIR]

Vectors are static embeddings of windows of real text (abstracts, encyclopedia, news, fiction, glosses, captions), one
window for each first token and each of several lengths, so that neighbours in the text are neighbours in space; each
gets a small jitter (a twentieth of its length, from a fixed table), because text repeats itself word by word. They are
made anew in a stream whenever they are read and never lie on disk as floats. Queries are claims and questions that
people wrote. Half of them choose the number of probes and the oversampling, the other half is reported. The exact
answer is a streamed float32 scan of everything.

Build and search run in processes of their own; memory is the peak of the resident set, which counts mapped pages of
files too. Wall time depends on what else the machine does, so CPU time (all threads) stands beside it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sememe.contracts import Vectors, unit_rows
from sememe.encode import make
from sememe.index.best import TopK
from sememe.index.vectors import VectorIndex
from sememe.text import read_queries

TEXTS = (
    "scifact/corpus.jsonl.gz",
    "brown/brown.tsv.gz",
    "wordnet-nouns/nouns.tsv.gz",
    "dbpedia-entity-5k/corpus.jsonl.gz",
    "agnews/train.tsv.gz",
    "agnews/test.tsv.gz",
    "wikitext2/valid.txt.gz",
    "wikitext2/test.txt.gz",
    "cranfield/corpus.jsonl.gz",
    "cisi/corpus.jsonl.gz",
    "multi30k/train.en.gz",
)
QUERIES = ("scifact", "dbpedia-entity-5k", "cranfield", "cisi")
LENGTHS = (24, 40, 16, 56, 32, 48)  # tokens of a window
BLOCK = 1 << 12
SAMPLE = 262_144  # rows, drawn from the whole stream, that codec and centres are learned from
JITTER = 0.05
EFFORTS = [(p, o) for o in (20, 50, 100, 200) for p in (64, 128, 256, 512, 1024)]  # probes, oversampling of lists
CANDIDATES = (80, 160, 320, 640, 1280, 2560, 5120)  # of a cascade, a query
AIM = 0.97  # recall that the tuning half must reach


class Windows:
    """The stream: row ``i`` is window ``i % starts`` of length ``LENGTHS[i // starts]``."""

    def __init__(self, data: Path, rows: int) -> None:
        from sememe.encode.static import _map_table

        self.rows = rows
        self.table = _map_table().astype(np.float32)
        encoder = make("static")
        pieces = [np.array(ids, np.int32) for name in TEXTS for ids in encoder.tokenize(_lines(data / name)) if ids]
        self.tokens = np.concatenate(pieces)
        self.starts = len(self.tokens) - max(LENGTHS)
        if rows > self.starts * len(LENGTHS):
            raise SystemExit(f"the texts give {self.starts * len(LENGTHS)} windows, fewer than {rows}")
        self.noise = JITTER * unit_rows(np.random.default_rng(0).standard_normal((4099, 256), dtype=np.float32))

    def blocks(self) -> Iterator[Vectors]:
        """All rows in order."""
        for row in range(0, self.rows, BLOCK):
            yield from self._between(row, min(row + BLOCK, self.rows))

    def _between(self, row: int, stop: int) -> Iterator[Vectors]:
        while row < stop:
            turn, first = divmod(row, self.starts)
            count, length = min(stop - row, self.starts - first), LENGTHS[turn]
            sums = np.zeros((count + length, 256))
            np.cumsum(self.table[self.tokens[first : first + count + length - 1]], axis=0, out=sums[1:])
            yield self._jittered((sums[length:] - sums[:count]).astype(np.float32), np.arange(row, row + count))
            row += count

    def _jittered(self, sums: Vectors, rows: np.ndarray) -> Vectors:
        return unit_rows(unit_rows(sums) + self.noise[rows % len(self.noise)])

    def sample(self, count: int) -> Vectors:
        """Rows drawn from the whole stream."""
        rows = np.sort(np.random.default_rng(2).choice(self.rows, min(count, self.rows), replace=False))
        parts = []
        for some in np.array_split(rows, max(1, len(rows) // 2000)):
            turns, firsts = np.divmod(some, self.starts)
            sums = np.empty((len(some), 256), dtype=np.float32)
            for turn in np.unique(turns).tolist():
                here = turns == turn
                sums[here] = self.table[self.tokens[firsts[here, None] + np.arange(LENGTHS[turn])]].sum(axis=1)
            parts.append(self._jittered(sums, some))
        return np.concatenate(parts)


def _lines(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        if ".jsonl" in path.name:
            return [f"{r.get('title', '')} {r['text']}" for r in map(json.loads, file)]
        return [line.rstrip("\n").split("\t")[-1] for line in file]


def queries(data: Path, count: int) -> Vectors:
    """``count`` real queries of several collections, shuffled."""
    texts = [text for name in QUERIES for text in read_queries(data / name / "queries.jsonl").values()]
    chosen = np.random.default_rng(1).permutation(len(texts))[:count]
    return make("static").encode([texts[i] for i in chosen])


def truth(stream: Windows, Q: Vectors, k: int) -> np.ndarray:
    """The exact top ``k`` of the stream."""
    best, row = TopK(len(Q), k), 0
    for block in stream.blocks():
        best.add(Q @ block.T, np.arange(row, row + len(block)))
        row += len(block)
    return best.result()[1]


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """The share of the exact rows that were found."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, exact)]))


def spent() -> tuple[float, float]:
    """Wall and CPU seconds of this process."""
    return time.perf_counter(), time.process_time()


def work(step: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One step, in a process of its own."""
    if step == "build":
        stream = Windows(args.data, args.rows)
        begun = time.thread_time()
        made = sum(len(block) for block, _ in zip(stream.blocks(), range(25)))
        source = (time.thread_time() - begun) / made * args.rows
        wall, cpu = spent()
        index = VectorIndex.build(
            folder / "index", stream.blocks(), args.recipe, memory=args.memory, train=stream.sample(SAMPLE)
        )
        wall, cpu = spent()[0] - wall, spent()[1] - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        return {"wall_s": wall, "cpu_s": cpu, "of_it_stream_cpu_s": source, "peak_rss": peak, **index.info()}
    if step == "truth":
        wall, cpu = spent()
        np.save(folder / "truth.npy", truth(Windows(args.data, args.rows), queries(args.data, 200), 10))
        return {"wall_s": spent()[0] - wall, "cpu_s": spent()[1] - cpu}
    return search(args, folder)


def search(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Choose probes and oversampling on one half of the queries, measure on the other."""
    Q, exact = queries(args.data, 200), np.load(folder / "truth.npy")
    tune, test = slice(0, 100), slice(100, 200)
    index = VectorIndex.open(folder / "index")
    tried = {}
    efforts = EFFORTS if "ivf" in args.recipe else [(1, o) for o in (10, 20, 40, 80)]
    if "cascade" in args.recipe:
        efforts = [(c, o) for o in ((10, 20, 40) if "rescore" in args.recipe else (1,)) for c in CANDIDATES]
    for probes, oversample in efforts:
        index.search(Q[tune], 10, probes=probes, oversample=oversample)  # the first time reads from disk
        cpu = time.process_time()
        _, rows = index.search(Q[tune], 10, probes=probes, oversample=oversample)
        tried[probes, oversample] = recall(rows, exact[tune]), time.process_time() - cpu
    enough = [effort for effort, (found, _) in tried.items() if found >= AIM]
    chosen = min(enough, key=lambda e: tried[e][1]) if enough else max(tried, key=lambda e: tried[e][0])
    times, cpus, found = [], [], []
    for query in range(100, 200):
        wall, cpu = spent()
        found.append(index.search(Q[query : query + 1], 10, probes=chosen[0], oversample=chosen[1])[1][0])
        times.append(spent()[0] - wall)
        cpus.append(spent()[1] - cpu)
    hits = [len(np.intersect1d(a, b)) / 10 for a, b in zip(found, exact[test])]
    draws = np.random.default_rng(0).choice(hits, (2000, len(hits))).mean(axis=1)
    return {
        "probes": chosen[0],
        "oversample": chosen[1],
        "tuning": {f"probes {p}, oversample {o}": [round(r, 4), round(10 * t, 2)] for (p, o), (r, t) in tried.items()},
        "recall@10": float(np.mean(hits)),
        "interval": np.quantile(draws, [0.025, 0.975]).round(4).tolist(),
        "ms_p50": 1e3 * float(np.median(times)),
        "ms_p95": 1e3 * float(np.quantile(times, 0.95)),
        "cpu_ms_p50": 1e3 * float(np.median(cpus)),
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        "ram": index.info()["ram"],
    }


def main() -> None:
    """Run the steps one after another and print their figures as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SEMEME_DATA", "../shared/data")))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--recipe", default="binary | ivf:4096 | rescore:fp16")
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--folder", type=Path, help="keep everything here; a temporary folder where not given")
    parser.add_argument("--step", choices=["build", "truth", "search"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        sys.stdout.write(json.dumps({args.step: work(args.step, args, args.folder)}) + "\n")
        return
    folder = args.folder or Path(tempfile.mkdtemp(dir=".", prefix="ten-million-"))
    try:
        folder.mkdir(exist_ok=True)
        about = {"rows": args.rows, "recipe": args.recipe, "memory": args.memory, "machine": platform.processor()}
        sys.stdout.write(json.dumps({**about, "cores": os.cpu_count(), "load": os.getloadavg()}) + "\n")
        for step in ("build", "truth", "search"):
            if step == "truth" and (folder / "truth.npy").exists():
                continue
            given = [*sys.argv[1:], "--step", step, *([] if args.folder else ["--folder", str(folder)])]
            answer = subprocess.run([sys.executable, __file__, *given], capture_output=True, text=True)
            sys.stdout.write(answer.stdout or answer.stderr)
            sys.stdout.flush()
    finally:
        if args.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
