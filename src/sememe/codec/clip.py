"""Searching a clip (and an exponent) that minimises squared error, on a histogram instead of on the vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
_ROWS = 4096  # rows looked at; more change the fourth digit of a clip
_BINS = 4096
_GOLDEN = (5.0**0.5 - 1) / 2


def sample_rows(X: NDArray[np.float32], most: int = _ROWS) -> NDArray[np.float32]:
    """At most ``most`` rows, evenly spread."""
    return X if len(X) <= most else X[np.linspace(0, len(X) - 1, most).astype(np.intp)]


class Magnitudes:
    """Histogram of ``|z|`` with weights: squared errors of any scalar quantizer in microseconds.

    Parameters
    ----------
    Z : ndarray of shape (n, d)
        Values in units of ``unit``, float32.
    unit : ndarray of shape (d,) or (n, 1)
        Size of a unit where it differs: errors are weighted by its square.
    """

    def __init__(self, Z: NDArray[np.float32], unit: NDArray[np.float64]) -> None:
        size = np.abs(Z)
        self.largest = float(size.max(initial=0.0))
        largest_unit = float(unit.max(initial=0.0))
        self.centres: NDArray[Any] = (np.arange(_BINS) + 0.5) * (self.largest / _BINS)
        if not (self.largest > 0 and largest_unit > 0):
            self.weights: NDArray[Any] = np.zeros(_BINS)
            return
        weight = np.broadcast_to((unit / largest_unit) ** 2, Z.shape)
        bins = np.minimum((size * (_BINS / self.largest)).astype(np.int32), _BINS - 1)
        self.weights = np.bincount(bins.ravel(), weights=weight.ravel(), minlength=_BINS)

    def error(self, quantized: F64) -> float:
        """Weighted squared error when the centres are represented by ``quantized``."""
        gap = self.centres - quantized
        return float(self.weights @ (gap * gap))


def golden_section(loss: Callable[[float], float], low: float, high: float, *, steps: int = 40) -> float:
    """The argument between ``low`` and ``high`` where ``loss`` is smallest, supposing one valley.

    Twelve evenly spaced probes choose the bracket first: the losses here are only nearly unimodal.
    """
    probes = np.linspace(low, high, 12)
    best = int(np.argmin([loss(float(p)) for p in probes]))
    a, b = float(probes[max(best - 1, 0)]), float(probes[min(best + 1, 11)])
    x, y = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
    at_x, at_y = loss(x), loss(y)
    for _ in range(steps):
        if b - a < 1e-4 * max(abs(b), 1e-12):
            break
        if at_x <= at_y:
            b, y, at_y = y, x, at_x
            x = b - _GOLDEN * (b - a)
            at_x = loss(x)
        else:
            a, x, at_x = x, y, at_y
            y = a + _GOLDEN * (b - a)
            at_y = loss(y)
    return (a + b) / 2


def deviations(X: NDArray[np.float32], centre: NDArray[np.float32] | float) -> F64:
    """Root mean square of each column about ``centre``, ``(d,)``."""
    gap = X.astype(np.float64) - centre
    return np.sqrt(np.einsum("ij,ij->j", gap, gap) / max(len(X), 1))


def in_units(X: NDArray[np.float32], centre: NDArray[np.float32] | float, unit: F64) -> NDArray[np.float32]:
    """``(X - centre) / unit`` as float32, zero where the unit is zero."""
    inverse = np.divide(1.0, unit, out=np.zeros_like(unit), where=unit > 0)
    return ((X.astype(np.float64) - centre) * inverse).astype(np.float32)
