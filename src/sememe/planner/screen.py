"""The screen: a cheap first round, so that covering every codec of the catalogue costs little time.

A codec says itself how long learning takes, and one that takes more than its share of the time allowed is left out
before anything is learned. Others are fitted as measuring would fit them, and what was fitted is what is measured,
but at first only a sample is coded. A recipe is left out where one looked at before it takes no more bytes, loses
clearly less of the scores, and answers no worse: by the rule of the choice it could not be chosen. What changes scores
on purpose is judged by its answers alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError, MissingDependency
from sememe.planner.loss import ndcg
from sememe.planner.trial import Coded, Fitted, distortion, fit, rank
from sememe.planner.view import FIT_ROWS, Asked, View
from sememe.recipe import Recipe

if TYPE_CHECKING:
    from sememe.codec.chain import Chain
    from sememe.planner.sweep import Bench

PASSAGES = 2_000  # coded in the first round
QUERIES = 512  # judged ones that are asked there
TRUER = 0.9  # times the distortion, or less: clearly less
SURE = 2.0  # standard errors between answers that surely differ
SHARE = 1 / 40  # of the time allowed, for learning one recipe: there are some sixty


@dataclass
class Screened:
    """A recipe that was left out before it was measured, and why."""

    recipe: str
    reason: str


@dataclass
class _Look:
    """What the first round saw of a recipe: bytes a passage and in all, error of the scores, nDCG@10 of each query."""

    recipe: str
    code_bytes: int
    total: float
    distortion: float
    quality: NDArray[np.float64]
    keeps_scores: bool

    def beats(self, other: _Look) -> bool:
        """Whether nothing speaks for ``other``."""
        if self.code_bytes > other.code_bytes or self.total > other.total:
            return False
        better = self.quality - other.quality
        if other.keeps_scores or not len(better):
            return self.distortion <= TRUER * other.distortion and float(better.sum()) >= 0
        return float(better.mean()) > SURE * float(better.std()) / len(better) ** 0.5

    def against(self, other: _Look) -> str:
        """How it beats ``other``, in words."""
        if other.keeps_scores or not len(self.quality):
            errors = f"loses {self.distortion:.2%} of the scores, not {other.distortion:.2%}"
            return f"{self.recipe} takes no more bytes, answers no worse and {errors}"
        answers = f"{self.quality.mean():.3f} against {other.quality.mean():.3f}"
        return f"{self.recipe} takes no more bytes and answers surely better, {answers}"


class Screen:
    """The first round of one bench.

    Parameters
    ----------
    bench : Bench
        Of dense vectors alone.
    seconds : float
        Time allowed for the whole sweep.
    build_seconds : float, optional
        Time allowed for building the index.
    scale : float
        Whole collection over measured sample.
    compare : bool
        Leave out what is beaten in bytes. Without it only learning is looked at: where speed decides, a recipe with
        more bytes can be the one that is wanted.
    """

    def __init__(
        self, bench: Bench, *, seconds: float, build_seconds: float | None, scale: float, seed: int, compare: bool
    ) -> None:
        self._bench, self._seed, self._compare = bench, seed, compare
        self._seconds, self._build_seconds = seconds, build_seconds
        self._passages = scale * len(bench.real.passages)
        self._view, self._asked = sample(bench.judged, bench.choose, seed=seed)
        self._seen: list[_Look] = []

    def look(self, recipe: Recipe) -> tuple[str, Fitted | None]:
        """Why ``recipe`` is not worth measuring, empty if it is, and what was fitted.

        Recipes with a second tier or behind a structure have their own reasons to be measured, and are not looked at.
        """
        from sememe.codec.chain import Chain

        if recipe.rerankers or recipe.index.name != "flat":
            return "", None
        try:
            chain = Chain.from_recipe(recipe)
            slow = self._too_slow(chain)
            if slow:
                return slow, None
            fitted = fit(recipe, self._bench.real, seed=self._seed)
        except (InputError, MissingDependency) as error:  # of one codec is no reason to stop
            return str(error), None
        if not self._compare:
            return "", fitted
        found = self._first_round(recipe, fitted)
        better = next((seen for seen in self._seen if seen.beats(found)), None)
        self._seen.append(found)
        if better is None:
            return "", fitted
        return better.against(found) + f" (among {len(self._view.passages):,} passages)", None

    def _too_slow(self, chain: Chain) -> str:
        rows, dim = min(FIT_ROWS, len(self._bench.real.passages)), self._bench.real.passages.shape[1]
        once = 0.0
        for stage in chain.stages:
            once += getattr(stage, "learning_seconds", _nothing)(rows, dim)
            dim = getattr(stage, "dim_out", _same)(dim)
        spent = once if self._bench.judged is self._bench.real else 2 * once
        if self._build_seconds is not None and once > self._build_seconds:
            return f"learning takes about {once:.0f} s, and building may take {self._build_seconds:g} s"
        if spent > SHARE * self._seconds:
            return (
                f"learning takes about {spent:.1f} s, more than {SHARE:.1%} of the {self._seconds:g} s allowed; with "
                f"--seconds {np.ceil(spent / SHARE):.0f} it is measured"
            )
        return ""

    def _first_round(self, recipe: Recipe, fitted: Fitted) -> _Look:
        started = time.perf_counter()
        codes = fitted.chain.encode(self._view.passages)
        coded = Coded(recipe, fitted.chain, codes, fitted.seconds + time.perf_counter() - started)
        quality = np.zeros(0)
        if self._asked is not None:
            assert self._asked.gains is not None and self._asked.ideal is not None
            ranked = rank(coded, self._view, self._asked)
            quality = ndcg(ranked, self._asked.gains, self._asked.ideal)
        return _Look(
            str(recipe),
            coded.code_bytes,
            coded.code_bytes * self._passages + coded.side_bytes,
            distortion(coded, self._view, self._bench.agreement),
            quality,
            all(getattr(stage, "keeps_scores", True) for stage in fitted.chain.stages),
        )


def sample(view: View, asked: Asked | None, *, seed: int) -> tuple[View, Asked | None]:
    """A smaller collection of about ``PASSAGES``: the records that answer the questions, and others at random."""
    sizes = np.diff(np.append(view.starts, len(view.passages)))
    order = np.random.default_rng([seed, 9]).permutation(len(sizes))
    few = None
    if asked is not None and asked.gains is not None:
        few = asked.take(np.arange(min(QUERIES, len(asked))))
        assert few.gains is not None
        answers = few.gains.max(axis=0, initial=0) > 0
        order = np.concatenate([order[answers[order]], order[~answers[order]]])
    kept = np.sort(order[: int(np.searchsorted(np.cumsum(sizes[order]), PASSAGES)) + 1])
    rows = np.concatenate([np.arange(view.starts[record], view.starts[record] + sizes[record]) for record in kept])
    starts = np.concatenate([[0], np.cumsum(sizes[kept])[:-1]]).astype(np.int64)
    smaller = View(np.ascontiguousarray(view.passages[rows]), starts, view.records[kept], [])
    if few is None:
        return smaller, None
    place = np.full(len(sizes) + 1, -1, dtype=np.int64)  # the last one is that of no record
    place[kept] = np.arange(len(kept))
    assert few.gains is not None
    return smaller, Asked(few.vectors, np.ascontiguousarray(few.gains[:, kept]), few.ideal, place[few.left_out])


def _nothing(rows: int, dim: int) -> float:
    return 0.0


def _same(dim: int) -> int:
    return dim
