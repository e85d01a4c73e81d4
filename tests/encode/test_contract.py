"""What every dense encoder promises, run over the catalogue; and what importing the room costs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from samples_of_text import HOSTILE, SENTENCES

from sememe import encode, progress
from sememe.contracts import Encoder
from sememe.errors import InputError, MissingDependency, RecipeError
from sememe.recipe import Stage

DENSE = ["static", "static:64", "minilm:onnx", "use"]


@pytest.fixture(scope="module", params=DENSE)
def encoder(request):
    name, _, argument = request.param.partition(":")
    args = (int(argument) if argument.isdigit() else argument,) if argument else ()
    try:
        return encode.make(Stage(name, args, kind="encoder"))
    except MissingDependency as error:
        pytest.skip(str(error))


def test_shape_and_length(encoder):
    assert isinstance(encoder, Encoder)
    rows = encoder.encode(SENTENCES)
    assert rows.shape == (len(SENTENCES), encoder.dim)
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_order_and_company_change_nothing(encoder):
    rows = encoder.encode(SENTENCES)
    np.testing.assert_allclose(encoder.encode(SENTENCES[::-1], batch_size=3), rows[::-1], atol=1e-5)
    np.testing.assert_allclose(encoder.encode(SENTENCES[2:3], batch_size=1), rows[2:3], atol=1e-5)
    np.testing.assert_array_equal(encoder.encode(SENTENCES), rows)
    np.testing.assert_allclose(encoder.encode(SENTENCES, kind="query"), rows, atol=1e-5)


def test_any_text(encoder):
    rows = encoder.encode([*HOSTILE, "one line " * 20_000])
    assert np.isfinite(rows).all()
    norms = np.linalg.norm(rows, axis=1)
    assert ((np.abs(norms - 1) < 1e-5) | (norms == 0)).all()


def test_meaning_survives(encoder):
    cat, kitten, stock = encoder.encode([SENTENCES[2], SENTENCES[3], SENTENCES[4]])
    assert cat @ kitten > cat @ stock + 0.2


@pytest.mark.parametrize("texts", ["one string", [1], [None], [b"bytes"]])
def test_what_is_not_text_is_refused(encoder, texts):
    with pytest.raises(InputError, match="string"):
        encoder.encode(texts)


def test_wrong_arguments_are_refused(encoder):
    with pytest.raises(InputError, match="passage"):
        encoder.encode(["a"], kind="document")
    with pytest.raises(InputError, match="batch_size"):
        encoder.encode(["a"], batch_size=0)


def test_progress_is_reported_when_wanted(encoder, monkeypatch):
    seen = []
    monkeypatch.setattr(progress.Step, "__call__", lambda self, count=1: seen.append((self.label, count)))
    encoder.encode(SENTENCES)
    assert seen == []
    encoder.encode(SENTENCES, progress=True)
    assert sum(count for _, count in seen) == len(SENTENCES)
    assert seen[0][0] == f"encoding with {encoder.name}"


def test_one_object_for_each_way_of_writing():
    first = encode.make("static:64")
    assert first is encode.make(Stage("static", (64,), kind="encoder"))
    assert first is not encode.make("static:128")
    assert encode.make("bm25:stop=none").stop == "none"
    np.testing.assert_array_equal(encode.make(first.name).encode(["a"]), first.encode(["a"]))


@pytest.mark.parametrize(
    "text", ["", "static | int8", "static/minilm", "int8", "sttic", "static:65", "static:64,64,64"]
)
def test_what_is_not_one_encoder_is_refused(text):
    with pytest.raises((RecipeError, InputError)):
        encode.make(text)


def test_the_room_is_light():
    """Every encoder registers, and the static one encodes, without a machine-learning library."""
    code = """
import sys
from sememe import catalog
catalog.load("encode")
heavy = {"torch", "transformers", "onnxruntime", "tokenizers", "scipy", "sklearn", "sentence_transformers", "mteb"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from sememe.encode import Static, encode_spans
Static().encode(["text"])
assert not (heavy - {"tokenizers"}) & set(sys.modules), heavy & set(sys.modules)
assert "wordllama" not in sys.modules
print(" ".join(sorted(t.name for t in catalog._techniques.values() if t.room == "encode")))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["bm25", "hf", "late", "minilm", "sparse", "splade", "st", "static", "use"]


def test_exported_names_exist():
    for name in encode.__all__:
        assert callable(getattr(encode, name))
    with pytest.raises(AttributeError):
        _ = encode.nothing
