"""The shape of a cloud of vectors: intrinsic dimension, isotropy, and how many of its dimensions a task needs.

After "Redundancy, Isotropy, and Intrinsic Dimensionality of Prompt-based Text Embeddings" (2025, arXiv 2506.01435),
with TwoNN ("Estimating the intrinsic dimension of datasets by a minimal neighborhood information", 2017, arXiv
1803.06992), the maximum-likelihood estimator of Levina and Bickel (2004), and "IsoScore: Measuring the Uniformity of
Embedding Space Utilization" (2021, arXiv 2108.07344).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sememe.catalog import Paper, register
from sememe.contracts import Vectors, as_vectors
from sememe.errors import InputError
from sememe.measure.stats import Estimate, bootstrap_mean

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

REDUNDANCY_PAPER = Paper(
    "Redundancy, Isotropy, and Intrinsic Dimensionality of Prompt-based Text Embeddings", 2025, "2506.01435"
)
Reduce = Callable[[Vectors], Vectors]
Kind = Literal["first", "random", "pca"]
_BLOCK = 1024  # rows of distances at once


def neighbour_distances(X: ArrayLike, k: int) -> Floats:
    """Euclidean distances to the ``k`` nearest distinct rows, ascending: float64 ``(n', k)``.

    Rows that repeat another are left out first (``n' <= n``): a distance of zero tells nothing about dimension.
    Candidates come from float32 inner products, their distances from float64 differences.
    """
    rows = np.unique(as_vectors(X), axis=0)
    if len(rows) <= k:
        raise InputError(f"{len(rows)} distinct vectors have no {k} neighbours each", fix="give more vectors")
    rows = rows - rows.mean(axis=0)
    squares = np.einsum("ij,ij->i", rows, rows)
    wide = min(k + 3, len(rows) - 1)  # spare candidates, so that rounding cannot lose a neighbour
    out = np.empty((len(rows), k))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        apart = squares[None, :] - 2 * (block @ rows.T)
        apart[np.arange(len(block)), np.arange(start, start + len(block))] = np.inf
        near = np.argpartition(apart, wide - 1, axis=1)[:, :wide]
        gaps = rows[near].astype(np.float64) - block[:, None, :]
        out[start : start + len(block)] = np.sort(np.sqrt(np.einsum("nkd,nkd->nk", gaps, gaps)), axis=1)[:, :k]
    return out


def twonn(X: ArrayLike, *, discard: float = 0.1) -> float:
    """Intrinsic dimension from the ratio ``mu`` of the distances to the second and the first neighbour.

    On a ``d``-manifold ``mu`` follows a Pareto law of exponent ``d``; the slope of ``-log(1 - F(mu))`` over ``log mu``,
    through the origin, estimates it. The ``discard`` largest share of ratios, which leave the law first, is not used.

    Parameters
    ----------
    X : array-like of shape (n, d)
        At least three distinct rows.
    discard : float
        Share of the largest ratios to leave out, in [0, 1).
    """
    near = neighbour_distances(X, 2)
    logs = np.sort(np.log(near[:, 1] / near[:, 0]))
    n = len(logs)
    keep = max(1, int(n * (1 - discard)))
    survival = -np.log1p(-np.arange(1, n + 1)[:keep] / (n + 1))
    used = logs[:keep]
    total = float(used @ used)
    return float(used @ survival) / total if total > 0 else 0.0


def mle_dimension(X: ArrayLike, *, k: int = 20) -> float:
    """Intrinsic dimension by maximum likelihood over the ``k`` nearest neighbours of each row.

    Each row estimates ``1 / d`` as the mean of ``log(T_k / T_j)`` over its ``k - 1`` nearer neighbours; these are
    averaged before inverting (the correction of MacKay and Ghahramani), since their inverses are biased. Much beyond
    ``d = 10`` it falls short unless there are very many rows, as all neighbour-based estimates do.
    """
    if k < 3:
        raise InputError(f"k must be at least 3, got {k}")
    near = neighbour_distances(X, k)
    inverse = np.log(near[:, -1:] / near[:, :-1]).sum(axis=1).mean() / (k - 1)
    return float(1 / inverse) if inverse > 0 else 0.0


def isoscore(X: ArrayLike) -> float:
    """IsoScore: 1 where variance is spread evenly over all dimensions, near 0 where one direction holds it all.

    With the ``d`` variances along the principal axes scaled to norm ``sqrt(d)``, their distance ``delta`` to the vector
    of ones, divided by its largest possible value ``sqrt(2 (d - sqrt(d)))``, gives the share of dimensions used,
    ``phi = (d - delta^2 (d - sqrt(d)))^2 / d^2``, and the score ``(d phi - 1) / (d - 1)``.
    """
    variances = spectrum(X)
    d = len(variances)
    if d == 1:
        return 1.0
    norm = float(np.linalg.norm(variances))
    if norm == 0:
        raise InputError("all vectors are equal, so there is no spread to score")
    defect = np.linalg.norm(np.sqrt(d) * variances / norm - 1) / np.sqrt(2 * (d - np.sqrt(d)))
    used = (d - defect**2 * (d - np.sqrt(d))) ** 2 / d**2
    return float((d * used - 1) / (d - 1))


def spectrum(X: ArrayLike) -> Floats:
    """Variances along the principal axes, largest first: float64 ``(d,)``."""
    rows = as_vectors(X).astype(np.float64)
    if len(rows) < 2:
        raise InputError("a spectrum needs at least two vectors")
    return np.maximum(np.linalg.eigvalsh(np.atleast_2d(np.cov(rows, rowvar=False)))[::-1], 0.0)


def participation_ratio(X: ArrayLike) -> float:
    """``(sum of variances)^2 / sum of squared variances``: the number of axes that carry the spread, 1 to ``d``."""
    variances = spectrum(X)
    return float(variances.sum() ** 2 / max(float((variances**2).sum()), 1e-300))


@dataclass(frozen=True, slots=True)
class Geometry:
    """The numbers of one cloud."""

    twonn: float
    mle: float
    isoscore: float
    participation: float


def geometry(X: ArrayLike) -> Geometry:
    """Intrinsic dimension, isotropy and participation ratio of ``(n, d)`` vectors. 20,000 vectors take seconds."""
    return Geometry(twonn(X), mle_dimension(X), isoscore(X), participation_ratio(X))


def reducer(X: Vectors, keep: int, kind: Kind, *, seed: int = 0) -> Reduce:
    """A function that keeps ``keep`` dimensions: the first, a random choice, or principal components of ``X``.

    What it returns takes ``(n, d)`` and gives ``(n, keep)``, not normalised.
    """
    d = X.shape[1]
    if not 1 <= keep <= d:
        raise InputError(f"keep must lie between 1 and {d}, got {keep}")
    if kind == "first":
        return lambda rows: np.ascontiguousarray(rows[:, :keep])
    if kind == "random":
        chosen = np.sort(np.random.default_rng(seed).permutation(d)[:keep])
        return lambda rows: np.ascontiguousarray(rows[:, chosen])
    from sememe.codec import PCA

    fitted = PCA(keep, renormalize=False).fit(X)
    return lambda rows: fitted.transform(rows)


@register(
    "redundancy",
    room="measure",
    kind="measure",
    summary="task scores after keeping the first, random or principal k % of dimensions, beside the cloud's geometry",
    paper=REDUNDANCY_PAPER,
    claim="keeping the first 25 % of dimensions costs very little; classification survives 0.5 %",
)
class RedundancyReport:
    """How much of a task's score survives when dimensions are dropped.

    Parameters
    ----------
    fractions : sequence of float
        Shares of the dimensions to keep.
    kinds : sequence of {"first", "random", "pca"}
        Which dimensions.
    seeds : int
        Draws of ``random``; its values are averaged item by item.
    """

    def __init__(
        self,
        fractions: Sequence[float] = (0.5, 0.25, 0.1, 0.05),
        kinds: Sequence[Kind] = ("first", "random", "pca"),
        seeds: int = 3,
    ) -> None:
        self.fractions, self.kinds, self.seeds = tuple(fractions), tuple(kinds), seeds

    def measure(self, X: Vectors, score: Callable[[Reduce], ArrayLike]) -> dict[str, dict[float, Estimate]]:
        """Score the task at every fraction.

        Parameters
        ----------
        X : ndarray of shape (n, d)
            The vectors on which principal components are fitted (the corpus, never the queries).
        score : callable
            Gets a function that reduces ``(n, d)`` to ``(n, d')`` and returns the task's values, one an item.

        Returns
        -------
        dict of kind to dict of fraction to Estimate
            ``"full"`` holds the score of all dimensions, under fraction 1.0.
        """
        d = X.shape[1]
        report: dict[str, dict[float, Estimate]] = {"full": {1.0: bootstrap_mean(score(lambda rows: rows))}}
        for kind in self.kinds:
            report[kind] = {}
            for fraction in self.fractions:
                keep = max(1, round(fraction * d))
                draws = range(self.seeds if kind == "random" else 1)
                values = [np.asarray(score(reducer(X, keep, kind, seed=seed)), dtype=np.float64) for seed in draws]
                report[kind][fraction] = bootstrap_mean(np.mean(values, axis=0))
        return report
