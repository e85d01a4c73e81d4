"""The unembedding filter: a language model's own output matrix says which directions only carry frequent words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sememe.catalog import Paper, register
from sememe.codec.base import Transform
from sememe.codec.moments import fix_signs
from sememe.contracts import Vectors, as_vectors
from sememe.errors import InputError

_BLOCK = 1024  # rows whose products with the vocabulary are held at once


@register(
    "unembed-filter",
    room="codec",
    kind="transform",
    summary="keep the middle of an unembedding matrix's spectrum, without the directions of frequent words",
    paper=Paper("Your UnEmbedding Matrix is Secretly a Feature Lens for Text Embeddings", 2026, "2606.07502"),
    claim="Fewer frequent words under the lens, and nearest neighbours at least as good at half the dimensions.",
    needs="the unembedding matrix of the model that made the vectors",
)
class UnembedFilter(Transform):
    """Project rows onto the middle right singular vectors of an unembedding matrix.

    The directions with the largest and the smallest singular values, the edges of the spectrum, are those along which a
    language model writes its most frequent tokens. ``d // ratio`` directions between them are kept. Nothing is learned
    from the rows.

    Parameters
    ----------
    ratio : int
        One of so many directions is kept; 2 halves the width.
    unembedding : array-like of shape (v, d), or path of a ``.npy`` file
        The matrix that turns the model's states into logits (``lm_head``), of the model that made the vectors.
    top : float
        Share of the dropped directions taken from the edge of large singular values, 0 to 1; the rest is taken from the
        other edge.
    renormalize : bool
        Unit rows out; zero rows stay zero.

    Attributes
    ----------
    components_ : ndarray of shape (d // ratio, d)
        Orthonormal rows, of falling singular value; the entry of largest magnitude of each is positive.
    singular_values_ : ndarray of shape (d,)
        All of the matrix, falling.
    """

    components_: Vectors
    singular_values_: NDArray[np.float64]

    keeps_scores = False

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """None: it needs a matrix that only the user can name."""
        return []

    def __init__(
        self,
        ratio: int = 2,
        unembedding: ArrayLike | str | None = None,
        top: float = 0.5,
        renormalize: bool = True,
    ) -> None:
        self.ratio = ratio
        self.unembedding = unembedding
        self.top = top
        self.renormalize = renormalize

    def dim_out(self, d: int) -> int:
        """``d // ratio``."""
        ratio = self.ratio
        if isinstance(ratio, bool) or not isinstance(ratio, (int, np.integer)) or not 1 <= ratio <= d:
            raise InputError(
                f"ratio={ratio!r} is not possible for UnembedFilter on vectors of {d} columns",
                fix=f"give a whole number from 1 to {d}",
            )
        return int(d // ratio)

    def _learn(self, X: Vectors) -> None:
        d = X.shape[1]
        keep = self.dim_out(d)
        if isinstance(self.top, bool) or not isinstance(self.top, (int, float)) or not 0 <= self.top <= 1:
            raise InputError(f"top={self.top!r} is not possible for UnembedFilter", fix="give a number from 0 to 1")
        matrix = read_unembedding(self.unembedding)
        if matrix.shape[1] != d:
            raise InputError(
                f"the unembedding matrix has {matrix.shape[1]} columns, the vectors have {d}",
                fix="pass the matrix of the model that made the vectors",
            )
        largest = float(np.abs(matrix).max())
        gram = np.zeros((d, d))
        for start in range(0, len(matrix), _BLOCK):
            part = matrix[start : start + _BLOCK].astype(np.float64) / (largest or 1.0)
            gram += part.T @ part
        values, vectors = np.linalg.eigh(gram)
        first = round((d - keep) * float(self.top))
        self.singular_values_ = np.sqrt(np.maximum(values[::-1], 0.0)) * (largest or 1.0)
        middle = fix_signs(vectors[:, ::-1].T[first : first + keep])
        self.components_ = np.ascontiguousarray(middle, dtype=np.float32)

    def _apply(self, X: Vectors) -> Vectors:
        return X @ self.components_.T

    def inverse_transform(self, X: Vectors) -> Vectors:
        """Back into the space of the model, ``(n, d // ratio) -> (n, d)``, with nothing along what was dropped."""
        self._check_fitted()
        return np.ascontiguousarray(as_vectors(X, dim=len(self.components_)) @ self.components_)


def token_lens(X: Vectors, unembedding: ArrayLike | str, k: int = 20) -> NDArray[np.int64]:
    """The ``k`` tokens with the largest logits for each row of ``X`` ``(n, d)``: ids ``(n, k)``, largest first.

    What a text's vector "says" in words. For filtered vectors, pass their ``inverse_transform``.
    """
    matrix = read_unembedding(unembedding)
    rows = as_vectors(X, dim=matrix.shape[1])
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= len(matrix):
        raise InputError(f"k={k!r} is not possible with {len(matrix)} tokens", fix="give a whole number from 1")
    out = np.empty((len(rows), k), dtype=np.int64)
    for start in range(0, len(rows), _BLOCK):
        logits = rows[start : start + _BLOCK] @ matrix.T
        best = np.argpartition(-logits, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(logits, best, axis=1), axis=1, kind="stable")
        out[start : start + _BLOCK] = np.take_along_axis(best, order, axis=1)
    return out


def read_unembedding(source: ArrayLike | str | None) -> Vectors:
    """A matrix ``(v, d)`` from an array or the path of a ``.npy`` file, as float32.

    Raises
    ------
    InputError
        None was given, the file cannot be read, or it holds something else.
    """
    if source is None:
        raise InputError(
            "the unembedding filter needs the unembedding matrix of the model that made the vectors",
            fix="pass unembedding=, an array (v, d) or the path of a .npy file",
        )
    if isinstance(source, (str, Path)):
        try:
            source = np.load(source, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(
                f"cannot read an unembedding matrix ({error})", where=str(source), fix="pass a .npy file"
            ) from None
    matrix = as_vectors(source, name="unembedding")
    if not matrix.size:
        raise InputError(f"the unembedding matrix is empty, {matrix.shape}")
    return matrix
