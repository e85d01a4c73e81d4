"""The planner's view of sketches, lists and graphs: where they are worth a look, what they find, how time grows."""

from pathlib import Path

import numpy as np
import pytest

from sememe import catalog
from sememe.index.cascade_kind import FEWEST, SKETCHES_FROM
from sememe.index.structure import growth
from sememe.index.vectors import VectorIndex
from sememe.planner.space import behind, with_index
from sememe.planner.trial import code, latency, rank
from sememe.planner.view import Asked, View
from sememe.recipe import Recipe
from sememe.testing import clustered_vectors

D = 64


@pytest.mark.parametrize(
    ("codec", "n", "worth"),
    [
        ("int8", SKETCHES_FROM, True),
        ("int8", SKETCHES_FROM - 1, False),
        ("pca:32 | fp16", SKETCHES_FROM, True),
        ("binary", SKETCHES_FROM, False),  # the codes are as short as sketches
        ("pq:16", SKETCHES_FROM, False),
    ],
)
def test_where_sketches_are_measured(codec: str, n: int, worth: bool) -> None:
    stages = behind(Recipe.parse(f"static | {codec} | flat"), D, passages=n, measured=n)
    assert ("cascade" in stages) is worth


@pytest.mark.parametrize("codec", ["int8 | flat", "fp32 | flat"])
def test_sketches_find_what_the_scan_finds(codec: str) -> None:
    rows = clustered_vectors(FEWEST + 30, D)
    X, Q = rows[:-30], rows[-30:]
    n = len(X)
    view = View(X, np.arange(n), np.arange(n), [""] * n)
    asked = Asked(Q, None, None, np.full(30, -1))
    flat = Recipe.parse(f"static | {codec}")
    scanned = code(flat, view, seed=0)
    sifted = code(with_index(flat, "cascade"), view, seed=0)
    assert scanned.graph is None and sifted.graph is not None
    one, other = (rank(coded, view, asked)[:, :10] for coded in (scanned, sifted))
    assert np.mean([len({*a} & {*b}) for a, b in zip(one.tolist(), other.tolist(), strict=True)]) >= 9.9
    assert (
        latency(sifted, asked, encode_ms=0.0, scale=1e6)["p50"]
        > 1e3 * latency(sifted, asked, encode_ms=0.0, scale=1)["p50"]
    )


@pytest.mark.parametrize(("passages", "wanted"), [
    (4_999, set()), (20_000, {"hnsw:16"}), (1_000_000, {"hnsw:16", "ivf:4096"}),
])  # fmt: skip
def test_where_lists_and_graphs_are_measured(passages: int, wanted: set[str]) -> None:
    recipe = Recipe.parse("static | binary | flat")
    assert set(behind(recipe, D, passages=passages, measured=min(passages, 20_000))) == wanted


def test_a_kind_of_somebody_else_is_swept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs:
        @classmethod
        def sweep(cls, rows: int, measured: int, dim: int, code_bytes: int) -> list[str]:
            return [f"theirs:{rows},{measured},{dim},{code_bytes}"]

    catalog.load()
    entry = catalog.Technique("theirs", "index", "index", "", Theirs)
    monkeypatch.setitem(catalog._techniques, "theirs", entry)
    stages = behind(Recipe.parse("static | pca:32 | int8 | flat"), D, passages=100, measured=50)
    assert stages == ["theirs:100,50,32,32"]


@pytest.mark.parametrize("stage", ["ivf:64,probes=8", "hnsw:16", "cascade"])
def test_what_is_reached_is_what_the_index_searches(stage: str, tmp_path: Path) -> None:
    rows = clustered_vectors(FEWEST + 2_000, D)
    X, Q = rows[:-20], rows[-20:]
    n = len(X)
    view = View(X, np.arange(n), np.arange(n), [""] * n)
    recipe = Recipe.parse(f"static | fp32 | {stage}")
    coded = code(recipe, view, seed=0)
    assert coded.graph is not None
    reached = coded.graph.reached(coded.chain.project(Q), 10)
    assert reached.shape[0] == len(Q) and reached.max() < n
    found = VectorIndex.build(tmp_path / "i", X, f"fp32 | {stage}").search(Q, 10)[1]
    for line in reached:
        assert len(set(line[line >= 0])) == np.count_nonzero(line >= 0)
        if stage.startswith("ivf"):
            assert np.count_nonzero(line >= 0) < n / 2
    ranked = rank(coded, view, Asked(Q, None, None, np.full(len(Q), -1)))[:, :10]
    assert np.mean([len({*a} & {*b}) for a, b in zip(ranked.tolist(), found.tolist(), strict=True)]) >= 9.5
    assert growth(coded.graph.kind, n, 100.0) == pytest.approx(100.0 if stage != "hnsw:16" else 1.5, rel=0.1)


def test_few_passages_are_scanned() -> None:
    X = clustered_vectors(100, D)
    view = View(X, np.arange(100), np.arange(100), [""] * 100)
    assert code(Recipe.parse("static | int8 | cascade"), view, seed=0).graph is None
