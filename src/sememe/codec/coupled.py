"""Coupled quantization: neighbouring channels share one index, at a fixed number of bits a channel."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec.base import BlockScorer, choice, width
from sememe.codec.product import ProductQuantizer
from sememe.contracts import Codes, Vectors, as_vectors
from sememe.errors import InputError
from sememe.kernels import bits as packing
from sememe.kernels import dots

_LEAST_ROWS = 4096  # to learn from, however few the centres
_LEAST = 1e-4  # of the mean importance: no channel is given up altogether


@register(
    "coupled",
    room="codec",
    kind="quantizer",
    summary="c neighbouring channels share one of 2**bits learned centres; optional weights by gradients",
    paper=Paper(
        "KV Cache is 1 Bit Per Channel: Efficient Large Language Model Inference with Coupled Quantization",
        2024,
        "2405.03917",
    ),
    claim="At 1 bit a channel, coupling 8 channels leaves at most 0.85 of the squared error of single channels.",
)
class Coupled(ProductQuantizer):
    """Product quantization told by channels: groups of ``channels`` neighbours, ``bits`` for each group.

    ``coupled:8`` spends 1 bit a channel (8 bits for 8 channels), ``coupled:4`` spends 2; ``coupled:1,bits=1`` is the
    scalar quantizer of equal size that coupling is measured against. Without gradients, ``coupled:8`` equals
    ``pq:m`` with one group for every 8 dimensions. Made for keys and values of attention, whose neighbouring channels
    depend on each other; it codes any vectors.

    Parameters
    ----------
    channels : int
        Neighbouring channels in a group, at least 1; where it does not divide the width, groups differ by one.
    bits : {8, 4, 2, 1}
        For each group.
    seed : int
        Of the training sample and the starting centres.

    Attributes
    ----------
    importance_ : ndarray of shape (d,)
        Square roots of the channels' weights, 1 on average; all 1 without gradients.
    centres_, scale_
        As in ``ProductQuantizer``, of rows multiplied by ``importance_``.
    """

    importance_: NDArray[np.float32]

    rank = 4

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """One and two bits a channel with 16 centres a group; with 256 they are product codes, which are swept."""
        return ["coupled:4,bits=4", "coupled:2,bits=4"] if dim >= 16 else []

    def __init__(self, channels: int = 8, bits: int = 8, seed: int = 0) -> None:
        self.channels = channels
        self.bits = bits
        self.seed = seed

    rotate, norm = False, "none"  # neighbours are what is coupled, and every byte goes to them

    def fit(self, X: Vectors, y: object = None, *, gradients: Vectors | None = None) -> Self:
        """Learn from float rows ``(n, d)``; ``y`` is ignored.

        Parameters
        ----------
        X : ndarray of shape (n, d)
        gradients : ndarray of shape (k, d), optional
            Gradients of a model's loss with respect to such rows. A channel's squared error is weighted with its mean
            square, the diagonal of the Fisher information. The paper weights every single entry; with one weight a
            channel, weighted k-means is plain k-means on scaled rows, and new rows can be coded the same way.

        Raises
        ------
        InputError
            Gradients of another width.
        """
        weights = None if gradients is None else as_vectors(gradients, name="gradients")
        rows = self._check_fit_input(X)
        if weights is not None and (weights.shape[1] != rows.shape[1] or not len(weights)):
            raise InputError(
                f"gradients have shape {weights.shape}, rows have {rows.shape[1]} columns",
                fix="pass gradients with respect to such rows",
            )
        self.importance_ = _importance(weights, rows.shape[1])
        return super().fit(rows)

    def _groups(self, d: int) -> int:
        c = self.channels
        if isinstance(c, bool) or not isinstance(c, (int, np.integer)) or c < 1:
            raise InputError(f"channels={c!r} is not possible for Coupled", fix="give a whole number from 1")
        return width(self, -(-d // int(c)), d, name="channels")

    def bytes_per_vector(self, d: int) -> int:
        """``ceil(groups * bits / 8)`` with one group for every ``channels`` dimensions."""
        return packing.packed_bytes(self._groups(d), choice(self, "bits", (8, 4, 2, 1)))

    def _most_rows(self) -> int:
        return max(super()._most_rows(), _LEAST_ROWS)

    def _learn(self, X: Vectors) -> None:
        super()._learn(X * self.importance_)

    def _encode(self, X: Vectors) -> Codes:
        return super()._encode(X * self.importance_)

    def _decode(self, codes: Codes) -> Vectors:
        return super()._decode(codes) / self.importance_

    def _row_scratch(self, queries: int) -> int:
        return 4 * self.n_features_in_ if self.bits == 1 else super()._row_scratch(queries)

    def _prepare(self, Q: Vectors) -> BlockScorer:
        weighted = Q / self.importance_
        if self.bits > 1:
            return super()._prepare(weighted)
        # Single bits are packed in another order than the look-up tables expect.
        score = dots.float_dots(weighted * np.float32(1 / self.scale_))
        return lambda codes: score(self._centres_of(packing.unpack(codes, 1, len(self.centres_))))


def _importance(gradients: Vectors | None, d: int) -> NDArray[Any]:
    """Root mean square gradient of each channel relative to the mean square, ``(d,)``; ones where there is none."""
    if gradients is None:
        return np.ones(d, dtype=np.float32)
    square = np.mean(np.square(gradients, dtype=np.float64), axis=0)
    mean = float(square.mean())
    if mean == 0:
        return np.ones(d, dtype=np.float32)
    return np.sqrt(np.maximum(square / mean, _LEAST)).astype(np.float32)
