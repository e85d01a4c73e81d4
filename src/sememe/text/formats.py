"""Which file is read how: extensions, explicit formats, and the guess for a file without a known extension."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePath

from sememe.contracts import Record
from sememe.errors import InputError
from sememe.text.documents import document_records
from sememe.text.fields import Options
from sememe.text.jsonl import json_array, json_records, line_records, parse_object, piped_records
from sememe.text.lines import Input, damaged_as_input_error, open_bytes
from sememe.text.parquet import parquet_records
from sememe.text.pdf import pdf_records
from sememe.text.report import ReadReport
from sememe.text.table import csv_records, tsv_records

Parser = Callable[[Input, Options, ReadReport], Iterator[Record]]

PARSERS: dict[str, Parser] = {
    "jsonl": json_records,
    "csv": csv_records,
    "tsv": tsv_records,
    "parquet": parquet_records,
    "lines": line_records,
    "pdf": pdf_records,
    **{kind: partial(document_records, kind=kind) for kind in ("md", "txt", "rst", "html", "py")},
}
EXTENSIONS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".md": "md",
    ".markdown": "md",
    ".mdx": "md",
    ".txt": "txt",
    ".text": "txt",
    ".rst": "rst",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".py": "py",
    ".pdf": "pdf",
}


def extension(name: str) -> str:
    """The lower-case extension that tells the format, below any ``.gz``: ``a.JSONL.gz`` has ``.jsonl``."""
    path = PurePath(name)
    if path.suffix.lower() == ".gz":
        path = path.with_suffix("")
    return path.suffix.lower()


def records_of(source: Input, format: str | None, options: Options, report: ReadReport) -> Iterator[Record]:
    """The records of one file in ``format``, or in the format its extension or its first bytes tell."""
    chosen = format or (EXTENSIONS.get(extension(source.key)) if source.path else None)
    if chosen is not None:
        return PARSERS[chosen](source, options, report)
    if source.path is None or not source.path.is_file():
        return piped_records(source, options, report)  # a pipe can be read only once: the rule of standard input
    return PARSERS[_guess(source)](source, options, report)


def _guess(source: Input) -> str:
    """The format of a file whose name does not tell: by magic bytes, JSON lines by the first line, else text."""
    with open_bytes(source) as stream, damaged_as_input_error(source.label, 0):
        head = stream.peek(8192)[:8192]
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"%PDF-"):
        return "pdf"
    if b"\0" in head and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError("this is a binary file of no known format", where=source.label, fix="name its format")
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if start.startswith(b"["):
        if extension(source.key) == ".json":
            raise json_array(source.label)
    elif start.startswith(b"{"):
        line, ended, _ = start.partition(b"\n")
        try:
            if ended or len(head) < 8192:
                parse_object(line.decode("utf-8", "replace"))
            return "jsonl"
        except ValueError:
            return "txt"
    return "txt"
