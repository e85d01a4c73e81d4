"""Mean and covariance of rows that arrive in pieces, merged exactly (Chan, Golub and LeVeque, 1979)."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import as_vectors

_BLOCK_ROWS = 4096


class Moments:
    """Count, mean and scatter of float rows, in float64.

    Attributes
    ----------
    count : int
        Rows seen.
    mean : ndarray of shape (d,)
    scatter : ndarray of shape (d, d)
        Sum of outer products of the centred rows.
    fourth : float
        Sum over rows of the fourth power of their length, about the running mean: what Ledoit-Wolf shrinkage needs.
        Exact for a single ``update``, close to it for many.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: NDArray[np.float64] = np.zeros(0)
        self.scatter: NDArray[np.float64] = np.zeros((0, 0))
        self.fourth = 0.0

    def update(self, X: object) -> Self:
        """Add rows ``(n, d)``."""
        rows = as_vectors(X)
        if not len(rows):
            return self
        d = rows.shape[1]
        if not self.count:
            self.mean, self.scatter = np.zeros(d), np.zeros((d, d))
        mean = rows.mean(axis=0, dtype=np.float64)
        for start in range(0, len(rows), _BLOCK_ROWS):
            centred = rows[start : start + _BLOCK_ROWS] - mean
            self.scatter += centred.T @ centred
            length = np.einsum("ij,ij->i", centred, centred)
            self.fourth += float(length @ length)
        total = self.count + len(rows)
        gap = mean - self.mean
        self.scatter += np.outer(gap, gap) * (self.count * len(rows) / total)
        self.mean = self.mean + gap * (len(rows) / total)
        self.count = total
        return self

    @property
    def covariance(self) -> NDArray[np.float64]:
        """``(d, d)``, divided by ``count - 1`` (by 1 for a single row)."""
        return self.scatter / max(self.count - 1, 1)

    @property
    def second_moment(self) -> NDArray[np.float64]:
        """``(d, d)``: mean outer product of the rows as they are, not centred."""
        return self.scatter / self.count + np.outer(self.mean, self.mean)

    def spectrum(self, *, center: bool = True) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Eigenvalues ``(d,)``, largest first, and unit eigenvectors as rows ``(d, d)`` with fixed signs.

        Of the covariance, or of the second moment with ``center=False``.
        """
        values, vectors = np.linalg.eigh(self.covariance if center else self.second_moment)
        return np.maximum(values[::-1], 0.0), fix_signs(vectors[:, ::-1].T)


def fix_signs(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows turned so that the entry of largest magnitude is positive: the same answer on every machine."""
    largest = np.abs(vectors).argmax(axis=1)
    sign = np.where(vectors[np.arange(len(vectors)), largest] < 0, -1.0, 1.0)
    return vectors * sign[:, None]
