"""The bank customers' questions that several experiments share, with their vectors. Not an experiment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.evidence.data import DataFolder

MOST = 80


@dataclass(frozen=True, slots=True)
class Questions:
    """Unit MiniLM vectors ``(n, 384)`` and intents ``(n,)``, numbered by name."""

    vectors: Vectors
    intents: NDArray[np.int64]


def questions(data: DataFolder) -> tuple[Questions, Questions, list[str]]:
    """Questions for training (at most 80 an intent) and for test, and the names of the 77 intents.

    Vectors are kept in the cache of vectors, since several experiments use them.
    """
    from sememe.encode import make
    from sememe.encode.cache import Cached

    encoder = Cached(make("minilm"))
    parts = [data.table("banking77", f"{name}.tsv.gz") for name in ("train", "test")]
    names = sorted({row[0] for rows in parts for row in rows})
    parts[0] = first_of_each(parts[0], MOST)
    place = {name: number for number, name in enumerate(names)}
    train, test = (
        Questions(encoder.encode([row[1] for row in rows]), np.array([place[row[0]] for row in rows])) for rows in parts
    )
    return train, test, names


def first_of_each(rows: list[list[str]], most: int) -> list[list[str]]:
    """The first ``most`` rows of each label, in order."""
    seen: Counter[str] = Counter()
    kept = []
    for row in rows:
        seen[row[0]] += 1
        if seen[row[0]] <= most:
            kept.append(row)
    return kept
