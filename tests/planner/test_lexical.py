"""BM25 and its fusion with dense recipes: ranked as an index ranks, and chosen like anything else where allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sememe
from sememe.encode.cache import VectorCache
from sememe.index.passages import contents, cut
from sememe.planner import Plan
from sememe.planner.lexical import Words, records_of
from sememe.planner.loss import expected_change, ndcg
from sememe.planner.questions import Questions
from sememe.planner.trial import code, rank
from sememe.planner.view import Asked, View
from sememe.recipe import Recipe
from sememe.testing import HashingEncoder, toy_records

RECORDS = toy_records(240)
QUERIES = [
    *("yeast bread oven", "anchor and tide", "a comet near the planet", "knight takes rook", "compost"),
    "nothing of it",  # words that no record holds
]
FIT = 10  # results compared


def seen(chunker: str, encoder: HashingEncoder) -> View:
    """The records as the planner sees them."""
    maker = Recipe.parse(f"{chunker} | static | flat").chunker.make()
    texts = [contents(record, cut(record, maker)) for record in RECORDS]
    starts = np.cumsum([0, *map(len, texts)])[:-1]
    flat = [text for some in texts for text in some]
    return View(encoder.encode(flat), starts, np.arange(len(RECORDS)), flat)


def asked(view: View, encoder: HashingEncoder, left_out: list[int] | None = None) -> Asked:
    """The queries asked of a view, with what BM25 finds."""
    out = np.array(left_out or [-1] * len(QUERIES), dtype=np.int64)
    questions = Questions(QUERIES, [{} for _ in QUERIES], ["" for _ in QUERIES], QUERIES)
    return Asked(encoder.encode(QUERIES, kind="query"), None, None, out, Words(view).ask(questions, out))


@pytest.mark.parametrize("chunker", ["document", "sentences:1"])
@pytest.mark.parametrize(
    "recipe",
    [
        "bm25 | inverted",
        "static | flat | hybrid:bm25",
        "static | int8 | flat | hybrid:bm25",
        "static | binary | flat | rescore:int8 | hybrid:bm25",
    ],
)
def test_the_planner_ranks_as_the_index_does(chunker: str, recipe: str, tmp_path: Path) -> None:
    encoder = HashingEncoder(64)
    view = seen(chunker, encoder)
    parsed = Recipe.parse(f"{chunker} | {recipe}")
    found = rank(code(parsed, view, seed=0), view, asked(view, encoder))[:, :FIT]
    given: Any = {} if recipe.startswith("bm25") else {"encoder": encoder}
    index = sememe.build(RECORDS, tmp_path / "index", parsed, **given)
    hits = index.search(QUERIES, FIT)
    ids = np.array([*(record.id for record in RECORDS), ""], dtype=object)
    places = np.where(hits.rows >= 0, hits.ids, "")
    width = places.shape[1]
    assert (found[:, width:] == -1).all()
    assert ids[found[:, :width]].tolist() == places.tolist()


def test_what_no_word_finds_is_nothing_and_gains_nothing() -> None:
    encoder = HashingEncoder(16)
    view = seen("document", encoder)
    found = rank(code(Recipe.parse("bm25 | inverted"), view, seed=0), view, asked(view, encoder))
    assert found.shape == (len(QUERIES), 100)
    assert (found[-1] == -1).all() and (found[0, :FIT] >= 0).all()
    gains = np.ones((len(QUERIES), len(RECORDS)), dtype=np.float32)
    values = ndcg(found, gains, np.ones((len(QUERIES), 10), dtype=np.float32))
    assert values[-1] == 0 and values[0] == pytest.approx(1)


@pytest.mark.parametrize("chunker", ["document", "sentences:1"])
@pytest.mark.parametrize("recipe", ["bm25 | inverted", "static | flat | hybrid:bm25"])
def test_a_record_that_is_left_out_is_not_found(chunker: str, recipe: str) -> None:
    encoder = HashingEncoder(64)
    view = seen(chunker, encoder)
    coded = code(Recipe.parse(f"{chunker} | {recipe}"), view, seed=0)
    first = rank(coded, view, asked(view, encoder))[:, 0]
    again = rank(coded, view, asked(view, encoder, first.tolist()))
    found = first >= 0
    assert not (again[found] == first[found, None]).any()
    assert (again[found, 0] >= 0).all()


def test_rankings_that_end_early_are_compared_by_what_they_found() -> None:
    relevance = 1.0 / np.arange(1, 22)
    full = np.arange(20)[None, :]
    short = np.where(full < 4, full, -1)
    assert expected_change(short, short, relevance) == pytest.approx(0)
    assert expected_change(full, short, relevance) < 0
    other = np.where(full < 3, full, -1)
    assert expected_change(short, other, relevance) < 0


def test_records_come_once_and_in_order_of_their_best_passage() -> None:
    view = View(np.zeros((6, 1), np.float32), np.array([0, 2, 5]), np.arange(3), [""] * 6)
    rows = np.array([[5, 1, 0, 3, -1], [2, 4, 3, -1, -1]])
    assert records_of(rows, view).tolist() == [[2, 0, 1], [1, -1, -1]]


@pytest.fixture(scope="module")
def allowed(cranfield_folder: Path, cache: VectorCache) -> Plan:
    return sememe.plan(cranfield_folder, encoders=["static", "bm25"], cache=cache)


def points(plan: Plan) -> dict[str, dict[str, Any]]:
    return {point["recipe"]: point for point in plan.document["points"]}


def test_the_best_of_words_vectors_and_both_is_the_reference(allowed: Plan, cranfield: Plan) -> None:
    exact = [points(allowed)[name] for name in ("static | flat", "bm25 | inverted", "static | flat | hybrid:bm25")]
    best = max(exact, key=lambda point: point["quality"]["value"])
    assert allowed.reference["recipe"] == best["recipe"]
    assert allowed.reference["quality"]["value"] > cranfield.reference["quality"]["value"]
    assert allowed.document["context"] == []
    assert allowed.chosen["versus_reference"]["low"] >= -0.02 * allowed.reference["quality"]["value"]


def test_promising_dense_recipes_are_measured_fused_and_honestly_sized(allowed: Plan) -> None:
    found = points(allowed)
    fused = {name: point for name, point in found.items() if name.endswith(" | hybrid:bm25")}
    assert len(fused) >= 5
    words = found["bm25 | inverted"]
    for name, point in fused.items():
        alone = found[name.removesuffix(" | hybrid:bm25")]
        assert point["ledger"]["postings"] == words["ledger"]["postings"] > 0
        assert point["bytes_per_vector"] == pytest.approx(alone["bytes_per_vector"] + words["bytes_per_vector"])
        assert point["search_bytes"] >= alone["search_bytes"] + point["ledger"]["postings"]
        assert "versus_reference" in point and point["quality"]["low"] <= point["quality"]["high"]


@pytest.mark.parametrize("recipe", ["bm25 | inverted", "static | int4 | flat | hybrid:bm25"])
def test_predicted_bytes_of_words_are_the_bytes_that_are_built(
    recipe: str, allowed: Plan, cranfield_folder: Path, cache: VectorCache, tmp_path: Path
) -> None:
    index = sememe.build(cranfield_folder, tmp_path / "index", recipe, cache=cache)
    assert index.report is not None
    assert index.report.ledger.total == pytest.approx(points(allowed)[recipe]["total_bytes"], rel=0.01)
    assert index.report.ledger.postings == pytest.approx(points(allowed)[recipe]["ledger"]["postings"], rel=0.01)


def test_without_bm25_among_the_encoders_nothing_lexical_is_chosen_from(cranfield: Plan) -> None:
    assert not [name for name in points(cranfield) if "bm25" in name]
    assert [point["recipe"] for point in cranfield.document["context"]] == [
        "bm25 | inverted",
        "static | flat | hybrid:bm25",
    ]


def test_with_rankings_alone_words_take_no_part(cache: VectorCache) -> None:
    plan = sememe.plan(toy_records(25), encoders=["static", "bm25"], cache=cache)
    assert plan.document["judgement"]["kind"] == "agreement"
    assert not [name for name in points(plan) if "bm25" in name]
    assert any("bm25 took no part" in warning for warning in plan.document["warnings"])


def test_stand_ins_are_said_to_favour_words(cache: VectorCache) -> None:
    plan = sememe.plan(toy_records(150), encoders=["static", "bm25"], cache=cache)
    assert plan.document["judgement"]["kind"] == "stand-in"
    assert "bm25 | inverted" in points(plan)
    assert any("favours bm25" in warning for warning in plan.document["warnings"])
