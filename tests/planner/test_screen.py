"""The first round: what is left out before it is measured, what is not, and what is said about it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import sememe
from sememe import catalog
from sememe.codec.integer import Int8
from sememe.encode.cache import VectorCache
from sememe.errors import InputError
from sememe.planner import report
from sememe.planner.screen import PASSAGES, Screen, sample
from sememe.planner.space import codecs
from sememe.planner.view import Asked, View
from sememe.recipe import Recipe
from sememe.testing import clustered_vectors, toy_records

D, N, Q = 64, 3_000, 40


@pytest.fixture(scope="module")
def bench() -> Any:
    """Passages in clusters, two a record; each question is answered by one record."""
    rows = clustered_vectors(N, D)
    view = View(rows, np.arange(0, N, 2), np.arange(N // 2), [""] * N)
    answers = np.random.default_rng(3).choice(N // 2, Q, replace=False)
    gains = np.zeros((Q, N // 2), dtype=np.float32)
    gains[np.arange(Q), answers] = 1
    ideal = np.zeros((Q, 10), dtype=np.float32)
    ideal[:, 0] = 1
    near = rows[2 * answers] + 0.1 * np.random.default_rng(4).standard_normal((Q, D)).astype(np.float32)
    asked = Asked(near, gains, ideal, np.full(Q, -1))
    return SimpleNamespace(real=view, judged=view, choose=asked, agreement=asked)


def screen(bench: Any, **changed: Any) -> Screen:
    options = {"seconds": 150.0, "build_seconds": None, "scale": 1.0, "seed": 0, "compare": True}
    return Screen(bench, **(options | changed))


def looks(bench: Any, codec: str, **changed: Any) -> str:
    """Why ``codec`` is left out after int8."""
    found = screen(bench, **changed)
    assert found.look(Recipe.parse("static | int8 | flat"))[0] == ""
    return found.look(Recipe.parse(f"static | {codec} | flat"))[0]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Enter a codec into the catalogue for one test."""
    catalog.load()

    def enter(name: str, made: type, kind: str = "quantizer") -> None:
        monkeypatch.setitem(catalog._techniques, name, catalog.Technique(name, "codec", kind, "", made))

    return enter


def test_the_smaller_collection_holds_the_answers(bench: Any) -> None:
    view, asked = sample(bench.judged, bench.choose, seed=0)
    assert asked is not None and PASSAGES <= len(view.passages) < N
    np.testing.assert_array_equal(asked.gains.sum(axis=1), 1)
    for record in (0, len(view.starts) - 1):
        rows = view.passages[view.starts[record] : view.starts[record] + 2]
        np.testing.assert_array_equal(rows, bench.real.passages[2 * view.records[record] :][:2])
    left_out = Asked(asked.vectors[:3], None, None, np.array([-1, int(view.records[7]), -1]))
    whole = Asked(bench.choose.vectors, bench.choose.gains, bench.choose.ideal, np.full(Q, int(view.records[7])))
    again = sample(bench.judged, whole, seed=0)[1]
    assert again is not None and set(again.left_out.tolist()) == {7} and len(left_out) == 3


def test_what_takes_more_bytes_and_is_less_true_is_left_out(bench: Any) -> None:
    reason = looks(bench, "pca:32 | fp16")
    assert "int8" in reason and "no more bytes" in reason
    assert looks(bench, "pca:32 | fp16", compare=False) == ""
    assert looks(bench, "pca:32 | int4") == ""  # fewer bytes
    assert looks(bench, "fp16") == ""  # truer


def test_second_tiers_and_structures_are_not_looked_at(bench: Any) -> None:
    found = screen(bench)
    found.look(Recipe.parse("static | int8 | flat"))
    for tail in ("pca:32 | fp16 | flat | rescore:fp16", "pca:32 | fp16 | hnsw"):
        assert found.look(Recipe.parse(f"static | {tail}")) == ("", None)


def test_what_was_fitted_is_handed_on(bench: Any) -> None:
    reason, fitted = screen(bench).look(Recipe.parse("static | int8 | flat"))
    assert reason == "" and fitted is not None and fitted.chain.code_bytes_ == D


@pytest.mark.parametrize(
    ("keeps", "size", "said"), [(True, 0.004, "loses"), (False, 0.004, ""), (False, 0.3, "answers surely better")]
)
def test_what_changes_scores_on_purpose_is_judged_by_its_answers(
    bench: Any, registered: Any, keeps: bool, size: float, said: str
) -> None:
    class Bent(Int8):
        keeps_scores = keeps

        def _encode(self, X: np.ndarray) -> np.ndarray:  # where ``size`` is small, worse scores and the same answers
            return super()._encode(X + size * np.sin(100 * X))

    registered("bent", Bent)
    reason = looks(bench, "bent")
    assert said in reason and bool(reason) is bool(said)


def test_a_slow_trainer_needs_more_time(bench: Any, registered: Any) -> None:
    class Slow(Int8):
        def learning_seconds(self, rows: int, dim: int) -> float:
            assert (rows, dim) == (N, D // 2)  # after the transform
            return 12.0

        def _learn(self, X: np.ndarray) -> None:
            raise AssertionError("nothing is learned before the time is known to suffice")

    registered("slow", Slow)
    reason = looks(bench, "pca:32 | slow")
    assert "12.0 s" in reason and "--seconds 480" in reason
    assert "building may take 5 s" in looks(bench, "pca:32 | slow", seconds=1e6, build_seconds=5.0)
    with pytest.raises(AssertionError):
        looks(bench, "pca:32 | slow", seconds=481.0)


def test_a_codec_that_cannot_take_these_vectors_is_named_and_left_out(bench: Any, registered: Any) -> None:
    class Picky(Int8):
        def _learn(self, X: np.ndarray) -> None:
            raise InputError("vectors of even width are not possible for Picky")

    registered("picky", Picky)
    assert "even width" in looks(bench, "picky")


def test_a_codec_that_declares_nothing_is_covered(registered: Any) -> None:
    registered("theirs", type("Theirs", (), {}))
    registered("turned", type("Turned", (), {}), "transform")
    found = codecs(64, passages=100)
    assert "theirs" in found and "turned | int8" in found


def test_every_codec_takes_part_or_says_that_it_does_not() -> None:
    found = " ".join(codecs(256, passages=50_000))
    for kind in ("transform", "quantizer"):
        for technique in catalog.techniques(room="codec", kind=kind):
            silent = technique.make.sweep(256, 50_000) == []  # type: ignore[attr-defined]
            assert technique.name in found or (silent and "sweep" in vars(technique.make)), technique.name


def test_what_learning_costs_is_told_for_all_that_train() -> None:
    for stage in ("hash:64", "pq:16", "residual:2", "additive:16", "residual-binary:2,seconds=9"):
        made = Recipe.parse(f"static | {stage} | flat")
        codec = [*made.transforms, made.quantizer]["hash" not in stage and -1].make()
        few, many = codec.learning_seconds(1_000, 64), codec.learning_seconds(8_000, 64)
        assert 0 < few <= many < 600, stage


def test_a_plan_says_what_was_left_out(tmp_path: Any, registered: Any) -> None:
    class Slow(Int8):
        rank = 0

        @classmethod
        def sweep(cls, dim: int, passages: int) -> list[str]:
            return ["slow"]

        def learning_seconds(self, rows: int, dim: int) -> float:
            return 60.0

    registered("slow", Slow)
    plan = sememe.plan(toy_records(300), cache=VectorCache(tmp_path), seconds=4.0)
    screened = {each["recipe"]: each["reason"] for each in plan.document["screened"]}
    assert not {point["recipe"] for point in plan.document["points"]} & set(screened)
    assert any("slow" in recipe and "--seconds" in reason for recipe, reason in screened.items())
    page = report.render(plan.document)
    assert f"{len(screened):,} more were left out" in page and "left out by the first round" in page
