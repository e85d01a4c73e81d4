"""Bytes to numbered lines of text: gzip by its magic bytes, byte-order marks, damaged UTF-8, endless lines."""

from __future__ import annotations

import codecs
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sememe.errors import InputError
from sememe.text.report import ReadReport

NOT_UTF8 = "bytes that are not UTF-8 were replaced by U+FFFD"
GZIP_MAGIC = b"\x1f\x8b"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SLACK = 1 << 20


@dataclass(frozen=True, slots=True)
class Input:
    """One stream to read: ``path`` (None is standard input), ``label`` for messages, ``key`` for made-up ids."""

    path: Path | None
    label: str
    key: str


def disk_error(label: str, error: OSError) -> InputError:
    """The operating system's refusal as an InputError."""
    return InputError(f"cannot be read ({error.strerror or error})", where=label)


@contextmanager
def open_bytes(source: Input) -> Iterator[io.BufferedReader]:
    """A buffered binary stream, unpacked where it starts as gzip does; standard input is left open at the end."""
    if source.path is None:
        raw: io.BufferedReader = sys.stdin.buffer  # type: ignore[assignment]
    else:
        try:
            raw = source.path.open("rb")
        except OSError as error:
            raise disk_error(source.label, error) from None
    try:
        with damaged_as_input_error(source.label, 0):
            packed = raw.peek(2)[:2] == GZIP_MAGIC
        yield io.BufferedReader(gzip.GzipFile(fileobj=raw)) if packed else raw  # type: ignore[arg-type]
    finally:
        if source.path is not None:
            raw.close()


def byte_limit(max_chars: int) -> int:
    """The most bytes a line may take: each of ``max_chars`` characters written as a JSON escape, and some room."""
    return 6 * max_chars + _SLACK


def read_all(source: Input, limit: int) -> bytes | None:
    """The whole content, or None where it is longer than ``limit`` bytes (after unpacking)."""
    with open_bytes(source) as stream, damaged_as_input_error(source.label, 0):
        data = stream.read(limit + 1)
    return None if len(data) > limit else data


def decode(data: bytes, label: str, report: ReadReport, *, declared: str = "") -> str:
    """A whole file as text.

    A UTF-8 mark is taken off, a UTF-16 mark decides, otherwise UTF-8. What is not UTF-8 is decoded as ``declared``
    (an HTML page's own statement) where that fits, and otherwise with U+FFFD for each bad part, which is counted
    with the line of the first.
    """
    if data.startswith(_UTF16_MARKS):
        text = data.decode("utf-16", "replace")
        if "\ufffd" in text:
            report.note(f"{label}:{text[: text.index(chr(0xFFFD))].count(chr(10)) + 1}", NOT_UTF8, "changed")
        return text
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    if declared:
        try:
            return data.decode(declared)
        except (LookupError, UnicodeError, ValueError):
            pass  # an unknown or wrong statement: the replacement below is counted
    report.note(f"{label}:{line}", NOT_UTF8, "changed")
    return data.decode("utf-8-sig", "replace")


def numbered_lines(
    source: Input, stream: io.BufferedReader, report: ReadReport, max_chars: int
) -> Iterator[tuple[int, str]]:
    r"""Lines as ``(number from 1, text with its line end)``; only ``\n`` ends a line.

    A line of more than ``byte_limit(max_chars)`` bytes is passed over in pieces, never held, and counted. Memory is
    that of the longest line admitted.

    Raises
    ------
    InputError
        For a gzip stream that is damaged or cut short, with the line it was reading.
    """
    limit = byte_limit(max_chars)
    with damaged_as_input_error(source.label, 1):
        wide = stream.peek(2)[:2] in _UTF16_MARKS
    lines: io.BufferedReader | io.TextIOWrapper = stream
    if wide:
        lines = io.TextIOWrapper(stream, encoding="utf-16", errors="replace", newline="\n")
    number = 0
    while True:
        with damaged_as_input_error(source.label, number + 1):
            line = lines.readline(limit)
        if not line:
            return
        number += 1
        where = f"{source.label}:{number}"
        if len(line) >= limit and not _ended(line):
            report.note(where, f"line of more than {limit:,} bytes")
            while line and not _ended(line):
                with damaged_as_input_error(source.label, number):
                    line = lines.readline(_SLACK)
            continue
        if isinstance(line, str):
            if "\ufffd" in line:
                report.note(where, NOT_UTF8, "changed")
            yield number, line
            continue
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            report.note(where, NOT_UTF8, "changed")
            text = line.decode("utf-8", "replace")
        yield number, text.removeprefix("\ufeff") if number == 1 else text


def _ended(line: str | bytes) -> bool:
    return line.endswith("\n") if isinstance(line, str) else line.endswith(b"\n")


@contextmanager
def damaged_as_input_error(label: str, line: int) -> Iterator[None]:
    """Turn what a broken gzip stream or disk raises into one clear error."""
    where = f"{label}:{line}" if line else label
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"the gzip stream is damaged or cut short ({error})", where=where) from None
    except OSError as error:
        raise disk_error(where, error) from None
