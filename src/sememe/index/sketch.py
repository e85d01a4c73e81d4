"""Sketches: a bit or two a dimension of every row, read four bits at a time, that tell which rows are worth scoring.

They follow RaBitQ ("RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate Nearest
Neighbor Search", 2024, arXiv 2405.12497): centred rows under a random rotation, whose coordinates are then nearly
Gaussian, each rounded to the levels of least squared error. Queries are not rounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from sememe.codec.rabitq import hadamard_rotation
from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.kernels import bits as packing
from sememe.kernels.fastscan import BLOCK, NibbleBlocks
from sememe.kernels.rescore import multiply

# Levels of least squared error for a standard Gaussian ("Quantizing for Minimum Distortion", 1960).
_LEVELS = {1: (-0.797885, 0.797885), 2: (-1.510418, -0.452780, 0.452780, 1.510418)}
SAMPLE = 1 << 14  # rows that the centre and the spread are measured on
_ROWS = 1 << 13  # rows encoded at a time


def check_bits(bits: object) -> int:
    """1 or 2, or an InputError."""
    if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)) or bits not in _LEVELS:
        raise InputError(f"a sketch of {bits!r} bits a dimension is not possible", fix="give 1 or 2")
    return int(bits)


@lru_cache(maxsize=8)
def _rotation(d: int, seed: int) -> NDArray[np.float32]:
    """Rows of ``d`` numbers to rows of the next multiple of eight, ``(d, D)``; the same on every machine."""
    turn = np.ascontiguousarray(hadamard_rotation(d, seed).T)
    turn.flags.writeable = False
    return turn


def places_of(d: int, bits: int) -> int:
    """Numbers of four bits in the sketch of a row of ``d`` dimensions."""
    return 8 * -(-d // 8) * bits // 4


def words_shape(n: int, d: int, bits: int) -> tuple[int, int, int]:
    """The shape of ``NibbleBlocks.words`` for the sketches of ``n`` rows."""
    return -(-n // BLOCK), -(-((places_of(d, bits) + 1) // 2) // 4), BLOCK


@dataclass(frozen=True, eq=False)
class Sketch:
    """A random rotation and a few levels a coordinate.

    Attributes
    ----------
    bits : {1, 2}
        A coordinate.
    seed : int
        Of the rotation, which is drawn anew whenever it is needed and takes no bytes.
    mean : ndarray of shape (d,)
        float32, subtracted before the rotation.
    spread : ndarray of shape (D,)
        float32 standard deviation of each coordinate; ``D`` is ``d`` rounded up to a multiple of 8.
    """

    bits: int
    seed: int
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]

    @classmethod
    def fit(cls, X: NDArray[np.floating], *, bits: int = 1, seed: int = 0) -> Sketch:
        """Measure the centre and spread of float rows ``(n, d)``, on a sample where there are many."""
        check_bits(bits)
        if X.ndim != 2 or not X.size:
            raise InputError(f"sketches of an array {X.shape} are not possible", fix="give rows of shape (n, d)")
        chosen = np.sort(np.random.default_rng(seed).choice(len(X), min(len(X), SAMPLE), replace=False))
        sample = np.asarray(X[chosen], dtype=np.float32)
        mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls(bits, seed, mean, ((sample - mean) @ _rotation(X.shape[1], seed)).std(axis=0))

    @property
    def rotation(self) -> NDArray[np.float32]:
        """float32 ``(d, D)`` with orthonormal rows."""
        return _rotation(len(self.mean), self.seed)

    @property
    def places(self) -> int:
        """Numbers of four bits in a row."""
        return places_of(len(self.mean), self.bits)

    @property
    def centres(self) -> NDArray[np.float32]:
        """What each number stands for, ``(places, 16, 4 / bits)``."""
        depth = 4 // self.bits
        symbol = (np.arange(16)[:, None] >> (self.bits * np.arange(depth))) & ((1 << self.bits) - 1)
        levels = np.array(_LEVELS[self.bits], dtype=np.float32)[symbol]
        return np.ascontiguousarray(levels[None] * self.spread.reshape(-1, 1, depth))

    def encode(self, X: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Rows ``(n, d)`` to numbers, packed: uint8 ``(n, ceil(places / 2))``."""
        out = np.empty((len(X), (self.places + 1) // 2), dtype=np.uint8)
        levels = np.array(_LEVELS[self.bits])
        edges = ((levels[1:] + levels[:-1]) / 2).astype(np.float32)
        for start in range(0, len(X), _ROWS):
            turned = (np.asarray(X[start : start + _ROWS], dtype=np.float32) - self.mean) @ self.rotation
            symbols = (turned > edges[0] * self.spread).view(np.uint8)
            for edge in edges[1:]:
                symbols = symbols + (turned > edge * self.spread)
            numbers = symbols[:, :: 4 // self.bits].copy()
            for j in range(1, 4 // self.bits):
                numbers |= symbols[:, j :: 4 // self.bits] << np.uint8(self.bits * j)
            out[start : start + _ROWS] = packing.pack(numbers, 4)
        return out


@dataclass(frozen=True, eq=False)
class Sketches:
    """The sketches of many rows, laid out for the scan.

    Attributes
    ----------
    sketch : Sketch
    blocks : NibbleBlocks
        ``blocks.nbytes`` is what a scan of all rows reads.
    """

    sketch: Sketch
    blocks: NibbleBlocks

    @classmethod
    def of(cls, sketch: Sketch, X: Iterable[NDArray[np.floating]]) -> Sketches:
        """Sketches of the rows ``(b, d)`` of all blocks."""
        codes = np.concatenate([sketch.encode(block) for block in X])
        return cls(sketch, NibbleBlocks.from_codes(codes, sketch.places))

    @cached_property
    def _centres(self) -> NDArray[np.float32]:
        return self.sketch.centres

    @cached_property
    def _turn(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.sketch.rotation.T)

    def candidates(
        self, Q: Vectors, count: int, *, allow: NDArray[np.bool_] | NDArray[np.uint64] | None = None,
        first: int = 0, last: int | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:  # fmt: skip
        """The ``count`` most promising rows for each query, in no order.

        Parameters
        ----------
        Q : ndarray of shape (q, d)
            float32.
        count : int
            At least 1.
        allow, first, last
            As for ``NibbleBlocks.topk``.

        Returns
        -------
        scores : ndarray of shape (q, c)
            float32: the expected inner products, each query's less one constant. ``c`` is ``count``, or the number of
            rows that may be found if that is less.
        rows : ndarray of shape (q, c)
            int64.
        """
        turned = multiply(Q, self._turn)
        return self.blocks.topk(turned, self._centres, count, allow=allow, first=first, last=last, ordered=False)
