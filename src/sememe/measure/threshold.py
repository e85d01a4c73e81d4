"""A similarity threshold that keeps a promised precision, with confidence, from labelled pairs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sememe.errors import InputError

_CANDIDATES = 32  # thresholds that are tried; the confidence is shared among them


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold and what it does on the pairs it was calibrated on.

    Attributes
    ----------
    threshold : float
        Pairs with at least this similarity are taken to be the same.
    precision, recall : float
        The share of right ones among those, and the share of all right ones that are found, on these pairs.
    precision_low : float
        With ``confidence``, the precision on pairs of the same kind is at least this.
    target, confidence : float
        What was asked for.
    pairs, accepted : int
        How many pairs there were, and how many reach the threshold.
    """

    threshold: float
    precision: float
    recall: float
    precision_low: float
    target: float
    confidence: float
    pairs: int
    accepted: int

    def as_json(self) -> dict[str, float | int]:
        """All fields by name."""
        return asdict(self)


def calibrate(
    similarity: ArrayLike, same: ArrayLike, *, precision: float = 0.95, confidence: float = 0.95
) -> Calibration:
    """The lowest threshold whose precision is at least the target, with confidence.

    Up to 32 thresholds are tried, at similarities that cut the pairs into equal parts. For each, the exact (Clopper and
    Pearson, 1934) lower bound of its precision is computed at ``1 - (1 - confidence) / tried``, so that all bounds hold
    together with ``confidence``, and with them the one that is chosen.

    The bound speaks of pairs drawn like these. A cache that is asked other questions, or holds other entries, than the
    pairs came from has another precision: calibrate on what it really meets (a query, its nearest entry, and whether
    that entry's answer was right).

    Parameters
    ----------
    similarity : array-like of shape (n,)
        Finite; the higher, the more alike.
    same : array-like of shape (n,)
        Whether the two of a pair mean the same.
    precision : float
        The target, in (0, 1).
    confidence : float
        In (0, 1).

    Raises
    ------
    InputError
        Where no threshold keeps the promise; the message names the best lower bound there is.
    """
    scores, right = _checked(similarity, same, precision, confidence)
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    # The last pair of each run of equal similarities: a threshold takes all of them or none.
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) + 1
    places = np.unique(np.linspace(0, len(ends) - 1, min(_CANDIDATES, len(ends))).round().astype(int))
    tried = ends[places]
    found = np.cumsum(right)[tried - 1]
    each = (1 - confidence) / len(tried)
    # The bound is above the target where so many right ones would be too rare if the target were the truth.
    kept = [i for i, (k, n) in enumerate(zip(found, tried)) if _surpasses(int(k), int(n), precision, each)]
    if not kept:
        best = max(binomial_low(int(k), int(n), each) for k, n in zip(found, tried))
        raise InputError(
            f"no threshold keeps a precision of {precision:g} with confidence {confidence:g} on {len(scores)} pairs; "
            f"the best lower bound is {best:.3f}",
            fix="label more pairs, ask for less, or tune the vectors on pairs of this kind",
        )
    chosen = kept[-1]
    accepted, hits = int(tried[chosen]), int(found[chosen])
    return Calibration(
        # Half way to the next pair, so that rounding cannot push the last accepted one below it.
        threshold=_between(scores, accepted),
        precision=hits / accepted,
        recall=hits / int(right.sum()),
        precision_low=binomial_low(hits, accepted, each),
        target=precision,
        confidence=confidence,
        pairs=len(scores),
        accepted=accepted,
    )


def binomial_low(hits: int, trials: int, alpha: float) -> float:
    """The exact lower confidence bound of a share: where ``hits`` or more of ``trials`` have probability ``alpha``."""
    if hits == 0:
        return 0.0
    low, high = 0.0, hits / trials
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_least(hits, trials, middle) < alpha else (low, middle)
    return low


def _surpasses(hits: int, trials: int, share: float, alpha: float) -> bool:
    """Whether the lower bound of ``hits`` in ``trials`` is at least ``share``."""
    return hits > share * trials and _at_least(hits, trials, share) <= alpha


def _at_least(hits: int, trials: int, share: float) -> float:
    """The probability of ``hits`` or more in ``trials``."""
    if share <= 0:
        return 0.0
    k = np.arange(hits, trials + 1, dtype=np.float64)
    # log of C(n, k) p^k (1 - p)^(n - k), from its first term by ratios of neighbours.
    first = math.lgamma(trials + 1) - math.lgamma(hits + 1) - math.lgamma(trials - hits + 1)
    first += hits * math.log(share) + (trials - hits) * math.log1p(-share)
    ratios = np.log((trials - k[:-1]) / (k[:-1] + 1)) + math.log(share) - math.log1p(-share)
    terms = first + np.concatenate([[0.0], np.cumsum(ratios)])
    largest = float(terms.max())
    return float(math.exp(largest) * np.exp(terms - largest).sum())


def _between(scores: NDArray[np.float64], accepted: int) -> float:
    last = float(scores[accepted - 1])
    return last if accepted == len(scores) else (last + float(scores[accepted])) / 2


def _checked(
    similarity: ArrayLike, same: ArrayLike, precision: float, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    for name, value in (("precision", precision), ("confidence", confidence)):
        if not 0 < value < 1:
            raise InputError(f"{name} must lie between 0 and 1, got {value!r}", fix="for example 0.95")
    try:
        scores, given = np.asarray(similarity, dtype=np.float64), np.asarray(same)
        right = given.astype(bool)
    except (TypeError, ValueError) as error:
        raise InputError(f"the pairs are not numbers ({error})") from None
    if scores.ndim != 1 or scores.shape != right.shape or not len(scores):
        raise InputError(f"similarity {scores.shape} and same {right.shape} must be two lists of the same length")
    if not np.isfinite(scores).all():
        raise InputError(f"similarity holds NaN or infinity at {int(np.flatnonzero(~np.isfinite(scores))[0])}")
    if not np.isin(given, (0, 1)).all():
        raise InputError("same must hold true and false only", fix="turn scores into labels first")
    if not right.any():
        raise InputError("no pair is labelled the same", fix="give pairs of both sorts")
    return scores, right
