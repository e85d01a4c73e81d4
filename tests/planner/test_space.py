"""What the planner measures: every codec says itself what of it is worth a look."""

from __future__ import annotations

import pytest

from sememe import catalog
from sememe.codec.integer import Int8
from sememe.planner.space import codecs, recipes
from sememe.recipe import Recipe


@pytest.mark.parametrize("dim", [8, 20, 64, 256, 384])
@pytest.mark.parametrize("passages", [10, 3_000, 50_000])
def test_every_recipe_of_the_sweep_can_be_made(dim: int, passages: int) -> None:
    found = codecs(dim, passages=passages)
    assert len(found) == len(set(found))
    for recipe in recipes("document", "static", dim, passages=passages):
        chain = [stage.make() for stage in (*recipe.transforms, recipe.quantizer)]
        width = dim
        for transform in chain[:-1]:
            width = transform.dim_out(width)
        assert chain[-1].bytes_per_vector(width) >= 1


def test_what_takes_longest_to_learn_comes_last() -> None:
    last = codecs(256, passages=50_000)[-4:]
    assert sorted(stage.split(":")[0] for stage in last) == ["additive", "additive", "hash", "hash"]


def test_a_new_codec_is_swept_by_registering() -> None:
    before = codecs(64, passages=100)
    try:

        @catalog.register("halves", room="codec", kind="quantizer", summary="int8 under another name")
        class Halves(Int8):
            rank = 0

            @classmethod
            def sweep(cls, dim: int, passages: int) -> list[str]:
                return ["halves"]

        assert codecs(64, passages=100) == ["halves", *before]
        assert str(Recipe.parse("static | halves | flat").quantizer) == "halves"
    finally:
        catalog._techniques.pop("halves", None)


def test_what_is_inherited_is_not_swept_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    class Eighths(Int8):
        """Says nothing of its own, so it is measured as its name alone stands for it."""

    catalog.load()
    entry = catalog.Technique("eighths", "codec", "quantizer", "", Eighths)
    monkeypatch.setitem(catalog._techniques, "eighths", entry)
    found = codecs(256, passages=50_000)
    assert found.count("int8") == 1 and found.count("eighths") == 1
