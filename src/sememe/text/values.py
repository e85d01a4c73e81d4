"""Typing rules of metadata: what JSON, Parquet and CSV values become, so that filters can compare them.

========================================  ==========================================================================
in JSON, Parquet or nested objects        becomes
========================================  ==========================================================================
text that is a full ISO date or datetime  ``datetime.date`` (the time of day is left off): ``2024-05-01``,
                                          ``2024-05-01T10:00:00Z``
other text                                ``str``, as it is: ``"007"`` and ``"12"`` stay text
whole number within 64 bits, real number  ``int``, ``float``
whole number beyond 64 bits               ``str`` of its digits, so that none is lost
true, false                               ``"true"``, ``"false"``
null                                      absent
NaN, infinity, bytes                      left off and counted
list of scalars                           tags, ``list[str]``; nulls inside are left out; an empty list is absent
list that holds lists or objects          left off and counted
object                                    its fields, with dotted names (``author.name``), to a depth of 8; the
                                          top-level object ``metadata`` without a prefix
========================================  ==========================================================================

A CSV or TSV cell is typed on its own: empty is absent; ``12``, ``-3`` are ``int``; ``2.50``, ``1e-3`` are ``float``;
a full ISO date is a date; everything else, also ``007``, ``+5``, ``1,000`` and ``nan``, is text.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from decimal import Decimal

from sememe.contracts import Value
from sememe.text.report import ReadReport

_DEPTH = 8
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}[0-9:.]*(?:Z|[+-]\d{2}:?\d{2})?)?\Z", re.ASCII)
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,18})\Z")
_REAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?\Z")
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class Unusable(Exception):
    """A value that has no place among text, number, date and tags; the message says why."""


def typed_text(text: str) -> str | datetime.date:
    """A date where ``text`` is a full ISO date or datetime that exists, else the text."""
    if len(text) >= 10 and text[4] == "-" and _DATE.match(text):
        try:
            datetime.datetime.fromisoformat(text)
            return datetime.date.fromisoformat(text[:10])
        except ValueError:
            return text
    return text


def typed_cell(cell: str) -> Value | None:
    """A CSV cell by the rules above; None where it is empty."""
    text = cell.strip()
    if not text:
        return None
    if text[-1].isdigit():
        if _WHOLE.match(text) and _LOWEST <= int(text) <= _HIGHEST:
            return int(text)
        if _REAL.match(text) and not text.lstrip("-").isdigit() and math.isfinite(float(text)):
            return float(text)
    dated = typed_text(text)
    return cell if isinstance(dated, str) else dated


def typed(value: object) -> Value | None:
    """A JSON or Parquet scalar or list by the rules above; None where it is absent.

    Raises
    ------
    Unusable
        For NaN, infinity, bytes, nested lists and types without a rule.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return typed_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return value if _LOWEST <= value <= _HIGHEST else _digits(value)
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            raise Unusable("a number that is not finite")
        return float(value)
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    if isinstance(value, datetime.time | datetime.timedelta):
        return str(value)
    if isinstance(value, list | tuple):
        return [_tag(item) for item in value if item is not None] or None
    raise Unusable(f"a value of type {type(value).__name__}")


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python refuses to write integers of more than 4,300 digits
        raise Unusable("a number of thousands of digits") from None


def _tag(item: object) -> str:
    if isinstance(item, list | tuple | Mapping):
        raise Unusable("a list that holds lists or objects")
    value = typed(item)
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def metadata_of(
    fields: Mapping[str, object], taken: frozenset[str] | set[str], source: str, report: ReadReport
) -> dict[str, Value]:
    """Typed metadata of one record: every field that is not in ``taken``; what has no place is counted."""
    out: dict[str, Value] = {}
    _flatten({k: v for k, v in fields.items() if k not in taken}, "", 0, out, source, report)
    return out


def _flatten(
    fields: Mapping[str, object], prefix: str, depth: int, out: dict[str, Value], source: str, report: ReadReport
) -> None:
    for key, value in fields.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if depth >= _DEPTH:
                report.note(source, f"metadata nested deeper than {_DEPTH} was left off", "changed", name)
            else:
                _flatten(value, "" if name == "metadata" else f"{name}.", depth + 1, out, source, report)
            continue
        try:
            kept = typed(value)
        except Unusable as why:
            report.note(source, f"a metadata field was left off: {why}", "changed", name)
            continue
        if kept is None:
            continue
        if name in out:
            report.note(source, "a metadata field came twice, the first was kept", "changed", name)
            continue
        out[name] = kept
