"""The encoder ``static`` against wordllama, the package whose weights it uses: texts a second on one core.

    python benchmarks/encode_static.py [--rounds 9] [--texts 3000] [--data DIR]

Both encode the same real text, turn about, a new slice each round, because both remember: wordllama's tokenizer whole
sentences, ours words. The floors are on the same slices: the tokenizer alone, and gathering and adding the token rows.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import argparse
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import wordllama

from sememe.encode.static import Static, mean_rows
from sememe.text.sentences import sentence_ranges

DATA = os.environ.get("SEMEME_DATA", str(Path(__file__).parents[2] / "shared" / "data"))


def passages(data: Path) -> list[str]:
    """The abstracts of SciFact, or the language reference that comes with Python where there is no such folder."""
    corpus = data / "scifact" / "corpus.jsonl.gz"
    if corpus.exists():
        with gzip.open(corpus, "rt", encoding="utf-8") as lines:
            return [json.loads(line)["text"] for line in lines]
    from pydoc_data.topics import topics

    return [part for text in topics.values() for part in text.split("\n\n") if part.strip()]


def sentences(texts: list[str]) -> list[str]:
    """All sentences, in order."""
    return [text[start:stop] for text in texts for start, stop in sentence_ranges(text)]


def measure(texts: list[str], rounds: int, size: int) -> None:
    """Print a table over ``rounds`` slices of ``size`` texts; the first slice warms up and is not counted."""
    ours = Static()
    theirs = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    bare, table = Static()._load()
    size = min(size, len(texts) // (rounds + 1))
    ids: list[list[int]] = []

    def tokenize(part: list[str]) -> list[list[int]]:
        return [e.ids for e in bare.encode_batch_fast(part, add_special_tokens=False)]

    runs: dict[str, Callable[[list[str]], object]] = {
        "sememe static": ours.encode,
        "wordllama": lambda part: theirs.embed(part, norm=True),
        "floor: tokenizer alone": tokenize,
        "floor: gather and add alone": lambda part: mean_rows(table, ids),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    worst = 0.0
    for turn in range(rounds + 1):
        part = texts[turn * size : (turn + 1) * size]
        ids = tokenize(part) if turn == 0 else ids
        order = list(runs) if turn % 2 else [*list(runs)[1::-1], *list(runs)[2:]]
        for name in order:
            if name == "floor: gather and add alone":
                ids = ours.tokenize(part)
            started = time.perf_counter()
            runs[name](part)
            if turn:
                rates[name].append(len(part) / (time.perf_counter() - started))
        worst = max(worst, float(np.abs(ours.encode(part) - theirs.embed(part, norm=True)).max()))
    base = median(rates["wordllama"])
    for name, found in rates.items():
        rate = median(found)
        print(f"  {name:<28}{rate:>10,.0f}/s {rate / base:>7.2f}x   ({min(found):,.0f} to {max(found):,.0f})")
    ratios = [a / b for a, b in zip(rates["sememe static"], rates["wordllama"])]
    print(f"  round by round {min(ratios):.2f}x to {max(ratios):.2f}x; largest difference of a value {worst:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--data", type=Path, default=Path(DATA))
    given = parser.parse_args()
    whole = passages(given.data)
    for name, texts in (("sentences", sentences(whole)), ("passages", whole)):
        print(f"{name}: {len(texts):,} texts, {np.mean([len(t) for t in texts]):.0f} characters on average, one core")
        measure(texts, given.rounds, given.texts)


if __name__ == "__main__":
    main()
