"""The language of ``where``: conditions on metadata, parsed here and evaluated in ``predicates.py``.

    year >= 2024 and lang = 'en'
    published between date '2024-01-01' and date '2024-06-30'
    tags has 'chess' and not (topic in ('baking', 'sailing') or title contains 'draft')
    reviewer is not null

A field is a metadata name (in backquotes where it is not a plain word), or ``id``, ``title``, ``source``, which are
the record's own even where metadata has text of that name. A value is a number, a string in single or double quotes,
``true``, ``false``, or a date: ``date '2024-01-31'``, or simply the string where the field holds dates. Keywords may
be written in any case. ``contains`` finds a piece of text, exactly as written, or a tag; ``has`` finds a tag.

Missing values follow SQL's three-valued rule: a comparison with a missing value is unknown, ``not`` unknown is unknown,
and only what is true is found. ``is null`` finds records without the field.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from sememe.errors import FilterError

MAX_NODES = 256
MAX_CHARACTERS = 65_536
MAX_DEPTH = 64
COMPARISONS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
KEYWORDS = frozenset(["and", "or", "not", "in", "is", "null", "between", "contains", "has", "true", "false", "date"])
Literal = str | float | datetime.date

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<string>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<field>`[^`]+`)
      | (?P<word>[^\W\d][\w.-]*)
      | (?P<sign><=|>=|<>|!=|==|=|<|>|\(|\)|,)""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Field:
    """A field by name, and where it stands in the expression."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class Compare:
    """``field sign value``; ``sign`` is one of ``= != < <= > >=``."""

    field: Field
    sign: str
    value: Literal
    position: int


@dataclass(frozen=True, slots=True)
class Among:
    """``field in (values)``."""

    field: Field
    values: tuple[Literal, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Contains:
    """``field contains value``, or ``field has value`` where only tags will do."""

    field: Field
    value: str
    tags_only: bool
    position: int


@dataclass(frozen=True, slots=True)
class Missing:
    """``field is null``."""

    field: Field
    position: int


@dataclass(frozen=True, slots=True)
class Not:
    """Negation."""

    part: Node


@dataclass(frozen=True, slots=True)
class Every:
    """All parts hold (``and``)."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part holds (``or``)."""

    parts: tuple[Node, ...]


Node = Compare | Among | Contains | Missing | Not | Every | Some


def fail(text: str, position: int, what: str, fix: str | None = None) -> FilterError:
    """A FilterError that shows where in the expression it is wrong."""
    start, stop = max(0, position - 30), position + 30
    shown = f"{'...' if start else ''}{text[start:position]}▸{text[position:stop]}{'...' if stop < len(text) else ''}"
    return FilterError(what, where=f"filter {shown!r}, character {position + 1}", fix=fix)


class _Token(NamedTuple):
    """A piece of an expression; ``keyword`` is the lower-case keyword or sign, empty for names and values."""

    kind: str
    text: str
    position: int
    keyword: str


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            if text[position] in "'\"`":
                raise fail(text, position, "a quote is not closed")
            raise fail(text, position, f"{text[position]!r} has no meaning here")
        kind, piece = str(match.lastgroup), match[0]
        if kind == "word":
            lowered = piece.lower()
            yield _Token(kind, piece, position, lowered if lowered in KEYWORDS else "")
        elif kind != "space":
            yield _Token(kind, piece, position, piece if kind == "sign" else "")
        position = match.end()
    yield _Token("end", "", len(text), "")


@lru_cache(maxsize=64)
def parse(text: str) -> Node:
    """Read an expression, or raise a FilterError that points at the fault. Those read lately are remembered."""
    if len(text) > MAX_CHARACTERS:
        raise FilterError(f"the filter has {len(text):,} characters; at most {MAX_CHARACTERS:,} are allowed")
    if not text.strip():
        raise FilterError("the filter is empty", fix="for example: year >= 2024 and lang = 'en'")
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over the tokens; depth and node count are bounded."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.at = self.nodes = self.depth = 0

    @property
    def now(self) -> _Token:
        return self.tokens[self.at]

    def take(self, *keywords: str) -> bool:
        if self.now.keyword in keywords:
            self.at += 1
            return True
        return False

    def need(self, keyword: str) -> None:
        if not self.take(keyword):
            raise self.unexpected(f"expected {keyword!r}")

    def unexpected(self, what: str) -> FilterError:
        found = "the filter ends here" if self.now.kind == "end" else f"found {self.now.text!r}"
        return fail(self.text, self.now.position, f"{what}, {found}")

    def count(self) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise fail(self.text, self.now.position, f"more than {MAX_NODES} conditions", "use in (...) for lists")

    def whole(self) -> Node:
        node = self.either()
        if self.now.kind != "end":
            raise self.unexpected("expected 'and' or 'or'")
        return node

    def either(self) -> Node:
        parts = [self.both()]
        while self.take("or"):
            self.count()
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def both(self) -> Node:
        parts = [self.negated()]
        while self.take("and"):
            self.count()
            parts.append(self.negated())
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def negated(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise fail(self.text, self.now.position, f"more than {MAX_DEPTH} levels of 'not' and parentheses")
        try:
            if self.take("not"):
                self.count()
                return Not(self.negated())
            if self.take("("):
                node = self.either()
                self.need(")")
                return node
            return self.condition()
        finally:
            self.depth -= 1

    def condition(self) -> Node:
        self.count()
        token = self.now
        if token.kind == "string":  # 'x' in tags
            value = self.value()
            self.need("in")
            return Contains(self.field(), str(value), True, token.position)
        field = self.field()
        sign = self.now
        if sign.kind == "sign" and sign.text in COMPARISONS:
            self.at += 1
            return Compare(field, COMPARISONS[sign.text], self.value(), sign.position)
        if self.take("is"):
            negative = self.take("not")
            self.need("null")
            node: Node = Missing(field, sign.position)
            return Not(node) if negative else node
        negative = self.take("not")
        node = self.predicate(field)
        return Not(node) if negative else node

    def predicate(self, field: Field) -> Node:
        position = self.now.position
        if self.take("in"):
            return Among(field, self.values(), position)
        if self.take("between"):
            low = self.value()
            self.need("and")
            self.count()
            return Every((Compare(field, ">=", low, position), Compare(field, "<=", self.value(), position)))
        if self.now.keyword in ("contains", "has"):
            tags_only = self.now.keyword == "has"
            self.at += 1
            at = self.now.position
            value = self.value()
            if not isinstance(value, str):
                raise fail(self.text, at, "only text can be looked for", "put it in quotes")
            return Contains(field, value, tags_only, position)
        raise self.unexpected("expected a comparison")

    def field(self) -> Field:
        token = self.now
        if token.kind == "field":
            self.at += 1
            return Field(token.text[1:-1], token.position)
        if token.kind != "word":
            raise self.unexpected("expected the name of a field")
        if token.keyword and not (token.keyword == "date" and self.tokens[self.at + 1].kind != "string"):
            raise fail(self.text, token.position, f"{token.text!r} is a keyword", f"write `{token.text}` for the field")
        self.at += 1
        return Field(token.text, token.position)

    def values(self) -> tuple[Literal, ...]:
        self.need("(")
        found = [self.value()]
        while self.take(","):
            found.append(self.value())
        self.need(")")
        return tuple(found)

    def value(self) -> Literal:
        token = self.now
        self.at += 1
        if token.kind == "number":
            return float(token.text)
        if token.kind == "string":
            quote = token.text[0]
            return token.text[1:-1].replace(quote * 2, quote)
        if token.keyword in ("true", "false"):
            return 1.0 if token.keyword == "true" else 0.0
        if token.keyword == "date" and self.now.kind == "string":
            position = self.now.position
            day = as_date(str(self.value()))
            if day is None:
                raise fail(self.text, position, "that is no date", "write it as '2024-01-31'")
            return day
        self.at -= 1
        if token.keyword == "null":
            raise fail(self.text, token.position, "a comparison with null is never true", "write: is null")
        raise self.unexpected("expected a value (a number, or text in quotes)")


def as_date(text: str) -> datetime.date | None:
    """The date of ``YYYY-MM-DD``; None where the text is no date."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return None
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return None
