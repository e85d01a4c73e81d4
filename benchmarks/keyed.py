"""Keyed vectors against gensim: loading text, reopening, and nearest neighbours, on the same 400,000 words.

Real words (frequency lists of twelve languages, a pronouncing dictionary) with their static vectors, cut to 100
dimensions. CPU seconds of this process; neighbours interleaved, medians of single queries, one thread. Run it as

    SEMEME_DATA=... SEMEME_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/keyed.py [WORDS]
"""

from __future__ import annotations

import gzip
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sememe.encode import make
from sememe.index import KeyedVectors

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))


def words(count: int) -> list[str]:
    """Different words without blanks."""
    found: dict[str, None] = {}
    for folder in ("word-frequency", "cmudict"):
        for path in sorted((DATA / folder).iterdir()):
            opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
            with opened as lines:
                for line in lines:
                    fields = line.split()
                    if fields:
                        found.setdefault(fields[0])
    return list(found)[:count]


def spent(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds and the result."""
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def main(count: int) -> None:
    """Print the table."""
    from gensim.models import KeyedVectors as Theirs

    keys = words(count)
    rng = np.random.default_rng(0)
    vectors = np.ascontiguousarray(make("static").encode(keys)[:, :100])
    # Words of which nothing is known get zeros, which gensim cannot compare.
    empty = ~vectors.any(axis=1)
    vectors[empty] = rng.standard_normal((int(empty.sum()), 100))
    with tempfile.TemporaryDirectory() as place:
        text, store = Path(place) / "words.txt", Path(place) / "store"
        with text.open("w", encoding="utf-8") as file:
            file.write(f"{len(keys)} 100\n")
            for key, row in zip(keys, vectors):
                file.write(key + " " + " ".join(f"{value:.6f}" for value in row.tolist()) + "\n")
        print(f"{len(keys):,} words x 100, {text.stat().st_size / 1e6:.0f} MB of text")
        slow, theirs = spent(lambda: Theirs.load_word2vec_format(str(text)))
        parse, _ = spent(lambda: __import__("sememe.index.keyed_files").index.keyed_files.read_table(text))
        fast, ours = spent(lambda: KeyedVectors.load(text))
        print(f"load text: gensim {slow:.2f} s, ours {fast:.2f} s ({slow / fast:.1f}x), of it parsing {parse:.2f} s")
        saving, _ = spent(lambda: ours.save(store))
        opening, opened = spent(lambda: KeyedVectors.open(store))
        first, _ = spent(lambda: opened["the"])
        second, _ = spent(lambda: opened.neighbours("the"))
        print(
            f"save {saving:.2f} s; reopen {opening * 1e3:.1f} ms, first word {first * 1e3:.1f} ms, first neighbours "
            f"{second * 1e3:.1f} ms (checksums of what is touched included)"
        )
        times: dict[str, list[float]] = {"gensim": [], "ours": []}
        same = 0
        asked = [keys[i] for i in rng.integers(0, 50_000, 60)]
        theirs.most_similar(asked[0])
        for word in asked:
            a, want = spent(lambda word=word: theirs.most_similar(word, topn=10))
            b, got = spent(lambda word=word: opened.neighbours(word, 10))
            times["gensim"].append(a)
            times["ours"].append(b)
            same += len({key for key, _ in want} & {key for key, _ in got})
        a, b = (float(np.median(times[name])) for name in ("gensim", "ours"))
        print(
            f"10 neighbours: gensim {a * 1e3:.2f} ms, ours {b * 1e3:.2f} ms ({a / b:.1f}x), "
            f"{same / 6:.1f} % of words in common"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400_000)
