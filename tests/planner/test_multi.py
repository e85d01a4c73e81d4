"""Token vectors among what a plan may use: ranked as an index ranks them, counted in full, and built from the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sememe
from sememe import catalog
from sememe.cli.main import main
from sememe.codec.integer import Int8
from sememe.contracts import Ragged
from sememe.encode import make, registry
from sememe.encode.cache import VectorCache
from sememe.errors import InputError
from sememe.index.pooling import pool
from sememe.planner import multi, planning
from sememe.planner.multi import CodedTokens, Tokens
from sememe.planner.space import full_precision, has_several, recipes, token_tails
from sememe.planner.sweep import Sweep
from sememe.planner.trial import code, distortion, latency, rank
from sememe.planner.view import Asked, View
from sememe.recipe import Recipe
from sememe.testing import HashingEncoder, toy_records

RECORDS = toy_records(240)
QUERIES = ["yeast bread oven", "anchor and tide", "a comet near the planet", "knight takes rook", "compost"]
TOPICS = ("baking", "sailing", "astronomy", "chess", "gardening")


@pytest.fixture(scope="module")
def seen() -> tuple[View, Asked]:
    """Passages and queries with their token vectors."""
    encoder, texts = make("static"), [record.content for record in RECORDS]
    whole, queries = (pool(encoder.encode_tokens(some)) for some in (texts, QUERIES))
    rows = np.arange(len(texts))
    view = View(encoder.encode(texts), rows, rows, texts, Tokens(whole))
    return view, Asked(encoder.encode(QUERIES, kind="query"), None, None, np.full(len(QUERIES), -1), tokens=queries)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    queries = {str(n): text for n, text in enumerate(QUERIES * 8)}
    qrels = {
        name: {r.id: 1 for r in RECORDS if r.metadata["topic"] == TOPICS[int(name) % len(TOPICS)]} for name in queries
    }
    cache = VectorCache(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:  # a few codes of one vector are enough here
        patch.setattr(planning, "recipes", lambda *given, **options: recipes(*given, **options)[:8])
        return sememe.plan(RECORDS, queries=queries, qrels=qrels, encoders=["static", "multivector"], cache=cache)


@pytest.mark.parametrize("tail", ["multivector", "int8 | multivector:8", "residual:2,cells=64 | multivector:0.5"])
@pytest.mark.parametrize("candidates", [256, 40])
def test_the_planner_ranks_as_the_index_does(
    seen: tuple[View, Asked], tail: str, candidates: int, tmp_path: Path
) -> None:
    view, asked = seen
    recipe = Recipe.parse(f"static | {tail}" + (":" if tail.endswith("r") else ",") + f"candidates={candidates}")
    coded = code(recipe, view, seed=0)
    assert isinstance(coded, CodedTokens)
    found = rank(coded, view, asked)
    hits = sememe.build(RECORDS, tmp_path / "index", recipe).search(QUERIES, 10)
    for line, ids in zip(found, hits.ids, strict=True):
        assert [RECORDS[row].id for row in line[:10]] == list(ids)
    left_out = Asked(asked.vectors, None, None, found[:, 0], tokens=asked.tokens)
    again = rank(coded, view, left_out)
    np.testing.assert_array_equal(again[:, :9], found[:, 1:10])
    assert latency(coded, asked, encode_ms=1.0, scale=1.0)["p50"] > 1.0


def test_passages_of_one_record_count_once(seen: tuple[View, Asked]) -> None:
    view, asked = seen
    chunked = View(view.passages, np.arange(0, 240, 3), np.arange(80), view.texts, view.tokens)
    recipe = Recipe.parse("static | int8 | multivector")
    one, other = (rank(code(recipe, each, seed=0), each, asked) for each in (view, chunked))
    assert all(len({*line[line >= 0]}) == np.count_nonzero(line >= 0) for line in other)
    np.testing.assert_array_equal(other[:, 0], one[:, 0] // 3)


def test_finer_codes_and_more_vectors_lose_less(seen: tuple[View, Asked]) -> None:
    view, asked = seen

    def lost(tail: str) -> float:
        return distortion(code(Recipe.parse(f"static | {tail}"), view, seed=0), view, asked)

    assert lost("multivector") < 1e-6
    assert lost("residual:4,cells=8 | multivector") < lost("residual:1,cells=8 | multivector") < 0.5
    assert lost("multivector:16") < lost("multivector:4")


def test_a_plan_predicts_the_bytes_that_are_built(planned: Any, tmp_path: Path) -> None:
    points = {point["recipe"]: point for point in planned.document["points"]}
    several = {recipe: point for recipe, point in points.items() if has_several(Recipe.parse(recipe))}
    assert {"static | multivector", "static | int8 | multivector:8"} <= set(several)
    for recipe in ("static | int8 | multivector:8", "static | residual:2,cells=256 | multivector"):
        point = several[recipe]
        built = sememe.build(RECORDS, tmp_path / f"{len(recipe)}", recipe)
        ledger = built.ledger()
        for part in ("codes", "ids", "text", "map", "postings", "side"):
            assert point["ledger"][part] == getattr(ledger, part), part
        assert point["total_bytes"] == pytest.approx(ledger.total, rel=0.01)
        searched = ledger.codes + ledger.postings + 4 * 240  # codes, lists, and where each passage's begin
        assert point["bytes_per_vector"] == pytest.approx(searched / 240, rel=0.01)
        assert point["quality"]["low"] <= point["quality"]["value"] <= point["quality"]["high"]
        assert point["build_seconds"] > 0 and point["latency_ms"]["p50"] > 0


def test_a_plan_of_token_vectors_can_be_built_and_searched(
    planned: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = min((p for p in planned.document["points"] if "multivector" in p["recipe"]), key=lambda p: p["search_bytes"])
    planned.document["chosen"], kept = best, planned.document["chosen"]
    try:
        document, _ = planned.save(tmp_path / "plan")
    finally:
        planned.document["chosen"] = kept
    (tmp_path / "docs").mkdir()
    for record in RECORDS[:60]:
        (tmp_path / "docs" / f"{record.id}.txt").write_text(record.content, encoding="utf-8")
    index = str(tmp_path / "index")
    assert main(["build", str(tmp_path / "docs"), "--plan", str(document), "-o", index]) == 0
    assert main(["info", index]) == 0
    assert "multivector" in capsys.readouterr().out
    assert main(["search", index, "yeast bread oven"]) == 0
    found = capsys.readouterr().out
    assert next(r.id for r in RECORDS if r.id in found)


def test_token_vectors_that_answer_worse_are_named(planned: Any, tmp_path: Path) -> None:
    records = [replace(r, text=f"{r.id} {r.text}") for r in RECORDS]
    queries = {r.id: r.id for r in records}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "recipes", lambda *given, **options: recipes(*given, **options)[:2])
        patch.setattr(Sweep, "worth_sweeping", lambda self, bench: not bench.several)
        plan = sememe.plan(
            records, queries=queries, qrels={n: {n: 1} for n in queries}, encoders=["static", "multivector"],
            cache=VectorCache(tmp_path),
        )  # fmt: skip
    assert any(w.startswith("static | multivector answers surely worse") for w in plan.document["warnings"])
    assert not any("surely worse" in w for w in planned.document["warnings"])


def test_codecs_and_kinds_say_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    tails = token_tails(64, vectors=10_000, count=70)
    assert tails[0].endswith("multivector:8") and tails[-1].endswith("| multivector")
    assert not any("multivector:32" in tail for tail in token_tails(64, vectors=10_000, count=60))
    for tail in tails:
        Recipe.parse(f"static | {tail}")

    class Theirs(Int8):
        @classmethod
        def sweep_tokens(cls, dim: int, vectors: int) -> list[str]:
            return ["theirs"] if (dim, vectors) == (64, 10_000) else []

    monkeypatch.setitem(catalog._techniques, "theirs", catalog.Technique("theirs", "codec", "quantizer", "", Theirs))
    assert "theirs | multivector:8" in token_tails(64, vectors=10_000, count=70)
    assert str(full_precision("document", "static", several=True)) == "static | multivector"


class Plain:
    """An encoder that gives one vector a text, and nothing else."""

    name, dim, digest = "plain", 16, "plain"

    def encode(self, texts: list[str], **options: Any) -> Any:
        return HashingEncoder(16).encode(texts, kind=options.get("kind", "passage"))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder without token vectors."""
    catalog.load()
    entry = catalog.Technique("plain", "encode", "encoder", "", Plain)
    monkeypatch.setitem(catalog._techniques, "plain", entry)
    monkeypatch.setattr(registry, "_made", {})


def test_where_no_encoder_gives_token_vectors_one_line_says_so(plain: None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="plain gives no token vectors for multivector") as caught:
        sememe.plan(RECORDS, encoders=["plain", "multivector"], cache=VectorCache(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="multivector needs the token vectors of one"):
        sememe.plan(RECORDS, encoders=["multivector"], cache=VectorCache(tmp_path))


def test_what_does_not_fit_in_memory_is_said_before_it_is_encoded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(multi, "MOST_BYTES", 100_000)
    monkeypatch.setattr(multi, "_BLOCK", 16)
    with pytest.raises(InputError, match=r"GiB.*--sample"):
        sememe.plan(RECORDS, encoders=["static", "multivector"], cache=VectorCache(tmp_path))


def test_pooling_is_remembered() -> None:
    rows = np.eye(12, dtype=np.float32)
    tokens = Tokens(Ragged(rows, np.array([0, 6, 12])))
    kind = Recipe.parse("static | multivector:2").index.make()
    first, seconds = tokens.pooled(kind)
    assert tokens.pooled(kind)[0] is first and seconds > 0
    np.testing.assert_array_equal(np.diff(first.offsets), 2)
