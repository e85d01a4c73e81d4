"""A learned sparse encoder among those allowed: ranked and measured as an index would, and counted in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

import sememe
from sememe import catalog
from sememe.encode import registry
from sememe.encode.cache import VectorCache
from sememe.errors import InputError
from sememe.planner.learned import Weights
from sememe.planner.questions import Questions
from sememe.planner.space import full_precision, lists_of
from sememe.planner.trial import code, rank
from sememe.planner.view import Asked, View
from sememe.recipe import Recipe
from sememe.testing import HashingEncoder, toy_records

RECORDS = toy_records(240)
QUERIES = ["yeast bread oven", "anchor and tide", "a comet near the planet", "knight takes rook", "compost"]


class Counting:
    """Words, hashed to columns, with a weight by their length: an encoder of sparse vectors that needs nothing."""

    name, dim, digest = "counting", 4096, "counting"

    def encode_sparse(self, texts: list[str], *, kind: str = "passage", progress: bool = False) -> Any:
        sparse = pytest.importorskip("scipy.sparse")
        rows = [sorted({crc32(word.encode()) % self.dim for word in text.lower().split()}) for text in texts]
        columns = np.array([column for row in rows for column in row], dtype=np.int32)
        bounds = np.cumsum([0, *map(len, rows)])
        weights = (1 + columns % 7).astype(np.float32)
        return sparse.csr_array((weights, columns, bounds), shape=(len(texts), self.dim))

    def encode(self, texts: list[str], *, kind: str = "passage", **options: Any) -> Any:
        return self.encode_sparse(texts, kind=kind).toarray()


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.load()
    entry = catalog.Technique("counting", "encode", "encoder", "", Counting, traits={"sparse": True})
    monkeypatch.setitem(catalog._techniques, "counting", entry)
    monkeypatch.setattr(registry, "_made", {})


def test_lists_are_those_of_the_catalogue() -> None:
    assert (lists_of("counting"), lists_of("bm25"), lists_of("static")) == ("impact", "inverted", "")
    assert str(full_precision("document", "counting")).endswith("counting | impact")


def test_the_planner_ranks_as_the_index_does(tmp_path: Path) -> None:
    texts = [record.content for record in RECORDS]
    dense, out = HashingEncoder(16), np.full(len(QUERIES), -1)
    view = View(dense.encode(texts), np.arange(len(texts)), np.arange(len(texts)), texts)
    lists = Weights(view, Counting())
    words = lists.ask(Questions(QUERIES, [{} for _ in QUERIES], [""] * len(QUERIES), QUERIES), out)
    asked = Asked(dense.encode(QUERIES, kind="query"), None, None, out, words)
    recipe = Recipe.parse("counting | impact")
    found = rank(code(recipe, view, seed=0), view, asked)
    index = sememe.build(RECORDS, tmp_path / "index", recipe)
    hits = index.search(QUERIES, 10)
    for line, ids in zip(found, hits.ids, strict=True):
        assert [RECORDS[row].id for row in line[:10] if row >= 0] == [name for name in ids if name]
    left_out = lists.ask(Questions(QUERIES, [{} for _ in QUERIES], [""] * len(QUERIES), QUERIES), found[:, 0])
    assert not (left_out.rows == found[:, :1]).any()


def test_a_plan_measures_it_and_predicts_its_bytes(tmp_path: Path) -> None:
    queries = {str(n): text for n, text in enumerate(QUERIES * 8)}
    topics = ("baking", "sailing", "astronomy", "chess", "gardening")
    qrels = {
        name: {r.id: 1 for r in RECORDS if r.metadata["topic"] == topics[int(name) % len(topics)]} for name in queries
    }
    qrels = {name: gains for name, gains in qrels.items() if gains}
    plan = sememe.plan(
        RECORDS, queries=queries, qrels=qrels, encoders=["static", "counting"], cache=VectorCache(tmp_path / "cache")
    )
    points = {point["recipe"]: point for point in plan.document["points"]}
    point = next(point for recipe, point in points.items() if recipe.endswith("counting | impact"))
    built = sememe.build(RECORDS, tmp_path / "index", point["recipe"])
    ledger = built.ledger()
    assert point["ledger"]["postings"] == pytest.approx(ledger.postings, rel=0.02)
    assert point["ledger"]["ids"] == ledger.ids and point["ledger"]["text"] == ledger.text
    assert point["quality"]["value"] > 0 and point["latency_ms"]["p50"] > 0
    assert sum(recipe.endswith("impact") for recipe in points) == 1


def test_a_sparse_encoder_alone_is_not_swept() -> None:
    with pytest.raises(InputError, match="dense"):
        sememe.plan(RECORDS, encoders=["counting"])
