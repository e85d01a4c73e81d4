"""int8 and int4: a linear code for each dimension, fitted on the corpus, or one scale for each vector."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec.affine import Affine
from sememe.codec.base import BlockScorer, choice
from sememe.codec.clip import Magnitudes, deviations, golden_section, in_units, sample_rows
from sememe.contracts import Codes, Vectors
from sememe.kernels import bits as packing
from sememe.kernels import dots, floats
from sememe.kernels.symbols import SymbolScan

_SCALE_BYTES = 2


class _Integer(Affine):
    """Shared by both widths: the choice between scales for dimensions and a scale for each vector."""

    def __init__(self, scale: str = "dimension") -> None:
        self.scale = scale

    def _by_vector(self) -> bool:
        return bool(choice(self, "scale", ("dimension", "vector")) == "vector")

    def _range(self) -> tuple[int, int]:
        low, high = super()._range()
        return (-high if self._by_vector() else low), high

    def bytes_per_vector(self, d: int) -> int:
        """Packed integers, and 2 bytes more with ``scale="vector"``."""
        return packing.packed_bytes(d, self._bits()) + (_SCALE_BYTES if self._by_vector() else 0)

    def _learn(self, X: Vectors) -> None:
        self.offset_, self.step_, self.ratio_ = 0.0, 1.0, 1.0
        if self._by_vector():
            self._learn_vectors(X)
        else:
            self._learn_dimensions(X)

    def _learn_vectors(self, X: Vectors) -> None:
        pass

    @abstractmethod
    def _learn_dimensions(self, X: Vectors) -> None:
        """Set offsets and steps of each dimension."""

    def _encode(self, X: Vectors) -> Codes:
        if not self._by_vector():
            return super()._encode(X)
        top = self._range()[1]
        largest = np.abs(X).max(axis=1, initial=0.0) * np.float32(self.ratio_ / top)
        # Rounded up to bfloat16, so that the largest entry is never beyond the last step by rounding alone.
        patterns = ((largest.view(np.uint32) + np.uint32(0xFFFF)) >> np.uint32(16)).astype(np.uint16)
        scale = floats.decode_bfloat16(patterns).astype(np.float64)[:, None]
        inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        packed = super()._encode((X * inverse).astype(np.float32))
        return np.hstack([packed, patterns[:, None].view(np.uint8)])

    def _split(self, codes: Codes) -> tuple[Codes, NDArray[np.float32]]:
        packed, tail = codes[:, :-_SCALE_BYTES], np.ascontiguousarray(codes[:, -_SCALE_BYTES:])
        return packed, floats.decode_bfloat16(tail.view(np.uint16))[:, 0]

    def _decode(self, codes: Codes) -> Vectors:
        if not self._by_vector():
            return super()._decode(codes)
        packed, scale = self._split(codes)
        return super()._decode(packed) * scale[:, None]

    def native_scan(self, Q: Vectors) -> SymbolScan | None:
        """With a scale for each vector, that scale is the row's tail."""
        scan = super().native_scan(Q)
        if scan is None or not self._by_vector():
            return scan
        return replace(scan, tail="bfloat16", tail_offset=self.code_bytes_ - _SCALE_BYTES)

    def _prepare(self, Q: Vectors) -> BlockScorer:
        if not self._by_vector():
            return super()._prepare(Q)
        score = dots.integer_dots(Q, self._layout())
        shift = (self._zero() * Q.sum(axis=1, dtype=np.float64)).astype(np.float32)[:, None]

        def run(codes: Codes) -> NDArray[np.float32]:
            packed, scale = self._split(codes)
            return (score(self._planes(packed)) - shift) * scale

        return run


@register(
    "int8",
    room="codec",
    kind="quantizer",
    summary="8-bit integers by dimension (min-max of the corpus) or by vector, 1 byte a dimension",
    paper=Paper(
        "Optimization of embeddings storage for RAG systems using quantization and dimensionality reduction techniques",
        2025,
        "2505.00105",
    ),
)
class Int8(_Integer):
    """8-bit integers. Exactly ``d`` bytes a vector, ``d + 2`` with ``scale="vector"``.

    Parameters
    ----------
    scale : {"dimension", "vector"}
        ``dimension``: 256 even steps between the corpus' smallest and largest value of each dimension; later values
        beyond them are clipped. ``vector``: 255 even steps around zero up to the vector's own largest magnitude,
        whose step is stored with it as bfloat16; nothing is learned.

    Attributes
    ----------
    offset_, step_ : ndarray of shape (d,)
        A code ``k`` in [-128, 127] stands for ``offset_ + step_ * k``.
    """

    rank = 1

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Itself, by dimension."""
        return ["int8"]

    @classmethod
    def sweep_tokens(cls, dim: int, vectors: int) -> list[str]:
        """Itself, as for one vector a passage."""
        return ["int8"]

    def _bits(self) -> int:
        return 8

    def _learn_dimensions(self, X: Vectors) -> None:
        low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
        step = (high - low) / 255
        self.step_ = step.astype(np.float32)
        self.offset_ = ((low + high) / 2 + step / 2).astype(np.float32)


@register(
    "int4",
    room="codec",
    kind="quantizer",
    summary="4-bit integers by dimension (clip of least squared error) or by vector, half a byte a dimension",
)
class Int4(_Integer):
    """4-bit integers, two a byte. Exactly ``ceil(d / 2)`` bytes a vector, 2 more with ``scale="vector"``.

    Parameters
    ----------
    scale : {"dimension", "vector"}
        ``dimension``: 16 even steps about each dimension's mean, reaching ``ratio_`` standard deviations, where
        ``ratio_`` is searched for the least squared error on the corpus. ``vector``: 15 even steps around zero up to
        ``ratio_`` times the vector's own largest magnitude; the step is stored with it as bfloat16.

    Attributes
    ----------
    offset_, step_ : ndarray of shape (d,)
        A code ``k`` in [-8, 7] stands for ``offset_ + step_ * k``.
    ratio_ : float
    """

    rank = 1

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Itself, by dimension."""
        return ["int4"]

    def _bits(self) -> int:
        return 4

    def _learn_dimensions(self, X: Vectors) -> None:
        rows = sample_rows(X)
        mean = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        unit = deviations(rows, mean)
        sizes = Magnitudes(in_units(rows, mean, unit), unit)

        def loss(reach: float) -> float:
            step = reach / 7.5
            level = np.minimum(np.floor(sizes.centres / step), 7) + 0.5
            return sizes.error(level * step)

        self.ratio_ = golden_section(loss, 0.5, max(sizes.largest, 1.0)) if sizes.weights.any() else 1.0
        step = unit * (self.ratio_ / 7.5)
        self.step_ = step.astype(np.float32)
        self.offset_ = (mean + step / 2).astype(np.float32)

    def _learn_vectors(self, X: Vectors) -> None:
        rows = sample_rows(X)
        unit = np.abs(rows).max(axis=1, keepdims=True).astype(np.float64)
        sizes = Magnitudes(in_units(rows, 0.0, unit), unit)

        def loss(reach: float) -> float:
            step = reach / 7
            return sizes.error(np.minimum(np.rint(sizes.centres / step), 7) * step)

        self.ratio_ = golden_section(loss, 0.2, 1.0) if sizes.weights.any() else 1.0
