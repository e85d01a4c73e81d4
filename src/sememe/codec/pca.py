"""Principal component analysis: the d directions that keep most of the variance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec.base import NARROW, Transform, choice, width, widths
from sememe.codec.moments import Moments, fix_signs
from sememe.contracts import Vectors, as_vectors
from sememe.errors import InputError


@register(
    "pca",
    room="codec",
    kind="transform",
    summary="project onto the d principal components of the corpus",
    paper=Paper(
        "PCA-RAG: Principal Component Analysis for Efficient Retrieval-Augmented Generation", 2025, "2504.08386"
    ),
    claim="384 to 110 dimensions: 3.5 times smaller, nDCG loss at most 3 %.",
)
class PCA(Transform):
    """Project rows onto the ``d`` orthogonal directions that keep most of their square (centred: of their variance).

    Rows are not centred by default: search ranks by inner products, and the best ``d`` dimensions for those keep the
    common direction of the corpus. On MiniLM vectors (384 to 192 dimensions, unit rows) nDCG@10 stays at 1.004, 0.994
    and 1.002 of full precision on Cranfield, SciFact and CISI; centred, it is 0.974, 0.973 and 1.052. ``center |
    pca:192`` in a recipe, or ``center=true``, is the classical variant.

    Kernel PCA and autoencoders are left out because they do not earn their place: on the same three sets and width,
    kernel PCA (rbf, 1,400 rows) reaches 0.971, 0.927 and 1.032 and must keep its training rows, a two-layer
    autoencoder 0.926, 0.975 and 0.985.

    Parameters
    ----------
    d : int, optional
        Width of the result; all dimensions when neither ``d`` nor ``variance`` is given.
    solver : {"covariance", "randomized"}
        ``covariance`` is exact: the ``(d, d)`` covariance and its eigenvectors, in float64; the fast one up to a few
        thousand columns. ``randomized`` (Halko, Martinsson and Tropp, 2011, arXiv 0909.4061) never forms it.
    whiten : bool
        Divide each component by its standard deviation.
    variance : float, optional
        Instead of ``d``: keep as many components as hold this share of the variance (0 < variance <= 1). The width is
        then known only after ``fit``.
    renormalize : bool
        Unit rows out; zero rows stay zero.
    seed : int
        Of the randomized solver.
    center : bool
        Subtract the mean first, so that squares are variances.

    Attributes
    ----------
    mean_ : ndarray of shape (d_in,)
        Zeros unless ``center``.
    components_ : ndarray of shape (d, d_in)
        Orthonormal rows, most important first; the entry of largest magnitude of each is positive.
    explained_variance_ : ndarray of shape (d,)
    explained_variance_ratio_ : ndarray of shape (d,)
        Variance (mean square, unless ``center``) along each component, and its share of the total. Both float64; the
        arrays above are float32.
    """

    rank = 6

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Narrow vectors in short codes, and a few in floating point."""
        found = [f"pca:{width} | {quantizer}" for width in widths(dim) for quantizer in NARROW]
        found += [f"pca:{width} | {quantizer}" for width in widths(dim)[1::2] for quantizer in ("fp16", "fp8")]
        return [*found, f"pca:{dim // 2} | ternary"] if dim >= 2 else found

    def __init__(
        self,
        d: int | None = None,
        solver: str = "covariance",
        whiten: bool = False,
        variance: float | None = None,
        renormalize: bool = True,
        seed: int = 0,
        center: bool = False,
    ) -> None:
        self.d = d
        self.solver = solver
        self.whiten = whiten
        self.variance = variance
        self.renormalize = renormalize
        self.seed = seed
        self.center = center

    def dim_out(self, d: int) -> int:
        """The width of the result for input of width ``d``; with ``variance``, only after ``fit``."""
        if self.variance is None:
            return width(self, self.d, d)
        if not hasattr(self, "components_"):
            raise InputError("pca with variance= has no width before fit", fix="fit it first, or give d")
        return len(self.components_)

    def fit_moments(self, moments: Moments) -> PCA:
        """Fit from a mean and covariance gathered elsewhere, for example over a stream."""
        if not moments.count:
            raise InputError("there are no rows in these moments", fix="call update with training vectors first")
        self.n_features_in_ = len(moments.mean)
        self._check_width(self.n_features_in_)
        values, vectors = moments.spectrum(center=self.center)
        mean = moments.mean if self.center else np.zeros_like(moments.mean)
        self._keep(mean, values, vectors, float(values.sum()))
        return self

    def _check_width(self, d: int) -> None:
        if self.variance is None:
            width(self, self.d, d)
        elif self.d is not None or not 0 < self.variance <= 1:
            raise InputError(
                f"pca with d={self.d!r} and variance={self.variance!r} is not possible",
                fix="give either d or a variance between 0 and 1",
            )

    def _learn(self, X: Vectors) -> None:
        if choice(self, "solver", ("covariance", "randomized")) == "covariance":
            self.fit_moments(Moments().update(X))
            return
        self._check_width(X.shape[1])
        if self.variance is not None:
            raise InputError("variance= needs the whole spectrum", fix="use solver=covariance")
        mean = X.mean(axis=0, dtype=np.float64) if self.center else np.zeros(X.shape[1])
        rows = X - mean.astype(np.float32)
        singular, vectors = randomized_svd(rows, width(self, self.d, X.shape[1]), seed=self.seed)
        freedom = max(len(X) - int(self.center), 1)
        total = float(np.einsum("ij,ij->", rows, rows, dtype=np.float64)) / freedom
        self._keep(mean, singular**2 / freedom, vectors, total)

    def _keep(
        self, mean: NDArray[np.float64], values: NDArray[np.float64], vectors: NDArray[np.float64], total: float
    ) -> None:
        ratio = values / total if total > 0 else np.zeros_like(values)
        if self.variance is None:
            d = width(self, self.d, len(mean))
        else:
            d = min(int(np.searchsorted(np.cumsum(ratio), self.variance - 1e-12)) + 1, len(values))
        self.mean_ = mean.astype(np.float32)
        self.components_ = np.ascontiguousarray(vectors[:d], dtype=np.float32)
        self.explained_variance_ = values[:d].copy()
        self.explained_variance_ratio_ = ratio[:d].copy()

    def _deviation(self) -> NDArray[np.float32]:
        """Standard deviations along the components; 1 where there is none, as such a component is zero anyway."""
        deviation = np.sqrt(self.explained_variance_)
        return np.where(deviation > 1e-7 * deviation[0], deviation, 1.0).astype(np.float32)

    def _apply(self, X: Vectors) -> Vectors:
        # (X - m) C' as X C' - m C': one pass over X instead of two.
        out = X @ self.components_.T - self.mean_ @ self.components_.T
        if self.whiten:
            out /= self._deviation()
        return out

    def inverse_transform(self, X: Vectors) -> Vectors:
        """Back to the input space, ``(n, d) -> (n, d_in)``; lengths are kept only with ``renormalize=False``."""
        self._check_fitted()
        rows = as_vectors(X, dim=len(self.components_))
        if self.whiten:
            rows = rows * self._deviation()
        return np.ascontiguousarray(rows @ self.components_ + self.mean_, dtype=np.float32)


def randomized_svd(
    X: Vectors, k: int, *, seed: int = 0, oversample: int = 10, rounds: int = 7
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ``k`` largest singular values and right singular vectors ``(k, d)`` of ``X`` ``(n, d)``, nearly always.

    A random subspace of ``k + oversample`` dimensions is sharpened by ``rounds`` of subspace iteration. Where ``X``
    has fewer than ``k`` rows, the missing directions are completed to an orthonormal set, with singular value 0.
    """
    d = X.shape[1]
    size = min(k + oversample, d)
    basis = np.random.default_rng(seed).standard_normal((d, size))
    for _ in range(rounds):
        image = np.linalg.qr(X @ basis.astype(np.float32))[0]
        basis = np.linalg.qr((X.T @ image).astype(np.float64))[0]
        if basis.shape[1] < size:  # fewer rows than directions
            basis = _complete(basis, size)
    small = (X @ basis.astype(np.float32)).astype(np.float64)
    values, turn = np.linalg.eigh(small.T @ small)
    order = values.argsort()[::-1][:k]
    vectors = (basis @ turn[:, order]).T
    return np.sqrt(np.maximum(values[order], 0.0)), fix_signs(vectors)


def _complete(basis: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Add orthonormal columns until there are ``size``."""
    return np.linalg.qr(np.hstack([basis, np.eye(len(basis))]))[0][:, :size]
