"""Typed metadata columns of a segment: numbers, dates, dictionary-coded text, and tags.

A field whose values have several types across records is split: each type has its own column, and a value is missing
in the others. So ``year`` may be a number in most records and text in one, and nothing is converted or lost.

=========  ==========================================================  ==========================
type       arrays, for ``r`` records                                   missing
=========  ==========================================================  ==========================
number     float64 ``(r,)``                                            NaN
date       int32 ``(r,)`` days since 1970-01-01                        -2**31
text       int32 ``(r,)`` codes into a dictionary of strings           -1
tags       uint32 ``(r + 1,)`` offsets, int32 codes, presence bits     presence bit 0
=========  ==========================================================  ==========================
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Value
from sememe.errors import CorruptIndex, InputError
from sememe.index.arrays import OFFSETS, Lazy, Packed, Strings, StringsWriter, narrow
from sememe.index.ranges import SORT_AFTER, Order

EPOCH = datetime.date(1970, 1, 1).toordinal()
NO_DATE = np.iinfo(np.int32).min
EXACT_INTEGER = 2**53  # float64 holds every integer up to here
TYPES = ("number", "date", "text", "tags")


def type_of(value: object) -> str | None:
    """The column type of a metadata value; None where it counts as missing (None, NaN)."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, (bool, int, float, np.integer, np.floating)):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return "date"
    if isinstance(value, (list, tuple)) and all(isinstance(tag, str) for tag in value):
        return "tags"
    raise InputError(
        f"a metadata value of type {type(value).__name__} cannot be stored",
        fix="use text, a number, a date, or a list of strings",
    )


class _Column:
    """Rows and values of one field and type, as they arrive."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.values: list[Any] = []
        self.integral = True


class ColumnsWriter:
    """Collects the metadata of records, in order."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str, str], _Column] = {}
        self._rows = 0

    def add(self, metadata: Mapping[str, Value], record_id: str) -> None:
        """The metadata of the next record."""
        for name, value in metadata.items():
            try:
                kind = type_of(value)
                if kind == "number" and isinstance(value, int) and abs(value) > EXACT_INTEGER:
                    raise InputError("an integer beyond 2**53 would lose digits", fix="store it as text")
            except InputError as error:
                raise InputError(error.what, where=f"record {record_id!r}, field {name!r}", fix=error.fix) from None
            if kind is None:
                continue
            column = self._columns.setdefault((name, kind), _Column())
            column.rows.append(self._rows)
            column.values.append(value)
            column.integral &= not isinstance(value, (float, np.floating))
        self._rows += 1

    def arrays(self) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
        """The schema (JSON: name, type, integral) and the arrays ``"<position>.<part>"``."""
        schema, arrays = [], {}
        for position, ((name, kind), column) in enumerate(self._columns.items()):
            schema.append({"name": name, "type": kind, "integral": column.integral})
            for part, array in _ENCODE[kind](column, self._rows).items():
                arrays[f"{position}.{part}"] = array
        return schema, arrays


def _numbers(column: _Column, rows: int) -> dict[str, NDArray[Any]]:
    values = np.full(rows, np.nan)
    values[column.rows] = np.asarray(column.values, dtype=np.float64)
    return {"values": values}


def _dates(column: _Column, rows: int) -> dict[str, NDArray[Any]]:
    values = np.full(rows, NO_DATE, dtype=np.int32)
    values[column.rows] = [value.toordinal() - EPOCH for value in column.values]
    return {"values": values}


def _dictionary(values: list[str]) -> tuple[NDArray[np.int32], dict[str, NDArray[Any]]]:
    seen: dict[str, int] = {}
    codes = np.array([seen.setdefault(value, len(seen)) for value in values], dtype=np.int32)
    writer = StringsWriter()
    for word in seen:
        writer.add(word)
    return codes, {"count": np.array([len(seen)], dtype=np.int64), **writer.arrays("words")}


def _texts(column: _Column, rows: int) -> dict[str, NDArray[Any]]:
    codes, words = _dictionary(column.values)
    values = np.full(rows, -1, dtype=np.int32)
    values[column.rows] = codes
    return {"values": values, **words}


def _tags(column: _Column, rows: int) -> dict[str, NDArray[Any]]:
    counts = np.zeros(rows, dtype=np.int64)
    counts[column.rows] = [len(tags) for tags in column.values]
    present = np.zeros(rows, dtype=np.uint8)
    present[column.rows] = 1
    codes, words = _dictionary([tag for tags in column.values for tag in tags])
    offsets = narrow(np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]))
    return {"offsets": offsets, "values": codes, "present": np.packbits(present), **words}


# What the parts of a column are, whatever a file says; the values of numbers are floats.
_STORED = {"values": (np.int32,), "offsets": OFFSETS, "present": (np.uint8,)}

_ENCODE: dict[str, Callable[[_Column, int], dict[str, NDArray[Any]]]] = {
    "number": _numbers,
    "date": _dates,
    "text": _texts,
    "tags": _tags,
}


class Columns:
    """The metadata columns of one segment of ``rows`` records."""

    def __init__(self, packed: Packed | None, schema: list[dict[str, Any]], rows: int) -> None:
        self.rows = rows
        self._packed = packed
        self._positions: dict[tuple[str, str], int] = {}
        self._integral: dict[tuple[str, str], bool] = {}
        self._asked: dict[tuple[str, str], int] = {}
        self._orders: dict[tuple[str, str], Order] = {}
        for position, entry in enumerate(schema):
            key = (str(entry["name"]), str(entry["type"]))
            if key[1] not in TYPES or packed is None:
                raise CorruptIndex(f"metadata field {key[0]!r} has the unknown type {key[1]!r}")
            self._positions[key] = position
            self._integral[key] = bool(entry["integral"])

    def types(self) -> dict[str, set[str]]:
        """The types each field has here."""
        found: dict[str, set[str]] = {}
        for name, kind in self._positions:
            found.setdefault(name, set()).add(kind)
        return found

    def has(self, name: str, kind: str) -> bool:
        """Whether any record has a value of that field and type."""
        return (name, kind) in self._positions

    def values(self, name: str, kind: str) -> NDArray[Any]:
        """Numbers, days or codes: one a record, except for tags (one a tag)."""
        return self._part(name, kind, "values", None if kind == "tags" else self.rows)

    def known(self, name: str, kind: str) -> NDArray[np.bool_]:
        """Which records have a number or a date."""
        values = self.values(name, kind)
        known: NDArray[np.bool_] = values != NO_DATE if kind == "date" else ~np.isnan(values)
        return known

    def order(self, name: str, kind: str) -> Order | None:
        """The records in order of numbers or dates, once that has been asked for often enough; None before."""
        key = name, kind
        order = self._orders.get(key)
        if order is None:
            self._asked[key] = self._asked.get(key, 0) + 1
            if self._asked[key] <= SORT_AFTER:
                return None
            order = self._orders[key] = Order(self.values(name, kind), ~self.known(name, kind))
        return order

    def words(self, name: str, kind: str) -> Strings:
        """The dictionary behind the codes of a text or tags column."""
        assert self._packed is not None
        position = self._positions[name, kind]
        count = int(self._packed.get(f"{position}.count", np.int64).slice(0, 1)[0])
        return Strings.of(self._packed, f"{position}.words", count)

    def offsets(self, name: str) -> NDArray[Any]:
        """Where the tags of each record begin, ``(rows + 1,)``."""
        offsets = self._part(name, "tags", "offsets", self.rows + 1)
        if int(offsets.max()) > len(self._array(name, "tags", "values")):
            raise CorruptIndex(f"metadata field {name!r} names tags that are not there")
        return offsets

    def present(self, name: str) -> NDArray[np.bool_]:
        """Which records have a (possibly empty) list of tags."""
        bits = self._part(name, "tags", "present", -(-self.rows // 8))
        return np.unpackbits(bits, count=self.rows).astype(bool)

    def _part(self, name: str, kind: str, part: str, length: int | None) -> NDArray[Any]:
        array = self._array(name, kind, part).all()
        if length is not None and len(array) != length:
            raise CorruptIndex(f"metadata field {name!r} has {len(array)} values for {self.rows} records")
        return array

    def _array(self, name: str, kind: str, part: str) -> Lazy:
        assert self._packed is not None
        types = (np.float64,) if kind == "number" else _STORED[part]
        return self._packed.get(f"{self._positions[name, kind]}.{part}", *types)

    def metadata(self, row: int) -> dict[str, Value]:
        """The metadata of one record, with the types it was given."""
        assert self._packed is not None or not self._positions
        found: dict[str, Value] = {}
        for name, kind in self._positions:
            try:
                value = self._value(name, kind, row)
            except (ValueError, OverflowError) as error:  # a date that no calendar has, a whole number that is infinite
                if isinstance(error, CorruptIndex):
                    raise
                raise CorruptIndex(f"metadata field {name!r} of record {row}: {error}") from None
            if value is not None:
                found[name] = value
        return found

    def _value(self, name: str, kind: str, row: int) -> Value | None:
        values = self._array(name, kind, "values")
        if kind == "tags":
            bits = self._array(name, kind, "present").slice(row // 8, row // 8 + 1)
            if not (int(bits[0]) >> (7 - row % 8)) & 1:
                return None
            start, stop = self._array(name, kind, "offsets").slice(row, row + 2).tolist()
            words = self.words(name, kind)
            return [words[code] for code in values.slice(start, stop).tolist()]
        value = values.slice(row, row + 1)[0].item()
        if kind == "number":
            return None if value != value else int(value) if self._integral[name, kind] else float(value)
        if kind == "date":
            return None if value == NO_DATE else datetime.date.fromordinal(value + EPOCH)
        return None if value < 0 else self.words(name, kind)[value]
