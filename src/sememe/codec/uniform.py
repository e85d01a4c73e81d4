"""Uniform scalar quantization around zero, 2 to 8 bits: the plain baseline of every cleverer code."""

from __future__ import annotations

import numpy as np

from sememe.catalog import register
from sememe.codec.affine import Affine, check_bits
from sememe.codec.base import choice
from sememe.codec.clip import Magnitudes, deviations, golden_section, in_units, sample_rows
from sememe.contracts import Vectors


@register(
    "uniform",
    room="codec",
    kind="quantizer",
    summary="even steps around zero, 2 to 8 bits a dimension, clipped at the maximum or for least squared error",
)
class Uniform(Affine):
    """``k = round(x / step)``, clipped to ``2**bits - 1`` even steps around zero.

    Exactly ``d * bits / 8`` bytes a vector when ``d`` is a multiple of 8; otherwise the parts of 4, 2 and 1 bits that
    ``bits`` is made of are each rounded up to whole bytes.

    Parameters
    ----------
    bits : int
        2 to 8.
    clip : {"mse", "minmax"}
        Where the last step lies: at the clip of least squared error on the corpus, or at its largest magnitude.
    scale : {"dimension", "tensor"}
        One step for each dimension, or one for all.

    Attributes
    ----------
    step_ : ndarray of shape (d,), or float
    offset_ : float
        Always 0.
    """

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Three and two bits: with more it hardly differs from int4 and int8."""
        return ["uniform:3", "uniform:2"]

    def __init__(self, bits: int = 4, clip: str = "mse", scale: str = "dimension") -> None:
        self.bits = bits
        self.clip = clip
        self.scale = scale

    def _bits(self) -> int:
        return check_bits(self.bits, self)

    def _range(self) -> tuple[int, int]:
        top = (1 << (self._bits() - 1)) - 1
        return -top, top

    def _learn(self, X: Vectors) -> None:
        top = self._range()[1]
        unit, sizes = self._units(X)

        def loss(reach: float) -> float:
            step = reach / top
            return sizes.error(np.minimum(np.rint(sizes.centres / step), top) * step)

        searched = self.clip == "mse" and sizes.weights.any()
        self._set_step(unit, golden_section(loss, 0.2, max(sizes.largest, 0.4)) if searched else 1.0)

    def _units(self, X: Vectors) -> tuple[np.ndarray, Magnitudes]:
        """Units in which clips are searched, ``(d,)``: root mean squares, or largest magnitudes; and the histogram."""
        rows = sample_rows(X)
        mse = choice(self, "clip", ("mse", "minmax")) == "mse"
        unit = deviations(rows, 0.0) if mse else np.abs(X).max(axis=0).astype(np.float64)
        if choice(self, "scale", ("dimension", "tensor")) == "tensor":
            whole = np.sqrt(np.mean(unit**2)) if mse else unit.max()
            unit = np.full_like(unit, whole)
        return unit, Magnitudes(in_units(rows, 0.0, unit), unit)

    def _set_step(self, unit: np.ndarray, reach: float) -> None:
        step = (unit * (reach / self._range()[1])).astype(np.float32)
        self.offset_ = 0.0
        self.step_ = float(step[0]) if self.scale == "tensor" else step
