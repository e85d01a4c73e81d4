"""What the codecs that learn by gradient share: Adam, a schedule that keeps a time budget, and the softmax of a batch.

Gradients are written out by hand where they are used, so that training needs NumPy alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.errors import InputError

F32 = NDArray[np.float32]
_SELF = np.float32(-1e9)  # the logit of a row with itself: never chosen


class Adam:
    """Adam (Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2014, arXiv 1412.6980), in place.

    Parameters
    ----------
    parameters : sequence of ndarray
        float32 arrays, changed by ``step``.
    rates : sequence of float
        The learning rate of each.
    """

    def __init__(self, parameters: Sequence[F32], rates: Sequence[float]) -> None:
        self.parameters, self.rates = list(parameters), list(rates)
        self._first = [np.zeros_like(p) for p in self.parameters]
        self._second = [np.zeros_like(p) for p in self.parameters]
        self._steps = 0

    def step(self, gradients: Sequence[F32], share: float) -> None:
        """Move against ``gradients`` with ``share`` of the learning rates."""
        self._steps += 1
        first_bias, second_bias = 1 - 0.9**self._steps, 1 - 0.999**self._steps
        for p, g, m, v, rate in zip(self.parameters, gradients, self._first, self._second, self.rates, strict=True):
            m += np.float32(0.1) * (g - m)
            v += np.float32(0.001) * (g * g - v)
            size = np.sqrt(v)
            size *= np.float32(1 / np.sqrt(second_bias))
            size += np.float32(1e-8)
            np.divide(m, size, out=size)
            size *= np.float32(share * rate / first_bias)
            p -= size


def schedule(steps: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> Iterator[float]:
    """The share of the learning rate for each step: it falls linearly to nothing as the work is done.

    The clock takes over only once half the budget is spent and time runs ahead of the steps; then training is cut
    short, but still ends with small steps. What takes less than half its budget is therefore the same on every machine.
    """
    start = clock()
    for step in range(steps):
        done, spent = step / steps, (clock() - start) / seconds
        if spent > 0.5:
            done = max(done, spent)
        if done >= 1:
            return
        yield 1 - done


def check_training(owner: object, **least: float) -> None:
    """Refuse training parameters of ``owner`` that are not numbers of at least what is given."""
    for name, smallest in least.items():
        value = getattr(owner, name)
        whole = isinstance(smallest, int)
        kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
        if isinstance(value, bool) or not isinstance(value, kinds) or not smallest <= value < float("inf"):
            raise InputError(
                f"{name}={value!r} is not possible for {type(owner).__name__}",
                fix=f"give a {'whole ' if whole else ''}number of at least {smallest}",
            )


def shares(rows: F32, temperature: float) -> F32:
    """How each row of a batch divides its attention among the others: softmax of ``rows rows' / temperature``.

    Shape ``(b, d)`` to ``(b, b)``; the diagonal is zero.
    """
    logits = rows @ rows.T
    logits *= np.float32(1 / temperature)
    np.fill_diagonal(logits, _SELF)
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    np.fill_diagonal(logits, 0)  # matters only where a row is alone
    logits /= np.maximum(logits.sum(axis=1, keepdims=True), np.float32(1e-30))
    return logits


def unit_scale(X: Vectors) -> float:
    """The factor that gives the rows of ``X`` a root mean square length of 1; 1 where all are zero."""
    size = np.float64(np.abs(X).max(initial=0))
    if size == 0:
        return 1.0
    length = size * np.sqrt(np.mean(np.einsum("ij,ij->i", X / size, X / size, dtype=np.float64)))
    return float(np.clip(1 / length, 1e-37, 1e37))
