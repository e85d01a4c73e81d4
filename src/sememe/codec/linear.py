"""The transforms that need no statistics beyond a mean: truncation, centring, unit length."""

from __future__ import annotations

import numpy as np

from sememe.catalog import Paper, register
from sememe.codec.base import NARROW, Transform, width
from sememe.contracts import Vectors, unit_rows


@register(
    "truncate",
    room="codec",
    kind="transform",
    summary="keep the first d dimensions",
    paper=Paper(
        "Redundancy, Isotropy, and Intrinsic Dimensionality of Prompt-based Text Embeddings", 2025, "2506.01435"
    ),
    claim="The first quarter of the dimensions keeps retrieval within 3 %.",
)
class Truncate(Transform):
    """Keep the first ``d`` dimensions.

    Parameters
    ----------
    d : int, optional
        How many; all when not given.
    renormalize : bool
        Give the shorter rows unit length again; zero rows stay zero.
    """

    rank = 7

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """A half and a quarter of the dimensions."""
        return [
            f"truncate:{width} | {quantizer}"
            for width in (dim // 2, dim // 4)
            if width >= 16
            for quantizer in NARROW[:2]
        ]

    def __init__(self, d: int | None = None, renormalize: bool = True) -> None:
        self.d = d
        self.renormalize = renormalize

    def dim_out(self, d: int) -> int:
        """The width of the result for input of width ``d``."""
        return width(self, self.d, d)

    def _learn(self, X: Vectors) -> None:
        self.dim_out(X.shape[1])

    def _apply(self, X: Vectors) -> Vectors:
        return X[:, : self.dim_out(X.shape[1])]


@register("center", room="codec", kind="transform", summary="subtract the corpus mean")
class Center(Transform):
    """Subtract the mean of the corpus, which text embeddings share as a common direction.

    Parameters
    ----------
    renormalize : bool
        Give the centred rows unit length again; zero rows stay zero.

    Attributes
    ----------
    mean_ : ndarray of shape (d,)
        float32.
    """

    rank = 8
    keeps_scores = False

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Before integers."""
        return ["center | int4", "center | int8"]

    def __init__(self, renormalize: bool = True) -> None:
        self.renormalize = renormalize

    def _learn(self, X: Vectors) -> None:
        self.mean_ = X.mean(axis=0, dtype=np.float64).astype(np.float32)

    def _apply(self, X: Vectors) -> Vectors:
        return X - self.mean_

    def inverse_transform(self, X: Vectors) -> Vectors:
        """Add the mean again; exact only with ``renormalize=False``."""
        return self._check_input(X) + self.mean_


@register("normalize", room="codec", kind="transform", summary="scale every row to unit length")
class Normalize(Transform):
    """Scale every row to unit Euclidean length, so that the inner product is the cosine; zero rows stay zero."""

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """None: encoders give unit rows."""
        return []

    def _learn(self, X: Vectors) -> None:
        pass

    def _apply(self, X: Vectors) -> Vectors:
        return unit_rows(X)
