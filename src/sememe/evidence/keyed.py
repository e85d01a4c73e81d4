"""Keyed vectors: a mapped store against reading the same table from text, and words that nobody stored."""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sememe.contracts import Vectors, unit_rows
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.index import KeyedVectors
from sememe.index.keyed import MAGNITUDE

DIM = 100
WORDS = 150_000
MISSPELLED = 300
ASKED = 60
RUNS = 5
_FIRST = """
import sys, time
import numpy
from sememe.index import KeyedVectors
began = time.perf_counter()
row = KeyedVectors.open(sys.argv[1])[sys.argv[2]]
print(time.perf_counter() - began)
"""


@experiment(
    "keyed",
    paper=MAGNITUDE,
    claim="Common operations are 60 to 6,000 times as fast as in a library that reads its vectors from text.",
    needs=("word-frequency", "cmudict"),
)
def run(setting: Setting) -> Finding:
    """Opening to the first vector, misspelled words, and neighbours against every cosine in double precision."""
    keys, vectors = _table(setting)
    with tempfile.TemporaryDirectory() as folder:
        text, store = Path(folder, "vectors.txt"), Path(folder, "store")
        with text.open("w", encoding="utf-8") as file:
            file.write(f"{len(keys)} {DIM}\n")
            file.writelines(f"{key} {' '.join(f'{x:.5f}' for x in row)}\n" for key, row in zip(keys, vectors.tolist()))
        began = time.perf_counter()
        read = _plain_reader(text)
        slow = time.perf_counter() - began
        loaded = KeyedVectors.load(text)
        loaded.save(store)
        cold = [_cold(store, keys[100 + run]) for run in range(RUNS)]
        opened = KeyedVectors.open(store)
        same = all(np.array_equal(opened[key], read[key]) for key in keys[:: len(keys) // 500])
        found = np.array([_found(opened, seed) for seed in setting.seeds])
        exact = np.mean([_agrees(opened, seed) for seed in setting.seeds])
    times = sorted(slow / each for each in cold)
    checks = {
        "a fresh process has its first vector in less than 50 ms": float(np.median(cold)) < 0.05,
        "at least 10 times as fast as reading the table from text": times[0] >= 10,
        "a misspelled word has the original among its ten neighbours in at least 70 % of cases": bool(
            (found.mean(axis=1) >= 0.7).all()
        ),
        "neighbours are those of all cosines in double precision": float(exact) == 1.0,
        "vectors are those of the text": same,
    }
    shares = found.mean(axis=1)
    return Finding(
        measured=float(np.median(times)),
        baseline=1.0,
        interval=(times[0], times[-1]),
        unit="times as fast to the first vector as reading the table from text line by line",
        interval_of=f"that ratio over {RUNS} fresh processes",
        checks=checks,
        details={
            "seconds_to_the_first_vector": cold,
            "seconds_to_read_the_text": slow,
            "misspelled_found_by_seed": shares.tolist(),
            "neighbours_agree": float(exact),
        },
        conditions=f"{len(keys):,} words of the frequency lists of eleven languages and of the pronouncing dictionary, "
        f"their static vectors cut to {DIM} dimensions; {MISSPELLED} English words a seed with one letter dropped, "
        "doubled, swapped or replaced; libraries imported before the clock starts; files in the system's cache.",
        reason=""
        if all(checks.values())
        else "likely, not tested: a changed letter in a short word leaves many words as near in spelling, and only "
        "three of them make its vector",
    )


def _table(setting: Setting) -> tuple[list[str], Vectors]:
    from sememe.encode import make

    found: dict[str, None] = {}
    for place in ("word-frequency", "cmudict"):
        for path in sorted(setting.data.require(place).glob("*.gz")):
            with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
                for line in file:
                    if fields := line.split():
                        found.setdefault(fields[0].lower())
    keys = list(found)
    keys = [keys[place] for place in np.linspace(0, len(keys) - 1, min(WORDS, len(keys))).astype(int)]
    vectors = np.ascontiguousarray(make("static").encode(keys)[:, :DIM], dtype=np.float32)
    kept = np.flatnonzero(vectors.any(axis=1))
    return [keys[row] for row in kept], np.ascontiguousarray(vectors[kept])


def _plain_reader(path: Path) -> dict[str, Vectors]:
    """The obvious reader: a line at a time."""
    with path.open(encoding="utf-8") as file:
        next(file)
        return {
            parts[0]: np.array(parts[1:], dtype=np.float32) for parts in (line.rstrip("\n").split(" ") for line in file)
        }


def _cold(store: Path, key: str) -> float:
    """Seconds to the first vector in a process of its own, imports left out."""
    done = subprocess.run(
        [sys.executable, "-c", _FIRST, str(store), key], capture_output=True, text=True, check=True, timeout=120
    )
    return float(done.stdout)


def _found(store: KeyedVectors, seed: int) -> list[bool]:
    """For each misspelled word, whether the original is among the ten neighbours of the vector made for it."""
    generator = np.random.default_rng(seed)
    words = [store.key(row) for row in range(len(store))]
    usable = [word for word in words if word.isascii() and word.isalpha() and 5 <= len(word) <= 12]
    out: list[bool] = []
    while len(out) < MISSPELLED:
        word = usable[int(generator.integers(len(usable)))]
        wrong = _misspelled(word, generator)
        if wrong not in store:
            out.append(word in [key for key, _ in store.neighbours(store.unseen(wrong), 10)])
    return out


def _misspelled(word: str, generator: np.random.Generator) -> str:
    place, kind = int(generator.integers(1, len(word) - 1)), int(generator.integers(4))
    letter = "abcdefghijklmnopqrstuvwxyz"[int(generator.integers(26))]
    middle = {0: "", 1: word[place] * 2, 2: word[place + 1] + word[place], 3: letter}[kind]
    return word[:place] + middle + word[place + (2 if kind == 2 else 1) :]


def _agrees(store: KeyedVectors, seed: int) -> float:
    """Share of words whose ten neighbours have the ten largest cosines, in double precision."""
    rows = np.random.default_rng(seed).choice(len(store), ASKED, replace=False)
    unit = unit_rows(store.vectors([store.key(row) for row in range(len(store))])).astype(np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-300)
    agreed = 0
    for row in rows:
        cosines = unit @ unit[row]
        cosines[row] = -np.inf
        best = np.sort(cosines)[::-1][:10]
        answered = [value for _, value in store.neighbours(store.key(int(row)), 10)]
        # equal rows may come in any order, so the cosines are what must agree
        agreed += bool(np.allclose(answered, best, atol=1e-6))
    return agreed / len(rows)
