"""The sweep: every recipe against the full-precision one, with as many queries as the question needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sememe.measure.stats import Estimate, bootstrap_mean
from sememe.planner.choose import Point, frontier, judge
from sememe.planner.loss import (
    Comparison,
    compare,
    default_relevance,
    expected_change,
    ndcg,
    relevance_by_rank,
)
from sememe.planner.multi import CodedTokens
from sememe.planner.screen import Screen, Screened
from sememe.planner.space import full_precision, fused_stage, has_several, lists_of
from sememe.planner.trial import Coded, Listed, code, distortion, latency, rank
from sememe.planner.view import DEPTH, Asked, View
from sememe.recipe import Recipe

SCREEN = 128  # agreement queries that a recipe must survive before it gets all of them
HOPELESS = 4.0  # times the tolerance, in expected loss


@dataclass
class Bench:
    """One encoder under one chunking: where judged queries are asked, and where agreement is measured.

    A sparse encoder is searched by its lists alone (`lexical`, `learned`), and a dense one fused with BM25 is a
    bench of its own, with a full precision of its own; so are its token vectors (`multi`). ``judged`` and ``real``
    are the same view where the judgements are the user's; for stand-ins ``judged`` is the collection with the leak
    removed.
    """

    chunker: str
    encoder: str
    real: View
    agreement: Asked
    judged: View
    choose: Asked | None
    report: Asked | None
    part: float  # of the expected change that comes true for the agreement queries
    encode_ms: float  # one query
    encode_seconds: float  # all passages of the sample
    exact_choose: NDArray[np.float64] | None = None  # nDCG@10 of the full-precision recipe, (q,)
    exact_rank: NDArray[np.int64] | None = None  # its ranking of the agreement queries, (a, depth)
    exact_judged_rank: NDArray[np.int64] | None = None
    fused: str = ""  # the hybrid stage that ends its recipes
    words_ms: float = 0.0  # of BM25 on the sample, one query
    several: bool = False  # a vector for each token

    @property
    def full_precision(self) -> Recipe:
        """The exact float32 recipe of this bench."""
        return full_precision(self.chunker, self.encoder, self.fused, several=self.several)

    @property
    def dense(self) -> bool:
        """Whether it searches vectors alone, one a passage."""
        return not self.fused and not self.several and not lists_of(self.encoder)


@dataclass
class Sweep:
    """State of a sweep over one or more benches.

    Attributes
    ----------
    tolerance : float
        Largest relative loss of the metric that is acceptable.
    scale : float
        Whole collection over measured sample.
    size : callable
        ``(recipe, bench) -> ledger`` of the whole collection.
    """

    benches: list[Bench]
    tolerance: float
    scale: float
    seed: int
    size: Callable[[Recipe, Bench], dict[str, float]]
    deadline: float = float("inf")
    relevance: NDArray[np.float64] = field(default_factory=lambda: default_relevance(DEPTH))
    reference_bench: Bench | None = None
    reference: Point | None = None
    points: list[Point] = field(default_factory=list)
    screened: list[Screened] = field(default_factory=list)
    unmeasured: int = 0

    @property
    def metric(self) -> str:
        """What quality means here."""
        judged = self.benches[0].choose is not None
        return "ndcg@10" if judged else "agreement@10"

    def exact(self) -> None:
        """Measure the full-precision recipe of every bench; the best is the reference."""
        self.points += [self._exact(bench) for bench in self.benches]
        best = max(range(len(self.benches)), key=lambda i: (self.points[i].quality.value, -self.points[i].search_bytes))
        self.reference_bench, self.reference = self.benches[best], self.points[best]
        self.reference.verdict = "reference"
        bench = self.reference_bench
        if bench.choose is not None and bench.exact_judged_rank is not None:
            assert bench.choose.gains is not None and bench.choose.ideal is not None
            self.relevance = relevance_by_rank(bench.exact_judged_rank, bench.choose.gains, bench.choose.ideal)
        for other, point in zip(self.benches, self.points, strict=True):
            point.comparison = self._against_reference(other)
            if point is not self.reference:
                point.verdict = judge(point, self.margin)

    def beside(self, bench: Bench) -> Point:
        """The full-precision recipe of a bench that is not swept, measured and compared, but not among the points."""
        point = self._exact(bench)
        point.comparison = self._against_reference(bench)
        return point

    def _exact(self, bench: Bench) -> Point:
        recipe = bench.full_precision
        coded = code(recipe, bench.real, seed=self.seed)
        bench.exact_rank = rank(coded, bench.real, bench.agreement)
        if bench.choose is not None:
            judged = coded if bench.judged is bench.real else code(recipe, bench.judged, seed=self.seed)
            bench.exact_judged_rank = rank(judged, bench.judged, bench.choose)
            bench.exact_choose = _ndcg(bench.exact_judged_rank, bench.choose)
        point = self._point(recipe, bench, coded, bench.exact_choose, None)
        point.exact = True
        return point

    @property
    def margin(self) -> float:
        """The tolerated loss in units of the metric."""
        assert self.reference is not None
        return self.tolerance * self.reference.quality.value

    def worth_sweeping(self, bench: Bench) -> bool:
        """False where even the full-precision recipe of this bench is surely outside tolerance."""
        if bench is self.reference_bench:
            return True
        versus = self._against_reference(bench)
        return versus.labels is not None and versus.labels.high >= -self.margin

    def measure(self, recipe: Recipe, bench: Bench, screen: Screen | None = None) -> Point | None:
        """Measure one recipe; None where the time is up, or where it did not pass the ``screen``."""
        if time.monotonic() > self.deadline:
            self.unmeasured += 1
            return None
        reason, fitted = ("", None) if screen is None else screen.look(recipe)
        if reason:
            self.screened.append(Screened(str(recipe), reason))
            return None
        coded = code(recipe, bench.real, seed=self.seed, fitted=fitted)
        judged = None
        if bench.choose is not None:
            there = coded if bench.judged is bench.real else code(recipe, bench.judged, seed=self.seed)
            judged = _ndcg(rank(there, bench.judged, bench.choose), bench.choose)
        assert bench.exact_rank is not None
        few = np.arange(min(SCREEN, len(bench.agreement)))
        changes = self._changes(coded, bench, few)
        loss = -float(changes.mean()) if len(changes) else 0.0
        judged_loss = 0.0 if judged is None else float((bench.exact_choose - judged).mean())  # type: ignore[operator]
        hopeless = bench.part * loss > HOPELESS * self.tolerance and (judged is None or judged_loss > self.margin)
        if not hopeless and len(few) < len(bench.agreement):
            rest = np.arange(len(few), len(bench.agreement))
            changes = np.concatenate([changes, self._changes(coded, bench, rest)])
        point = self._point(recipe, bench, coded, judged, changes)
        within = compare(
            None if judged is None else judged - bench.exact_choose,  # type: ignore[operator]
            changes,
            self.reference.quality.value if self.reference else 1.0,
            seed=self.seed,
            part=bench.part,
            cautious=bench.judged is not bench.real,
        )
        point.comparison = self._chained(bench, within)
        point.verdict = "dropped" if hopeless else judge(point, self.margin)
        point.steady = point.comparison.steady(self.margin)
        if hopeless:
            point.reason = f"expected loss of {bench.part * loss:.1%} after {len(few)} agreement queries"
        self.points.append(point)
        return point

    def report(self, points: Sequence[Point]) -> None:
        """Measure ``points`` on the queries that took no part in the choice."""
        for point in points:
            recipe = Recipe.parse(point.recipe)
            bench = self.bench_of(recipe)
            if bench.report is None or not len(bench.report) or point.reported is not None:
                continue
            coded = code(recipe, bench.judged, seed=self.seed)
            values = _ndcg(rank(coded, bench.judged, bench.report), bench.report)
            point.reported = bootstrap_mean(values, seed=self.seed)

    def bench_of(self, recipe: Recipe) -> Bench:
        """The bench that a recipe belongs to."""
        wanted = (str(recipe.chunker), str(recipe.encoder), fused_stage(recipe), has_several(recipe))
        for bench in self.benches:
            if (bench.chunker, bench.encoder, bench.fused, bench.several) == wanted:
                return bench
        raise LookupError(str(recipe))

    def fusion_of(self, bench: Bench) -> Bench | None:
        """The bench of the same encoder and chunking fused with BM25, where that is swept."""
        for other in self.benches:
            if other.fused and (other.chunker, other.encoder) == (bench.chunker, bench.encoder):
                return other
        return None

    def promising(self, bench: Bench) -> list[Recipe]:
        """Recipes of a bench that no other beats in bytes and quality, as measured or at its pessimistic end.

        Fusion with BM25 hides much of what a coarse code loses, so recipes that fail alone are among them.
        """
        own = [p for p in self.points if not p.exact and self.bench_of(Recipe.parse(p.recipe)) is bench]
        low = [replace(p, quality=Estimate(p.comparison.low, 0.0, 0.0)) for p in own if p.comparison is not None]
        kept = {p.recipe for p in [*frontier(own), *frontier(low)]}
        return [Recipe.parse(p.recipe) for p in own if p.recipe in kept]

    def differences(self, recipe: Recipe, bench: Bench) -> NDArray[np.float64] | None:
        """Paired differences of nDCG@10 to the reference on the choosing queries, measured again."""
        if bench.choose is None or self.reference_bench is None or self.reference_bench.exact_choose is None:
            return None
        ranked = rank(code(recipe, bench.judged, seed=self.seed), bench.judged, bench.choose)
        return _ndcg(ranked, bench.choose) - self.reference_bench.exact_choose

    def _changes(
        self, coded: Coded | CodedTokens | Listed, bench: Bench, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        assert bench.exact_rank is not None
        if not len(rows):
            return np.zeros(0)
        ranked = rank(coded, bench.real, bench.agreement.take(rows))
        exact = bench.exact_rank[rows]
        # A small collection has fewer records than the relevance curve has ranks.
        relevance = np.append(self.relevance[: exact.shape[1]], self.relevance[-1])
        return expected_change(exact, ranked, relevance)

    def _point(
        self,
        recipe: Recipe,
        bench: Bench,
        coded: Coded | CodedTokens | Listed,
        judged: NDArray[np.float64] | None,
        changes: NDArray[np.float64] | None,
    ) -> Point:
        if judged is not None:
            quality = bootstrap_mean(judged, samples=1_000, seed=self.seed)
        elif changes is not None and len(changes):
            quality = bootstrap_mean(1.0 + bench.part * changes, samples=1_000, seed=self.seed)
        else:
            quality = Estimate(1.0, 1.0, 1.0)
        asked = bench.choose if bench.choose is not None and bench.judged is bench.real else bench.agreement
        ledger = self.size(recipe, bench)
        passages = int(ledger.pop("passages"))
        return Point(
            recipe=str(recipe),
            bytes_per_vector=coded.code_bytes + ledger["postings"] / max(passages, 1),
            total_bytes=ledger["total"],
            search_bytes=ledger["search"],
            quality=quality,
            latency_ms=latency(coded, asked, encode_ms=bench.encode_ms, scale=self.scale),
            build_seconds=(coded.seconds + bench.encode_seconds) * self.scale,
            ledger=ledger,
            passages=passages,
            distortion=distortion(coded, bench.real, bench.agreement),
        )

    def _against_reference(self, bench: Bench) -> Comparison:
        """The full-precision recipe of a bench against the reference, by judgements."""
        assert self.reference is not None and self.reference_bench is not None
        if bench is self.reference_bench:
            return Comparison(0.0, 0.0, 0.0, None, None, "it is the reference")
        if bench.exact_choose is None or self.reference_bench.exact_choose is None:
            return compare(None, None, 1.0, seed=self.seed)
        return compare(
            bench.exact_choose - self.reference_bench.exact_choose, None, self.reference.quality.value, seed=self.seed
        )

    def _chained(self, bench: Bench, within: Comparison) -> Comparison:
        """A recipe against its bench's full precision, and that against the reference: errors add in squares."""
        base = self._against_reference(bench)
        if bench is self.reference_bench:
            return within
        low = float(np.hypot(within.difference - within.low, base.difference - base.low))
        high = float(np.hypot(within.high - within.difference, base.high - base.difference))
        middle = within.difference + base.difference
        return Comparison(
            middle, middle - low, middle + high, base.labels, within.agreement, within.basis,
            float(np.hypot(within.scatter, base.scatter)), within.wary + base.difference,
        )  # fmt: skip


def _ndcg(ranked: NDArray[np.int64], asked: Asked) -> NDArray[np.float64]:
    assert asked.gains is not None and asked.ideal is not None
    return ndcg(ranked, asked.gains, asked.ideal)
