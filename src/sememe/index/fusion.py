"""Several ranked lists into one: a weighted sum of what each list says of a row.

The methods differ in how a list's scores become shares that can be added. Reciprocal ranks look at places only, so
scores of different scales need no calibration; the others use the scores, brought to one scale within each list and
query. A row that a list has not found gets nothing from it, which always means: no more than the list's worst.

``score`` and ``tmm`` are the convex combinations of An Analysis of Fusion Functions for Hybrid Retrieval (2022, arXiv
2210.11934).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Hits
from sememe.errors import InputError
from sememe.index.best import TopK

RRF_K = 60  # the constant of Cormack et al. (2009)
F32 = NDArray[np.float32]
Ranked = tuple[F32, NDArray[np.int64]]
Share = Callable[[F32, NDArray[np.bool_], float], NDArray[np.floating]]


def _rrf(scores: F32, real: NDArray[np.bool_], floor: float) -> NDArray[np.floating]:
    """``1 / (60 + rank)``, ranks from one (Cormack, Clarke and Buettcher, 2009)."""
    return np.broadcast_to(1.0 / (RRF_K + 1.0 + np.arange(scores.shape[1])), scores.shape)


def _minmax(scores: F32, real: NDArray[np.bool_], floor: float) -> NDArray[np.floating]:
    """The list's best is 1 and its worst 0; 1 for all where they are equal."""
    low = np.min(scores, axis=1, keepdims=True, initial=np.inf, where=real)
    return _between(scores, real, low)


def _theoretical(scores: F32, real: NDArray[np.bool_], floor: float) -> NDArray[np.floating]:
    """The list's best is 1, the least score there can be is 0: a list of equally good rows keeps all its weight."""
    return _between(scores, real, np.full((len(scores), 1), floor, dtype=np.float32))


def _between(scores: F32, real: NDArray[np.bool_], low: F32) -> NDArray[np.floating]:
    high = np.max(scores, axis=1, keepdims=True, initial=-np.inf, where=real)
    with np.errstate(invalid="ignore"):
        return np.where(high > low, (scores - low) / (high - low), 1.0)


def _zscore(scores: F32, real: NDArray[np.bool_], floor: float) -> NDArray[np.floating]:
    """Standard deviations above the list's worst: z-scores, up to a constant that is the same for every row."""
    low = np.min(scores, axis=1, keepdims=True, initial=np.inf, where=real)
    _, deviation = _moments(scores, real)
    with np.errstate(invalid="ignore"):
        return np.where(deviation > 0, (scores - low) / np.where(deviation > 0, deviation, 1.0), 0.0)


def _distribution(scores: F32, real: NDArray[np.bool_], floor: float) -> NDArray[np.floating]:
    """Three standard deviations below the mean is 0, three above is 1 (distribution-based score fusion)."""
    mean, deviation = _moments(scores, real)
    with np.errstate(invalid="ignore"):
        scaled = (scores - mean) / np.where(deviation > 0, 6 * deviation, 1.0) + 0.5
    return np.clip(scaled, 0.0, 1.0)


def _moments(scores: F32, real: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each line's own scores, ``(q, 1)``."""
    count = np.maximum(real.sum(axis=1, keepdims=True), 1)
    known = np.where(real, scores, 0.0).astype(np.float64)
    mean = known.sum(axis=1, keepdims=True) / count
    gaps = np.where(real, known - mean, 0.0)
    return mean, np.sqrt((gaps**2).sum(axis=1, keepdims=True) / count)


# CombMNZ (Fox and Shaw, 1994) adds as ``score`` does and multiplies by the number of lists that found the row.
METHODS: dict[str, Share] = {
    "rrf": _rrf,
    "score": _minmax,
    "tmm": _theoretical,
    "zscore": _zscore,
    "dbsf": _distribution,
    "mnz": _minmax,
}


def fuse(
    method: str, lists: Sequence[Ranked], k: int, weights: Sequence[float] = (), floors: Sequence[float] = ()
) -> Ranked:
    """The ``k`` best rows of several ranked lists together.

    Parameters
    ----------
    method : {"rrf", "score", "tmm", "zscore", "dbsf", "mnz"}
        Reciprocal ranks; scores from the list's worst (0) to its best (1), from the least possible score to the best,
        in standard deviations, or within three of them; or as ``score``, times the number of lists with the row.
    lists : sequence of (scores (q, k_i), rows (q, k_i))
        Best first; padding has row -1.
    k : int
        Rows to keep.
    weights : sequence of float, optional
        One for each list; 1 each when not given.
    floors : sequence of float, optional
        The least score that each list could give, for ``tmm``: -1 for cosines, 0 for bm25. 0 when not given.

    Returns
    -------
    scores, rows : float32 and int64 arrays of shape (q, k')
        Best first, ties to the lower row.

    Raises
    ------
    InputError
        An unknown method, or not one weight or floor for each list.
    """
    if method not in METHODS:
        raise InputError(f"there is no fusion {method!r}", fix=f"use one of {', '.join(METHODS)}")
    for name, given in (("weights", weights), ("floors", floors)):
        if given and len(given) != len(lists):
            raise InputError(f"{len(given)} {name} were given for {len(lists)} lists")
    parts = []
    for place, (scores, rows) in enumerate(lists):
        real = rows >= 0
        share = METHODS[method](scores, real, floors[place] if floors else 0.0)
        parts.append((weights[place] if weights else 1.0) * np.where(real, share, 0.0))
    count = len(lists[0][1])
    rows = np.concatenate([rows for _, rows in lists], axis=1)
    shares = np.concatenate(parts, axis=1)
    real = rows >= 0
    query = np.broadcast_to(np.arange(count)[:, None], rows.shape)[real]
    width = int(rows.max(initial=0)) + 1
    pairs, place_of = np.unique(query * width + rows[real], return_inverse=True)
    total = np.bincount(place_of, weights=shares[real], minlength=len(pairs))
    if method == "mnz":
        total *= np.bincount(place_of, minlength=len(pairs))
    best = TopK(count, k)
    best.merge(pairs // width, total.astype(np.float32), pairs % width)
    return best.result()


def fuse_hits(
    hits: Sequence[Hits],
    k: int = 10,
    method: str = "rrf",
    *,
    weights: Sequence[float] = (),
    floors: Sequence[float] = (),
) -> Hits:
    """``fuse`` for what any number of indexes of the same records found, dense, sparse or multi-vector, joined by id.

    Parameters
    ----------
    hits : sequence of Hits
        One of each index, for the same queries.
    k, method, weights, floors
        As in ``fuse``.

    Returns
    -------
    Hits
        ``rows`` are those of the first of the indexes that found the id.
    """
    if len({len(found) for found in hits}) != 1:
        raise InputError("the hits belong to different numbers of queries", fix="search every index for the same ones")
    numbers: dict[str, int] = {}
    first: dict[int, int] = {}  # the rows behind them, where they were first seen
    lists: list[Ranked] = []
    for found in hits:
        rows = np.full(found.rows.shape, -1, dtype=np.int64)
        for (query, column), row in np.ndenumerate(found.rows):
            if row >= 0:
                number = numbers.setdefault(str(found.ids[query, column]), len(numbers))
                rows[query, column] = number
                first.setdefault(number, int(row))
        lists.append((found.scores, rows))
    scores, rows = fuse(method, lists, k, weights, floors)
    names = np.array([*numbers, ""], dtype=object)  # -1, the padding, takes the last
    places = np.array([*first.values(), -1], dtype=np.int64)
    return Hits(names[rows], scores, places[rows])
