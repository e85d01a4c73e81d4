"""Chunkers: from one text to the spans that are encoded and found.

Every chunker gives spans in order, none empty, that together cover each character that is not white space; a blank
text gives none. All run in time linear in the text.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass

from sememe.catalog import register
from sememe.contracts import Span
from sememe.errors import InputError
from sememe.text.sentences import sentence_ranges, strip_range

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
# Scripts written without spaces between words count a character each.
_CJK = r"\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U000323af"
# Marks that belong to the word before them, and whole blocks of scripts whose vowel signs Python's \w leaves out.
_MARKS = (
    r"\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    r"\u0900-\u0963\u0966-\u0df3\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u200c\u200d"
)
TOKEN_LETTERS = 24
_TOKEN = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[\w{_MARKS}]){{1,{TOKEN_LETTERS}}}|[^\w\s]")


def _whole(value: object, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return value


def _check_overlap(overlap: object, size: int, name: str) -> None:
    if _whole(overlap, "overlap", 0) >= size:
        raise InputError(f"overlap must be smaller than {name}, got {overlap} and {size}")


def _windows(starts: array[int], stops: array[int], size: int, overlap: int) -> list[Span]:
    """Spans over ``size`` units each, the next one ``size - overlap`` units on; the last reaches the end."""
    spans = []
    for first in range(0, len(starts), size - overlap):
        last = min(first + size, len(starts))
        spans.append(Span(starts[first], stops[last - 1]))
        if last == len(starts):
            break
    return spans


@register("document", room="text", kind="chunker", summary="The whole document is one chunk.")
@dataclass(frozen=True, slots=True)
class Document:
    """One span for the whole text."""

    def spans(self, text: str) -> list[Span]:
        """``[Span(0, len(text))]``, or nothing for a blank text."""
        return [Span(0, len(text))] if text and not text.isspace() else []


@register("sentences", room="text", kind="chunker", summary="Chunks of n sentences, found by rules.")
@dataclass(frozen=True, slots=True)
class Sentences:
    """Chunks of ``n`` consecutive sentences.

    Parameters
    ----------
    n : int
        Sentences a chunk, at least 1; the last chunk may have fewer.
    overlap : int
        Sentences that a chunk shares with the one before it, less than ``n``.

    Notes
    -----
    ``sememe.text.sentences`` states the rules. A text without a sentence end is one sentence, however long.
    """

    n: int = 4
    overlap: int = 0

    def __post_init__(self) -> None:
        _check_overlap(self.overlap, _whole(self.n, "n", 1), "n")

    def spans(self, text: str) -> list[Span]:
        """Spans of ``n`` sentences each."""
        ranges = sentence_ranges(text)
        starts, stops = array("q", (a for a, _ in ranges)), array("q", (b for _, b in ranges))
        return _windows(starts, stops, self.n, self.overlap)


@register("paragraphs", room="text", kind="chunker", summary="Paragraphs, short ones joined, long ones cut.")
@dataclass(frozen=True, slots=True)
class Paragraphs:
    """Paragraphs: text between blank lines, packed into chunks of up to ``max_chars`` characters.

    Parameters
    ----------
    max_chars : int
        The most characters a chunk has, at least 16. Neighbouring paragraphs are joined while they fit; a longer one
        is cut between sentences, a longer sentence at white space, and a longer word where the limit falls.
    """

    max_chars: int = 1000

    def __post_init__(self) -> None:
        _whole(self.max_chars, "max_chars", 16)

    def spans(self, text: str) -> list[Span]:
        """Spans of at most ``max_chars`` characters."""
        spans: list[Span] = []
        begin = 0
        pieces: list[tuple[int, int]] = []
        ends = [match.end() for match in _BLANK_LINE.finditer(text)]
        for end in [*ends, len(text)]:
            whole = strip_range(text, begin, end)
            begin = end
            if whole is None:
                continue
            if whole[1] - whole[0] <= self.max_chars:
                pieces.append(whole)
                continue
            # A cut paragraph is not joined with its neighbours: its pieces are already near the limit.
            spans += self._pack(pieces)
            pieces = []
            spans += self._pack(self._cut(text, *whole))
        return spans + self._pack(pieces)

    def _cut(self, text: str, start: int, stop: int) -> list[tuple[int, int]]:
        pieces = []
        for first, last in sentence_ranges(text, start, stop):
            while last - first > self.max_chars:
                limit = first + self.max_chars
                at = next((p for p in range(limit, first, -1) if text[p].isspace()), limit)
                kept = strip_range(text, first, at)
                if kept is not None:
                    pieces.append(kept)
                rest = strip_range(text, at, last)
                if rest is None:
                    break
                first = rest[0]
            else:
                pieces.append((first, last))
        return pieces

    def _pack(self, pieces: list[tuple[int, int]]) -> list[Span]:
        spans: list[Span] = []
        for start, stop in pieces:
            if spans and stop - spans[-1].start <= self.max_chars:
                spans[-1] = Span(spans[-1].start, stop)
            else:
                spans.append(Span(start, stop))
        return spans


@register("tokens", room="text", kind="chunker", summary="Windows of a fixed number of words, with overlap.")
@dataclass(frozen=True, slots=True)
class Tokens:
    """Windows of ``size`` tokens.

    A token is a run of up to 24 letters, digits, underscores and their marks (a longer run is several tokens), one
    character of Chinese or Japanese, or one other visible character such as a comma. It is near what subword
    vocabularies make of plain text, and the same for every encoder.

    Parameters
    ----------
    size : int
        Tokens a chunk, at least 1; the last chunk may have fewer.
    overlap : int
        Tokens that a chunk shares with the one before it, less than ``size``.
    """

    size: int = 128
    overlap: int = 0

    def __post_init__(self) -> None:
        _check_overlap(self.overlap, _whole(self.size, "size", 1), "size")

    def spans(self, text: str) -> list[Span]:
        """Spans of ``size`` tokens each."""
        starts, stops = array("q"), array("q")
        for match in _TOKEN.finditer(text):
            starts.append(match.start())
            stops.append(match.end())
        return _windows(starts, stops, self.size, self.overlap)
