"""Ternary codes: below, near or above the mean, five dimensions a byte."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import register
from sememe.codec.affine import Affine
from sememe.codec.clip import Magnitudes, deviations, golden_section, in_units, sample_rows
from sememe.contracts import Codes, Vectors
from sememe.kernels import bits as packing
from sememe.kernels.symbols import TRITS, SymbolScan


@register(
    "ternary",
    room="codec",
    kind="quantizer",
    summary="-1, 0 or 1 a dimension, five dimensions a byte (1.6 bits)",
)
class Ternary(Affine):
    """``k`` is -1, 0 or 1 by two thresholds about the mean of each dimension. Exactly ``ceil(d / 5)`` bytes a vector.

    Threshold and level are multiples of each dimension's standard deviation, searched for the least squared error on
    the corpus.

    Attributes
    ----------
    offset_ : ndarray of shape (d,)
        Means.
    step_ : ndarray of shape (d,)
        Distance of the outer levels from the mean.
    threshold_ : float
        In units of ``step_``: a value further than ``threshold_ * step_`` from the mean becomes 1 or -1.
    """

    rank = 1

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Itself."""
        return ["ternary"]

    def bytes_per_vector(self, d: int) -> int:
        """``ceil(d / 5)``."""
        return packing.trit_bytes(d)

    def _zero(self) -> int:
        return 1

    def _learn(self, X: Vectors) -> None:
        rows = sample_rows(X)
        self.offset_ = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        unit = deviations(rows, self.offset_)
        sizes = Magnitudes(in_units(rows, self.offset_, unit), unit)

        def level(threshold: float) -> float:
            beyond = sizes.weights * (sizes.centres > threshold)
            return float(beyond @ sizes.centres / beyond.sum()) if beyond.any() else threshold

        def loss(threshold: float) -> float:
            return sizes.error(np.where(sizes.centres > threshold, level(threshold), 0.0))

        cut = golden_section(loss, 0.05, 2.0) if sizes.weights.any() else 1.0
        reach = level(cut)
        self.step_ = (unit * reach).astype(np.float32)
        self.threshold_ = cut / reach if reach > 0 else 1.0

    def _encode(self, X: Vectors) -> Codes:
        gap = X - self.offset_
        cut = self.step_ * np.float32(self.threshold_)
        digits = np.uint8(1) + (gap > cut).view(np.uint8) - (gap < -cut).view(np.uint8)
        return packing.pack_trits(digits)

    def native_scan(self, Q: Vectors) -> SymbolScan | None:
        """Digits 0, 1, 2 stand for -1, 0, 1."""
        scan = super().native_scan(Q)
        return None if scan is None else replace(scan, levels=np.array([-1.0, 0.0, 1.0]), bits=TRITS)

    def _bits(self) -> int:
        return 2  # what a digit takes once unpacked

    def _layout(self) -> list[packing.Plane]:
        return packing.trit_layout(self.n_features_in_)

    def _planes(self, codes: Codes) -> list[NDArray[np.int8]]:
        return [plane.view(np.int8) for plane in packing.trit_planes(codes, self.n_features_in_)]
