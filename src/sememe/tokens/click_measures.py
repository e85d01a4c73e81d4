"""How well clicks are predicted: area under the ROC curve and log-loss, with intervals over seeds and rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_DRAWS = 200


def auc(labels: NDArray[Any], scores: NDArray[Any], weights: Floats | None = None) -> Floats:
    """Chance that a click scores above another row, ties one half.

    Parameters
    ----------
    labels, scores : arrays of shape (n,)
    weights : array of shape (draws, n), optional
        How often each row counts, in each of several resamples; all once when not given.

    Returns
    -------
    ndarray of shape (draws,)
        NaN where a resample has no click, or nothing else.
    """
    order = np.argsort(scores, kind="stable")
    ranked = np.asarray(scores)[order]
    starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
    clicked = np.asarray(labels)[order] > 0
    weight = np.ones((1, len(order))) if weights is None else weights[:, order]
    positive = np.add.reduceat(weight * clicked, starts, axis=1)
    negative = np.add.reduceat(weight * ~clicked, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(1) * negative.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((positive * (below + 0.5 * negative)).sum(1) / pairs)


def log_loss(labels: NDArray[Any], logits: Floats) -> Floats:
    """Nats of each row, ``(n,)``."""
    return np.logaddexp(0, np.where(np.asarray(labels) > 0, -logits, logits))


def interval(values: Floats, draws: Floats) -> tuple[float, float, float]:
    """Mean of ``values (seeds,)`` with the 95 % interval of ``draws (draws, seeds)`` over seeds and rows."""
    generator = np.random.default_rng(0)
    seeds = generator.integers(draws.shape[1], size=draws.shape)
    low, high = np.nanquantile(np.take_along_axis(draws, seeds, axis=1).mean(1), (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def measure(labels: NDArray[Any], logits: Sequence[Floats]) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """AUC and log-loss of models of several seeds: values ``(seeds,)`` and resamples ``(draws, seeds)`` of each."""
    n = len(labels)
    # every model meets the same resamples, so that differences are paired
    weights = np.random.default_rng(1).multinomial(n, np.full(n, 1 / n), size=_DRAWS).astype(np.float64)
    losses = np.stack([log_loss(labels, one) for one in logits], axis=1)
    areas = np.stack([auc(labels, one, weights) for one in logits], axis=1)
    values = np.array([auc(labels, one)[0] for one in logits])
    return (values, areas), (losses.mean(0), weights @ losses / n)
