"""Codes on an even grid in a turned space, laid out in bit planes so that a prefix of the bytes is a coarser code.

A row is turned, its coordinates are rounded to even steps, and one byte holds the factor that makes the decoded row
agree with the row itself. Eight neighbouring coordinates (an octet) have the same number of bits, and a byte holds one
bit of each of them, so a score is one table look-up a byte. The planes follow the factor from the highest bit down.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.codec import factors
from sememe.codec.base import BlockScorer, Quantizer
from sememe.codec.clip import sample_rows
from sememe.contracts import Codes, Vectors
from sememe.errors import InputError
from sememe.kernels import dots
from sememe.kernels.symbols import SymbolScan
from sememe.kernels.tables import table_sums

# Steps, and squared errors, of the best even quantizer of 0 to 8 bits for a standard normal variable (J. Max, 1960,
# "Quantizing for minimum distortion").
STEPS = np.array([1.0, 1.5958, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308])
ERRORS = np.array([1.0, 0.3634, 0.1188, 0.03744, 0.01154, 0.003495, 0.001041, 0.000304, 0.0000877])
_SCALES = np.array([1.0, 0.75, 0.83, 0.91, 1.1, 1.21, 1.35, 1.55, 1.9], dtype=np.float32)
_TRAIN = 8192
FACTOR = 1  # bytes

F32 = NDArray[np.float32]


class PlaneCode(Quantizer):
    """Subclasses set ``octets_`` and ``deviation_`` in ``_allocate`` and say how rows are turned in ``_rotation``."""

    octets_: NDArray[np.uint8]  # bits of each octet, never rising
    step_: F32  # (8 * octets,), in units of a row's length
    mean_: F32
    levels_: F32
    coarse_: F32
    scale_: float

    @abstractmethod
    def _allocate(self, X: Vectors) -> NDArray[np.float64]:
        """Set ``octets_`` from centred rows; the deviation of each turned coordinate of a unit row."""

    @abstractmethod
    def _rotation(self) -> F32:
        """``(8 * octets, d)``: rows are multiplied by its transpose."""

    def _learn(self, X: Vectors) -> None:
        X = sample_rows(X, _TRAIN)
        self.scale_ = factors.power_of_two(X)
        self.mean_ = (X * np.float32(self.scale_)).mean(axis=0, dtype=np.float64).astype(np.float32)
        units, length = factors.directions(X, self.mean_, self.scale_)
        deviation = self._allocate(units * length[:, None])
        self.step_ = (STEPS[self._bits()] * deviation).astype(np.float32)
        turned = units @ self._rotation().T
        numbers = self._numbers(turned)
        grid = self._grid(numbers, 8)
        fine = factors.score_factors(length, turned, grid)
        self.levels_ = factors.levels(fine)
        # What a coarser code's factors are, on average, in units of the fine code's.
        ratio = np.ones(9, dtype=np.float32)
        for depth in range(1, int(self.octets_.max(initial=0))):
            coarse = factors.score_factors(length, turned, self._grid(numbers, depth))
            held = (fine > 0) & (coarse > 0)
            ratio[depth] = float(np.median(coarse[held] / fine[held])) if held.any() else 1.0
        self.coarse_ = ratio

    def _bits(self) -> NDArray[np.int64]:
        """Bits of each turned coordinate, ``(8 * octets,)``."""
        return np.repeat(self.octets_.astype(np.int64), 8)

    def _numbers(self, turned: F32) -> NDArray[np.uint8]:
        """Grid numbers ``(n, 8 * octets)`` from 0, at the one of nine scales that is nearest in angle to each row."""
        bits = self._bits()
        top = ((1 << bits) - 1).astype(np.float32)
        middle = top / 2
        step = np.where(self.step_ > 0, self.step_, np.float32(1))
        base = turned / step
        best = np.full(len(turned), -np.inf, dtype=np.float32)
        out = np.empty(turned.shape, dtype=np.uint8)
        for scale in _SCALES if self.octets_.max(initial=0) > 1 else _SCALES[:1]:
            number = np.clip(np.floor(base * (1 / scale) + (middle + np.float32(0.5))), 0, top)
            grid = (number - middle) * self.step_
            size = np.sqrt(np.einsum("ij,ij->i", grid, grid))
            cosine = np.einsum("ij,ij->i", grid, turned) / np.where(size > 0, size, np.float32(1))
            better = np.flatnonzero(cosine > best)
            best[better] = cosine[better]
            out[better] = number[better]
        return out

    def _grid(self, numbers: NDArray[np.uint8], depth: int) -> F32:
        """What numbers stand for before the factor, from their ``depth`` highest bits, float32 ``(n, 8 * octets)``."""
        bits = self._bits()
        lost = np.maximum(bits - depth, 0)
        kept = (numbers >> lost.astype(np.uint8)).astype(np.float32)
        weight, offset = self._affine(depth)
        return kept * weight + offset

    def _affine(self, depth: int) -> tuple[F32, F32]:
        """Step and offset of the ``depth`` highest bits: the middle of the cells that share them."""
        bits = self._bits()
        lost = np.maximum(bits - depth, 0)
        cell = (1 << lost).astype(np.float64)
        step = self.step_.astype(np.float64)
        offset = ((cell - 1) / 2 - ((1 << bits) - 1) / 2) * step
        return (cell * step).astype(np.float32), offset.astype(np.float32)

    def _lengths(self, depth: int) -> list[int]:
        """Bytes of each of the ``depth`` highest planes."""
        return [int(np.count_nonzero(self.octets_ > plane)) for plane in range(min(depth, int(self.octets_.max())))]

    def _encode(self, X: Vectors) -> Codes:
        units, length = factors.directions(X, self.mean_, self.scale_)
        turned = units @ self._rotation().T
        numbers = self._numbers(turned)
        factor = factors.score_factors(length, turned, self._grid(numbers, 8))
        parts = [factors.encode(factor, self.levels_)[:, None]]
        bits = self._bits()
        for plane, count in enumerate(self._lengths(8)):
            shift = (bits[: 8 * count] - 1 - plane).astype(np.uint8)
            parts.append(np.packbits((numbers[:, : 8 * count] >> shift) & np.uint8(1), axis=1))
        return np.hstack(parts)

    def _unpacked(self, codes: Codes, depth: int) -> F32:
        """Grid rows with their factors, float32 ``(n, 8 * octets)``, in units of ``scale_``."""
        kept = np.zeros((len(codes), 8 * len(self.octets_)), dtype=np.uint8)
        start = FACTOR
        for count in self._lengths(depth):
            part = kept[:, : 8 * count]
            part <<= 1
            part |= np.unpackbits(np.ascontiguousarray(codes[:, start : start + count]), axis=1)
            start += count
        weight, offset = self._affine(depth)
        grid = kept * weight
        grid += offset
        grid *= self._factors(codes, depth)[:, None]
        return grid

    def _factors(self, codes: Codes, depth: int) -> F32:
        return factors.decode(codes, self.levels_) * self.coarse_[depth]

    def _decode_depth(self, codes: Codes, depth: int) -> NDArray[Any]:
        rows = self._unpacked(codes, depth) @ self._rotation() + self.mean_
        return rows * np.float32(1 / self.scale_)

    def _decode(self, codes: Codes) -> NDArray[Any]:
        return self._decode_depth(codes, 8)

    def native_scan(self, Q: Vectors) -> SymbolScan | None:
        """Every bit of every plane is a symbol of its own."""
        return self._native_scan(self._check_input(Q), 8)

    def _native_scan(self, Q: Vectors, depth: int) -> SymbolScan:
        queries = Q.astype(np.float64) / self.scale_
        turned = queries @ self._rotation().T.astype(np.float64)
        weight, offset = self._affine(depth)
        kept = np.minimum(self._bits(), depth)
        products = turned * weight
        bits = [
            products[:, : 8 * count] * 2.0 ** (kept[: 8 * count] - 1 - plane)
            for plane, count in enumerate(self._lengths(depth))
        ]
        return SymbolScan(
            weights=np.concatenate(bits, axis=1),
            constants=queries @ self.mean_.astype(np.float64),
            levels=np.array([0.0, 1.0]),
            bits=1,
            first=FACTOR,
            tail="table",
            scales=self.levels_ * self.coarse_[depth],
            inner=turned @ offset.astype(np.float64),
        )

    def _row_scratch(self, queries: int) -> int:
        return 2 * self.code_bytes_ if queries <= dots.FEW else 12 * max(len(self.step_), 1)

    def _prepare(self, Q: Vectors) -> BlockScorer:
        return self._prepare_depth(Q, 8)

    def _prepare_depth(self, Q: Vectors, depth: int) -> BlockScorer:
        queries = Q.astype(np.float64) / self.scale_
        turned = queries @ self._rotation().T.astype(np.float64)
        constant = (queries @ self.mean_.astype(np.float64)).astype(np.float32)[:, None]
        if len(Q) > dots.FEW:
            narrow = turned.astype(np.float32)
            return lambda codes: narrow @ self._unpacked(codes, depth).T + constant
        weight, offset = self._affine(depth)
        shift = (turned @ offset.astype(np.float64)).astype(np.float32)[:, None]
        tables = self._tables(turned * weight, depth)

        def score(codes: Codes) -> F32:
            sums = table_sums(tables, codes[:, FACTOR:])
            sums += shift
            sums *= self._factors(codes, depth)
            sums += constant
            return sums

        return score

    def _tables(self, products: NDArray[np.float64], depth: int) -> F32:
        """What each value of each byte adds, float32 ``(q, bytes of the planes, 256)``."""
        kept = np.minimum(self._bits(), depth)
        bit = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64)
        out = []
        for plane, count in enumerate(self._lengths(depth)):
            part = products[:, : 8 * count] * 2.0 ** (kept[: 8 * count] - 1 - plane)
            out.append(part.reshape(len(products), count, 8) @ bit.T)
        return np.ascontiguousarray(np.concatenate(out, axis=1), dtype=np.float32)

    def coarse(self, depth: int = 1) -> Prefix:
        """The code of the ``depth`` highest bit planes: a view whose codes are ``codes[:, :view.code_bytes_]``.

        Parameters
        ----------
        depth : int
            1 up to the most bits a coordinate has.

        Returns
        -------
        Prefix
            A fitted quantizer that scores and decodes such prefixes.
        """
        self._check_fitted()
        most = int(self.octets_.max())
        if isinstance(depth, bool) or not isinstance(depth, (int, np.integer)) or not 1 <= depth <= most:
            raise InputError(
                f"depth={depth!r} is not possible for {self!r}", fix=f"give a whole number from 1 to {most}"
            )
        return Prefix(self, int(depth))


class Prefix(Quantizer):
    """The leading bytes of the codes of a fitted `PlaneCode`, as a quantizer of its own. Made by ``coarse``."""

    def __init__(self, fine: PlaneCode, depth: int) -> None:
        self.fine = fine
        self.depth = depth
        self.n_features_in_ = fine.n_features_in_
        self.code_bytes_ = FACTOR + sum(fine._lengths(depth))

    def fit(self, X: Vectors, y: object = None) -> Prefix:
        """Nothing is learned: the fine quantizer is fitted already."""
        return self

    def bytes_per_vector(self, d: int) -> int:
        """As many as the planes that are kept, and the factor."""
        return self.code_bytes_

    def _encode(self, X: Vectors) -> Codes:
        return self.fine._encode(X)[:, : self.code_bytes_]

    def _decode(self, codes: Codes) -> NDArray[Any]:
        return self.fine._decode_depth(codes, self.depth)

    def native_scan(self, Q: Vectors) -> SymbolScan | None:
        """As of the fine code, without the planes that are left out."""
        return self.fine._native_scan(self._check_input(Q), self.depth)

    def _row_scratch(self, queries: int) -> int:
        return self.fine._row_scratch(queries)

    def _prepare(self, Q: Vectors) -> BlockScorer:
        return self.fine._prepare_depth(Q, self.depth)
