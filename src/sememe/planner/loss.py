"""How much worse is a recipe than the reference? What the judgements say, and what agreement adds.

Judged queries give a paired difference without bias but with much noise: a small code swaps neighbours at random, and
whether a swap helps or hurts one query is a coin flip. Agreement queries give the expected effect of the same swaps
with little noise: a document that stood at rank ``r`` in the reference is relevant with probability ``p(r)``, which the
judged queries teach; moving it from rank ``r`` to ``j`` costs ``p(r) (D(r) - D(j))``, with ``D`` the discount of nDCG.
That is exact if a smaller code knows nothing about relevance beyond the reference's ranking, and pessimistic
otherwise, since every change then counts as a loss.

What really happens is a part of that: some swaps help. How large a part was measured on five judged collections and
eleven codes (``benchmarks/agreement.py``): .47 for the user's own queries and .24 for sentences of the text, which lie
in denser neighbourhoods. The planner takes .5 and .35, to the careful side, and lets each be two fifths off. The
collections of ``benchmarks/heldout.py`` are the same ones. For recipes that are fused with BM25
(``benchmarks/agreement.py hybrid``) no more than half as much comes true: there it is more careful still.

Judgements and agreement are weighed by their precision, and agreement is set aside where it contradicts the user's own
judgements. Stand-in queries are another matter: what a document is known by finds it with a wide margin, so a coarse
code seems to lose little. There the more pessimistic of the two counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.measure.stats import Estimate, bootstrap_mean

CUT = 10  # nDCG@10
DISCOUNT = 1.0 / np.log2(np.arange(2, CUT + 2))
OWN, SENTENCES = 0.5, 0.35  # the part of the expected change that comes true, for the user's queries and for sentences
_MODEL_ERROR = 0.4  # of the agreement estimate: how far that part may be off
_Z = 1.959963984540054
_NINE_OF_TEN = 1.2815515655446004
_SAMPLES = 2_000  # resamples of an interval inside the sweep


def ndcg(ranked: NDArray[np.int64], gains: NDArray[np.float32], ideal: NDArray[np.float32]) -> NDArray[np.float64]:
    """nDCG@10 of each query: ``ranked`` int (q, k >= 10 or all), ``gains`` (q, r), ``ideal`` (q, 10) best gains.

    Ranks where nothing was found hold -1 and gain nothing.
    """
    found = _gains_of(ranked[:, :CUT], gains)
    got = found @ DISCOUNT[: found.shape[1]]
    best = ideal @ DISCOUNT
    return np.divide(got, best, out=np.zeros(len(got)), where=best > 0)


def _gains_of(ranked: NDArray[np.int64], gains: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(ranked >= 0, np.take_along_axis(gains, ranked, axis=1), np.float32(0))


def relevance_by_rank(
    ranked: NDArray[np.int64], gains: NDArray[np.float32], ideal: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Mean normalised gain of the record at each rank of the reference, non-increasing; the last entry is the tail.

    ``ranked`` int (q, depth). A prior of ten queries with ``p(r) = 0.3 / r`` steadies small sets. Returns (depth + 1,).
    """
    depth = ranked.shape[1]
    prior = 0.3 / np.arange(1, depth + 1)
    best = np.maximum(ideal @ DISCOUNT, 1e-12)
    observed = _gains_of(ranked, gains) / best[:, None]
    mean = (observed.sum(axis=0) + 10 * prior) / (len(ranked) + 10)
    steady = _non_increasing(mean)
    return np.append(steady, steady[-1] / 2)


def default_relevance(depth: int) -> NDArray[np.float64]:
    """The prior alone, for collections without any judgement: (depth + 1,)."""
    prior = 0.3 / np.arange(1, depth + 1)
    return np.append(prior, prior[-1] / 2)


def _non_increasing(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pool adjacent violators: the closest non-increasing sequence."""
    blocks: list[list[float]] = []  # [mean, size]
    for value in values:
        blocks.append([float(value), 1.0])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            mean, size = blocks.pop()
            total = blocks[-1][1] + size
            blocks[-1] = [(blocks[-1][0] * blocks[-1][1] + mean * size) / total, total]
    return np.concatenate([np.full(int(size), mean) for mean, size in blocks])


def expected_change(
    reference: NDArray[np.int64], candidate: NDArray[np.int64], relevance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Expected relative change of nDCG@10 of each query, at most 0, from the two rankings alone.

    ``reference`` int (q, depth), ``candidate`` int (q, >= 10), ``relevance`` (depth + 1,). Ranks where nothing was
    found hold -1: there a candidate loses what the reference has, and nothing where the reference has nothing either.
    """
    depth = reference.shape[1]
    top = candidate[:, :CUT]
    rank = np.full(top.shape, depth, dtype=np.int64)
    place: dict[int, int]
    for row in range(len(top)):  # a dictionary a query beats a (q, 10, 100) comparison
        place = {record: position for position, record in enumerate(reference[row].tolist())}
        rank[row] = np.array([place.get(record, depth) for record in top[row].tolist()], dtype=np.int64)
    nothing = (top < 0) & (reference[:, :CUT] < 0)
    rank = np.where(nothing, np.arange(top.shape[1]), np.where(top < 0, depth, rank))
    discount = DISCOUNT[: top.shape[1]]
    whole = relevance[: len(discount)] @ discount
    return relevance[rank] @ discount / whole - 1.0


@dataclass(frozen=True)
class Comparison:
    """Difference of a recipe to the reference in units of the metric, at 95 %.

    ``labels`` is what judgements alone say, ``agreement`` what rankings alone say, ``difference`` both together.
    ``scatter`` is the standard error that the mean difference would have on another set of as many judged queries; 0
    without judgements. ``wary`` is the difference without the luck of the judged queries: of many recipes the one that
    they happen to favour looks best, so it is not above what agreement says.
    """

    difference: float
    low: float
    high: float
    labels: Estimate | None
    agreement: Estimate | None
    basis: str
    scatter: float = 0.0
    wary: float = float("inf")

    def steady(self, margin: float) -> bool:
        """Whether nine of ten other sets of queries would show a loss within ``margin`` in nine of ten resamples.

        A mean that is surely within the margin can still scatter far beyond it from one set of queries to the next.
        """
        error = (self.difference - self.low) / _Z
        reach = _NINE_OF_TEN * (self.scatter + float(np.hypot(self.scatter, error)))
        return min(self.difference, self.wary) - reach >= -margin

    def as_json(self, reference: float) -> dict[str, Any]:
        """For plan.json: the difference, its interval, and the share of the reference's quality that is kept."""
        kept = 1.0 + self.difference / reference if reference > 0 else None
        shown: dict[str, Any] = {
            "difference": self.difference, "low": self.low, "high": self.high, "kept": kept, "basis": self.basis
        }  # fmt: skip
        if self.labels is not None:
            shown["labels"] = self.labels.as_json()
        if self.agreement is not None:
            shown["agreement"] = self.agreement.as_json()
        return shown


def compare(
    differences: NDArray[np.float64] | None,
    changes: NDArray[np.float64] | None,
    reference: float,
    *,
    seed: int,
    part: float = OWN,
    cautious: bool = False,
) -> Comparison:
    """Weigh paired ``differences`` of judged queries and relative ``changes`` of agreement queries.

    Parameters
    ----------
    differences : float64 (q,), optional
        nDCG of the candidate minus that of the reference.
    changes : float64 (a,), optional
        Expected relative changes, from ``expected_change``.
    reference : float
        The reference's mean, which turns relative changes into units of the metric.
    part : float
        The part of the expected change that comes true (``OWN`` or ``SENTENCES``).
    cautious : bool
        Take the more pessimistic of the two instead of weighing them: for stand-in queries.
    """
    labels = None
    if differences is not None and len(differences) >= 5:
        labels = bootstrap_mean(differences, samples=_SAMPLES, seed=seed)
    agreement = None
    if changes is not None and len(changes) >= 5:
        agreement = bootstrap_mean(part * changes * reference, samples=_SAMPLES, seed=seed)
    if labels is None and agreement is None:
        return Comparison(0.0, float("-inf"), float("inf"), None, None, "nothing to compare on")
    if agreement is None:
        assert labels is not None
        error = (labels.high - labels.low) / (2 * _Z)
        return Comparison(labels.value, labels.low, labels.high, labels, None, "judgements", error)
    agreement_error = np.hypot((agreement.high - agreement.low) / (2 * _Z), _MODEL_ERROR * abs(agreement.value))
    reach = _Z * float(agreement_error)
    alone = Comparison(
        agreement.value, agreement.value - reach, agreement.value + reach, labels, agreement, "agreement"
    )
    if labels is None:
        return alone
    if cautious:
        judged = Comparison(labels.value, labels.low, labels.high, labels, agreement, "stand-in queries")
        return min(alone, judged, key=lambda c: c.low)
    # Few queries that all happen to agree prove little: a change in one query in n cannot be excluded.
    assert differences is not None
    label_error = max((labels.high - labels.low) / (2 * _Z), 0.15 / len(differences))
    agreement_error, wary = max(float(agreement_error), 1e-9), agreement.value
    if abs(labels.value - agreement.value) > 2.5 * np.hypot(label_error, agreement_error):
        return Comparison(labels.value, labels.low, labels.high, labels, agreement, "judgements", label_error, wary)
    a, b = label_error**-2, agreement_error**-2
    value = (a * labels.value + b * agreement.value) / (a + b)
    reach = _Z * (a + b) ** -0.5
    return Comparison(value, value - reach, value + reach, labels, agreement, "judgements and agreement", label_error)
