"""What text vectors alone recommend: the next item of a session, without training on sessions.

After "Do We Really Need Specialization? Evaluating Generalist Text Embeddings for Zero-Shot Recommendation and Search"
(2025, arXiv 2507.05006). The query of a session is a vector made of its items; the answer is the item that was taken
out. Product search is plain retrieval: see `retrieval`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sememe.catalog import Paper, register
from sememe.contracts import Vectors, as_vectors, unit_rows
from sememe.errors import InputError
from sememe.measure.geometry import isoscore, participation_ratio
from sememe.measure.stats import Estimate, bootstrap_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

REC_PAPER = Paper(
    "Do We Really Need Specialization? Evaluating Generalist Text Embeddings for Zero-Shot Recommendation and Search",
    2025,
    "2507.05006",
)
Query = Literal["mean", "last"]


@dataclass(frozen=True, slots=True)
class RecResult:
    """Values of each session for one way to recommend.

    Attributes
    ----------
    recall : float64 ndarray of shape (sessions,)
        1 where the held-out item is among the first ``k``.
    ndcg : float64 ndarray of shape (sessions,)
        ``1 / log2(rank + 1)`` where it is, else 0.
    """

    recall: NDArray[np.float64]
    ndcg: NDArray[np.float64]

    def estimate(self) -> dict[str, Estimate]:
        """Both means with their intervals."""
        return {"recall": bootstrap_mean(self.recall), "ndcg": bootstrap_mean(self.ndcg)}


@register(
    "zero-shot-rec",
    room="measure",
    kind="measure",
    summary="next-item recommendation from item text vectors alone, beside popularity, whole and after PCA",
    paper=REC_PAPER,
    claim="generalist text embeddings recommend well without training, and PCA keeps or helps that",
)
class ZeroShotRecEval:
    """Leave the last item of each session out and rank all items that the session has not seen.

    Parameters
    ----------
    query : {"mean", "last"}
        What stands for a session: the mean of its items' vectors, or its last item.
    k : int
        Length of the recommendation.
    """

    def __init__(self, query: Query = "mean", k: int = 10) -> None:
        if query not in ("mean", "last"):
            raise InputError(f"query must be 'mean' or 'last', got {query!r}")
        self.query, self.k = query, k

    def vectors(self, items: Vectors, sessions: Sequence[Sequence[int]]) -> RecResult:
        """Rank by cosine to the session.

        Parameters
        ----------
        items : ndarray of shape (n, d)
            Item vectors.
        sessions : sequence of sequences of int
            Item rows in the order of use, at least two a session; the last one is the answer.
        """
        unit = unit_rows(as_vectors(items, name="items"))
        past = _check(sessions, len(unit))
        queries = np.stack([unit[seen[-1:] if self.query == "last" else seen].mean(axis=0) for seen in past])
        return self._rank(queries @ unit.T, sessions)

    def popularity(self, n: int, sessions: Sequence[Sequence[int]], counted: Sequence[Sequence[int]]) -> RecResult:
        """The obvious baseline: the items most frequent in ``counted`` (other sessions), the same for everybody."""
        _check(sessions, n)
        counts = np.bincount([item for session in counted for item in session], minlength=n).astype(np.float32)
        return self._rank(np.broadcast_to(counts, (len(sessions), n)), sessions)

    def usage(self, items: Vectors) -> dict[str, float]:
        """How evenly the vectors use their space: IsoScore and participation ratio."""
        return {"isoscore": isoscore(items), "participation": participation_ratio(items)}

    def _rank(self, scores: NDArray[np.float32], sessions: Sequence[Sequence[int]]) -> RecResult:
        recall, ndcg = np.zeros(len(sessions)), np.zeros(len(sessions))
        for row, session in enumerate(sessions):
            own = np.array(scores[row], dtype=np.float64)
            own[[item for item in session[:-1] if item != session[-1]]] = -np.inf
            answer = session[-1]
            # equal scores share their places, so that a constant score earns no more than chance
            place = 1 + np.count_nonzero(own > own[answer]) + (np.count_nonzero(own == own[answer]) - 1) / 2
            if place <= self.k:
                recall[row], ndcg[row] = 1.0, 1 / np.log2(place + 1)
        return RecResult(recall, ndcg)


def _check(sessions: Sequence[Sequence[int]], n: int) -> list[list[int]]:
    if not sessions:
        raise InputError("there is no session")
    for number, session in enumerate(sessions):
        if len(session) < 2:
            raise InputError("a session needs at least two items", where=f"session {number}")
        if min(session) < 0 or max(session) >= n:
            raise InputError(f"an item lies outside 0..{n - 1}", where=f"session {number}")
    return [list(session[:-1]) for session in sessions]
