"""Binary codes: one sign a dimension, scored against float queries or by Hamming distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import register
from sememe.codec.affine import Affine
from sememe.codec.base import choice
from sememe.contracts import Codes, Vectors


@register(
    "binary",
    room="codec",
    kind="quantizer",
    summary="the sign of each dimension about its mean, 1 bit a dimension",
)
class Binary(Affine):
    """One bit a dimension: is the value above the centre? Exactly ``ceil(d / 8)`` bytes a vector, as ``np.packbits``.

    The bit decodes to ``centre +- scale``, where the scale of a dimension is its mean distance from the centre: the
    level of least squared error. Float queries keep their precision, which recovers much of what the bit lost.

    Parameters
    ----------
    center : {"mean", "median", "zero"}
        The threshold of each dimension. ``zero`` is the plain sign.

    Attributes
    ----------
    offset_ : ndarray of shape (d,)
        Value of bit 0.
    step_ : ndarray of shape (d,)
        Bit 1 stands for ``offset_ + step_``; the threshold lies half way.
    """

    rank = 1

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Itself."""
        return ["binary"]

    def __init__(self, center: str = "mean") -> None:
        self.center = center

    def _bits(self) -> int:
        return 1

    def _zero(self) -> int:
        return 0

    def _learn(self, X: Vectors) -> None:
        kind = choice(self, "center", ("mean", "median", "zero"))
        if kind == "mean":
            center = X.mean(axis=0, dtype=np.float64)
        elif kind == "median":
            center = np.median(X, axis=0).astype(np.float64)
        else:
            center = np.zeros(X.shape[1])
        level = np.zeros(X.shape[1])
        for start in range(0, len(X), 4096):
            level += np.abs(X[start : start + 4096] - center).sum(axis=0)
        level /= len(X)
        self.offset_ = (center - level).astype(np.float32)
        self.step_ = (2 * level).astype(np.float32)

    def _encode(self, X: Vectors) -> Codes:
        return np.packbits(np.greater(X, self.offset_ + self.step_ * np.float32(0.5)), axis=1)

    def hamming(self, left: Codes, right: Codes) -> NDArray[np.uint32]:
        """Hamming distances, uint32 ``(q, n)``, of codes ``(q, code_bytes_)`` and ``(n, code_bytes_)``."""
        import numkong

        a, b = self._check_codes(left), self._check_codes(right)
        packed = numkong.hammings_pack(numkong.Tensor(np.ascontiguousarray(a), dtype="u1"))
        return np.asarray(numkong.hammings_packed(numkong.Tensor(np.ascontiguousarray(b), dtype="u1"), packed)).T
