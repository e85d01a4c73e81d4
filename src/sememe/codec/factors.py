"""One number a vector, beside its code: how long to make what the code decodes to, in a single byte.

A code that is chosen for least squared error decodes to vectors that are too short, each by another amount, and its
scores are off by that amount just where it matters: at the top, where query and vector point the same way. The factor
``|y|**2 / <g, y>`` for a vector ``y`` that decodes to ``g`` makes ``<factor * g, y> = |y|**2``: what error remains
is orthogonal to ``y`` (RaBitQ, Gao and Long, 2024, arXiv 2405.12497). Factors of one corpus lie close together, so 255
even steps of their logarithm cost less than the code's own error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Codes, Vectors

F32 = NDArray[np.float32]
LEVELS = 256
_WIDEST = 64.0  # largest factor over smallest; smaller ones are rounded to the smallest, or to 0


def power_of_two(X: Vectors) -> float:
    """The power of two that brings the largest entry near 1, so that squares neither overflow nor vanish."""
    largest = float(np.abs(X).max(initial=0.0))
    return float(2.0 ** np.clip(-np.floor(np.log2(largest)), -126, 126)) if largest > 0 else 1.0


def directions(X: Vectors, mean: F32, scale: float) -> tuple[F32, F32]:
    """Unit rows of ``scale * X - mean`` ``(n, d)``, and their lengths ``(n,)``; rows at the mean stay zero."""
    with np.errstate(over="ignore"):  # a row far outside the corpus keeps its direction, nearly
        gap = np.clip(X * np.float32(scale), -1e6, 1e6) - mean
    length = np.sqrt(np.einsum("ij,ij->i", gap, gap, dtype=np.float64)).astype(np.float32)
    inverse = np.divide(np.float32(1), length, out=np.zeros_like(length), where=length > 0)
    gap *= inverse[:, None]
    return gap, length


def score_factors(length: F32, units: F32, decoded: F32) -> F32:
    """``length / <decoded, units>`` for each row; 0 where the code says nothing about the row."""
    agreement = np.einsum("ij,ij->i", units, decoded)
    size = np.sqrt(np.einsum("ij,ij->i", decoded, decoded))
    return np.divide(length, agreement, out=np.zeros_like(length), where=agreement > 1e-3 * size)


def levels(factors: F32) -> F32:
    """The 256 factors a byte can stand for: 0, then even steps of the logarithm over the corpus' factors."""
    out = np.zeros(LEVELS, dtype=np.float32)
    held = factors[factors > 0].astype(np.float64)
    if len(held):
        high = float(held.max())
        low = max(float(held.min()), high / _WIDEST)
        out[1:] = np.geomspace(low, high, LEVELS - 1)
    return out


def encode(factors: F32, table: F32) -> NDArray[np.uint8]:
    """The byte whose level is nearest in ratio, ``(n,)``; beyond the ends of ``levels``, the end."""
    low, high = float(table[1]), float(table[-1])
    if not high > low:
        return (factors > low / 2).astype(np.uint8) if high > 0 else np.zeros(len(factors), dtype=np.uint8)
    place = np.log(np.maximum(factors, low / 4) / low) * ((LEVELS - 2) / np.log(high / low))
    number = np.clip(np.rint(place), 0, LEVELS - 2) + 1
    return np.where(factors > low / 2, number, 0).astype(np.uint8)


def decode(codes: Codes, table: F32) -> F32:
    """Factors ``(n,)`` of the first byte of each code."""
    return table.take(codes[:, 0])
