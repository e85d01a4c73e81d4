"""Random projection: fewer dimensions without looking at the data."""

from __future__ import annotations

import numpy as np

from sememe.catalog import Paper, register
from sememe.codec.base import Transform, choice, width
from sememe.contracts import Vectors, as_vectors


@register(
    "project",
    room="codec",
    kind="transform",
    summary="random projection to d dimensions that keeps inner products in expectation",
    paper=Paper(
        "Optimization of embeddings storage for RAG systems using quantization and dimensionality reduction techniques",
        2025,
        "2505.00105",
    ),
)
class Project(Transform):
    """Multiply with a random matrix, scaled so that inner products are kept in expectation.

    Parameters
    ----------
    d : int, optional
        Width of the result; as wide as the input when not given.
    kind : {"orthonormal", "gaussian"}
        Random orthonormal rows (less noise) or independent normal entries.
    seed : int
        The same seed gives the same matrix.
    renormalize : bool
        Unit rows out; zero rows stay zero.

    Attributes
    ----------
    matrix_ : ndarray of shape (d, d_in)
        float32; stored with an index, so that a change of the random generator cannot change it.
    """

    rank = 7

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """A half of the dimensions."""
        return [f"project:{dim // 2} | int8"] if dim >= 32 else []

    def __init__(
        self, d: int | None = None, kind: str = "orthonormal", seed: int = 0, renormalize: bool = True
    ) -> None:
        self.d = d
        self.kind = kind
        self.seed = seed
        self.renormalize = renormalize

    def dim_out(self, d: int) -> int:
        """The width of the result for input of width ``d``."""
        return width(self, self.d, d)

    def _learn(self, X: Vectors) -> None:
        d_in = X.shape[1]
        d = width(self, self.d, d_in)
        matrix = np.random.default_rng(self.seed).standard_normal((d_in, d))
        if choice(self, "kind", ("orthonormal", "gaussian")) == "orthonormal":
            basis, triangle = np.linalg.qr(matrix)
            # Signs of the triangle's diagonal make the rotation uniformly distributed.
            matrix = basis * np.where(np.diag(triangle) < 0, -1.0, 1.0) * np.sqrt(d_in / d)
        else:
            matrix /= np.sqrt(d)
        self.matrix_ = np.ascontiguousarray(matrix.T, dtype=np.float32)

    def _apply(self, X: Vectors) -> Vectors:
        return X @ self.matrix_.T

    def inverse_transform(self, X: Vectors) -> Vectors:
        """The least-squares preimage, ``(n, d) -> (n, d_in)``; lengths are kept only with ``renormalize=False``."""
        self._check_fitted()
        rows = as_vectors(X, dim=len(self.matrix_))
        return np.ascontiguousarray(rows @ np.linalg.pinv(self.matrix_).T, dtype=np.float32)
