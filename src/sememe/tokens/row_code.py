"""Codes of rows along axes that are given, with bits that are given; and where bits do most good."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sememe.codec.planes import ERRORS, FACTOR, PlaneCode
from sememe.contracts import Vectors

_MOST = len(ERRORS) - 1  # bits of an axis


class RowCode(PlaneCode):
    """Bit planes (`sememe.codec.planes`) of rows that stand on their axes already, and their shrinkage to the mean row.

    Parameters
    ----------
    bits : list of int
        Of each octet of neighbouring axes, never rising, none of them zero; axes behind the last octet get none.
    """

    shrink_: float

    def __init__(self, bits: Sequence[int] = ()) -> None:
        self.bits = list(bits)

    def bytes_per_vector(self, d: int) -> int:
        """A byte for each bit of an octet, and the factor."""
        return sum(self.bits) + FACTOR

    def _allocate(self, X: Vectors) -> NDArray[np.float64]:
        self.octets_ = np.array(self.bits, dtype=np.uint8)
        self._width = X.shape[1]
        kept = 8 * len(self.bits)
        variance = np.zeros(kept)
        variance[: min(kept, X.shape[1])] = X.var(axis=0, dtype=np.float64)[:kept]
        total = float(X.var(axis=0, dtype=np.float64).sum())
        return np.sqrt(variance / total) if total > 0 else np.zeros(kept)

    def _rotation(self) -> NDArray[np.float32]:
        return np.eye(8 * len(self.octets_), len(self.mean_), dtype=np.float32)

    def fit(self, X: Vectors, y: object = None) -> Self:
        """Learn steps and factors, then how far decoded rows shrink."""
        super().fit(X)
        self.shrink_ = 1.0
        away = self.rebuilt(self.encode(X)) - self.middle
        wanted = X[:, : away.shape[1]] - self.middle
        square = float((away * away).sum(dtype=np.float64))
        self.shrink_ = float((away * wanted).sum(dtype=np.float64)) / square if square > 0 else 1.0
        return self

    @property
    def middle(self) -> NDArray[np.float32]:
        """The mean row ``(d,)``."""
        return self.mean_ * np.float32(1 / self.scale_)

    def rebuilt(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Rows ``(n, d)`` on their axes."""
        out = np.tile(self.middle, (len(codes), 1))
        kept = min(8 * len(self.octets_), out.shape[1])
        out[:, :kept] += np.float32(self.shrink_ / self.scale_) * self._unpacked(codes, _MOST)[:, :kept]
        return out

    @classmethod
    def restored(cls, state: dict[str, Any]) -> RowCode:
        """Out of its `state`."""
        code = cls(np.asarray(state["octets_"]).tolist())
        code.load_state(state)
        return code


def shared_bits(
    variance: Sequence[NDArray[Any]], weight: Sequence[float], rows: Sequence[int], room: float
) -> list[NDArray[np.int64]]:
    """Bits of the octets of several classes of rows: each next bit lowers the weighted squared error most a byte.

    Parameters
    ----------
    variance : sequence of arrays of shape (d,)
        Of the axes, of each class.
    weight : sequence of float
        Of a row of each class.
    rows : sequence of int
    room : float
        Bytes in all, a factor for every row included.

    Returns
    -------
    list of arrays
        Bits of each octet, without those that got none; every class has at least one.
    """
    octets = -(-len(variance[0]) // 8)
    spread = np.zeros((len(rows), 8 * octets))
    for number, own in enumerate(variance):
        spread[number, : len(own)] = own
    spread = spread.reshape(len(rows), octets, 8).mean(axis=2)
    spread = np.maximum.accumulate(spread[:, ::-1], axis=1)[:, ::-1]  # planes need bits that never rise
    spread *= np.array(weight)[:, None]
    bits = np.zeros(spread.shape, dtype=np.int64)
    bits[:, 0] = 1
    left = room - sum(count * (FACTOR + 1) for count in rows)
    gain = ERRORS[:-1] - ERRORS[1:]
    heap = [
        (-spread[number, octet] * gain[bits[number, octet]], number, octet)
        for number in range(len(rows))
        for octet in range(octets)
    ]
    heapq.heapify(heap)
    while heap:
        _, number, octet = heapq.heappop(heap)
        if rows[number] > left:
            continue  # too many rows for what is left; smaller classes may still have some
        bits[number, octet] += 1
        left -= rows[number]
        if bits[number, octet] < _MOST:
            heapq.heappush(heap, (-spread[number, octet] * gain[bits[number, octet]], number, octet))
    return [own[own > 0] for own in bits]
