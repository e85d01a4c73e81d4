"""Retrieval measures: nDCG, recall, MRR and their kin, from a run and judgements.

`evaluate` goes through trec_eval (the package pytrec_eval), so that numbers agree with published ones. `Judged` gives
the same numbers for arrays of ranked rows, in bulk, for sweeps.

With ``g_i`` the judged gain at rank ``i`` (zero where unjudged or judged below one), ``R`` the number of relevant
documents and ``k`` the cut:

- ``ndcg@k``: ``DCG / ideal DCG``, ``DCG = sum_{i<=k} g_i / log2(i + 1)``; the gain is linear, as in trec_eval
- ``recall@k``: relevant among the first ``k``, divided by ``R``
- ``precision@k``: relevant among the first ``k``, divided by ``k``
- ``mrr@k``: ``1 / rank`` of the first relevant document if that is within ``k``, else 0
- ``map@k``: precision at each relevant document within the first ``k``, summed, divided by ``R``
- ``success@k``: 1 if a relevant document is among the first ``k``, else 0

Rules: the queries that count are those with at least one document judged 1 or more; such a query that is missing from
the run counts as 0 in every measure; a query of the run without judgements is ignored. trec_eval reads scores as
float32 and orders equal scores by document id, descending, whatever the order they were given in; a run given as lists
of ids is ranked in the order of the lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sememe.errors import InputError, UsageError
from sememe.measure.stats import Estimate, bootstrap_mean
from sememe.measure.trec import read_run as read_run
from sememe.measure.trec import write_run as write_run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Run = Mapping[str, Mapping[str, float] | Sequence[str]]
Qrels = Mapping[str, Mapping[str, int]]
PerQuery = dict[str, float]

METRICS = ("ndcg@10", "recall@100", "mrr@10")
_TREC_NAMES = {
    "ndcg": ("ndcg_cut.{k}", "ndcg_cut_{k}"),
    "recall": ("recall.{k}", "recall_{k}"),
    "precision": ("P.{k}", "P_{k}"),
    "mrr": ("recip_rank", "recip_rank"),
    "map": ("map_cut.{k}", "map_cut_{k}"),
    "success": ("success.{k}", "success_{k}"),
}


def parse_metric(metric: str) -> tuple[str, int]:
    """``"ndcg@10"`` as ``("ndcg", 10)``; anything else is a UsageError that lists what there is."""
    match = re.fullmatch(r"([a-z]+)@([1-9]\d*)", metric)
    if not match or match[1] not in _TREC_NAMES:
        known = ", ".join(f"{name}@k" for name in _TREC_NAMES)
        raise UsageError(f"there is no measure called {metric!r}", fix=f"known: {known}, with k a whole number above 0")
    return match[1], int(match[2])


def evaluate(run: Run, qrels: Qrels, metrics: Sequence[str] = METRICS) -> dict[str, PerQuery]:
    """Each measure of each query, by trec_eval.

    Parameters
    ----------
    run : mapping of query id to {document id: score}, or to a list of document ids, best first
        What a system returned. An id may stand only once in a list; scores are finite.
    qrels : mapping of query id to {document id: grade}
        Judgements; a grade of 1 or more is relevant, and is the gain of nDCG.
    metrics : sequence of str
        ``ndcg@k``, ``recall@k``, ``precision@k``, ``mrr@k``, ``map@k``, ``success@k``.

    Returns
    -------
    dict of metric to dict of query id to float
        All queries of ``qrels`` with a relevant document, in that order; those missing from ``run`` are 0.

    Raises
    ------
    UsageError
        An unknown measure.
    InputError
        No query with a relevant document, a score that is not finite, or an id twice in one list.
    """
    import pytrec_eval

    parsed = {metric: parse_metric(metric) for metric in metrics}
    judged = _judged(qrels)
    scored = {query: _as_scores(query, run[query]) for query in judged if query in run}
    wanted = {_TREC_NAMES[name][0].format(k=k) for name, k in parsed.values()}
    results = pytrec_eval.RelevanceEvaluator(judged, wanted).evaluate(scored) if wanted else {}
    measured: dict[str, PerQuery] = {}
    for metric, (name, k) in parsed.items():
        key = _TREC_NAMES[name][1].format(k=k)
        values = {query: float(results[query][key]) if query in results else 0.0 for query in judged}
        if name == "mrr":  # trec_eval's reciprocal rank has no cut: 1/r survives where r <= k
            values = {query: value if value > 0 and round(1 / value) <= k else 0.0 for query, value in values.items()}
        measured[metric] = values
    return measured


def summarize(
    values: Mapping[str, float] | Sequence[float], *, level: float = 0.95, samples: int = 10_000, seed: int = 0
) -> Estimate:
    """The mean over queries with its bootstrap interval: what a table shows of one measure."""
    return bootstrap_mean(values, level=level, samples=samples, seed=seed)


class Judged:
    """Judgements turned into arrays, to score ranked rows in bulk.

    Parameters
    ----------
    qrels : mapping of query id to {document id: grade}
        Judgements.
    queries : sequence of str
        Query ids in the order of the rows that will be scored.
    documents : sequence of str
        Document ids; row ``i`` of the collection is ``documents[i]``. A judged document that is not among them cannot
        be found but still counts in ``R`` and in the ideal ranking, as it does in trec_eval.

    Attributes
    ----------
    keep : bool ndarray of shape (q,)
        Queries with at least one relevant document: the ones that count.
    relevant : int64 ndarray of shape (q,)
        ``R``, the number of relevant documents of each query.
    """

    def __init__(self, qrels: Qrels, queries: Sequence[str], documents: Sequence[str]) -> None:
        row_of = {document: row for row, document in enumerate(documents)}
        self._documents = len(documents)
        self._grades: list[Floats] = []
        pairs: list[tuple[int, int]] = []
        for number, query in enumerate(queries):
            found = [(document, grade) for document, grade in qrels.get(query, {}).items() if grade > 0]
            self._grades.append(np.sort(np.array([grade for _, grade in found], dtype=np.float64))[::-1])
            pairs += [(number * self._documents + row_of[doc], grade) for doc, grade in found if doc in row_of]
        pairs.sort()
        self._keys = np.array([key for key, _ in pairs], dtype=np.int64)
        self._values = np.array([grade for _, grade in pairs], dtype=np.float64)
        self.relevant = np.array([len(grades) for grades in self._grades], dtype=np.int64)
        self.keep = self.relevant > 0

    def gains(self, rows: NDArray[np.int64]) -> Floats:
        """Grades of ranked rows: int ``(q, k)`` in, float64 ``(q, k)`` out; a negative row (no hit) gains 0."""
        rows = np.asarray(rows, dtype=np.int64)
        if rows.ndim != 2 or len(rows) != len(self.relevant):
            raise InputError(f"rows must have shape ({len(self.relevant)}, k), got {rows.shape}")
        if not len(self._keys):
            return np.zeros(rows.shape)
        keys = rows + np.arange(len(rows), dtype=np.int64)[:, None] * self._documents
        spot = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        hit = (self._keys[spot] == keys) & (rows >= 0) & (rows < self._documents)
        return np.where(hit, self._values[spot], 0.0)

    @property
    def relevant_rows(self) -> NDArray[np.int64]:
        """Rows of the collection that are relevant to some query, ascending."""
        return np.unique(self._keys % max(self._documents, 1))

    def ideal(self, k: int) -> Floats:
        """The best grades a ranking of ``k`` could show, float64 ``(q, k)``, padded with 0."""
        table = np.zeros((len(self._grades), k))
        for row, grades in enumerate(self._grades):
            table[row, : len(grades)] = grades[:k]
        return table

    def evaluate(self, rows: NDArray[np.int64], metrics: Sequence[str] = METRICS) -> dict[str, Floats]:
        """Each measure of each query, float64 ``(q,)``, from ranked rows ``(q, k)``, best first, no row twice.

        Equal to ``evaluate`` on the same ranking. Queries without a relevant document are 0 here: ``keep`` tells them.
        """
        parsed = {metric: parse_metric(metric) for metric in metrics}
        deepest = max((k for _, k in parsed.values()), default=0)
        gains = self.gains(rows)
        return rank_metrics(gains, self.ideal(deepest), self.relevant, metrics)


def ndcg_from_gains(gains: Floats, ideal: Floats) -> Floats:
    """nDCG of each row, float64 ``(q,)``.

    Parameters
    ----------
    gains : ndarray of shape (q, k)
        Grades in the order ranked.
    ideal : ndarray of shape (q, k')
        Grades in the best order, cut at the same ``k``; padded with 0.
    """
    best = _dcg(np.asarray(ideal, dtype=np.float64))
    got = _dcg(np.maximum(np.asarray(gains, dtype=np.float64), 0.0))
    shares: Floats = np.divide(got, best, out=np.zeros_like(got), where=best > 0)
    return shares


def rank_metrics(
    gains: Floats, ideal: Floats, relevant: NDArray[np.int64], metrics: Sequence[str] = METRICS
) -> dict[str, Floats]:
    """Measures of ranked gains, each float64 ``(q,)``; a query without relevant documents is 0.

    Parameters
    ----------
    gains : ndarray of shape (q, depth)
        Grades in the order ranked; a cut beyond ``depth`` counts what is there.
    ideal : ndarray of shape (q, at least the deepest cut)
        Grades in the best order, padded with 0 (`Judged.ideal`).
    relevant : int ndarray of shape (q,)
        Relevant documents of each query.
    metrics : sequence of str
        As in ``evaluate``.
    """
    gains = np.asarray(gains, dtype=np.float64)
    hits = gains >= 1
    some = np.maximum(relevant, 1)
    measured: dict[str, Floats] = {}
    for metric in metrics:
        name, k = parse_metric(metric)
        top = hits[:, :k]
        if name == "ndcg":
            measured[metric] = ndcg_from_gains(gains[:, :k], ideal[:, :k])
        elif name == "recall":
            measured[metric] = top.sum(axis=1) / some
        elif name == "precision":
            measured[metric] = top.sum(axis=1) / k
        elif name == "success":
            measured[metric] = np.asarray(top.any(axis=1), dtype=np.float64)
        elif name == "mrr":
            first = np.argmax(top, axis=1) if top.shape[1] else np.zeros(len(top), dtype=np.int64)
            measured[metric] = np.where(top.any(axis=1), 1.0 / (first + 1), 0.0)
        else:
            precision = np.cumsum(top, axis=1) / np.arange(1, top.shape[1] + 1)
            measured[metric] = np.einsum("qk,qk->q", precision, top) / some
    return measured


def _dcg(gains: Floats) -> Floats:
    discounted: Floats = gains @ (1.0 / np.log2(np.arange(2, gains.shape[1] + 2)))
    return discounted


def _judged(qrels: Qrels) -> dict[str, dict[str, int]]:
    """The judgements of queries that have a relevant document, negative grades as 0."""
    judged = {
        query: {document: max(int(grade), 0) for document, grade in grades.items()}
        for query, grades in qrels.items()
        if any(grade > 0 for grade in grades.values())
    }
    if not judged:
        raise InputError("no query has a document judged relevant", where="qrels", fix="relevant means a score above 0")
    return judged


def _as_scores(query: str, ranked: Mapping[str, float] | Sequence[str]) -> dict[str, float]:
    if isinstance(ranked, Mapping):
        scores = {document: float(score) for document, score in ranked.items()}
        if not np.isfinite(np.fromiter(scores.values(), dtype=np.float64, count=len(scores))).all():
            raise InputError(f"a score of query {query!r} is NaN or infinite", where="run")
        return scores
    scores = {document: float(-rank) for rank, document in enumerate(ranked)}
    if len(scores) != len(ranked):
        raise InputError(f"query {query!r} lists a document twice", where="run")
    return scores
