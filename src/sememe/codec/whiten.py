"""Whitening: unit covariance, so that no direction of the embedding space outweighs another."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec.base import Transform, width
from sememe.codec.moments import Moments
from sememe.contracts import Vectors, as_vectors
from sememe.errors import InputError

_SMALL = 10  # samples a dimension below which "auto" shrinks
_WORST = 1e6


@register(
    "whiten",
    room="codec",
    kind="transform",
    summary="decorrelate and scale to unit variance, optionally keeping the first d directions",
    paper=Paper("WhiteningBERT: An Easy Unsupervised Sentence Embedding Approach", 2021, "2104.01767"),
    claim="Spearman on sentence similarity rises by at least 5 points over raw lower-layer vectors.",
)
class Whiten(Transform):
    """``x' = (x - m) U S**-1/2`` with the eigenvectors ``U`` and eigenvalues ``S`` of the corpus covariance.

    Parameters
    ----------
    d : int, optional
        Keep the first ``d`` directions; all when not given.
    shrinkage : "auto" or float
        Move the eigenvalues this far (0 to 1) towards their mean. ``auto`` is Ledoit and Wolf's (2004) estimate where
        there are fewer than 10 samples a dimension, 0 otherwise.
    renormalize : bool
        Unit rows out; zero rows stay zero.

    Attributes
    ----------
    mean_ : ndarray of shape (d_in,)
    whitening_ : ndarray of shape (d, d_in)
        Rows are eigenvectors divided by the standard deviation along them; zero rows for directions without variance.
    deviation_ : ndarray of shape (d,)
        Those standard deviations.
    shrinkage_, condition_ : float
        Shrinkage used, and largest over smallest kept eigenvalue; ``fit`` warns above 1e6: noise directions are then
        blown up a thousandfold.
    """

    mean_: Vectors
    whitening_: Vectors

    rank = 8
    keeps_scores = False

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Before integers."""
        return ["whiten | int4"]

    def __init__(self, d: int | None = None, shrinkage: float | str = "auto", renormalize: bool = True) -> None:
        self.d = d
        self.shrinkage = shrinkage
        self.renormalize = renormalize

    def dim_out(self, d: int) -> int:
        """The width of the result for input of width ``d``."""
        return width(self, self.d, d)

    def fit_moments(self, moments: Moments) -> Whiten:
        """Fit from a mean and covariance gathered elsewhere, for example over a stream."""
        if not moments.count:
            raise InputError("there are no rows in these moments", fix="call update with training vectors first")
        self.n_features_in_ = len(moments.mean)
        keep = width(self, self.d, self.n_features_in_)
        values, vectors = moments.spectrum()
        self.shrinkage_ = self._amount(moments, values)
        values = (1 - self.shrinkage_) * values + self.shrinkage_ * values.mean()
        values, vectors = values[:keep], vectors[:keep]
        # Below this an eigenvalue is rounding error of the covariance, not variance.
        alive = values > values[0] * np.finfo(np.float64).eps * len(moments.mean) * 16
        deviation = np.sqrt(values)
        inverse = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=alive)
        self.condition_ = float(values[0] / values[alive].min()) if alive.any() else 1.0
        if self.condition_ > _WORST:
            warnings.warn(
                f"whitening is ill-conditioned ({self.condition_:.1e}) with {moments.count} samples of "
                f"{len(moments.mean)} dimensions; keep fewer directions (whiten:d) or set shrinkage",
                RuntimeWarning,
                stacklevel=2,
            )
        self.mean_ = moments.mean.astype(np.float32)
        self.whitening_ = np.ascontiguousarray(vectors * inverse[:, None], dtype=np.float32)
        self.deviation_ = np.where(alive, deviation, 0.0).astype(np.float32)
        return self

    def _amount(self, moments: Moments, values: NDArray[np.float64]) -> float:
        if self.shrinkage != "auto":
            if isinstance(self.shrinkage, str) or not 0 <= self.shrinkage <= 1:
                raise InputError(
                    f"shrinkage={self.shrinkage!r} is not possible", fix="give auto or a number from 0 to 1"
                )
            return float(self.shrinkage)
        n, d = moments.count, len(values)
        if n >= _SMALL * d:
            return 0.0
        if n < 2:
            return 1.0
        population = values * (n - 1) / n
        square = float(population @ population)
        spread = square - float(population.sum()) ** 2 / d
        noise = (moments.fourth / n - square) / n
        return float(np.clip(noise / spread, 0.0, 1.0)) if spread > 0 else 1.0

    def _learn(self, X: Vectors) -> None:
        self.fit_moments(Moments().update(X))

    def _apply(self, X: Vectors) -> Vectors:
        return np.asarray((X - self.mean_) @ self.whitening_.T, dtype=np.float32)

    def inverse_transform(self, X: Vectors) -> Vectors:
        """Back to the input space, ``(n, d) -> (n, d_in)``; lengths are kept only with ``renormalize=False``."""
        self._check_fitted()
        rows = as_vectors(X, dim=len(self.whitening_))
        back = self.whitening_ * (self.deviation_**2)[:, None]
        return np.ascontiguousarray(rows @ back + self.mean_, dtype=np.float32)
