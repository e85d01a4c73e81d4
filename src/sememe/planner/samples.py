"""Answers side by side: what the reference finds and what the chosen recipe finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sememe.planner.choose import Point
from sememe.planner.corpus import Corpus
from sememe.planner.questions import Questions
from sememe.planner.trial import code, rank
from sememe.recipe import Recipe

if TYPE_CHECKING:
    from sememe.planner.bench import Benches
    from sememe.planner.sweep import Sweep

SHOWN = 5
_TEXT = 280  # characters of an answer


def side_by_side(
    sweep: Sweep, chosen: Point, questions: Questions, corpus: Corpus, makers: Benches
) -> list[dict[str, Any]]:
    """A few queries with the five best records of the reference and of the chosen recipe.

    Queries are taken from the held-out split where there is one; of those, first the ones whose answers differ, so
    that the page shows what is lost rather than what is not.
    """
    assert sweep.reference is not None
    answers = {}
    for name, point in (("reference", sweep.reference), ("chosen", chosen)):
        recipe = Recipe.parse(point.recipe)
        bench = sweep.bench_of(recipe)
        asked = bench.report if bench.report is not None and len(bench.report) else bench.choose
        view = bench.judged
        if asked is None:
            asked, view = bench.agreement, bench.real
        few = asked.take(np.arange(min(40, len(asked))))
        ranked = rank(code(recipe, view, seed=sweep.seed), view, few)
        ranked = ranked[:, :SHOWN]
        answers[name] = np.where(ranked >= 0, view.records[ranked], -1)  # words may find fewer
    texts, relevant = _asked(sweep, questions, makers)
    different = (answers["reference"] != answers["chosen"]).sum(axis=1)
    order = np.argsort(-np.minimum(different, 2), kind="stable")[:SHOWN]
    shown = []
    for row in order:
        judged = relevant[row]
        shown.append(
            {
                "query": texts[row],
                **{
                    name: [_answer(corpus, place, judged) for place in rows[row].tolist() if place >= 0]
                    for name, rows in answers.items()
                },
            }
        )
    return shown


def _asked(sweep: Sweep, questions: Questions, makers: Benches) -> tuple[list[str], list[dict[str, int]]]:
    split = makers.judgement.split
    if len(questions):
        rows = split.report if len(split.report) else split.choose
        some = questions.take(rows[:40])
        return some.texts, some.relevant
    compared, _ = makers.agreement()
    some = compared.take(np.arange(min(40, len(compared))))
    return some.texts, some.relevant


def _answer(corpus: Corpus, place: int, judged: dict[str, int]) -> dict[str, Any]:
    record = corpus.records[place]
    text = " ".join(record.content.split())
    return {
        "id": record.id,
        "text": text[:_TEXT] + ("…" if len(text) > _TEXT else ""),
        "relevant": (judged.get(record.id, 0) > 0) if judged else None,
    }
