from __future__ import annotations

import numpy as np
import pytest
from samples_of_text import HOSTILE

from sememe.contracts import Ragged, Span, unit_rows
from sememe.encode.base import DenseEncoder
from sememe.encode.late import LateChunker, encode_spans
from sememe.encode.static import Static
from sememe.errors import InputError, RecipeError, UsageError
from sememe.testing import HashingEncoder


class Contextual(DenseEncoder):
    """A token is a character that is not a space; its vector says where in its window, and in the text, it stands.

    It has special tokens at both ends and reads ``max_tokens`` tokens, as transformers do.
    """

    name, dim, digest = "contextual", 3, "contextual"

    def __init__(self, max_tokens: int | None) -> None:
        self.max_tokens = max_tokens
        self.windows: list[int] = []

    def encode_tokens(self, texts, *, kind="passage"):
        values, spans, offsets = [], [], [0]
        for text in texts:
            places = [p for p, c in enumerate(text) if not c.isspace()]
            places = places[: None if self.max_tokens is None else self.max_tokens - 2]
            self.windows.append(len(places) + 2)
            values += [[1, 0, 0], *([ord(text[p]), depth + 1, 1] for depth, p in enumerate(places)), [0, 0, 2]]
            spans += [[0, 0], *([p, p + 1] for p in places), [0, 0]]
            offsets.append(len(values))
        return Ragged(np.array(values, np.float32), np.array(offsets), np.array(spans, np.int64))

    def _embed(self, texts, kind, batch_size):
        found = self.encode_tokens(texts)
        yield slice(None), np.stack([found[row].mean(axis=0) for row in range(len(texts))])


TEXT = "The committee met in Paris. It approved the budget; nobody objected to it. "


@pytest.mark.parametrize("encoder", [Contextual(None), Contextual(512), Static(), HashingEncoder()])
def test_a_span_over_the_whole_text_is_the_ordinary_mean(encoder):
    np.testing.assert_allclose(encode_spans(encoder, TEXT, [Span(0, len(TEXT))]), encoder.encode([TEXT]), atol=1e-6)


def test_each_span_is_the_mean_of_its_tokens():
    encoder = Contextual(None)
    rows = encode_spans(encoder, "ab cd", [Span(0, 2), Span(3, 5), Span(1, 4)])
    tokens = {"a": [97, 1, 1], "b": [98, 2, 1], "c": [99, 3, 1], "d": [100, 4, 1], "^": [1, 0, 0], "$": [0, 0, 2]}
    expected = [np.mean([tokens[t] for t in group], axis=0) for group in ("^ab", "cd$", "bc")]
    np.testing.assert_allclose(rows, unit_rows(np.array(expected, np.float32)), atol=1e-6)


def test_context_changes_a_chunk_only_where_the_encoder_has_any():
    first, second = "It was cold in the harbour. The anchor froze.", "It was hot in the bakery. The anchor froze."
    for encoder, same in ((Static(), True), (Contextual(None), False)):
        a = encode_spans(encoder, first, [Span(first.index("The anchor"), len(first))])
        b = encode_spans(encoder, second, [Span(second.index("The anchor"), len(second))])
        assert np.allclose(a, b, atol=1e-6) == same


@pytest.mark.parametrize("limit", [3, 4, 8, 50])
@pytest.mark.parametrize("length", [1, 6, 47, 48, 49, 300])
def test_every_token_of_a_long_document_counts_once(limit, length):
    """The first value of a token is its character: sums over spans say which tokens were pooled, and how often."""
    generator = np.random.default_rng(length)
    text = "".join(generator.choice(list("abcdefgh   "), size=length)) + "z"
    encoder = Contextual(limit)
    spans = [Span(start, min(start + 7, len(text))) for start in range(0, len(text), 7)]
    spans = [span for span in spans if text[span.start : span.stop].strip()]
    rows = encode_spans(encoder, text, spans)
    for number, (row, span) in enumerate(zip(rows, spans)):
        inside = [ord(c) for c in text[span.start : span.stop] if not c.isspace()]
        values, counts = sum(inside), len(inside)
        head, tail = not text[: span.start].strip(), number == len(spans) - 1
        # Without their depth, rows are (sum of characters, number of tokens) up to a factor, plus special tokens.
        expected = np.array([values + head, counts + 2 * tail], dtype=np.float64)
        np.testing.assert_allclose(row[0] / row[2], expected[0] / expected[1], rtol=1e-5)
    assert max(encoder.windows) <= limit


def test_windows_overlap_and_inner_tokens_win():
    encoder = Contextual(42)  # windows of 40 tokens, overlapping by 10
    text = " ".join("abcdefghij" * 10)
    rows = encode_spans(encoder, text, [Span(2 * n, 2 * n + 1) for n in range(100)])
    depth = rows[1:99, 1] / rows[1:99, 2]
    assert depth[33] == pytest.approx(35, abs=1e-3)  # the last token kept of the first window
    assert depth[34] == pytest.approx(6, abs=1e-3)  # five tokens into the second
    assert depth.min() >= 2


def test_a_span_without_tokens_is_encoded_alone():
    encoder = Contextual(None)
    rows = encode_spans(encoder, "ab   cd", [Span(2, 5), Span(3, 3)])
    np.testing.assert_allclose(rows, encoder.encode(["   ", ""]), atol=1e-6)


@pytest.mark.parametrize("text", [*HOSTILE, " " * 3000 + "end", "word " * 3000])
def test_any_text(text):
    for encoder in (Static(), Contextual(16)):
        rows = encode_spans(encoder, text, [Span(0, len(text)), Span(0, len(text) // 2)])
        assert rows.shape == (2, encoder.dim)
        assert np.isfinite(rows).all()


def test_what_cannot_be_done_is_refused():
    class Plain:
        name, dim = "plain", 3

    with pytest.raises(InputError, match="plain gives no token vectors"):
        encode_spans(Plain(), "text", [Span(0, 4)])
    with pytest.raises(InputError, match="outside the text"):
        encode_spans(Static(), "text", [Span(0, 5)])
    assert encode_spans(Static(), "text", []).shape == (0, 256)


def test_the_chunker_cuts_as_the_other_one_does():
    from sememe.text.chunkers import Document, Sentences

    assert LateChunker("sentences", 1).spans(TEXT) == Sentences(1).spans(TEXT)
    assert LateChunker("sentences", n=2).spans(TEXT) == Sentences(2).spans(TEXT)
    assert LateChunker("document").spans(TEXT) == Document().spans(TEXT)
    assert LateChunker("sentences", 1).late
    with pytest.raises(RecipeError, match="does not accept"):
        LateChunker("sentences", colour=3)
    with pytest.raises(RecipeError, match="cannot cut by itself"):
        LateChunker("late")
    with pytest.raises(UsageError, match="no chunker called 'int8'"):
        LateChunker("int8")
