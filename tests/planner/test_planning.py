"""The planner as a whole: on small text with a tiny encoder, and on real text with judgements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sememe
from sememe.encode.cache import VectorCache
from sememe.errors import BudgetError, InputError
from sememe.planner import Plan
from sememe.planner.result import build_command
from sememe.testing import toy_records


@pytest.fixture(scope="module")
def toy(cache: VectorCache) -> Plan:
    return sememe.plan(toy_records(300), cache=cache, seed=1)


def test_the_fixed_shape_is_there(cranfield: Plan) -> None:
    document = json.loads(json.dumps(cranfield.document))
    assert {"reference", "chosen", "frontier", "command"} <= set(document)
    for point in [document["reference"], document["chosen"], *document["frontier"]]:
        assert {"recipe", "bytes_per_vector", "total_bytes", "quality", "latency_ms", "build_seconds"} <= set(point)
        quality = point["quality"]
        assert quality["metric"] == "ndcg@10" and quality["low"] <= quality["value"] <= quality["high"]
        assert 0 < point["latency_ms"]["p50"] <= point["latency_ms"]["p95"]
    assert document["chosen"]["recipe"] in document["command"]


def test_judged_by_labels_the_choice_is_at_most_an_eighth_and_within_tolerance(cranfield: Plan) -> None:
    assert cranfield.document["judgement"]["kind"] == "labels"
    assert cranfield.chosen["bytes_per_vector"] <= cranfield.reference["bytes_per_vector"] / 8
    versus = cranfield.chosen["versus_reference"]
    assert versus["low"] >= -0.02 * cranfield.reference["quality"]["value"]


def test_predicted_bytes_are_the_bytes_that_are_built(
    cranfield: Plan, cranfield_folder: Path, cache: VectorCache, tmp_path: Path
) -> None:
    index = sememe.build(cranfield_folder, tmp_path / "index", cranfield.recipe, cache=cache)
    assert index.report is not None
    assert index.report.ledger.total == pytest.approx(cranfield.chosen["total_bytes"], rel=0.01)
    on_disk = sum(f.stat().st_size for f in (tmp_path / "index").iterdir() if f.suffix == ".seg")
    assert on_disk == pytest.approx(cranfield.chosen["total_bytes"], rel=0.02)


def test_the_planned_quality_is_what_the_index_gives(
    cranfield: Plan, cranfield_folder: Path, cache: VectorCache, tmp_path: Path
) -> None:
    """The planner ranks in memory; the index from disk must answer the same."""
    from sememe.measure.retrieval import evaluate
    from sememe.text import read_qrels, read_queries

    queries = read_queries(cranfield_folder / "queries.jsonl")
    qrels = read_qrels(cranfield_folder / "qrels.tsv")
    index = sememe.build(cranfield_folder, tmp_path / "index", cranfield.recipe, cache=cache)
    hits = index.search(list(queries.values()), 100)
    run = {
        q: dict(zip(ids.tolist(), scores.tolist(), strict=True))
        for q, ids, scores in zip(queries, hits.ids, hits.scores, strict=True)
    }
    values = evaluate(run, qrels, ("ndcg@10",))["ndcg@10"]
    mean = sum(values.values()) / len(values)
    assert cranfield.chosen["quality"]["low"] - 0.01 <= mean <= cranfield.chosen["quality"]["high"] + 0.01


def test_stand_ins_are_labelled_as_such(toy: Plan) -> None:
    assert toy.document["judgement"]["kind"] in ("stand-in", "agreement")
    assert any("no judgement" in warning for warning in toy.document["warnings"])


def test_equal_seeds_give_equal_plans(toy: Plan, cache: VectorCache) -> None:
    again = sememe.plan(toy_records(300), cache=cache, seed=1)
    assert [p["recipe"] for p in again.document["points"]] == [p["recipe"] for p in toy.document["points"]]
    assert [p["quality"] for p in again.document["points"]] == [p["quality"] for p in toy.document["points"]]


def test_saved_plans_are_read_again(toy: Plan, tmp_path: Path) -> None:
    document, page = toy.save(tmp_path)
    assert Plan.load(document).recipe == toy.recipe
    assert toy.recipe.split("|")[0].strip() in page.read_text(encoding="utf-8")


def test_a_budget_below_everything_is_refused(cache: VectorCache) -> None:
    with pytest.raises(BudgetError, match="no measured recipe meets the limits"):
        sememe.plan(toy_records(80), cache=cache, bytes_per_vector=1)


def test_a_sampled_corpus_says_so_and_keeps_judged_documents(cache: VectorCache) -> None:
    records = toy_records(200)
    queries = {f"q{i}": records[i].text for i in range(20)}
    qrels = {f"q{i}": {records[i].id: 1} for i in range(20)}
    plan = sememe.plan(records, queries=queries, qrels=qrels, sample=60, cache=cache)
    assert plan.document["corpus"]["measured_records"] == 60
    assert plan.reference["passages"] == 200
    assert plan.reference["quality"]["value"] > 0.9
    assert any("60 of 200" in warning for warning in plan.document["warnings"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"tolerance": 2.0}, "tolerance"),
        ({"encoders": ()}, "no encoder"),
        ({"qrels": {"q": {"doc-1": 1}}}, "judgements without queries"),
        ({"queries": {"q": "bread"}, "qrels": {"q": {"nowhere": 1}}}, "judged documents"),
        ({"queries": {"q": "bread"}, "qrels": {"other": {"doc-1": 1}}}, "no query has a relevant document"),
        ({"encoders": ("bm25",)}, "sparse"),
    ],
)
def test_bad_arguments_get_one_clear_line(arguments: dict, says: str, cache: VectorCache) -> None:
    with pytest.raises(InputError, match=says) as caught:
        sememe.plan(toy_records(30), cache=cache, **arguments)
    assert "\n" not in str(caught.value)


def test_an_empty_collection_is_refused(cache: VectorCache) -> None:
    with pytest.raises(InputError, match="no readable text"):
        sememe.plan([], cache=cache)


def test_lexical_search_that_answers_better_is_pointed_out(cranfield: Plan) -> None:
    """On this collection BM25 and the static encoder together are far better than either: a user should know."""
    fused = next(p for p in cranfield.document["context"] if "hybrid" in p["recipe"])
    assert fused["versus_reference"]["low"] > 0
    assert any("hybrid:bm25" in warning for warning in cranfield.document["warnings"])


def test_the_command_reads_the_source_as_the_plan_did() -> None:
    reading = {"text_field": "full text", "on_duplicate": "first", "strict": True, "max_chars": 9}
    assert build_command("my docs", "static | flat", reading) == (
        "sememe build 'my docs' --recipe 'static | flat' -o my.index "
        "--text-field 'full text' --on-duplicate first --strict"
    )
    assert build_command("docs", "static | flat", {"on_duplicate": "error"}).endswith(" -o my.index")
