from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples_of_text import HOSTILE, SENTENCES

from sememe.encode import static, wordwise
from sememe.encode.base import check_texts
from sememe.encode.static import Static
from sememe.errors import InputError
from sememe.kernels import native

LEVELS = native.levels()  # numpy, and those of the compiled core


@pytest.fixture(scope="module")
def encoder():
    return Static()


@pytest.fixture(scope="module")
def package():
    """The package whose weights these are, as its users load it."""
    wordllama = pytest.importorskip("wordllama")
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


@pytest.mark.parametrize("level", LEVELS)
def test_same_vectors_as_the_package(level, package, scifact):
    texts = SENTENCES + scifact
    with native.using(level):
        np.testing.assert_allclose(Static().encode(texts), package.embed(texts, norm=True), atol=1e-5)
        np.testing.assert_allclose(Static(normalize=False).encode(texts), package.embed(texts), atol=1e-5)


@pytest.mark.parametrize("dim", [64, 128])
def test_a_prefix_is_the_package_truncated(package, dim):
    vectors = package.embed(SENTENCES)[:, :dim]
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(Static(dim).encode(SENTENCES), expected, atol=1e-5)


def test_no_token_reaches_across_the_beginning_of_a_word(encoder):
    """What word-by-word tokenization rests on: a space is never followed back by anything but spaces."""
    tokens = [token for token in encoder._tokenizer.get_vocab() if token not in static.MARKERS]
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
    clean = check_texts([text])[0]
    expected = [encoder._tokenizer.encode(clean, add_special_tokens=False).ids]
    for level in LEVELS[:2]:  # all compiled levels split in the same way
        with native.using(level):
            assert encoder.tokenize([clean]) == expected


@pytest.mark.parametrize("level", LEVELS)
def test_real_text_has_the_tokens_of_the_whole(level, scifact):
    encoder = _shared()
    texts = check_texts(SENTENCES + HOSTILE + scifact)
    expected = [e.ids for e in encoder._tokenizer.encode_batch(texts, add_special_tokens=False)]
    with native.using(level):
        assert encoder.tokenize(texts) == expected


@pytest.mark.parametrize("settings", [{}, {"dim": 64}, {"dim": 128, "normalize": False}])
def test_same_bits_at_every_level(settings, scifact):
    """Vectors are cached by digest and indexes compared by bytes: a machine without the core must give the same."""
    encoder, texts = Static(**settings), SENTENCES + HOSTILE + scifact
    found = []
    for level in LEVELS:
        with native.using(level):
            found.append(encoder.encode(texts).tobytes())
    assert len(set(found)) == 1


_made: list[Static] = []


def _shared() -> Static:
    if not _made:
        _made.append(Static())
    return _made[0]


@pytest.mark.parametrize("level", LEVELS[:2])
def test_a_text_has_the_same_vector_in_any_company(level, scifact):
    texts = SENTENCES + HOSTILE + scifact
    with native.using(level):
        together = Static().encode(texts)
        encoder = Static()
        for row, text in reversed(list(enumerate(texts))):
            np.testing.assert_array_equal(encoder.encode([text])[0], together[row])


def test_threads_do_not_change_a_bit(scifact, monkeypatch):
    texts = [text[start:] for start in range(20) for text in scifact]
    found = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("SEMEME_THREADS", threads)
        found.append(Static().encode(texts).tobytes())
    assert len(set(found)) == 1


def test_a_full_word_table_starts_again(scifact, monkeypatch):
    monkeypatch.setattr(wordwise, "_WORDS", 10)
    texts = SENTENCES + scifact
    with native.using("numpy"):
        small = Static()
        expected = _shared().encode(texts)
        for row, text in enumerate(texts):
            np.testing.assert_array_equal(small.encode([text])[0], expected[row])


def test_empty_text_is_a_zero_row_and_none_is_no_row(encoder):
    assert not encoder.encode([""]).any()
    assert encoder.encode([]).shape == (0, 256)


@pytest.mark.parametrize("level", LEVELS)
def test_a_long_line_and_a_long_word(level):
    texts = ["word " * 200_000, "w" * 300_000, "一汉 " * 50_000, " " * 100_000, "<s>" * 50_000]
    with native.using(level):
        vectors = _shared().encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(vectors[0], _shared().encode([texts[0]])[0])


def test_token_vectors_have_the_mean_and_the_characters_of_the_text(encoder):
    found = encoder.encode_tokens(SENTENCES)
    means = np.stack([found[row].mean(axis=0) for row in range(len(SENTENCES))])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(means, encoder.encode(SENTENCES), atol=1e-6)
    for row, text in enumerate(SENTENCES):
        spans = found.spans[found.offsets[row] : found.offsets[row + 1]]
        assert {i for a, b in spans for i in range(a, b)} == set(range(len(text)))


@pytest.mark.parametrize("dim", [0, 100, 512, True, "64"])
def test_other_widths_are_refused(dim):
    with pytest.raises(InputError, match="use one of 64, 128, 256"):
        Static(dim)


def test_settings_change_the_digest():
    assert len({Static().digest, Static(128).digest, Static(normalize=False).digest}) == 3
    assert Static().digest == Static(256).digest
