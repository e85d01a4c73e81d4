"""Frontier and choice, against brute force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sememe.errors import BudgetError
from sememe.measure.stats import Estimate
from sememe.planner.choose import Limits, Point, choose, frontier, judge, steps
from sememe.planner.loss import Comparison


def point(name: str, size: float, quality: float, *, low: float = 0.0, p95: float = 1.0) -> Point:
    versus = Comparison(low + 0.005, low, low + 0.01, None, None, "judgements")
    made = Point(name, size / 100, size, size, Estimate(quality, quality, quality), {"p50": p95, "p95": p95}, 0.0)
    made.comparison = versus
    made.verdict = judge(made, 0.02)
    return made


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=25))
def test_frontier_is_exactly_the_undominated_points(pairs: list[tuple[int, int]]) -> None:
    points = [point(str(i), size, quality / 30) for i, (size, quality) in enumerate(pairs)]
    kept = {(p.search_bytes, p.quality.value) for p in frontier(points)}
    expected = {
        (p.total_bytes, p.quality.value)
        for p in points
        if not any(
            (o.total_bytes <= p.total_bytes and o.quality.value > p.quality.value)
            or (o.total_bytes < p.total_bytes and o.quality.value >= p.quality.value)
            for o in points
        )
    }
    assert kept == expected


def test_the_smallest_within_tolerance_is_chosen() -> None:
    points = [point("big", 1000, 0.5), point("good", 100, 0.49, low=-0.015), point("tiny", 10, 0.4, low=-0.1)]
    assert choose(points, Limits(), "small")[0].recipe == "good"


def test_fast_and_quality_prefer_what_they_say() -> None:
    points = [point("slow", 10, 0.5, p95=9.0), point("fast", 100, 0.5, p95=1.0), point("best", 900, 0.5, low=0.01)]
    assert choose(points, Limits(), "fast")[0].recipe == "fast"
    assert choose(points, Limits(), "quality")[0].recipe == "best"


def test_a_budget_that_no_recipe_meets_is_an_error_that_says_by_how_much() -> None:
    with pytest.raises(BudgetError, match="10 total bytes > 5"):
        choose([point("tiny", 10, 0.4)], Limits(budget_bytes=5), "small")


def test_within_a_budget_but_outside_tolerance_gives_the_best_and_says_so() -> None:
    points = [point("big", 1000, 0.5), point("a", 90, 0.3, low=-0.2), point("b", 80, 0.35, low=-0.1)]
    chosen, within = choose(points, Limits(budget_bytes=100), "small")
    assert (chosen.recipe, within) == ("b", False)


def test_steps_add_up() -> None:
    points = frontier([point("a", 10, 0.1), point("b", 100, 0.2), point("c", 1000, 0.3)])
    assert sum(s["bytes_saved"] for s in steps(points)) == pytest.approx(990)


def test_of_equally_small_recipes_the_one_with_the_truest_scores_is_chosen() -> None:
    plain, codebook, large = point("plain", 100, 0.5), point("codebook", 130, 0.5), point("large", 150, 0.5)
    codebook.bytes_per_vector = large.bytes_per_vector = plain.bytes_per_vector
    plain.distortion, codebook.distortion, large.distortion = 0.02, 0.01, 0.001
    assert choose([plain, codebook, large], Limits(), "small")[0].recipe == "codebook"


def test_bytes_up_to_an_eighth_of_the_reference_buy_steadiness() -> None:
    """A smaller code that is within tolerance on average only gives way to one that holds on other queries too."""
    reference = point("reference", 1000, 0.5)
    reference.verdict = "reference"
    shaky, steady, larger = point("shaky", 60, 0.5), point("steady", 120, 0.5), point("larger", 130, 0.5)
    shaky.steady = False
    assert choose([reference, shaky, steady, larger], Limits(), "small")[0] is steady
    steady.steady = False
    steady.distortion, shaky.distortion = 0.001, 0.01
    assert choose([reference, shaky, steady, larger], Limits(), "small")[0] is steady  # none holds: the truest
    assert choose([reference, shaky, larger], Limits(), "small")[0] is shaky  # larger is beyond an eighth


def test_memory_and_build_time_are_limits_too() -> None:
    quick, slow = point("quick", 200, 0.5), point("slow", 100, 0.5)
    quick.build_seconds, slow.build_seconds = 1.0, 50.0
    quick.ledger, slow.ledger = {"ram": 200.0}, {"ram": 100.0}
    assert choose([quick, slow], Limits(build_seconds=10), "small")[0] is quick
    assert choose([quick, slow], Limits(ram_bytes=150), "small")[0] is slow
    with pytest.raises(BudgetError, match="100 bytes of memory > 50"):
        choose([quick, slow], Limits(ram_bytes=50), "small")
