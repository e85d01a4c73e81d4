"""Where sentences end: rules in one linear pass, for text in many scripts.

A sentence ends

- at ``.``, ``!``, ``?`` or an ellipsis, with any closing quotes and brackets, when white space follows and what comes
  next does not start with a lower-case letter;
- at a full stop, exclamation or question mark of Chinese, Japanese, Arabic, Urdu, Devanagari, Armenian or Ethiopic;
- at a blank line, and before a list item or heading that starts a line.

A full stop does not end one after a title or an abbreviation that always has something after it (``Dr.``, ``e.g.``,
``Fig.``), after ``No.`` and its like before a digit, between ``et al.`` and its like and a bracket, after initials
(``J. Smith``, ``U.S.``) unless a word follows that usually starts sentences, and after the number of a list item.
Decimals and web addresses have no white space after their points, so they are never candidates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_CLOSING = "\"'”’»›)\\]」』）】》"
_ENDS = re.compile(
    rf"(?P<latin>(?<![.!?…])[.!?…]++[{_CLOSING}]*+)(?=\s|\Z)"  # possessive and anchored: never quadratic
    rf"|[。！？｡．؟۔।॥։።]++[{_CLOSING}]*"
    r"|(?P<gap>\n[^\S\n]*+\n\s*+)"
    r"|\n(?=[^\S\n]{0,16}(?:[-*•+]|\d{1,4}[.)]|\#{1,6})[^\S\n])"
)
_OPENING = "\"'“‘«‹([「『（【《*_`"
_BEFORE = re.compile(r"[^\W\d_](?:[\w.]{0,10}[^\W_])?\Z")
_NEXT = re.compile(rf"[{re.escape(_OPENING)}]*(\w{{1,20}}|\S)")
_INITIALS = re.compile(r"[^\W\d_](?:\.[^\W\d_])*\Z")
_LOOK_BACK = 12


def _words(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


_BOUND = _words(
    "mr mrs ms dr prof rev hon gen col capt lt sgt gov sen rep pres st mt messrs mme mlle e.g i.e eg ie cf vs viz ca",
    "approx fig figs eq eqs eqn sec sect chap ch vol vols ref refs tab ed eds z.b d.h bzw hr fr",
)
_BEFORE_DIGITS = _words("no nos nr art p pp para jan feb mar apr jun jul aug sep sept oct nov dec")
_OPEN = _words("al etc inc ltd co corp jr sr")
_STARTERS = _words(
    "the a an this that these those it its he she they we you i in on at for from with as if when while after before",
    "but and however there here our their his her my some all each most many no not so thus then what who where why",
    "how",
)


def boundaries(text: str) -> Iterator[int]:
    """Positions where one sentence is over, ascending; the end of the text is not among them."""
    for match in _ENDS.finditer(text):
        if match["latin"] is None or _ends_here(text, match):
            yield match.end()


def sentence_ranges(text: str, start: int = 0, stop: int | None = None) -> list[tuple[int, int]]:
    """Sentences of ``text[start:stop]`` as half-open ranges without white space at their ends; none is empty."""
    stop = len(text) if stop is None else stop
    piece = text[start:stop]
    ranges, begin = [], 0
    for end in [*boundaries(piece), len(piece)]:
        trimmed = strip_range(piece, begin, end)
        if trimmed is not None:
            ranges.append((start + trimmed[0], start + trimmed[1]))
        begin = end
    return ranges


def strip_range(text: str, start: int, stop: int) -> tuple[int, int] | None:
    """``[start, stop)`` without white space at its ends, or None where nothing is left."""
    while start < stop and text[start].isspace():
        start += 1
    while stop > start and text[stop - 1].isspace():
        stop -= 1
    return (start, stop) if start < stop else None


def _ends_here(text: str, match: re.Match[str]) -> bool:
    """Whether a Latin end mark followed by white space ends a sentence."""
    mark = match["latin"]
    following = _NEXT.match(text, _skip_space(text, match.end()))
    if following is None:
        return True
    word = following[1]
    if word[0].islower():
        return False
    if mark[0] != "." or mark.startswith(".."):
        return True
    start = match.start()
    before = text[max(start - _LOOK_BACK, 0) : start]
    if before[-1:].isdigit():
        return not _is_list_number(text, start)
    last = _BEFORE.search(before)
    if last is None:
        return True
    token = last[0].lower()
    if token in _OPEN and text[_skip_space(text, match.end())] in "([":
        return False
    if token in _BOUND or (token in _BEFORE_DIGITS and word[0].isdigit()):
        return False
    if _INITIALS.match(last[0]) and (len(token) > 1 or last[0].isupper()):
        return word.lower() in _STARTERS
    return True


def _skip_space(text: str, position: int) -> int:
    """The next visible character within reach; looking far would make long blank runs quadratic."""
    limit = min(position + 64, len(text))
    while position < limit and text[position].isspace():
        position += 1
    return position


def _is_list_number(text: str, dot: int) -> bool:
    start = dot
    while start > 0 and dot - start < 4 and text[start - 1].isdigit():
        start -= 1
    line = text[max(start - 16, 0) : start]
    return not line.rpartition("\n")[2].strip() and ("\n" in line or start <= 16)
