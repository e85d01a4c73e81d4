"""The best ``k`` of many scores, kept up to date block by block; ties go to the lower row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NO_ROW = -1
_LAST = np.iinfo(np.int64).max
_MERGE_AT = 1 << 18  # single offers gathered before they are sorted in


class TopK:
    """A running top ``k`` for each of ``q`` queries.

    Rows may arrive in any order and in any number of blocks; the result is the one that a full sort by (score
    descending, row ascending) would give, as long as no row arrives twice for a query.
    """

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self.scores = np.full((queries, k), -np.inf, dtype=np.float32)
        self.rows = np.full((queries, k), _LAST, dtype=np.int64)
        self._pending: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]] = []
        self._waiting = 0

    def add(self, scores: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Offer ``scores`` ``(q, b)`` of the rows ``(b,)``, the same rows for every query."""
        if not self.k or not scores.size:
            return
        worst = self.scores[:, -1:]
        # A row that ties with the worst kept one may still have a lower number, so ties stay in.
        keep = (scores >= worst) & (scores > -np.inf)
        if np.count_nonzero(keep) > 4 * self.k * len(scores) and scores.shape[1] > self.k:
            cut = np.partition(scores, scores.shape[1] - self.k, axis=1)[:, -self.k][:, None]
            keep = (scores >= np.maximum(cut, worst)) & (scores > -np.inf)
        query, column = np.nonzero(keep)
        if len(query):
            self.merge(query, scores[query, column], rows[column])

    def offer(self, query: int, scores: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Offer rows of one query; they are merged together with those of the others, which is much faster."""
        self._pending.append((np.full(len(rows), query), scores, rows))
        self._waiting += len(rows)
        if self._waiting > _MERGE_AT:
            self._flush()

    def _flush(self) -> None:
        pending, self._pending, self._waiting = self._pending, [], 0
        if pending:
            query, scores, rows = (np.concatenate(part) for part in zip(*pending))
            self.merge(query, scores, rows)

    def merge(self, query: NDArray[np.int64], scores: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Offer single (query, score, row) triples."""
        count = len(self.scores)
        everyone = np.concatenate([np.repeat(np.arange(count), self.k), query])
        all_scores = np.concatenate([self.scores.ravel(), scores])
        all_rows = np.concatenate([self.rows.ravel(), rows])
        order = np.lexsort((all_rows, -all_scores, everyone))
        starts = np.searchsorted(everyone[order], np.arange(count))
        chosen = order[starts[:, None] + np.arange(self.k)]
        self.scores, self.rows = all_scores[chosen], all_rows[chosen]

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows ``(q, k')``, best first; ``k'`` is the most any query found.

        A query that found fewer is padded with score -inf and row -1.
        """
        self._flush()
        found = self.rows != _LAST
        width = int(found.sum(axis=1).max(initial=0))
        rows = np.where(found, self.rows, NO_ROW)
        return np.ascontiguousarray(self.scores[:, :width]), np.ascontiguousarray(rows[:, :width])


def stacked(
    parts: list[tuple[NDArray[np.float32], NDArray[np.int64]]],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rankings ``(1, k')`` of single queries as one ``(q, k')``; shorter lines end in -inf and -1."""
    wide = max((scores.shape[1] for scores, _ in parts), default=0)
    all_scores = np.full((len(parts), wide), -np.inf, dtype=np.float32)
    all_rows = np.full((len(parts), wide), NO_ROW, dtype=np.int64)
    for line, (scores, rows) in enumerate(parts):
        all_scores[line, : scores.shape[1]], all_rows[line, : rows.shape[1]] = scores[0], rows[0]
    return all_scores, all_rows


def is_ranking(scores: NDArray[np.float32], rows: NDArray[np.int64]) -> bool:
    """Whether every line ``(q, k)`` is full and strictly falls: what a merge would only leave as it is."""
    return bool((scores[:, 1:] < scores[:, :-1]).all()) and (not rows.size or int(rows.min()) >= 0)
