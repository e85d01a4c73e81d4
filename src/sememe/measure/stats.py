"""Intervals for means, and how many queries a decision needs.

Every interval is a bootstrap over queries, bias-corrected and accelerated (BCa: Efron, "Better Bootstrap Confidence
Intervals", 1987). For a mean, BCa corrects what the plain percentile interval gets wrong on skewed values, and
per-query retrieval scores are very skewed: many zeros, many ones. Resampling is seeded: equal seeds draw the same
queries, so intervals of two recipes over the same queries are comparable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from sememe.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_NORMAL = NormalDist()
_BLOCK = 4_000_000  # resampled values held at once: 32 MB of indices and 32 MB of values
_MOST_DRAWS = 200_000_000  # above this the normal interval is used, which the bootstrap has converged to


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its two-sided confidence interval, in the unit of the values."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """``{"value", "low", "high"}`` as plain floats."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def bootstrap_mean(
    values: ArrayLike | Mapping[str, float], *, level: float = 0.95, samples: int = 10_000, seed: int = 0
) -> Estimate:
    """The mean of ``values`` with a BCa bootstrap interval.

    Parameters
    ----------
    values : array-like of shape (n,) or mapping of query id to value
        One value a query; finite.
    level : float
        Two-sided confidence, in (0, 1). Each end alone holds with confidence ``(1 + level) / 2``.
    samples : int
        Bootstrap resamples. Where ``n * samples`` exceeds 2e8 the normal interval ``mean +- z s / sqrt(n)`` is
        given instead: for that many values the two agree to more digits than matter.
    seed : int
        Equal seeds draw equal resamples for equal ``n``.

    Returns
    -------
    Estimate
        With one value, or values that are all equal, the interval is that point: the data show no spread.

    Raises
    ------
    InputError
        No values, a value that is not finite, or a level outside (0, 1).
    """
    data = _one_dimensional(values, "values")
    _check_level(level)
    if samples < 100:
        raise InputError(f"samples must be at least 100, got {samples}")
    n, mean = len(data), float(data.mean())
    spread = float(data.std(ddof=1)) if n > 1 else 0.0
    if spread <= 1e-12 * max(1.0, abs(mean)):
        return Estimate(mean, mean, mean)
    tail = (1 - level) / 2
    if n * samples > _MOST_DRAWS:
        half = _NORMAL.inv_cdf(1 - tail) * spread / math.sqrt(n)
        return Estimate(mean, mean - half, mean + half)
    means = _resampled_means(data, samples, seed)
    low, high = np.quantile(means, _bca_levels(data, means, mean, tail))
    return Estimate(mean, float(low), float(high))


def paired_bootstrap(
    a: ArrayLike | Mapping[str, float],
    b: ArrayLike | Mapping[str, float],
    *,
    level: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """The mean of ``a - b`` over the same queries, with a BCa bootstrap interval.

    Pairing removes what makes queries easy or hard for both, so the interval is far narrower than that of two means
    apart. The interval excludes zero when the two differ at ``level``; ``low > -margin`` says that ``a`` is not worse
    than ``b`` by ``margin``.

    Parameters
    ----------
    a, b : array-like of shape (n,), or mappings with the same keys
        Values of the same queries; arrays are paired by position, mappings by key.
    level, samples, seed
        As in ``bootstrap_mean``.

    Raises
    ------
    InputError
        Different lengths or keys, or what ``bootstrap_mean`` refuses.
    """
    return bootstrap_mean(paired_differences(a, b), level=level, samples=samples, seed=seed)


def paired_differences(a: ArrayLike | Mapping[str, float], b: ArrayLike | Mapping[str, float]) -> NDArray[np.float64]:
    """``a - b`` as float64 ``(n,)``: mappings are paired by key (they must have the same), arrays by position."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if a.keys() != b.keys():
            odd = next(iter(a.keys() ^ b.keys()))
            raise InputError(f"query {odd!r} is in only one of the two", fix="compare values of the same queries")
        keys = list(a)
        a, b = [a[key] for key in keys], [b[key] for key in keys]
    left, right = _one_dimensional(a, "a"), _one_dimensional(b, "b")
    if len(left) != len(right):
        raise InputError(f"a has {len(left)} values and b has {len(right)}", fix="compare values of the same queries")
    return left - right


def required_queries(
    diffs: ArrayLike | Mapping[str, float], margin: float, *, level: float = 0.95, power: float = 0.8
) -> int | None:
    """How many judged queries would decide non-inferiority, going by the differences seen so far.

    With mean ``m`` and standard deviation ``s`` of ``diffs`` (candidate minus reference), the interval end clears
    ``-margin`` with probability ``power`` once

        n >= ((z_level + z_power) * s / |m + margin|) ** 2

    where ``z_level`` belongs to one end of the two-sided interval of ``paired_bootstrap``. Where ``m`` is below
    ``-margin`` the same number decides the other way: that the candidate is worse.

    Parameters
    ----------
    diffs : array-like of shape (n,) or mapping
        Differences of at least two queries.
    margin : float
        The loss that is allowed, positive, in the unit of the metric.
    level, power : float
        Confidence of the two-sided interval, and the chance that it decides.

    Returns
    -------
    int or None
        Queries in all (not further ones); None where the mean lies exactly on the margin, which no number decides.
    """
    data = _one_dimensional(diffs, "diffs")
    _check_level(level)
    if margin < 0 or not math.isfinite(margin):
        raise InputError(f"margin must be a finite number, zero or more, got {margin}")
    if not 0 < power < 1:
        raise InputError(f"power must lie between 0 and 1, got {power}")
    if len(data) < 2:
        raise InputError("diffs holds one query, which shows no spread", fix="give at least two")
    distance = abs(float(data.mean()) + margin)
    if distance == 0:
        return None
    z = _NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(power)
    return max(2, math.ceil((z * float(data.std(ddof=1)) / distance) ** 2))


def _resampled_means(data: NDArray[np.float64], samples: int, seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    n = len(data)
    means = np.empty(samples)
    rows = max(1, _BLOCK // n)
    for start in range(0, samples, rows):
        stop = min(start + rows, samples)
        means[start:stop] = data[generator.integers(n, size=(stop - start, n))].mean(axis=1)
    return means


def _bca_levels(data: NDArray[np.float64], means: NDArray[np.float64], mean: float, tail: float) -> tuple[float, float]:
    """Quantile levels of the two ends: ``z0`` corrects bias, ``a`` the change of spread with the mean.

    The acceleration of a mean is its skewness over ``6 sqrt(n)`` (the jackknife gives the same). Resampled means that
    equal the mean count half, because values such as reciprocal ranks make many ties.
    """
    below = (np.count_nonzero(means < mean) + 0.5 * np.count_nonzero(means == mean)) / len(means)
    z0 = _NORMAL.inv_cdf(min(max(below, 0.5 / len(means)), 1 - 0.5 / len(means)))
    centred = data - mean
    acceleration = float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))

    def level_of(z: float) -> float:
        shifted = z0 + z
        return _NORMAL.cdf(z0 + shifted / (1 - acceleration * shifted))

    z = _NORMAL.inv_cdf(1 - tail)
    return level_of(-z), level_of(z)


def _one_dimensional(values: ArrayLike | Mapping[str, float] | Sequence[float], name: str) -> NDArray[np.float64]:
    if isinstance(values, Mapping):
        values = list(values.values())
    try:
        data = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is not a list of numbers ({error})") from None
    if data.ndim != 1 or not len(data):
        raise InputError(f"{name} must be a list of at least one number, got shape {data.shape}")
    if not np.isfinite(data).all():
        raise InputError(f"{name} holds NaN or infinity at position {int(np.flatnonzero(~np.isfinite(data))[0])}")
    return data


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"level must lie between 0 and 1, got {level}", fix="for example 0.95")
