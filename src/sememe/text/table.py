"""CSV and TSV rows, streamed through the standard library's parser."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from sememe.contracts import Record
from sememe.errors import InputError
from sememe.text.fields import ID_FIELDS, TEXT_FIELDS, TITLE_FIELDS, FieldMap, Options
from sememe.text.lines import Input, numbered_lines, open_bytes
from sememe.text.report import ReadReport
from sememe.text.values import typed_cell

_DELIMITERS = (",", ";", "\t", "|")
_SWALLOWED = ("unexpected end of data", "field larger than field limit")  # the parser's words for an open quote


def csv_records(source: Input, options: Options, report: ReadReport) -> Iterator[Record]:
    """Comma-separated rows with a header; a cell in double quotes may hold commas and line ends.

    The delimiter is whichever of comma, semicolon, tab and bar the header holds most of. Rows with too many cells
    or with text after a closing quote are skipped and counted, missing cells at the end of a row are empty.

    Raises
    ------
    InputError
        For a header without a text column, and for a quote that is never closed (``file:line``).
    """
    yield from _rows(source, options, report, tab_separated=False)


def tsv_records(source: Input, options: Options, report: ReadReport) -> Iterator[Record]:
    """Tab-separated rows with a header; quotes are ordinary characters, a row is a line."""
    yield from _rows(source, options, report, tab_separated=True)


def _rows(source: Input, options: Options, report: ReadReport, *, tab_separated: bool) -> Iterator[Record]:
    # The parser's limit is one setting for the process; it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), options.max_chars + 1))
    with open_bytes(source) as stream:
        feed = _Feed(numbered_lines(source, stream, report, options.max_chars))
        if not feed.head:
            return
        if tab_separated:
            rows = csv.reader(feed, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            rows = csv.reader(feed, delimiter=_delimiter(feed.head), strict=True)
        header: list[str] = []
        plain: set[str] = set()
        fields = FieldMap(source.label, options, report)
        while True:
            feed.start = 0
            try:
                row = next(rows, None)
            except csv.Error as error:
                where = f"{source.label}:{feed.start}"
                if str(error).startswith(_SWALLOWED):
                    raise InputError("a quote is opened here and never closed", where=where) from None
                if not header:
                    raise InputError(f"the header cannot be parsed ({error})", where=where) from None
                report.note(where, "row cannot be parsed", detail=str(error))
                continue
            if row is None:
                return
            if not header:
                header = _unique([cell.strip() for cell in row])
                fields.check_columns(header)
                plain = _plain_columns(header, options)
                continue
            if not any(cell.strip() for cell in row):
                continue
            where = f"{source.label}:{feed.start}"
            if any(cell.strip() for cell in row[len(header) :]):
                report.note(where, "row with more cells than the header", detail=f"{len(row)} cells")
                continue
            cells = {name: cell if name in plain else typed_cell(cell) for name, cell in zip(header, row, strict=False)}
            record = fields.record(cells, where, f"{source.key}:{feed.start}")
            if record is not None:
                yield record


class _Feed:
    """Lines for the parser from the header on (``head``); ``start`` is the number of the first line a row took."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines
        first = next(((number, line) for number, line in lines if line.strip()), (0, ""))
        self._pushed: tuple[int, str] | None = first
        self.head = first[1]
        self.start = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        number, line = self._pushed or next(self._lines)
        self._pushed = None
        self.start = self.start or number
        return line


def _delimiter(head: str) -> str:
    outside = "".join(head.split('"')[::2])
    return max(_DELIMITERS, key=outside.count)


def _unique(names: list[str]) -> list[str]:
    """Column names with empty ones numbered and repeated ones told apart."""
    out: list[str] = []
    for position, name in enumerate(names, 1):
        candidate, copy = name or f"column_{position}", 2
        while candidate in out:
            candidate, copy = f"{name or 'column'}_{copy}", copy + 1
        out.append(candidate)
    return out


def _plain_columns(header: list[str], options: Options) -> set[str]:
    """Columns that are not typed: id, title and text stay the text they are."""
    usual = {*ID_FIELDS, *TITLE_FIELDS, *TEXT_FIELDS}
    chosen = {options.text_field, options.title_field, options.id_field}
    return {name for name in header if name.lower() in usual or name in chosen}
