"""Evaluate a parsed ``where`` expression over the columns of a segment: a bitmap of records, vectorised.

Every condition says where it is true, and on demand where it is known: only ``not`` asks. A record is chosen where
the whole is true. A condition looks only at values of its own type: a number literal at numbers, a string at text
(and at dates, where it is an ISO date); a value of another type counts as missing. A condition for which no record of
the index has the right type is an error.
"""

from __future__ import annotations

import datetime
import difflib
import operator
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sememe.errors import CorruptIndex
from sememe.index import filters
from sememe.index.arrays import encode_text
from sememe.index.columns import EPOCH, NO_DATE
from sememe.index.ranges import Bound
from sememe.index.records import Records

BUILT_IN = ("id", "title", "source")
FEW_WORDS = 4  # of a dictionary, that all codes are compared with rather than looked up
Mask = NDArray[np.bool_]


class Truth(NamedTuple):
    """Where a condition is true, and what tells where it is known."""

    true: Mask
    known: Callable[[], Mask]


_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EXAMPLES = {"number": "2024", "date": "date '2024-01-31'", "text": "'text'"}


def fields_of(segments: Iterable[Records]) -> dict[str, set[str]]:
    """Which fields the segments of an index have together, the built-in ones too, and of which types."""
    fields: dict[str, set[str]] = {name: {"text"} for name in BUILT_IN}
    for records in segments:
        for name, kinds in records.columns.types().items():
            fields.setdefault(name, set()).update(kinds)
    return fields


class Where:
    """A filter bound to an index: checked once, evaluated for each segment.

    Parameters
    ----------
    text : str
        The expression.
    fields : mapping of name to types
        From `fields_of`.
    """

    def __init__(self, text: str, fields: Mapping[str, set[str]]) -> None:
        self.text, self.fields = text, fields
        self.node = filters.parse(text)
        self._check(self.node)

    def mask(self, records: Records) -> Mask:
        """Which records satisfy the filter, ``(records,)``."""
        return self._truth(self.node, records).true

    def _check(self, node: filters.Node) -> None:
        if isinstance(node, filters.Not):
            self._check(node.part)
        elif isinstance(node, (filters.Every, filters.Some)):
            for part in node.parts:
                self._check(part)
        elif isinstance(node, filters.Missing):
            self._types(node.field)
        elif isinstance(node, filters.Contains):
            wanted = ["tags"] if node.tags_only else ["tags", "text"]
            self._need(node.field, wanted, node.position, f"{'has' if node.tags_only else 'contains'} needs")
        else:
            values = node.values if isinstance(node, filters.Among) else (node.value,)
            for value in values:
                self._need(node.field, _kinds(value), node.position, f"{_show(value)} is compared with")

    def _types(self, field: filters.Field) -> set[str]:
        kinds = self.fields.get(field.name)
        if kinds is None:
            near = difflib.get_close_matches(field.name, self.fields, n=3)
            known = ", ".join(sorted(self.fields))
            hint = f"did you mean {' or '.join(near)}?" if near else f"the fields are: {known}"
            raise filters.fail(self.text, field.position, f"there is no field {field.name!r}", hint)
        return kinds

    def _need(self, field: filters.Field, wanted: list[str], position: int, why: str) -> None:
        kinds = self._types(field)
        if kinds.isdisjoint(wanted):
            held = " and ".join(sorted(kinds))
            fixes = [
                f"{field.name} has 'tag'" if k == "tags" else f"{field.name} = {_EXAMPLES[k]}" for k in sorted(kinds)
            ]
            what = f"{why} {' or '.join(wanted)}, but {field.name!r} holds {held}"
            raise filters.fail(self.text, position, what, f"write for example: {' or '.join(fixes)}")

    def _truth(self, node: filters.Node, records: Records) -> Truth:
        if isinstance(node, filters.Not):
            true, known = self._truth(node.part, records)
            return Truth(known() & ~true, known)
        if isinstance(node, filters.Every):
            parts = [*self._windows(node, records), *(self._truth(part, records) for part in self._others(node))]
            every = reduce(operator.and_, [part.true for part in parts])
            return Truth(every, lambda: every | reduce(operator.or_, [p.known() & ~p.true for p in parts]))
        if isinstance(node, filters.Some):
            parts = [self._truth(part, records) for part in node.parts]
            some = reduce(operator.or_, [part.true for part in parts])
            return Truth(some, lambda: some | reduce(operator.and_, [p.known() & ~p.true for p in parts]))
        if isinstance(node, filters.Missing):
            present = _present(records, node.field.name, self.fields[node.field.name])
            return Truth(~present, _everywhere(records))
        if isinstance(node, filters.Contains):
            return _contains(records, node)
        if isinstance(node, filters.Among):
            # Whether the field is missing does not depend on the value, so the masks combine as `or`.
            return _either([_compare(records, node.field.name, "=", value) for value in node.values])
        return _compare(records, node.field.name, node.sign, node.value)

    def _windows(self, node: filters.Every, records: Records) -> list[Truth]:
        """Comparisons of the same numbers or dates, which are one range together."""
        bounds: dict[tuple[str, str], list[Bound]] = {}
        for part in node.parts:
            if self._is_bound(part):
                assert isinstance(part, filters.Compare)
                kind = _kinds(part.value)[-1]
                bounds.setdefault((part.field.name, kind), []).append((part.sign, _number(part.value)))
        return [_window(records, name, kind, both) for (name, kind), both in bounds.items()]

    def _others(self, node: filters.Every) -> list[filters.Node]:
        return [part for part in node.parts if not self._is_bound(part)]

    def _is_bound(self, node: filters.Node) -> bool:
        """Whether a part bounds numbers, or dates of a field that no record has as text."""
        if not isinstance(node, filters.Compare) or node.sign == "!=":
            return False
        kinds = _kinds(node.value)
        return kinds[-1] != "text" and not ("text" in kinds and "text" in self.fields[node.field.name])


def _kinds(value: filters.Literal) -> list[str]:
    """The column types a literal can be compared with."""
    if isinstance(value, float):
        return ["number"]
    if isinstance(value, datetime.date):
        return ["date"]
    return ["text", "date"] if filters.as_date(value) else ["text"]


def _show(value: filters.Literal) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(str(value))


def _either(parts: list[Truth]) -> Truth:
    """True where one of them is, and known where one of them is."""
    if len(parts) == 1:
        return parts[0]
    return Truth(
        reduce(operator.or_, [part.true for part in parts]),
        lambda: reduce(operator.or_, [part.known() for part in parts]),
    )


def _everywhere(records: Records) -> Callable[[], Mask]:
    return lambda: np.ones(records.count, dtype=bool)


def _nowhere(records: Records) -> Truth:
    nothing = np.zeros(records.count, dtype=bool)
    return Truth(nothing, lambda: nothing)


def _compare(records: Records, name: str, sign: str, value: filters.Literal) -> Truth:
    found = [_compare_kind(records, name, kind, sign, value) for kind in _kinds(value)]
    return _either([each for each in found if each is not None] or [_nowhere(records)])


def _compare_kind(records: Records, name: str, kind: str, sign: str, value: filters.Literal) -> Truth | None:
    compare = _SIGNS[sign]
    if kind == "text" and name in BUILT_IN:
        return Truth(_compare_strings(records, name, sign, str(value)), _everywhere(records))
    if not records.columns.has(name, kind):
        return None
    if kind in ("number", "date"):
        return _window(records, name, kind, [(sign, _number(value))])
    column = records.columns.values(name, kind)
    if sign in ("=", "!="):
        equal = records.columns.words(name, kind).equal_to(str(value))
        return _by_answer(equal if sign == "=" else ~equal, column)
    wanted = encode_text(str(value))
    return _by_word(records, name, kind, column, lambda word: compare(word, wanted))


def _number(value: filters.Literal) -> float:
    """A number, or the day that a date is, as columns hold them."""
    if isinstance(value, float):
        return value
    day = value if isinstance(value, datetime.date) else filters.as_date(value)
    assert day is not None
    return day.toordinal() - EPOCH


def _window(records: Records, name: str, kind: str, bounds: list[Bound]) -> Truth:
    """Where numbers or dates satisfy all comparisons: by their order, or by looking at each."""
    columns = records.columns
    if not columns.has(name, kind):
        return _nowhere(records)
    unequal = any(sign == "!=" for sign, _ in bounds)
    order = None if unequal else columns.order(name, kind)
    true = None if order is None else order.mask(bounds)
    if true is None:
        values = columns.values(name, kind)
        true = reduce(operator.and_, [_SIGNS[sign](values, value) for sign, value in bounds])
        if unequal or kind == "date":  # for NaN nothing but "!=" holds
            true = true & columns.known(name, kind)
    return Truth(true, lambda: columns.known(name, kind))


def _compare_strings(records: Records, name: str, sign: str, value: str) -> Mask:
    strings = records.strings(name)
    if sign in ("=", "!="):
        equal = strings.equal_to(value)
        return equal if sign == "=" else ~equal
    # UTF-8 sorts as code points do, so bytes compare as the text would.
    compare, wanted = _SIGNS[sign], encode_text(value)
    return np.fromiter((compare(raw, wanted) for raw in strings.all_raw()), dtype=bool, count=records.count)


def _by_word(records: Records, name: str, kind: str, codes: NDArray[np.int32], test: Callable[[bytes], bool]) -> Truth:
    """Ask each word of the dictionary once."""
    return _by_answer(np.array([test(word) for word in records.columns.words(name, kind).all_raw()], dtype=bool), codes)


def _by_answer(answers: Mask, codes: NDArray[np.int32]) -> Truth:
    """Look the answer for a word up for every code; -1 is missing."""
    yes = np.flatnonzero(answers)
    if len(yes) <= FEW_WORDS:
        true = reduce(operator.or_, [codes == word for word in yes.tolist()], np.zeros(len(codes), dtype=bool))
    else:
        try:
            true = np.append(answers, False)[codes]
        except IndexError as error:
            raise CorruptIndex(f"a code names a word that is not there ({error})", fix="run: sememe verify") from None
    return Truth(true, lambda: codes >= 0)


def _contains(records: Records, node: filters.Contains) -> Truth:
    name, wanted = node.field.name, encode_text(node.value)
    parts = []
    if records.columns.has(name, "tags"):
        codes = records.columns.values(name, "tags")
        hits = _by_word(records, name, "tags", codes, lambda word: word == wanted).true
        offsets = records.columns.offsets(name).astype(np.int64)
        total = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(hits)])
        parts.append(Truth(total[offsets[1:]] > total[offsets[:-1]], lambda: records.columns.present(name)))
    if name in BUILT_IN and not node.tags_only:
        found = (wanted in raw for raw in records.strings(name).all_raw())
        return Truth(np.fromiter(found, dtype=bool, count=records.count), _everywhere(records))
    if records.columns.has(name, "text") and not node.tags_only:
        codes = records.columns.values(name, "text")
        parts.append(_by_word(records, name, "text", codes, lambda word: wanted in word))
    return _either(parts or [_nowhere(records)])


def _present(records: Records, name: str, kinds: set[str]) -> Mask:
    """Which records have the field at all. The built-in fields are missing where they are empty."""
    if name in BUILT_IN:
        return ~records.strings(name).equal_to("")
    present = np.zeros(records.count, dtype=bool)
    for kind in kinds:
        if not records.columns.has(name, kind):
            continue
        if kind == "tags":
            present |= records.columns.present(name)
            continue
        column = records.columns.values(name, kind)
        if kind == "number":
            present |= ~np.isnan(column)
        else:
            present |= column != (NO_DATE if kind == "date" else -1)
    return present
