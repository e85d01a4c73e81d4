"""Two ranked lists into one.

Reciprocal-rank fusion looks at ranks only, so scores of different scales need no calibration; score fusion uses the
scores, brought to [0, 1] within each list.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.index.best import TopK

RRF_K = 60  # the constant of Cormack et al. (2009)
Ranked = tuple[NDArray[np.float32], NDArray[np.int64]]


def reciprocal_rank(lists: list[Ranked], weights: list[float], k: int, constant: int = RRF_K) -> Ranked:
    """Sum of ``weight / (constant + rank)`` over the lists a row is in, ranks from one.

    Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning Methods (Cormack, Clarke and Buettcher,
    2009).

    Parameters
    ----------
    lists : list of (scores (q, k_i), rows (q, k_i))
        Best first; padding has row -1.
    weights : list of float
        One for each list.
    k : int
        Rows to keep.
    """
    shares = [np.broadcast_to(1.0 / (constant + 1.0 + np.arange(rows.shape[1])), rows.shape) for _, rows in lists]
    return _sum(lists, shares, weights, k)


def score(lists: list[Ranked], weights: list[float], k: int) -> Ranked:
    """Weighted sum of scores, each list scaled so that its best is 1 and its worst 0; absent rows get 0.

    A list whose scores are all equal gives 1 to each of its rows.
    """
    shares = []
    for scores, rows in lists:
        real = rows >= 0
        high = np.max(scores, axis=1, keepdims=True, initial=-np.inf, where=real)
        low = np.min(scores, axis=1, keepdims=True, initial=np.inf, where=real)
        with np.errstate(invalid="ignore"):
            scaled = np.where(high > low, (scores - low) / (high - low), 1.0)
        shares.append(np.where(real, scaled, 0.0))
    return _sum(lists, shares, weights, k)


def _sum(lists: list[Ranked], shares: list[NDArray], weights: list[float], k: int) -> Ranked:
    count = len(lists[0][1])
    best = TopK(count, k)
    rows = np.concatenate([rows for _, rows in lists], axis=1)
    parts = np.concatenate([weight * share for weight, share in zip(weights, shares)], axis=1)
    real = rows >= 0
    query = np.broadcast_to(np.arange(count)[:, None], rows.shape)[real]
    pairs, place = np.unique(np.stack([query, rows[real]]), axis=1, return_inverse=True)
    total = np.bincount(place.ravel(), weights=parts[real], minlength=pairs.shape[1])
    best.merge(pairs[0], total.astype(np.float32), pairs[1])
    return best.result()
