"""Documents a file each: plain text, Markdown, reStructuredText, HTML and Python source."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from sememe.contracts import Record, Value
from sememe.text.fields import Options
from sememe.text.html import declared_charset, parse_html
from sememe.text.lines import Input, byte_limit, decode, disk_error, read_all
from sememe.text.report import ReadReport
from sememe.text.values import typed_cell

ENORMOUS = "enormous: more characters than max_chars"
_FRONT_LINES = 100
_FRONT = re.compile(r"([A-Za-z_][\w.-]*)[ \t]*:(?:[ \t]+(.*))?\Z")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.+)\Z")
_CLOSING_HASHES = re.compile(r"[ \t]+#+\Z")
_SETEXT = re.compile(r" {0,3}(?:=+|-+)[ \t]*\Z")
_RST_LINE = re.compile(r"([!-/:-@\[-`{-~])\1+[ \t]*\Z")

Parts = tuple[str, str, dict[str, Value]]  # title, text, metadata


def document_records(source: Input, options: Options, report: ReadReport, kind: str) -> Iterator[Record]:
    """The one record of a document file.

    The id is the path within the folder. A heading that opens a Markdown, reST or HTML document becomes the title and
    leaves the text, so that it is not there twice; one found further down is the title too but also stays. A Python
    file's title is its dotted module name, a plain text has none. Line ends become newlines. Metadata: ``path``,
    ``kind`` (md, txt, ...), ``modified`` (date of change, UTC), ``size`` (bytes), and what the document states itself.
    """
    data = read_all(source, byte_limit(options.max_chars))
    if data is None:
        report.note(source.label, ENORMOUS, detail=f"max_chars is {options.max_chars:,}")
        return
    declared = declared_charset(data) if kind == "html" else ""
    text = decode(data, source.label, report, declared=declared).replace("\r\n", "\n").replace("\r", "\n")
    title, body, stated = _PARSERS[kind](text, source.key)
    metadata = {**file_facts(source, kind), **stated}
    yield Record(source.key, body, title, f"{source.label}:1", metadata)


def file_facts(source: Input, kind: str) -> dict[str, Value]:
    """``path``, ``kind``, ``modified`` and ``size`` of a file; nothing for a pipe."""
    if source.path is None:
        return {"kind": kind}
    try:
        status = source.path.stat()
    except OSError as error:
        raise disk_error(source.label, error) from None
    modified = datetime.datetime.fromtimestamp(status.st_mtime, datetime.UTC).date()
    return {"path": source.key, "kind": kind, "modified": modified, "size": status.st_size}


def _plain(text: str, key: str) -> Parts:
    return "", text, {}


def _python(text: str, key: str) -> Parts:
    parts = PurePosixPath(key).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts), text, {}


def _markdown(text: str, key: str) -> Parts:
    metadata, text = _front_matter(text)
    title = str(metadata.pop("title", ""))
    lines = text.split("\n")
    fence = ""
    seen = False  # whether anything visible came before
    for row, line in enumerate(lines):
        stripped = line.strip()
        if fence:
            fence = "" if stripped.startswith(fence) else fence
            continue
        if stripped.startswith(("```", "~~~")):
            fence, seen = stripped[:3], True
            continue
        heading = _HEADING.match(line)
        if heading:
            found, after = _CLOSING_HASHES.sub("", heading[1].strip()), row + 1
        elif stripped and not seen and row + 1 < len(lines) and _SETEXT.match(lines[row + 1]):
            found, after = stripped, row + 2
        else:
            seen = seen or bool(stripped)
            continue
        if not seen and title in ("", found):
            text = "\n".join(lines[after:]).lstrip("\n")
        title = title or found
        break
    return title, text, metadata


def _front_matter(text: str) -> tuple[dict[str, Value], str]:
    """Metadata of a leading ``---`` block of ``key: value`` lines, and the text after it.

    A block that holds anything else (nesting, multi-line values) is not taken apart: it stays in the text. A value
    in quotes is text; ``[a, b]`` is a list of tags; others are typed as CSV cells are.
    """
    if not text.startswith("---\n"):
        return {}, text
    head = text.split("\n", _FRONT_LINES + 1)[1 : _FRONT_LINES + 1]
    metadata: dict[str, Value] = {}
    for count, line in enumerate(head, 1):
        if line.rstrip() in ("---", "..."):
            return metadata, text.split("\n", count + 1)[count + 1] if text.count("\n") > count else ""
        if not line.strip() or line.startswith("#"):
            continue
        match = _FRONT.match(line)
        if match is None:
            return {}, text
        value = _front_value((match[2] or "").strip())
        if value is not None:
            metadata[match[1]] = value
    return {}, text


def _front_value(value: str) -> Value | None:
    if value.startswith("[") and value.endswith("]"):
        return [tag for part in value[1:-1].split(",") if (tag := part.strip().strip("'\""))] or None
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1] or None
    return typed_cell(value)


def _rst(text: str, key: str) -> Parts:
    lines = text.split("\n")
    seen = False
    for row in range(len(lines) - 1):
        line, under = lines[row].rstrip(), lines[row + 1].rstrip()
        if not line or (_RST_LINE.match(line) and len(line) > 3):
            continue  # a blank line, or the line above a title
        if not _RST_LINE.match(under) or len(under) < max(len(line.strip()), 3):
            seen = seen or not line.startswith("..")
            continue
        title = line.strip()
        return title, text if seen else _without(lines, row), {}
    return "", text, {}


def _without(lines: list[str], row: int) -> str:
    """The text without the title at ``row``, its underline and, where it has one, the line above it."""
    over = row > 0 and lines[row - 1].rstrip() == lines[row + 1].rstrip()
    before, after = lines[: row - over], lines[row + 2 :]
    return "\n".join([*before, *after]).strip("\n")


def _html(text: str, key: str) -> Parts:
    title, body, language = parse_html(text)
    first, _, rest = body.partition("\n\n")
    return title, rest if first == title else body, {"lang": language} if language else {}


_PARSERS: dict[str, Callable[[str, str], Parts]] = {
    "txt": _plain,
    "md": _markdown,
    "rst": _rst,
    "html": _html,
    "py": _python,
}
