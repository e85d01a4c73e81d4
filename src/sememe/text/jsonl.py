"""Records a line each: JSON lines, plain lines, and the rule that tells them apart on standard input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain

from sememe.contracts import Record
from sememe.errors import InputError
from sememe.text.fields import FieldMap, Options
from sememe.text.lines import Input, numbered_lines, open_bytes
from sememe.text.report import ReadReport


def parse_object(line: str) -> dict[str, object]:
    """The JSON object on a line; a ValueError says what else it is."""
    try:
        value = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, not an object")
    return value


def json_records(source: Input, options: Options, report: ReadReport) -> Iterator[Record]:
    """One JSON object a line; blank lines are no records; a line that does not parse is skipped and counted."""
    with open_bytes(source) as stream:
        yield from _objects(numbered_lines(source, stream, report, options.max_chars), source, options, report)


def line_records(source: Input, options: Options, report: ReadReport) -> Iterator[Record]:
    """One text a line; blank lines are no records. Ids are ``file:line``."""
    with open_bytes(source) as stream:
        yield from _texts(numbered_lines(source, stream, report, options.max_chars), source)


def piped_records(source: Input, options: Options, report: ReadReport) -> Iterator[Record]:
    """JSON lines where the first line that is not blank is a JSON object, otherwise one text a line."""
    with open_bytes(source) as stream:
        lines = numbered_lines(source, stream, report, options.max_chars)
        first = next(((number, line) for number, line in lines if line.strip()), None)
        if first is None:
            return
        rest = chain([first], lines)
        try:
            parse_object(first[1])
        except ValueError:
            if first[1].lstrip().startswith("["):
                raise json_array(source.label) from None
            yield from _texts(rest, source)
        else:
            yield from _objects(rest, source, options, report)


def json_array(label: str) -> InputError:
    """The refusal of a JSON array: it cannot be streamed."""
    return InputError(
        "this looks like a JSON array", where=label, fix="write one object a line, for example with: jq -c '.[]'"
    )


def _objects(
    lines: Iterator[tuple[int, str]] | chain[tuple[int, str]], source: Input, options: Options, report: ReadReport
) -> Iterator[Record]:
    fields = FieldMap(source.label, options, report)
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{source.label}:{number}"
        try:
            value = parse_object(line)
        except ValueError as error:
            report.note(where, "malformed JSON line", detail=" ".join(str(error).split())[:120])
            continue
        record = fields.record(value, where, f"{source.key}:{number}")
        if record is not None:
            yield record


def _texts(lines: Iterator[tuple[int, str]] | chain[tuple[int, str]], source: Input) -> Iterator[Record]:
    for number, line in lines:
        if line.strip():
            yield Record(f"{source.key}:{number}", line.strip(), source=f"{source.label}:{number}")
