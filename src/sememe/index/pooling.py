"""Fewer vectors from many: the token vectors of a passage within a budget.

``ward`` merges what is alike (Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact via
Token Pooling, 2024, arXiv 2409.14683), ``sequential`` merges neighbours, and ``prefix`` keeps the first vectors, for
encoders whose vectors are ordered by importance, so that any prefix can be indexed (MetaEmbed: Scaling Multimodal
Retrieval at Test-Time with Flexible Late Interaction, 2025, arXiv 2509.18095).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Ragged, Vectors, unit_rows
from sememe.errors import InputError

Budget = int | float


def check_budget(budget: object) -> Budget:
    """A number of vectors (0 for all), or a share of a passage's own between 0 and 1, or an InputError."""
    if isinstance(budget, int) and not isinstance(budget, bool) and 0 <= budget <= 1 << 20:
        return budget
    if isinstance(budget, float) and 0 < budget < 1:
        return budget
    raise InputError(
        f"{budget!r} is not a number of vectors a passage",
        fix="give a whole number, 0 for all, or a share of the passage's own such as 0.25",
    )


def counts_within(counts: NDArray[np.int64], budget: Budget) -> NDArray[np.int64]:
    """How many vectors are kept of passages with ``counts`` ``(n,)``; never none."""
    if isinstance(budget, float):
        kept = np.ceil(counts * budget - 1e-9).astype(np.int64)
    else:
        kept = np.minimum(counts, budget) if budget else counts
    return np.maximum(kept, 1)


def pool(tokens: Ragged, budget: Budget = 0, how: str = "ward") -> Ragged:
    """The unit vectors of each passage within a budget.

    Parameters
    ----------
    tokens : Ragged
        As an encoder gives them, of any length; they are made unit vectors first.
    budget : int or float
        The most vectors a passage keeps, 0 for all, or the share of its own that it keeps, rounded up.
    how : {"ward", "sequential", "prefix"}

    Returns
    -------
    Ragged
        Unit rows. A passage without any, or whose vectors are all zero, keeps one zero vector, as a blank text does
        among single vectors.
    """
    if how not in POOLINGS:
        raise InputError(f"there is no pooling {how!r}", fix=f"use {', '.join(POOLINGS)}")
    counts = np.diff(tokens.offsets)
    kept = counts_within(counts, check_budget(budget))
    offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    rows = unit_rows(tokens.values)
    if np.array_equal(offsets, tokens.offsets):
        return Ragged(rows, offsets)
    values = np.zeros((int(offsets[-1]), rows.shape[1]), dtype=np.float32)
    for passage in range(len(tokens)):
        own = rows[tokens.offsets[passage] : tokens.offsets[passage + 1]]
        target = values[offsets[passage] : offsets[passage + 1]]
        if len(own) <= len(target):
            target[: len(own)] = own
        else:
            target[...] = POOLINGS[how](own, len(target))
    return Ragged(unit_rows(values), offsets)


def _prefix(X: Vectors, k: int) -> Vectors:
    return X[:k]


def _sequential(X: Vectors, k: int) -> Vectors:
    """Means of ``k`` runs of neighbours, of nearly equal length."""
    starts = np.linspace(0, len(X), k + 1).astype(int)[:-1]
    return np.asarray(np.add.reduceat(X, starts, axis=0))


def _ward(X: Vectors, k: int) -> Vectors:
    """Means of ``k`` clusters by Ward's criterion: always merge the two whose union loses the least variance.

    ``gaps[i, j]`` is the loss of merging ``i`` and ``j``, kept up to date by the formula of Lance and Williams (1967).
    Rows here are few, so one look over the whole table for each merge is fast enough.
    """
    n = len(X)
    sums, sizes = X.astype(np.float64), np.ones(n)
    gaps = 1.0 - (X @ X.T).astype(np.float32)  # half the squared distance of unit rows, which is the loss
    np.fill_diagonal(gaps, np.inf)
    for _ in range(n - k):
        a, b = sorted(divmod(int(gaps.argmin()), n))
        a_size, b_size = sizes[a], sizes[b]
        merged = (a_size + sizes) * gaps[a] + (b_size + sizes) * gaps[b] - sizes * gaps[a, b]
        merged /= a_size + b_size + sizes
        merged[a] = np.inf
        gaps[a], gaps[:, a] = merged, merged
        gaps[b], gaps[:, b] = np.inf, np.inf
        sums[a] += sums[b]
        sizes[a] += b_size
        sizes[b] = 0
    return np.asarray(sums[sizes > 0], dtype=np.float32)


POOLINGS: dict[str, Callable[[Vectors, int], Vectors]] = {"ward": _ward, "sequential": _sequential, "prefix": _prefix}
