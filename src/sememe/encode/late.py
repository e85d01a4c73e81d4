"""Late chunking: encode the whole document, then pool the token vectors of each chunk.

A chunk encoded alone has lost what its pronouns and definite articles refer to; pooled late, its token vectors have
seen the rest of the document ("Late Chunking: Contextual Chunk Embeddings Using Long-Context Embedding Models", 2024,
2409.04701).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sememe import catalog
from sememe.catalog import Paper, register
from sememe.contracts import Encoder, Kind, Ragged, Span, Vectors, unit_rows
from sememe.encode.base import check_texts
from sememe.errors import InputError, RecipeError

_OVERLAP = 0.25  # of a window, shared with the next one
_CHARACTERS = 16  # of text given to the encoder for each token that a window holds
Ends = NDArray[np.int64]


class TokenEncoder(Encoder, Protocol):
    """An encoder that gives token vectors."""

    def encode_tokens(self, texts: Sequence[str], *, kind: Kind = "passage") -> Ragged:
        """Token vectors with the characters they came from."""
        ...


@register(
    "late",
    room="encode",
    kind="chunker",
    summary="Late chunking: another chunker's spans, pooled from the token vectors of the whole document.",
    paper=Paper("Late Chunking: Contextual Chunk Embeddings Using Long-Context Embedding Models", 2024, "2409.04701"),
    claim="Chunks pooled from the whole document's token vectors are found better than chunks encoded alone.",
    late=True,
)
class LateChunker:
    """The spans of another chunker, to be encoded late: ``late:sentences,4`` or ``late:tokens,128``.

    Parameters
    ----------
    base : str
        Name of the chunker that cuts.
    *args, **options
        Its arguments.
    """

    late = True

    def __init__(self, base: str = "sentences", *args: Any, **options: Any) -> None:
        technique = catalog.find(base, kind="chunker")
        if technique.traits.get("late"):
            raise RecipeError("late cannot cut by itself", fix="name another chunker, for example: late:sentences,4")
        try:
            self.base = technique.make(*args, **options)
        except TypeError as error:
            raise RecipeError(f"the chunker {base!r} does not accept these arguments ({error})") from None

    def spans(self, text: str) -> list[Span]:
        """What the other chunker gives."""
        return self.base.spans(text)

    def __repr__(self) -> str:
        return f"LateChunker({self.base!r})"


def encode_spans(encoder: TokenEncoder, text: str, spans: Sequence[Span], *, kind: Kind = "passage") -> Vectors:
    """One vector for each span of a document, pooled from the token vectors of all of it.

    A token belongs to the spans that hold its last character. The encoder's special tokens at the beginning and the
    end belong to the spans that hold the first and the last token of the text, so that a span over the whole text
    gives the ordinary mean. A text longer than the encoder reads is encoded in windows that overlap by a quarter; in
    the overlap each token is taken from the window in which it stands further inside.

    Parameters
    ----------
    encoder : Encoder
        One with ``encode_tokens``.
    text : str
        The whole document.
    spans : sequence of Span
        Ranges of its characters; they may overlap.

    Returns
    -------
    ndarray of shape (len(spans), d), float32
        Unit rows. A span that holds no token is encoded by itself, without context.

    Raises
    ------
    InputError
        Where the encoder gives no token vectors, or a span lies outside the text.
    """
    if not hasattr(encoder, "encode_tokens"):
        raise InputError(f"{encoder.name} gives no token vectors, so it cannot chunk late", fix="use minilm or static")
    for span in spans:
        if not 0 <= span.start <= span.stop <= len(text):
            raise InputError(f"the span {span.start}..{span.stop} lies outside the text of {len(text)} characters")
    if not spans:
        return np.zeros((0, encoder.dim), dtype=np.float32)
    (clean,) = check_texts([text])
    values, ends = _document(encoder, clean, kind)
    real = np.flatnonzero(ends)
    out = np.zeros((len(spans), encoder.dim), dtype=np.float32)
    alone = []
    for row, span in enumerate(spans):
        first, last = np.searchsorted(ends[real], [span.start + 1, span.stop + 1]) if len(real) else (0, 0)
        if first == last:
            alone.append(row)
            continue
        start = 0 if first == 0 else real[first]
        stop = len(values) if last == len(real) else real[last]
        out[row] = values[start:stop].mean(axis=0)
    out = unit_rows(out)
    if alone:
        out[alone] = encoder.encode([clean[spans[row].start : spans[row].stop] for row in alone], kind=kind)
    return out


def _document(encoder: TokenEncoder, text: str, kind: Kind) -> tuple[Vectors, Ends]:
    """Token vectors of a document of any length, and where each token ends (0 for special tokens)."""
    limit = getattr(encoder, "max_tokens", None)
    kept: list[Vectors] = []
    kept_ends: list[Ends] = []
    begin = settled = 0  # where the window begins, and up to where tokens have been kept
    while True:
        stop = len(text) if limit is None else _word_end(text, begin, begin + _CHARACTERS * limit)
        ragged = encoder.encode_tokens([text[begin:stop]], kind=kind)
        if ragged.spans is None:
            raise InputError(f"{encoder.name} does not say which characters its tokens come from")
        values, spans = ragged[0], ragged.spans
        real = np.flatnonzero(spans[:, 1] > spans[:, 0])
        ends = np.zeros(len(values), dtype=np.int64)
        ends[real] = np.maximum.accumulate(spans[real, 1]) + begin
        reached = int(ends[real[-1]]) if len(real) else stop
        new = real[ends[real] > settled]
        first = 0 if not kept else int(new[0]) if len(new) else int(real[-1]) + 1 if len(real) else 0
        read_all = limit is None or len(values) < limit or not text[reached:stop].strip()
        if read_all and not text[stop:].strip():
            kept.append(values[first:])
            kept_ends.append(ends[first:])
            return np.concatenate(kept), np.concatenate(kept_ends)
        if not len(real):
            begin = stop
            continue
        last, begin = _step(text, begin, spans, real)
        settled = int(ends[last])
        kept.append(values[first : last + 1])
        kept_ends.append(ends[first : last + 1])


def _step(text: str, begin: int, spans: Ends, real: Ends) -> tuple[int, int]:
    """The last token to keep of a window that the text outgrows, and where the next window begins: at a word."""
    overlap = int(len(real) * _OVERLAP)
    for token in real[len(real) - overlap : len(real) // 2 : -1]:
        start = begin + int(spans[token, 0])
        if start > begin and (text[start].isspace() or text[start - 1].isspace()):
            return int(real[-(overlap // 2) - 1]), start
    return int(real[-1]), begin + int(spans[real[-1], 1])  # no word begins there: no overlap


def _word_end(text: str, begin: int, stop: int) -> int:
    """``stop``, moved back to white space where that does not halve the window."""
    if stop >= len(text):
        return len(text)
    for place in range(stop, (begin + stop) // 2, -1):
        if text[place].isspace():
            return place
    return stop
