"""Keyed vectors against gensim: loading text, opening a store, and nearest neighbours, on the same words.

The words are those of the frequency lists and the pronouncing dictionary, or of Python's documentation; the vectors are
their static ones, cut to 100 dimensions.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sememe.bench import texts
from sememe.bench.harness import Column, Settings, Spent, Table, interleaved, once
from sememe.bench.machine import Limits
from sememe.bench.peers import note, peer
from sememe.contracts import Vectors
from sememe.index import KeyedVectors

SIZE = 200_000
_DIM = 100
_ASKED = 40


def tables(settings: Settings, limits: Limits) -> list[Table]:
    """Times of each operation, and the bytes."""
    keys, vectors = _words(settings)
    with tempfile.TemporaryDirectory() as folder:
        return [_measure(keys, vectors, Path(folder), settings, limits)]


def _words(settings: Settings) -> tuple[list[str], Vectors]:
    from sememe.encode import make

    found: dict[str, None] = {}
    for place in ("word-frequency", "cmudict"):
        source = texts.data(place)
        for path in sorted(source.iterdir()) if source else ():
            for line in texts.lines(place, path.name):
                if fields := line.split():
                    found.setdefault(fields[0])
    if not found:
        note("no evaluation data (SEMEME_DATA): the words are those of the documentation that comes with Python")
        found = dict.fromkeys(word for text in texts.passages() for word in re.findall(r"\w+", text))
    keys = list(found)[: settings.size or SIZE]
    vectors = np.ascontiguousarray(make("static").encode(keys)[:, :_DIM])
    # Words of which nothing is known get zeros, which gensim cannot compare.
    kept = np.flatnonzero(vectors.any(axis=1))
    return [keys[row] for row in kept], np.ascontiguousarray(vectors[kept])


def _write(path: Path, keys: list[str], vectors: Vectors) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{len(keys)} {vectors.shape[1]}\n")
        for key, row in zip(keys, vectors):
            file.write(key + " " + " ".join(f"{value:.6f}" for value in row.tolist()) + "\n")


def _measure(keys: list[str], vectors: Vectors, place: Path, settings: Settings, limits: Limits) -> Table:
    text, store, saved = place / "words.txt", place / "store", place / "gensim"
    _write(text, keys, vectors)
    found: dict[str, tuple[Spent, Spent | None]] = {}
    loading, ours = once(lambda: KeyedVectors.load(text))
    ours.save(store)
    # Opening is timed with a first word, because both read on demand.
    opening = {"sememe": lambda: KeyedVectors.open(store)[keys[0]]}
    opened = KeyedVectors.open(store)
    asked = [keys[row] for row in np.random.default_rng(settings.seed).integers(0, min(50_000, len(keys)), _ASKED)]
    asking: dict[str, Callable[[], Any]] = {"sememe": lambda: [opened.neighbours(word, 10) for word in asked]}
    fetching: dict[str, Callable[[], Any]] = {"sememe": lambda: [opened[word] for word in asked]}
    library = peer("gensim.models")
    load_theirs, common = None, None
    if library is not None:
        load_theirs, theirs = once(lambda: library.KeyedVectors.load_word2vec_format(str(text)))
        theirs.save(str(saved))
        opening["gensim"] = lambda: library.KeyedVectors.load(str(saved), mmap="r")[keys[0]]
        asking["gensim"] = lambda: [theirs.most_similar(word, topn=10) for word in asked]
        fetching["gensim"] = lambda: [theirs[word] for word in asked]
        both = zip(asking["sememe"](), asking["gensim"]())
        common = np.mean([len({key for key, _ in a} & {key for key, _ in b}) / 10 for a, b in both])
    found["load the text file"] = (loading, load_theirs)
    for what, calls in (("open a store, first word", opening), ("40 words", fetching)):
        times = interleaved(calls, settings.rounds)
        found[what] = (times["sememe"], times.get("gensim"))
    times = interleaved(asking, settings.rounds)
    found["10 nearest words of 40"] = (times["sememe"], times.get("gensim"))
    threads = settings.threads
    columns = [Column("what"), Column("ours, ms", ",.2f"), Column("gensim, ms", ",.2f"), Column("x gensim", ".1f")]
    megabytes = text.stat().st_size / 1e6
    table = Table(f"{len(keys):,} words of {vectors.shape[1]} dimensions, {megabytes:.0f} MB of text", columns)
    for what, (mine, other) in found.items():
        own, peers = 1e3 * mine.seconds(threads), None if other is None else 1e3 * other.seconds(threads)
        table.rows.append([f"sememe: {what}", own, peers, None if peers is None else peers / own])
    size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) / len(keys)
    limit = 1e3 * _ASKED * vectors.nbytes / limits.bandwidth
    table.note = (
        f"The store takes {size:.0f} bytes a word. Reading all float32 vectors once a query would take {limit:.1f} ms."
    )
    if common is not None:
        table.note += f" {common:.1%} of the nearest words are the same."
    return table
