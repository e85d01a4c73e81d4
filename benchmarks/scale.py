"""One hundred thousand real passages: build, reopen, search, memory at search, predicted bytes, exact filters.

    OMP_NUM_THREADS=1 python benchmarks/scale.py [--data DIR] [--passages 100000] [--recipe RECIPE ...]

Passages are sentences and sections of the documentation that Python carries, of news, encyclopedia, abstracts, fiction
and glosses in the data folder, each text once; ``year`` and ``lang`` are drawn from a checksum of the text. Queries are
claims and questions that people wrote. Each index is searched by a fresh process that has already used the same
recipe on a small index, so that what it grows by is the index and not the libraries or the encoder. Memory is read
from ``/proc``, so this runs on Linux only. It counts mapped pages of files, which the system can take back at any time:
ids, texts and rescoring codes are touched by row, but one touch maps as much as lies together in the page cache, up to
a megabyte, so that after some queries these files are mapped whole.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import sememe
from sememe.contracts import Record
from sememe.encode import make
from sememe.planner.corpus import load
from sememe.planner.ledger import Sizes
from sememe.recipe import Recipe
from sememe.text import Sentences, demo_records, read

RECIPES = (
    "static | int4 | flat",
    "static | binary | flat | rescore:int8",
    "static | int8 | hnsw:16",
)
LANGS = ("ar", "de", "en", "es", "fi", "fr", "hi", "is", "tr", "zh")
FILTERS = {  # (condition, the same on arrays)
    0.5: ("year >= 1925", lambda year, lang: year >= 1925),
    0.05: ("year between 2015 and 2024", lambda year, lang: year >= 2015),
    0.005: ("year = 2024", lambda year, lang: year == 2024),
    0.0005: ("year = 2024 and lang = 'is'", lambda year, lang: (year == 2024) & (lang == "is")),
}
SAMPLE = 20_000  # records that the prediction sees, as many as the planner's
MB = 1e6
TIES = 2e-5  # scores closer than this may come in either order: float32 sums differ by so much


def lines(path: Path, column: int = -1) -> Iterator[str]:
    """A column of a gzipped table without quoting, the header too."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n").split("\t")[column]


def texts(data: Path) -> Iterator[tuple[str, str]]:
    """Pairs of source and passage."""
    cutter = Sentences(1)
    for record in demo_records():
        yield from (("python", record.text[span.start : span.stop]) for span in cutter.spans(record.text))
    for name in ("scifact", "cisi", "cranfield", "dbpedia-entity-5k"):
        for record in read(data / name):
            yield from ((name, record.text[span.start : span.stop]) for span in cutter.spans(record.text))
    for file in ("agnews/train.tsv.gz", "agnews/test.tsv.gz", "brown/brown.tsv.gz", "wikitext2/test.txt.gz",
                 "wikitext2/valid.txt.gz", "wordnet-nouns/nouns.tsv.gz"):  # fmt: skip
        yield from ((file.partition("/")[0], text) for text in lines(data / file))


def corpus(data: Path, count: int) -> list[Record]:
    """``count`` different passages of at least 30 characters in a fixed random order, with metadata."""
    found: dict[str, str] = {}
    for source, raw in texts(data):
        text = " ".join(raw.split())
        if len(text) >= 30:
            found.setdefault(text, source)
    order = np.random.default_rng(0).permutation(len(found))[:count].tolist()
    pairs = list(found.items())
    records = []
    for row, (text, source) in enumerate(pairs[i] for i in order):
        drawn = zlib.crc32(text.encode())
        metadata: dict[str, Any] = {"year": 1825 + drawn % 200, "lang": LANGS[drawn // 200 % len(LANGS)]}
        records.append(Record(f"{source}/{row}", text, metadata=metadata))
    return records


def questions(data: Path, count: int) -> list[str]:
    """Claims of scifact and questions of TREC, by turns."""
    claims = [json.loads(line)["text"] for line in (data / "scifact/queries.jsonl").read_text("utf-8").splitlines()]
    asked = list(lines(data / "trec-questions/test.tsv.gz"))[1:]
    return [text for pair in zip(claims, asked) for text in pair][:count]


class Timed:
    """An encoder that adds up the seconds it takes."""

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.seconds = encoder, 0.0
        self.name, self.dim, self.digest = encoder.name, encoder.dim, encoder.digest

    def encode(self, *arguments: Any, **options: Any) -> Any:
        """As the encoder does."""
        start = time.perf_counter()
        result = self.encoder.encode(*arguments, **options)
        self.seconds += time.perf_counter() - start
        return result


def memory(field: str) -> int:
    """``VmRSS``, ``VmHWM`` or ``RssAnon`` of this process in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}")


def milliseconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """How long one call took, and its result."""
    start = time.perf_counter()
    result = call()
    return (time.perf_counter() - start) * 1e3, result


def reference(index: Any, Q: np.ndarray, allowed: np.ndarray, k: int) -> Iterator[np.ndarray]:
    """For each query the reference scores ``(n,)`` in float64 over decoded codes; -inf where a row cannot be found."""
    pipeline = index.pipeline
    codes = np.concatenate([np.asarray(segment.codes) for segment in index.segments])
    decoded = pipeline.chain.decode(codes[allowed]).astype(np.float64)
    for query in Q:
        scores = np.full(len(codes), -np.inf)
        scores[allowed] = decoded @ pipeline.chain.project(query[None])[0].astype(np.float64)
        if pipeline.rescore is not None:
            wanted = pipeline.rescore.shortlist(k)
            short = allowed[np.argsort(-scores[allowed], kind="stable")[:wanted]]
            fine = np.concatenate([np.asarray(segment.fine_codes) for segment in index.segments])[short]
            target = query[None] if pipeline.rescore.full else pipeline.chain.project(query[None])
            scores[:] = -np.inf
            scores[short] = pipeline.fine.decode(fine).astype(np.float64) @ target[0].astype(np.float64)
        yield scores


def wrong(index: Any, facts: Any, Q: np.ndarray, condition: str, allowed: np.ndarray, k: int) -> int:
    """Places in the filtered rankings that differ from brute force by more than a tie."""
    hits = index.search(Q, k=k, where=condition)
    count = 0
    for line, scores in enumerate(reference(index, Q, allowed, k)):
        order = np.argsort(-scores, kind="stable")[: min(k, len(allowed))]
        rows, ids = hits.rows[line], hits.ids[line]
        if len(set(rows[rows >= 0].tolist())) != len(order):
            count += k
            continue
        rows, ids = rows[: len(order)], ids[: len(order)]
        same = (rows == order) | (np.abs(scores[rows] - scores[order]) <= TIES)
        count += int((~(same & (facts["ids"][rows] == ids))).sum())
    return count


def worker(folder: Path, rehearsal: Path) -> dict[str, Any]:
    """Search one index in this fresh process and say what it took."""
    queries = json.loads((folder.parent / "queries.json").read_text("utf-8"))
    encoder = make("static")
    Q = encoder.encode(queries, kind="query")
    small = sememe.open(rehearsal, encoder=encoder)
    for query in queries[:20]:
        small.results(small.search(query, k=10))
    small.close()
    del small

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again here
    before, own = memory("VmRSS"), memory("RssAnon")
    reopen, index = milliseconds(lambda: sememe.open(folder, encoder=encoder))
    first, _ = milliseconds(lambda: index.search(queries[0], k=10))
    once = memory("VmRSS")
    timed = [milliseconds(lambda q=query: index.search(q, k=10)) for query in queries]
    after, peak, own = memory("VmRSS"), memory("VmHWM"), memory("RssAnon") - own
    read_ms = [milliseconds(lambda h=hits: index.results(h))[0] for _, hits in timed]
    with_text = memory("VmRSS")

    with np.load(folder.parent / "facts.npz") as stored:
        facts = dict(stored)
    filtered = []
    for share, (condition, mask) in FILTERS.items():
        allowed = np.flatnonzero(mask(facts["year"], facts["lang"]))
        index.search(Q[:1], k=10, where=condition)
        times = [milliseconds(lambda q=q, c=condition: index.search(q, k=10, where=c))[0] for q in queries[:50]]
        errors = wrong(index, facts, Q[:20], condition, allowed, 10)
        filtered.append([share, len(allowed), *np.percentile(times, [50, 95]).tolist(), errors])
    return {
        "reopen": reopen,
        "first": first,
        "search": np.percentile([took for took, _ in timed], [50, 95]).tolist(),
        "read": float(np.median(read_ms)),
        "grown": after - before,
        "own": own,
        "once": once - before,
        "peak": peak - before,
        "with_text": with_text - before,
        "process": before,
        "bytes": index.ledger().as_json(),
        "filtered": filtered,
    }


def measure(recipe: str, records: list[Record], folder: Path) -> dict[str, Any]:
    """Build with ``recipe``, then let a fresh process search."""
    encoder = Timed(make("static"))
    sememe.build(records[:500], folder / "small", recipe, encoder=encoder).close()
    encoder.seconds = 0.0
    start = time.perf_counter()
    built = sememe.build(records, folder / "index", recipe, encoder=encoder)
    seconds = time.perf_counter() - start
    if built.passages != len(records):
        raise SystemExit(f"{recipe!r} cuts passages that are cut already: leave its chunker out")
    built.close()
    command = [sys.executable, __file__, "--worker", str(folder / "index"), str(folder / "small")]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    actual = sum(path.stat().st_size for path in (folder / "index").rglob("*") if path.is_file())
    sample = load("these passages", records, keep=set(), limit=SAMPLE, seed=1)
    predicted = Sizes(sample).ledger(Recipe.parse(recipe), encoder.dim)["total"]
    return {**answer, "build": seconds, "encoding": encoder.seconds, "actual": actual, "predicted": predicted}


def show(recipe: str, found: dict[str, Any]) -> None:
    """One row of the table, in lines."""
    ledger, (p50, p95) = found["bytes"], found["search"]
    ram = ledger["ram"]
    parts = " + ".join(f"{name} {ledger[name] / MB:.1f}" for name in ("codes", "graph", "side") if ledger[name])
    codes = ledger["codes"]
    verdict = "met" if found["grown"] <= 1.2 * codes else "MISSED"
    off = found["predicted"] / found["actual"] - 1
    rows = [
        ("build", f"{found['build'] - found['encoding']:.1f} s, and {found['encoding']:.1f} s of encoding"),
        ("open", f"{found['reopen']:.1f} ms"),
        ("first search", f"{found['first']:.1f} ms (verifies what it reads)"),
        ("search, one query of text, k = 10", f"p50 {p50:.2f} ms   p95 {p95:.2f} ms"),
        ("texts and metadata of 10 hits", f"p50 {found['read']:.2f} ms more"),
        ("memory: growth over the process", f"{found['grown'] / MB:.1f} MB after 200 searches "
         f"({found['own'] / MB:.1f} of it not mapped files), {found['once'] / MB:.1f} after one"),
        ("  with every hit's text read", f"{found['with_text'] / MB:.1f} MB"),
        ("  against the codes", f"{codes / MB:.1f} MB: {found['grown'] / codes - 1:+.1%}, target +20%: {verdict}"),
        ("  against the ledger's ram", f"{ram / MB:.1f} MB ({parts}): {found['grown'] / ram - 1:+.1%}"),
        ("  the process before", f"{found['process'] / MB:.0f} MB (Python, libraries, encoder)"),
        ("bytes predicted, actual", f"{found['predicted'] / MB:.2f}, {found['actual'] / MB:.2f} MB ({off:+.2%})"),
        *((f"where {share:.2%} pass ({count:,})",
           f"p50 {mid:.2f} ms   p95 {high:.2f} ms   {errors} of 200 places wrong")
          for share, count, mid, high, errors in found["filtered"]),
    ]  # fmt: skip
    print(f"\n{recipe}\n" + "\n".join(f"  {name:36}{value}" for name, value in rows), flush=True)


def main() -> None:
    """Lay out the corpus once, then each recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("SEMEME_DATA", str(Path(__file__).parent.parent.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--recipe", action="append")
    parser.add_argument("--worker", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(*options.worker)))
        return

    records = corpus(options.data, options.passages)
    queries = questions(options.data, 200)
    size = sum(len(record.text.encode()) for record in records)
    print(f"{len(records):,} passages, {size / MB:.1f} MB of text, {len(queries)} queries; {platform.machine()}, "
          f"{os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, "
          f"Python {platform.python_version()}, numpy {np.__version__}", flush=True)  # fmt: skip
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        for number, recipe in enumerate(options.recipe or RECIPES):
            folder = Path(name) / str(number)
            folder.mkdir()
            (folder / "queries.json").write_text(json.dumps(queries), "utf-8")
            facts = {field: np.array([record.metadata[field] for record in records]) for field in ("year", "lang")}
            np.savez(folder / "facts.npz", ids=np.array([record.id for record in records]), **facts)
            found = measure(recipe, records, folder)
            show(recipe, found)
            failed += sum(line[-1] for line in found["filtered"])
    if failed:
        raise SystemExit(f"{failed} places of filtered rankings are wrong")


if __name__ == "__main__":
    main()
