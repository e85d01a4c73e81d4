"""Points of the frontier, and the choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from sememe.errors import BudgetError
from sememe.measure.stats import Estimate
from sememe.planner.loss import Comparison

ENOUGH = 1 / 8  # of the reference's bytes a passage: up to here, bytes are spent on other sets of queries
CLOSE = 1.4  # equally small: as few bytes a passage, and at most this many times the bytes in all (codebooks)
Prefer = Literal["small", "fast", "quality"]


@dataclass
class Limits:
    """What the user will not exceed.

    Bytes of the whole index, bytes a passage, milliseconds at p95, bytes of memory that searches keep touching, seconds
    to build.
    """

    budget_bytes: float | None = None
    bytes_per_vector: float | None = None
    latency_ms: float | None = None
    ram_bytes: float | None = None
    build_seconds: float | None = None

    def broken_by(self, point: Point) -> list[str]:
        """The limits that ``point`` exceeds, in words that say by how much."""
        checks = (
            ("total bytes", point.total_bytes, self.budget_bytes),
            ("bytes per vector", point.bytes_per_vector, self.bytes_per_vector),
            ("ms at p95", point.latency_ms["p95"], self.latency_ms),
            ("bytes of memory", point.ledger.get("ram", 0), self.ram_bytes),
            ("seconds to build", point.build_seconds, self.build_seconds),
        )
        return [f"{value:,.6g} {what} > {limit:,.6g}" for what, value, limit in checks if limit and value > limit]


@dataclass
class Point:
    """One measured recipe, sized for the whole collection.

    ``total_bytes`` is the index on disk with its text; ``search_bytes`` is what searching needs, without text.
    """

    recipe: str
    bytes_per_vector: float
    total_bytes: float
    search_bytes: float
    quality: Estimate
    latency_ms: dict[str, float]
    build_seconds: float
    ledger: dict[str, float] = field(default_factory=dict)
    comparison: Comparison | None = None
    reported: Estimate | None = None
    verdict: str = "undecided"
    steady: bool = True  # within tolerance on other sets of queries too, not only on average
    reason: str = ""
    exact: bool = False
    passages: int = 0
    distortion: float = 0.0  # share of the variance of exact scores that the code loses

    def as_json(self, metric: str, reference: float) -> dict[str, Any]:
        """The POINT shape of plan.json."""
        shown: dict[str, Any] = {
            "recipe": self.recipe,
            "bytes_per_vector": self.bytes_per_vector,
            "total_bytes": int(self.total_bytes),
            "search_bytes": int(self.search_bytes),
            "ledger": self.ledger,
            "quality": {"metric": metric, **self.quality.as_json()},
            "latency_ms": self.latency_ms,
            "build_seconds": self.build_seconds,
            "passages": self.passages,
            "distortion": self.distortion,
            "status": "dropped" if self.verdict == "dropped" else "measured",
            "verdict": self.verdict,
            "steady": self.steady,
        }
        if self.comparison is not None:
            shown["versus_reference"] = self.comparison.as_json(reference)
        if self.reported is not None:
            shown["reported"] = {"metric": metric, **self.reported.as_json()}
        if self.reason:
            shown["reason"] = self.reason
        return shown


def judge(point: Point, margin: float) -> str:
    """``passes``, ``fails`` or ``undecided``: is the loss at most ``margin`` at 95 % confidence?"""
    versus = point.comparison
    if versus is None:
        return "undecided"
    if versus.low >= -margin:
        return "passes"
    return "fails" if versus.high < -margin else "undecided"


def frontier(points: Sequence[Point]) -> list[Point]:
    """Points that no other beats in both bytes and quality, smallest first.

    Of two with equal bytes the better stays; of two with equal quality the smaller stays.
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.search_bytes, -p.quality.value)):
        if not best or point.quality.value > best[-1].quality.value:
            best.append(point)
    return best


def choose(points: Sequence[Point], limits: Limits, prefer: Prefer) -> tuple[Point, bool]:
    """The preferred point within the limits, and whether it is within tolerance too.

    The smallest is the smallest that is ``Comparison.steady`` as well, as far as an eighth of the reference's bytes a
    passage allows. Where no point within the limits is within tolerance, the one with the best pessimistic quality is
    returned.

    Raises
    ------
    BudgetError
        No measured recipe is within the limits; says how near the nearest comes.
    """
    allowed = [p for p in points if not limits.broken_by(p)]
    if not allowed:
        nearest = min(points, key=lambda p: (len(limits.broken_by(p)), p.total_bytes))
        raise BudgetError(
            f"no measured recipe meets the limits; the nearest is {nearest.recipe!r} with "
            + " and ".join(limits.broken_by(nearest)),
            fix="raise the limit, or allow other encoders",
        )
    passing = [p for p in allowed if p.verdict in ("passes", "reference")]
    if not passing:
        return max(allowed, key=lambda p: p.comparison.low if p.comparison else p.quality.value), False
    if prefer == "fast":
        return min(passing, key=lambda p: (p.latency_ms["p95"], p.search_bytes)), True
    if prefer == "quality":
        return max(passing, key=lambda p: (p.comparison.difference if p.comparison else 0.0, -p.search_bytes)), True
    least = _smallest(passing)
    # Judged queries scatter: a code within tolerance on average may be beyond it on the next queries. Below an eighth
    # of the reference a finer code costs little: the smallest that stands this too is taken, or else the truest.
    most = max([least.bytes_per_vector, *(ENOUGH * p.bytes_per_vector for p in points if p.verdict == "reference")])
    room = [p for p in passing if p.bytes_per_vector <= most]
    steady = [p for p in room if p.steady]
    if not steady:
        return min(room, key=lambda p: (p.distortion, p.search_bytes)), True
    least = _smallest(steady)
    # Among equally small recipes queries can rarely tell; the error of the scores can, without sampling noise.
    close = [
        p
        for p in steady
        if p is least or (p.bytes_per_vector <= least.bytes_per_vector and p.search_bytes <= CLOSE * least.search_bytes)
    ]
    return min(close, key=lambda p: (p.distortion, p.search_bytes)), True


def _smallest(points: Sequence[Point]) -> Point:
    return min(points, key=lambda p: (p.search_bytes, p.bytes_per_vector))


def steps(points: Sequence[Point]) -> list[dict[str, Any]]:
    """What each byte a passage bought along the frontier, from the largest recipe down."""
    ordered = sorted(points, key=lambda p: -p.search_bytes)
    return [
        {
            "from": larger.recipe,
            "to": smaller.recipe,
            "bytes_saved": (larger.search_bytes - smaller.search_bytes) / max(larger.passages, 1),
            "quality_cost": larger.quality.value - smaller.quality.value,
        }
        for larger, smaller in pairwise(ordered)
    ]
