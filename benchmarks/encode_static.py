"""The encoder ``static`` against wordllama and model2vec from raw text: processor time on one core.

    python benchmarks/encode_static.py [--rounds 7] [--texts 2000] [--data DIR]

All three have the same weights and the same tokenizer: wordllama's own package, and model2vec's ``StaticModel`` made of
the float32 table and the tokenizer, without its limit of 512 tokens. (The models that model2vec publishes must be
downloaded; their tokenizer is another, the work is the same. It leaves the token <unk> out, which wikitext2 is full
of: there its vectors differ.) They encode the same real text, turn about, a new slice
each round, because all remember: the tokenizer of the two packages whole texts, ours words.

``cold`` is a new encoder, loaded, that has seen no text, for us and for them; ``new`` is text that is new to an encoder
in use; ``again`` is the same text once more. The floor is gathering and adding float32 rows whose numbers are known, by
PyTorch's embedding bag where that is installed.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["SEMEME_THREADS"] = "1"

import argparse
import csv
import gzip
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import wordllama

from sememe.encode.static import Static
from sememe.kernels import native
from sememe.text.sentences import sentence_ranges

DATA = os.environ.get("SEMEME_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
FIRST_CALL = """
import time
from sememe.encode.static import Static
wall, cpu = time.perf_counter(), time.process_time()
Static().encode(["Who may approve it?"])
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
status = [line.split() for line in open("/proc/self/status") if line.startswith(("RssAnon", "RssFile"))]
memory = " + ".join(f"{int(size) // 1024} MB {name[3:-1].lower()}" for name, size, _ in status)
print(f"{1e3 * cpu:.0f} ms of processor time ({1e3 * wall:.0f} ms on the clock), the process then takes {memory}")
"""

Texts = list[str]


def passages(data: Path) -> Texts:
    """The abstracts of SciFact, or the language reference that comes with Python where there is no such folder."""
    corpus = data / "scifact" / "corpus.jsonl.gz"
    if corpus.exists():
        with gzip.open(corpus, "rt", encoding="utf-8") as lines:
            return [json.loads(line)["text"] for line in lines]
    from pydoc_data.topics import topics

    return [part for text in topics.values() for part in text.split("\n\n") if part.strip()]


def sentences(texts: Texts) -> Texts:
    """All sentences, in order."""
    return [text[start:stop] for text in texts for start, stop in sentence_ranges(text)]


def collections(data: Path) -> dict[str, Texts]:
    """Name to texts, for what there is in the folder."""
    whole = passages(data)
    found = {"passages": whole, "sentences": sentences(whole)}
    columns = {
        "brown sentences": ("brown/brown.tsv.gz", 1),
        "wikitext2 paragraphs": ("wikitext2/test.txt.gz", 0),
        "agnews": ("agnews/test.tsv.gz", 1),
        "wordnet glosses": ("wordnet-nouns/nouns.tsv.gz", 3),
        "bank queries": ("banking77/train.tsv.gz", 1),
        "search queries": ("trec-questions/train.tsv.gz", 1),
    }
    for name, (file, column) in columns.items():
        if (data / file).exists():
            with gzip.open(data / file, "rt", encoding="utf-8") as lines:
                rows = csv.reader(islice(lines, 20_000), delimiter="\t", quoting=csv.QUOTE_NONE)
                found[name] = [row[column] for row in rows if len(row) > column and row[column].strip()][1:]
    return found


def package() -> Any:
    """Wordllama as its users load it."""
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


def makers() -> dict[str, Callable[[], Callable[[Texts], Any]]]:
    """Name to what makes an encoder that is loaded and has seen no text but one word."""

    def ours() -> Callable[[Texts], Any]:
        return Static().encode

    def theirs() -> Callable[[Texts], Any]:
        made = package()
        return lambda texts: made.embed(texts, norm=True)

    found: dict[str, Callable[[], Callable[[Texts], Any]]] = {"sememe static": ours, "wordllama": theirs}
    try:
        from model2vec import StaticModel
    except ImportError:
        return found

    def model() -> Callable[[Texts], Any]:
        made = StaticModel(package().embedding, Static()._tokenizer, normalize=True, max_length=None)
        return lambda texts: made.encode(texts, use_multiprocessing=False)

    return {**found, "model2vec": model}


def floor(table: np.ndarray) -> Callable[[list[list[int]]], Callable[[], Any]]:
    """What adds rows whose numbers are prepared."""
    try:
        import torch
    except ImportError:
        return lambda ids: lambda: [table.take(row, axis=0).sum(axis=0) for row in ids]
    torch.set_num_threads(1)
    rows = torch.from_numpy(table)

    def prepare(ids: list[list[int]]) -> Callable[[], Any]:
        flat = torch.tensor([number for row in ids for number in row])
        offsets = torch.tensor(np.cumsum([0, *map(len, ids)])[:-1])
        return lambda: torch.nn.functional.embedding_bag(flat, rows, offsets, mode="mean")

    return prepare


def seconds(run: Callable[..., Any], *arguments: Any) -> float:
    """Processor time of one call."""
    started = time.process_time()
    run(*arguments)
    return time.process_time() - started


def measure(texts: Texts, rounds: int, size: int) -> None:
    """Print a table over ``rounds`` slices of ``size`` texts; one more warms up and is not counted."""
    size = min(size, len(texts) // (rounds + 1))
    make = makers()
    used = {name: maker() for name, maker in make.items()}
    encoder = Static()
    prepare = floor(encoder._table.astype(np.float32))
    spent: dict[tuple[str, str], list[float]] = {}
    worst = dict.fromkeys(make, 0.0)
    for turn in range(rounds + 1):
        part = texts[turn * size : (turn + 1) * size]
        for name in list(make) if turn % 2 else list(make)[::-1]:
            fresh = make[name]()
            fresh(["x"])
            spent.setdefault((name, "cold"), []).append(seconds(fresh, part))
            spent.setdefault((name, "new"), []).append(seconds(used[name], part))
            spent.setdefault((name, "again"), []).append(seconds(used[name], part))
            worst[name] = max(worst[name], float(np.abs(used["sememe static"](part) - used[name](part)).max()))
        ready = prepare(encoder.tokenize(part))
        spent.setdefault(("floor", "again"), []).append(min(seconds(ready) for _ in range(3)))
    for name in make:
        line = f"  {name:<14}"
        for when in ("cold", "new", "again"):
            here, base = spent[name, when][1:], spent["sememe static", when][1:]
            ratio = median(a / b for a, b in zip(here, base))
            line += f"  {when} {1e6 * median(here) / size:8.2f} us" + (
                f" {ratio:5.1f}x" if name != "sememe static" else ""
            )
        print(line + (f"   largest difference {worst[name]:.0e}" if worst[name] else ""))
    least = spent["floor", "again"][1:]
    new, again = (median(a / b for a, b in zip(spent["sememe static", w][1:], least)) for w in ("new", "again"))
    print(f"  {'floor':<14}  {1e6 * median(least) / size:.2f} us; new text {new:.1f}x of it, known text {again:.1f}x")


def queries(texts: Texts, count: int = 500) -> None:
    """Print the time of one query at a time."""
    for name, maker in makers().items():
        run, spent = maker(), []
        run(["x"])
        for text in texts[:count]:
            started = time.perf_counter()
            run([text])
            spent.append(time.perf_counter() - started)
        spent.sort()
        print(
            f"  {name:<14}  {1e6 * median(spent):8.1f} us, 95 of 100 under {1e6 * spent[int(0.95 * len(spent))]:.1f} us"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--data", type=Path, default=Path(DATA))
    given = parser.parse_args()
    logging.disable(logging.INFO)
    print(f"level {native.level()}; microseconds a text on one core, and how many times ours")
    found = collections(given.data)
    for name, texts in found.items():
        print(f"{name}: {len(texts):,} texts, {np.mean([len(t) for t in texts]):.0f} characters on average")
        measure(texts, given.rounds, given.texts)
    print("one new query at a time, on the clock")
    queries(found.get("search queries", found["sentences"]))
    if sys.platform == "linux":
        done = subprocess.run([sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=True)
        print(f"first call in a new process: {done.stdout.strip()}")


if __name__ == "__main__":
    main()
