"""Quantizers whose decoded value is ``offset + step * code`` in each dimension: one set of loops for all of them.

Because the code is linear, a score needs no decoding: ``q . x = (q * step) . code + q . offset``.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.codec.base import BlockScorer, Quantizer
from sememe.contracts import Codes, Vectors
from sememe.errors import InputError
from sememe.kernels import bits as packing
from sememe.kernels import dots
from sememe.kernels.symbols import SymbolScan

Learned = NDArray[np.float32] | float


def check_bits(bits: object, owner: object) -> int:
    """A whole number of bits from 2 to 8, or an InputError."""
    if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)) or not 2 <= bits <= 8:
        raise InputError(f"bits={bits!r} is not possible for {type(owner).__name__}", fix="give 2 to 8")
    return int(bits)


@cache
def _levels(bits: int, zero: int) -> NDArray[np.float64]:
    """The integers that symbols of so many bits stand for; made once, as a single query would wait for it."""
    return np.arange(1 << bits, dtype=np.float64) - zero


class Affine(Quantizer):
    """``x = offset_ + step_ * k`` with a signed integer ``k``. Subclasses set both, ``_bits()`` and ``_range()``.

    Eight bits are stored as int8; fewer as ``k + 2**(bits - 1)``, packed by ``kernels.bits``.
    """

    offset_: Learned
    step_: Learned

    @abstractmethod
    def _bits(self) -> int:
        """Bits of each ``k``."""

    def _range(self) -> tuple[int, int]:
        """The smallest and largest ``k``."""
        half = 1 << (self._bits() - 1)
        return -half, half - 1

    def bytes_per_vector(self, d: int) -> int:
        """``d * bits / 8`` when ``d`` is a multiple of 8; otherwise each part of 4, 2 and 1 bits is rounded up."""
        return packing.packed_bytes(d, self._bits())

    def _integers(self, X: Vectors) -> NDArray[Any]:
        """``k`` as float32 ``(n, d)``."""
        step = np.asarray(self.step_, dtype=np.float64)
        inverse = np.divide(1.0, step, out=np.zeros_like(step), where=step > 0)
        # float64 only where float32 would overflow: the reciprocal of a subnormal step.
        scaled = (X - self.offset_) * (inverse.astype(np.float32) if (inverse < 1e38).all() else inverse)
        return np.clip(np.rint(scaled), *self._range())

    def _encode(self, X: Vectors) -> Codes:
        bits = self._bits()
        integers = self._integers(X).astype(np.int8)
        if bits == 8:
            return integers.view(np.uint8)
        return packing.pack((integers + np.int8(1 << (bits - 1))).view(np.uint8), bits)

    def _layout(self) -> list[packing.Plane]:
        """How ``_planes`` are put together."""
        return packing.layout(self.n_features_in_, self._bits())

    def _planes(self, codes: Codes) -> list[NDArray[np.int8]]:
        """The stored integers of a block as planes: ``k``, or ``k + 2**(bits - 1)`` for fewer than 8 bits."""
        return [plane.view(np.int8) for plane in packing.planes(codes, self._bits(), self.n_features_in_)]

    def _row_scratch(self, queries: int) -> int:
        if queries > dots.FEW:
            return super()._row_scratch(queries)
        return 64 if self._bits() == 8 else self.n_features_in_

    def _zero(self) -> int:
        """What is stored for ``k = 0``."""
        bits = self._bits()
        return 0 if bits == 8 else 1 << (bits - 1)

    def native_scan(self, Q: Vectors) -> SymbolScan | None:
        """The levels are whole numbers: weights take the steps, constants the offsets."""
        queries = self._check_input(Q).astype(np.float64)
        offset = np.asarray(self.offset_, dtype=np.float64)
        bits = self._bits()
        return SymbolScan(
            weights=queries * np.asarray(self.step_, dtype=np.float64),
            constants=queries @ offset if offset.ndim else queries.sum(axis=1) * offset,
            levels=_levels(bits, self._zero() if bits < 8 else 128),
            bits=bits,
            signed=bits == 8,
        )

    def _decode(self, codes: Codes) -> Vectors:
        values = dots.widened(self._planes(codes), self._layout())
        values -= np.float32(self._zero())
        values *= self.step_
        values += self.offset_
        return values

    def _prepare(self, Q: Vectors) -> BlockScorer:
        wide = Q.astype(np.float64)
        scaled = wide * self.step_
        offset = np.broadcast_to(np.asarray(self.offset_, dtype=np.float64), (Q.shape[1],))
        constant = (wide @ offset - self._zero() * scaled.sum(axis=1)).astype(np.float32)[:, None]
        score = dots.integer_dots(scaled, self._layout())
        return lambda codes: score(self._planes(codes)) + constant
