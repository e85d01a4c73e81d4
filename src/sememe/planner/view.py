"""One way of seeing the collection: its passages under one chunking and one encoder, and the rankings they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Encoder, Ragged, Record, Vectors
from sememe.index.ragged import take
from sememe.planner.questions import Questions

if TYPE_CHECKING:
    from sememe.planner.lexical import WordRanks
    from sememe.planner.multi import Tokens

DEPTH = 100  # how far down a ranking is looked at
FIT_ROWS = 20_000
_BLOCK = 2**24  # scores held at once while ranking


@dataclass
class View:
    """Vectors of passages and of the queries asked of them.

    Attributes
    ----------
    passages : float32 (n, d)
    starts : int64 (r,)
        First passage of each record that has any; records are in order.
    records : int64 (r,)
        Row of each such record in the corpus sample.
    tokens : Tokens or None
        The token vectors of the passages, where they are searched.
    """

    passages: Vectors
    starts: NDArray[np.int64]
    records: NDArray[np.int64]
    texts: list[str]
    tokens: Tokens | None = None

    @property
    def chunked(self) -> bool:
        """True where some record has more than one passage."""
        return len(self.starts) < len(self.passages)


@dataclass
class Asked:
    """Queries encoded for one view: vectors (q, d), gains (q, r) or None, rows left out (q,), -1 for none.

    ``words`` is what BM25 finds for them in the same view, where that was looked up; ``tokens`` are their own token
    vectors, where those are searched with.
    """

    vectors: Vectors
    gains: NDArray[np.float32] | None
    ideal: NDArray[np.float32] | None
    left_out: NDArray[np.int64]
    words: WordRanks | None = None
    tokens: Ragged | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: NDArray[np.int64]) -> Asked:
        """The queries at ``rows``."""
        return Asked(
            self.vectors[rows],
            None if self.gains is None else self.gains[rows],
            None if self.ideal is None else self.ideal[rows],
            self.left_out[rows],
            None if self.words is None else self.words.take(rows),
            None if self.tokens is None else take(self.tokens, np.asarray(rows)),
        )


def fit_sample(vectors: Vectors, *, seed: int) -> Vectors:
    """At most ``FIT_ROWS`` rows of ``vectors`` (n, d): what chains are fitted on. Never queries."""
    if len(vectors) <= FIT_ROWS:
        return vectors
    rows = np.random.default_rng([seed, 4]).choice(len(vectors), FIT_ROWS, replace=False)
    return np.ascontiguousarray(vectors[np.sort(rows)])


def ask(view: View, questions: Questions, encoder: Encoder, corpus: Sequence[Record]) -> Asked:
    """Encode the questions and lay their judgements out over the records of the view."""
    place = {corpus[row].id: column for column, row in enumerate(view.records)}
    vectors = encoder.encode(questions.texts, kind="query")
    left_out = np.array([place.get(name, -1) if name else -1 for name in questions.left_out], dtype=np.int64)
    gains = ideal = None
    if any(questions.relevant):
        gains = np.zeros((len(questions), len(view.records)), dtype=np.float32)
        ideal = np.zeros((len(questions), 10), dtype=np.float32)
        for row, relevant in enumerate(questions.relevant):
            for name, gain in relevant.items():
                if name in place:
                    gains[row, place[name]] = gain
            best = sorted(relevant.values(), reverse=True)[:10]
            ideal[row, : len(best)] = best
    return Asked(vectors, gains, ideal, left_out)


def by_record(scores: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """Scores of passages (q, n) to scores of records (q, r): the best passage counts."""
    return np.maximum.reduceat(scores, view.starts, axis=1) if view.chunked else scores


def best_first(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the ``k`` largest of each row (q, m), best first, ties to the lower column."""
    k = min(k, scores.shape[1])
    if k < scores.shape[1]:
        top = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    else:
        top = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1)


def query_blocks(count: int, width: int) -> list[slice]:
    """Slices of queries whose score matrix stays within memory bounds."""
    step = max(1, _BLOCK // max(width, 1))
    return [slice(a, min(a + step, count)) for a in range(0, count, step)]
