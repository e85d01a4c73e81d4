"""Transform coding: bits go to the principal axes that carry the variance; a vector takes any number of bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec.base import width
from sememe.codec.planes import ERRORS, FACTOR, PlaneCode
from sememe.contracts import Vectors

_WEIGHT = 1.25  # variances to this power: scores of corpus-like queries weigh wide axes more than squared error does


@register(
    "klt",
    room="codec",
    kind="quantizer",
    summary="principal axes, 0 to 8 bits each as their variance deserves, any number of bytes a vector",
    paper=Paper("Transform Coding for Fast Approximate Nearest Neighbor Search in High Dimensions", 2010),
    claim="At equal bytes, better recall than the same number of bits in every dimension.",
)
class KLT(PlaneCode):
    """The Karhunen-Loeve transform with greedy allocation of bits (Brandt, 2010), on the grid and factor of RaBitQ.

    Rows are turned to the principal axes of the corpus; eight neighbouring axes form an octet. Byte by byte, a bit goes
    to the octet where it lowers the (weighted) error most. Exactly ``size`` bytes a vector, of which one is the
    factor; a prefix is a coarser code (`coarse`).

    Parameters
    ----------
    size : int, optional
        Bytes a vector, 2 to ``8 * ceil(d / 8) + 1``; 3 bits a dimension when not given.

    Attributes
    ----------
    components_ : ndarray of shape (8 * octets, d)
        The axes that got bits, widest first, as float16: half the side data, and rounding of one in two thousand is far
        below what any code loses. Rows beyond ``d`` are zero.
    octets_ : ndarray of shape (octets,)
        Bits of each octet.
    mean_, scale_, step_, levels_, coarse_
        As in `RaBitQ`.
    """

    components_: NDArray[np.float16]
    _turn: tuple[NDArray[np.float16], NDArray[np.float32]] | None = None  # the axes, and what was made of them

    rank = 3

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Three quarters of a byte a dimension down to an eighth."""
        sizes = (3 * dim // 4, dim // 2, 3 * dim // 8, 3 * dim // 16, dim // 8)
        return [f"klt:{size}" for size in sizes if size >= 4]

    def __init__(self, size: int | None = None) -> None:
        self.size = size

    def bytes_per_vector(self, d: int) -> int:
        """``size``."""
        octets = -(-d // 8)
        if self.size is None:
            return 3 * octets + FACTOR
        return max(width(self, self.size, 8 * octets + FACTOR, name="size"), FACTOR + 1)

    def _allocate(self, X: Vectors) -> NDArray[np.float64]:
        from sememe.codec.moments import Moments

        values, vectors = Moments().update(X).spectrum()
        d = X.shape[1]
        octets = -(-d // 8)
        variance = np.zeros(8 * octets)
        variance[:d] = np.maximum(values, 0)
        variance = np.repeat(variance.reshape(octets, 8).mean(axis=1), 8)
        bits = allocation(variance[::8], self.code_bytes_ - FACTOR)
        self.octets_ = bits[bits > 0].astype(np.uint8)
        kept = 8 * len(self.octets_)
        components = np.zeros((kept, d), dtype=np.float16)
        components[: min(kept, d)] = vectors[:kept]
        self.components_ = components
        total = float(variance.sum())
        return np.sqrt(variance[:kept] / total) if total > 0 else np.zeros(kept)

    def _rotation(self) -> NDArray[np.float32]:
        if self._turn is None or self._turn[0] is not self.components_:
            self._turn = self.components_, self.components_.astype(np.float32)
        return self._turn[1]


def allocation(variance: NDArray[np.float64], planes: int) -> NDArray[np.int64]:
    """Bits of each octet, at most 8, ``planes`` in all: each goes where it lowers the weighted error most."""
    largest = float(variance.max(initial=0.0))
    weight = (variance / largest) ** _WEIGHT if largest > 0 else np.ones(len(variance))
    weight = np.maximum(weight, 1e-12)
    gains = np.append(ERRORS[:-1] - ERRORS[1:], -1.0)
    bits = np.zeros(len(variance), dtype=np.int64)
    for _ in range(planes):
        bits[int(np.argmax(weight * gains[bits]))] += 1
    return bits
