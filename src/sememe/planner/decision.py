"""The choice in plain words, and what the reader must know to trust it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sememe.measure.stats import required_queries
from sememe.planner.choose import Point
from sememe.planner.corpus import Corpus
from sememe.planner.sweep import Sweep
from sememe.recipe import Recipe

if TYPE_CHECKING:
    from sememe.planner.planning import Judgement


def in_words(sweep: Sweep, chosen: Point) -> str:
    """What was chosen, what it saves and what it costs."""
    assert sweep.reference is not None
    reference, versus = sweep.reference, chosen.comparison
    if chosen is reference:
        return f"No smaller recipe is surely within {sweep.tolerance:.0%} of {reference.recipe}, so that is the choice."
    ratio = reference.search_bytes / max(chosen.search_bytes, 1)
    size = f"{ratio:.1f} times smaller" if ratio >= 1 else f"{1 / ratio:.1f} times larger"
    text = (
        f"{chosen.recipe} needs {round(chosen.bytes_per_vector, 1):g} bytes a passage instead of "
        f"{round(reference.bytes_per_vector, 1):g}; all that searching needs is {size} than with {reference.recipe}."
    )
    if versus is not None and np.isfinite(versus.low):
        lost = -versus.difference / max(reference.quality.value, 1e-12)
        bound = -versus.low / max(reference.quality.value, 1e-12)
        text += f" Its {sweep.metric} is {'lower' if lost > 0 else 'higher'} by {abs(lost):.1%}"
        text += f" (at worst {bound:.1%} at 95 % confidence), by {versus.basis}."
    smaller = [p for p in sweep.points if p.verdict == "passes" and not p.steady]
    shaky = min(smaller, key=lambda p: p.search_bytes, default=chosen)
    if shaky.search_bytes < chosen.search_bytes:
        text += (
            f" {shaky.recipe} is smaller and within {sweep.tolerance:.0%} on average, but might not be on another set"
            " of as many queries."
        )
    return text


def warnings(sweep: Sweep, chosen: Point, within: bool, judgement: Judgement, corpus: Corpus, seed: int) -> list[str]:
    """What weakens the choice."""
    versus, said = chosen.comparison, []
    if not within:
        said.append(
            f"no recipe within the limits is surely within {sweep.tolerance:.0%} of the reference; this is the best "
            "of those within the limits"
        )
    if judgement.kind != "labels":
        said.append(f"there are no judgements: {judgement.explanation}")
    elif chosen is not sweep.reference and versus is not None and versus.basis != "judgements":
        bench = sweep.bench_of(Recipe.parse(chosen.recipe))
        if bench.choose is not None and versus.labels is not None and versus.labels.low < -sweep.margin:
            need = required_judgements(sweep, chosen, seed)
            said.append(
                f"{len(judgement.split.choose)} judged queries alone cannot decide a margin of {sweep.tolerance:.0%}; "
                f"agreement on {len(bench.agreement)} queries decided"
                + (f", about {need:,} judged queries would do without it" if need else "")
            )
    if corpus.is_sample:
        said.append(
            f"measured on {len(corpus.records):,} of {corpus.total_records:,} records; the whole has more distractors"
        )
    if len(corpus.records) < 100 and judgement.kind != "labels":
        said.append("fewer than 100 documents: stand-ins can hardly tell recipes apart")
    if sweep.unmeasured:
        said.append(f"{sweep.unmeasured} recipes were left out when the time was up; --seconds gives more")
    return said


def better_beside(context: list[Point]) -> list[str]:
    """What is shown beside the frontier and answers significantly better than the reference."""
    better = [p for p in context if p.comparison is not None and p.comparison.low > 0]
    if not better:
        return []
    best = max(better, key=lambda p: p.quality.value)
    return [
        f"{best.recipe} answers significantly better than the reference ({best.quality.value:.3f}); with bm25 among "
        "the encoders the planner may choose it, and the choice can be built with | hybrid:bm25 at its end"
    ]


def on_words(judgement: Judgement, names: str = "bm25") -> list[str]:
    """What weakens a comparison of words with vectors."""
    if judgement.kind == "agreement":
        return [f"{names} took no part: without judgements nothing tells which of them answers better"]
    if judgement.kind == "stand-in":
        return ["stand-in queries are words of the text, which favours bm25; your own judged queries would be fairer"]
    return []


def on_tokens(sweep: Sweep) -> list[str]:
    """What is said of token vectors whose codes were not worth measuring."""
    said = []
    for point, bench in zip(sweep.points, sweep.benches):  # the full precision of every bench comes first
        if bench.several and not sweep.worth_sweeping(bench) and sweep.reference is not None:
            said.append(
                f"{point.recipe} answers surely worse than {sweep.reference.recipe} ({point.quality.value:.3f} against "
                f"{sweep.reference.quality.value:.3f}), so codes of its token vectors were not measured"
            )
    return said


def required_judgements(sweep: Sweep, point: Point, seed: int) -> int | None:
    """How many judged queries would decide non-inferiority of ``point`` by judgements alone."""
    recipe = Recipe.parse(point.recipe)
    differences = sweep.differences(recipe, sweep.bench_of(recipe))
    return None if differences is None else required_queries(differences, sweep.margin)
