"""Compressors against float vectors on nested corpora of rising size.

After "CoRECT: A Framework for Evaluating Embedding Compression Techniques at Scale" (2025, arXiv 2510.19340): embed
once, compress in many ways, and let the corpus grow around the same relevant passages, first with the hardest
distractors, then with random passages. Quality at a small corpus says little about a large one; the difference to float
at each size does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sememe import progress
from sememe.catalog import Paper, register
from sememe.contracts import Vectors, as_vectors
from sememe.errors import InputError
from sememe.measure.retrieval import METRICS, Judged, parse_metric
from sememe.measure.stats import Estimate, bootstrap_mean

if TYPE_CHECKING:
    from sememe.codec import Chain

CORECT_PAPER = Paper("CoRECT: A Framework for Evaluating Embedding Compression Techniques at Scale", 2025, "2510.19340")
COMPRESSORS = (
    "fp16",
    "bf16",
    "fp8",
    "int8",
    "int4",
    "binary",
    "truncate:192 | fp32",
    "pca:192 | fp32",
    "pca:128 | int8",
    "pq",
)
_DEPTH = 1000  # longest ranking that is kept
_CELLS = 50_000_000  # scores held at once: 200 MB


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One compressor at one corpus size.

    Attributes
    ----------
    compressor : str
        Transforms and quantizer, as in a recipe.
    size : int
        Passages.
    bits : float
        Bits a vector.
    quality : dict of metric to Estimate
        Means over queries.
    change : dict of metric to Estimate
        Means of compressed minus float, paired by query.
    p_value : dict of metric to float
        Two-sided sign-flip test of that difference.
    relevant, distractors : float
        How many relevant passages, and how many of the hard distractors, stand among the first ten.
    """

    compressor: str
    size: int
    bits: float
    quality: dict[str, Estimate]
    change: dict[str, Estimate]
    p_value: dict[str, float]
    relevant: float
    distractors: float


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What counts without judgements: the nearest rows by float, int64 ``(q, k)``."""

    rows: NDArray[np.int64]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The only one."""
        return (f"recall@{self.rows.shape[1]}",)

    def gains(self, ranked: NDArray[np.int64]) -> NDArray[np.float32]:
        """1 where an entry of ``ranked`` ``(q, depth)`` is one of the nearest."""
        return (ranked[:, :, None] == self.rows[:, None, :]).any(axis=2).astype(np.float32)

    def evaluate(self, ranked: NDArray[np.int64], metrics: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """The share that was found, float64 ``(q,)``."""
        found = self.gains(ranked[:, : self.rows.shape[1]]).sum(axis=1, dtype=np.float64)
        return {metrics[0]: found / self.rows.shape[1]}


@register(
    "compression-bench",
    room="measure",
    kind="measure",
    summary="many compressors against float on nested corpora, with paired tests",
    paper=CORECT_PAPER,
    claim="compression that learns nothing saves much space at no significant loss, at any corpus size",
)
class CompressionBench:
    """Embed once; compress, search and compare.

    Parameters
    ----------
    compressors : sequence of str
        Each a recipe's middle part, for example ``"pca:128 | int8"``.
    metrics : sequence of str
        As in `retrieval.evaluate`.
    distractors : int
        Hard distractors a query: the nearest passages, by the float vectors, that are not judged relevant.
    seed : int
        Of the random filling and the tests.
    """

    def __init__(
        self,
        compressors: Sequence[str] = COMPRESSORS,
        *,
        metrics: Sequence[str] = METRICS,
        distractors: int = 20,
        seed: int = 0,
    ) -> None:
        self.compressors, self.metrics = tuple(compressors), tuple(metrics)
        self.distractors, self.seed = distractors, seed
        for metric in self.metrics:
            parse_metric(metric)

    def run_alone(self, corpus: Vectors, queries: Vectors, sizes: Sequence[int], *, k: int = 10) -> list[BenchRow]:
        """Without judgements: at each size, how many of the ``k`` nearest rows by float each compressor finds.

        The metrics of this bench do not apply; the only one is ``recall@k`` of these rows.

        Parameters
        ----------
        corpus : ndarray of shape (n, d)
        queries : ndarray of shape (q, d)
        sizes : sequence of int
            Corpus sizes, ascending: random rows, nested.
        k : int
            Neighbours asked for.
        """
        corpus, queries = as_vectors(corpus, name="corpus"), as_vectors(queries, name="queries", dim=corpus.shape[1])
        order = np.random.default_rng(self.seed).permutation(len(corpus))
        rows: list[BenchRow] = []
        with progress.task("compression bench", total=len(sizes) * (1 + len(self.compressors))) as step:
            for size in sizes:
                chosen = corpus[np.sort(order[:size])]
                turned = chosen.T
                judged = Neighbours(_ranked(turned.__rmatmul__, queries, len(chosen), min(k, len(chosen))))
                baseline: dict[str, NDArray[np.float64]] = {}
                for compressor in ("fp32", *(name for name in self.compressors if name != "fp32")):
                    nothing = np.zeros(len(chosen), dtype=bool)
                    rows.append(self._measure(compressor, chosen, queries, judged, nothing, baseline))
                    step()
        return rows

    def run(
        self,
        corpus: Vectors,
        queries: Vectors,
        qrels: Mapping[str, Mapping[str, int]],
        documents: Sequence[str],
        names: Sequence[str],
        sizes: Sequence[int],
    ) -> list[BenchRow]:
        """Measure every compressor at every size; ``"fp32"`` comes first at each.

        Parameters
        ----------
        corpus : ndarray of shape (n, d)
            Passage vectors.
        queries : ndarray of shape (q, d)
            Query vectors.
        qrels : mapping of query id to {document id: grade}
        documents, names : sequence of str
            Ids of the rows of ``corpus`` and of ``queries``.
        sizes : sequence of int
            Corpus sizes, ascending; the smallest is raised to hold all relevant passages and distractors.
        """
        corpus, queries = as_vectors(corpus, name="corpus"), as_vectors(queries, name="queries", dim=corpus.shape[1])
        whole = Judged(qrels, names, documents)
        if not whole.keep.any():
            raise InputError("no query has a relevant document among these", where="qrels")
        asked = [name for name, keep in zip(names, whole.keep) if keep]
        queries = np.ascontiguousarray(queries[whole.keep])
        order, hard = self._order(corpus, queries, Judged(qrels, asked, documents))
        rows: list[BenchRow] = []
        with progress.task("compression bench", total=len(sizes) * (1 + len(self.compressors))) as step:
            for size in sizes:
                chosen = order[: max(min(size, len(order)), len(hard[0]))]
                judged = Judged(qrels, asked, [documents[row] for row in chosen])
                hard_set = np.isin(chosen, hard[1])
                baseline: dict[str, NDArray[np.float64]] = {}
                for compressor in ("fp32", *(name for name in self.compressors if name != "fp32")):
                    rows.append(self._measure(compressor, corpus[chosen], queries, judged, hard_set, baseline))
                    step()
        return rows

    def _order(
        self, corpus: Vectors, queries: Vectors, judged: Judged
    ) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows in the order they join the corpus, and (all that is always in, the hard distractors)."""
        depth = min(len(corpus), self.distractors + int(judged.relevant.max()))
        near = _ranked(lambda Q: Q @ corpus.T, queries, len(corpus), depth)
        gains = judged.gains(near)
        hard: set[int] = set()
        for row in range(len(queries)):
            hard.update(near[row][gains[row] < 1][: self.distractors].tolist())
        relevant = judged.relevant_rows
        only_hard = np.array(sorted(hard - set(relevant.tolist())), dtype=np.int64)
        start = np.concatenate([relevant, only_hard])
        rest = np.setdiff1d(np.arange(len(corpus)), start)
        return np.concatenate([start, np.random.default_rng(self.seed).permutation(rest)]), (start, only_hard)

    def _measure(
        self,
        compressor: str,
        corpus: Vectors,
        queries: Vectors,
        judged: Judged | Neighbours,
        hard: NDArray[np.bool_],
        baseline: dict[str, NDArray[np.float64]],
    ) -> BenchRow:
        chain = chain_of(compressor).fit(corpus)
        codes = chain.encode(corpus)
        metrics = judged.metrics if isinstance(judged, Neighbours) else self.metrics
        depth = min(max(parse_metric(metric)[1] for metric in metrics), len(corpus), _DEPTH)
        ranked = _ranked(lambda Q: chain.scores(Q, codes), queries, len(corpus), max(depth, min(10, len(corpus))))
        values = judged.evaluate(ranked, metrics)
        if not baseline:
            baseline.update(values)
        changes = {metric: values[metric] - baseline[metric] for metric in metrics}
        return BenchRow(
            compressor,
            len(corpus),
            8.0 * chain.code_bytes_,
            {metric: bootstrap_mean(values[metric], seed=self.seed) for metric in metrics},
            {metric: bootstrap_mean(changes[metric], seed=self.seed) for metric in metrics},
            {metric: sign_flip_test(changes[metric], seed=self.seed) for metric in metrics},
            float((judged.gains(ranked[:, :10]) > 0).sum(axis=1).mean()),
            float(hard[ranked[:, :10]].sum(axis=1).mean()),
        )


def chain_of(compressor: str) -> Chain:
    """The unfitted chain of a recipe's middle part, ``"pca:128 | int8"``."""
    from sememe.codec import Chain

    return Chain.from_recipe(f"static | {compressor} | flat")


def top_rows(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The ``k`` best columns of each row, best first, equal scores by column: ``(q, n)`` to int64 ``(q, k)``."""
    if k < scores.shape[1] // 4:
        # everything tied with the k-th best is a candidate, so that ties break by column whatever the partition did
        edge = np.partition(scores, -k, axis=1)[:, -k]
        out = np.empty((len(scores), k), dtype=np.int64)
        for row, least in enumerate(edge):
            near = np.flatnonzero(scores[row] >= least)
            out[row] = near[np.argsort(-scores[row, near], kind="stable")[:k]]
        return out
    return np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int64)


def _ranked(scores: Callable[[Vectors], NDArray[np.float32]], queries: Vectors, n: int, k: int) -> NDArray[np.int64]:
    """`top_rows` of all queries, a block of them at a time."""
    block = max(1, _CELLS // n)
    return np.concatenate([top_rows(scores(queries[at : at + block]), k) for at in range(0, len(queries), block)])


def sign_flip_test(differences: NDArray[np.float64], *, samples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value of paired differences: how often random signs give a mean at least as far from zero.

    Never 0: the data themselves count as one of the draws. Differences that are all zero give 1.
    """
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    generator = np.random.default_rng(seed)
    observed, extreme = abs(float(moved.sum())) * (1 - 1e-12), 0
    rows = max(1, 2_000_000 // len(moved))
    for start in range(0, samples, rows):
        signs = generator.integers(0, 2, size=(min(rows, samples - start), len(moved)), dtype=np.int8) * 2.0 - 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ moved) >= observed))
    return (extreme + 1) / (samples + 1)
