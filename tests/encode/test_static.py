from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples_of_text import HOSTILE, SENTENCES

from sememe.encode import static
from sememe.encode.static import Static
from sememe.errors import InputError


@pytest.fixture(scope="module")
def encoder():
    return Static()


@pytest.fixture(scope="module")
def package():
    """The package whose weights these are, as its users load it."""
    wordllama = pytest.importorskip("wordllama")
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


def test_same_vectors_as_the_package(encoder, package, scifact):
    texts = SENTENCES + scifact
    np.testing.assert_allclose(encoder.encode(texts), package.embed(texts, norm=True), atol=1e-5)
    np.testing.assert_allclose(Static(normalize=False).encode(texts), package.embed(texts), atol=1e-5)


@pytest.mark.parametrize("dim", [64, 128])
def test_a_prefix_is_the_package_truncated(package, dim):
    vectors = package.embed(SENTENCES)[:, :dim]
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(Static(dim).encode(SENTENCES), expected, atol=1e-5)


def test_no_token_reaches_across_the_beginning_of_a_word(encoder):
    """What word-by-word tokenization rests on: a space is never followed back by anything but spaces."""
    tokenizer, _ = encoder._load()
    markers = {"<s>", "</s>", "<unk>"}
    tokens = [token for token in tokenizer.get_vocab() if token not in markers]
    assert len(tokens) == 31_997
    assert not [token for token in tokens if "\u2581" in token.lstrip("\u2581")]


PIECES = st.sampled_from(
    [
        " ",
        "  ",
        "a",
        "The",
        "ing",
        ",",
        "\n",
        "\t",
        "<s>",
        "</s>",
        "<",
        "\u2581",
        "é",
        "e\u0301",
        "日",
        "😀",
        "\x00",
        "\u00a0",
        "7",
        "<unk>",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(PIECES, st.text(max_size=6)), max_size=12).map("".join))
def test_word_by_word_gives_the_tokens_of_the_whole(text):
    encoder = _shared()
    clean = static.check_texts([text])[0]
    tokenizer, _ = encoder._load()
    assert encoder.tokenize([clean]) == [tokenizer.encode(clean, add_special_tokens=False).ids]


_made: list[Static] = []


def _shared() -> Static:
    if not _made:
        _made.append(Static())
    return _made[0]


def test_a_text_has_the_same_vector_in_any_company(encoder, scifact):
    texts = SENTENCES + HOSTILE + scifact
    together = encoder.encode(texts)
    for row, text in enumerate(texts):
        np.testing.assert_array_equal(encoder.encode([text])[0], together[row])


def test_a_full_word_table_starts_again(scifact, monkeypatch):
    monkeypatch.setattr(static, "_WORDS", 10)
    small, texts = Static(), SENTENCES + scifact
    expected = _shared().encode(texts)
    for row, text in enumerate(texts):
        np.testing.assert_array_equal(small.encode([text])[0], expected[row])


def test_empty_text_is_a_zero_row_and_none_is_no_row(encoder):
    assert not encoder.encode([""]).any()
    assert encoder.encode([]).shape == (0, 256)


def test_a_long_line_and_a_long_word(encoder):
    vectors = encoder.encode(["word " * 200_000, "w" * 1_000_000])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_token_vectors_have_the_mean_and_the_characters_of_the_text(encoder):
    found = encoder.encode_tokens(SENTENCES)
    means = np.stack([found[row].mean(axis=0) for row in range(len(SENTENCES))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(means, encoder.encode(SENTENCES), atol=1e-6)
    for row, text in enumerate(SENTENCES):
        spans = found.spans[found.offsets[row] : found.offsets[row + 1]]
        assert {i for a, b in spans for i in range(a, b)} == set(range(len(text)))


def test_mean_rows_against_a_loop():
    generator = np.random.default_rng(0)
    table = generator.standard_normal((50, 8)).astype(np.float32)
    ids = [generator.integers(50, size=n).tolist() for n in [0, 1, 3, 3, 3, 3, 3, 9, 0, 5000]]
    expected = [table[i].astype(np.float64).mean(axis=0) if i else np.zeros(8) for i in ids]
    np.testing.assert_allclose(static.mean_rows(table, ids), expected, atol=1e-5)


@pytest.mark.parametrize("dim", [0, 100, 512, True, "64"])
def test_other_widths_are_refused(dim):
    with pytest.raises(InputError, match="use one of 64, 128, 256"):
        Static(dim)


def test_settings_change_the_digest():
    assert len({Static().digest, Static(128).digest, Static(normalize=False).digest}) == 3
    assert Static().digest == Static(256).digest
