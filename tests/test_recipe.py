"""The pipe language: canonical round trip, order, and errors of one line that show where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sememe.errors import RecipeError, SememeError
from sememe.recipe import Recipe

GOOD = [
    ("static|int8|flat", "static | int8 | flat"),
    ("  sentences:4 |minilm| pca:128 | int8 | hnsw:32 | rescore:fp16 ",
     "sentences:4 | minilm | pca:128 | int8 | hnsw:32 | rescore:fp16"),
    ("minilm/static | flat", "minilm/static | flat"),
    ("static | pca:64,renormalize=false | flat", "static | pca:64,renormalize=false | flat"),
    ("static | flat | hybrid:bm25,weight=0.5,fusion=score", "static | flat | hybrid:bm25,fusion=score,weight=0.5"),
    ("hf:org/model | flat", "hf:org/model | flat"),
    ('st:"a path, with | odd \\"signs\\"" | flat', 'st:"a path, with | odd \\"signs\\"" | flat'),
    ("bm25 | inverted", "bm25 | inverted"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "canonical"), GOOD)
def test_canonical_form_round_trips(text: str, canonical: str) -> None:
    recipe = Recipe.parse(text)
    assert str(recipe) == canonical
    assert Recipe.parse(str(recipe)) == recipe


BAD = [
    ("", "empty"),
    ("flat", "no encoder"),
    ("static | int8", "no index"),
    ("static || flat", "empty stage"),
    ("static | flat | int8", "cannot follow"),
    ("static | int8 | fp16 | flat", "two stages"),
    ("statik | flat", "did you mean static"),
    ("static: | flat", "ends in a colon"),
    ("static | pca:64,,3 | flat", "empty argument"),
    ("static | pca:d=64,d=32 | flat", "given twice"),
    ("static | pca:d=64,32 | flat", "must come before"),
    ("static | int8/int4 | flat", "only encoders"),
    ('st:"open | flat', "not closed"),
    ("7up | flat", "not a stage name"),
]


@pytest.mark.parametrize(("text", "says"), BAD)
def test_a_wrong_recipe_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_arguments_are_refused_by_name() -> None:
    with pytest.raises(RecipeError, match="widht"):
        Recipe.parse("static | pca:widht=3 | flat").transforms[0].make()


def test_defaults_are_whole_documents_and_floats() -> None:
    recipe = Recipe.parse("static | flat")
    assert (str(recipe.chunker), str(recipe.quantizer)) == ("document", "fp32")


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        recipe = Recipe.parse(text)
    except SememeError:
        return
    assert Recipe.parse(str(recipe)) == recipe


@given(st.sampled_from(["st", "hf"]), st.text(min_size=1, max_size=30))
def test_any_path_survives(name: str, path: str) -> None:
    from sememe.recipe import Stage

    text = f"{Stage(name, (path,), ())} | flat"
    try:
        recipe = Recipe.parse(text)
    except RecipeError:
        return
    assert Recipe.parse(str(recipe)) == recipe
