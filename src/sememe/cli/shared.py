"""What several verbs share: printing JSON, sizes in words, options of the readers."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sememe.errors import InputError

if TYPE_CHECKING:
    from sememe.contracts import Hits, Record
    from sememe.index.engine import Index
    from sememe.index.vectors import VectorIndex
    from sememe.text.reader import Reader
    from sememe.text.report import ReadReport

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def print_json(answer: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(answer, ensure_ascii=False, default=str) + "\n")


def say(*lines: str) -> None:
    """Lines for a person, on standard output."""
    sys.stdout.write("".join(line + "\n" for line in lines))


def note(*lines: str) -> None:
    """Lines for a person, on standard error."""
    sys.stderr.write("".join(line + "\n" for line in lines))


def size(text: str) -> float:
    """Bytes from ``20MB``, ``1.5 GiB`` or ``4096`` (for argparse)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*", text)
    if not match or match[2].lower() not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write for example 20MB")
    return float(match[1]) * _UNITS[match[2].lower()]


def share(text: str) -> float:
    """A share from ``2%`` or ``0.02`` (for argparse)."""
    try:
        value = float(text.rstrip("% ")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share; write for example 2% or 0.02")
    return value


def positive(text: str) -> int:
    """A whole number of at least one (for argparse)."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def above_zero(text: str) -> float:
    """A number above zero, not infinite (for argparse)."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def human(count: float) -> str:
    """Bytes in words: ``812 B``, ``1.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def table(title: str, columns: list[str], rows: list[list[Any]], *, marks: dict[int, str] | None = None) -> str:
    """A plain or coloured table as text, as wide as the terminal; ``marks`` gives a style to some rows."""
    from io import StringIO

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for place, name in enumerate(columns):
        drawn.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
    for place, row in enumerate(rows):
        # Text, not str: rich would take "[onnx]" for markup and drop it.
        drawn.add_row(*[Text(str(cell)) for cell in row], style=(marks or {}).get(place))
    console = Console(file=StringIO(), force_terminal=sys.stdout.isatty(), width=None if sys.stdout.isatty() else 120)
    console.print(drawn)
    return console.file.getvalue().rstrip("\n")  # type: ignore[attr-defined]


def open_any(path: str) -> Index | VectorIndex:
    """The index in a folder, whether it holds records or bare vectors."""
    from sememe.index import VectorIndex, open
    from sememe.index.storage.store import Store
    from sememe.index.vector_build import KIND

    with Store.open(path) as store:
        bare = store.manifest.body.get("kind") == KIND
    return VectorIndex.open(path) if bare else open(path)


def disk_bytes(info: dict[str, Any]) -> int:
    """Bytes on disk, from what ``info`` of either kind of index tells."""
    return int((info["bytes"] if "bytes" in info else info["disk"])["total"])


def reader_options(verb: argparse.ArgumentParser) -> None:
    """Options that say how to read records."""
    verb.add_argument("--format", help="how to read the source; guessed from its name where it is not given")
    verb.add_argument("--text-field", help="the field or column that holds the text")
    verb.add_argument("--title-field", help="the field or column that holds the title")
    verb.add_argument("--id-field", help="the field or column that holds the id")
    verb.add_argument("--strict", action="store_true", help="stop at the first record that cannot be used as it is")


def duplicate_option(verb: argparse.ArgumentParser) -> None:
    """The option that says what a repeated id does."""
    verb.add_argument(
        "--on-duplicate",
        choices=["error", "first", "replace"],
        default="error",
        help="what a repeated id does: stop, keep the first record, or keep the last (default error)",
    )


def reader_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The reader options that were given, as keyword arguments of ``sememe.read``."""
    names = ("format", "text_field", "title_field", "id_field", "strict")
    return {name: getattr(options, name) for name in names if getattr(options, name)}


class Required:
    """The records of a reader; to find none is an error, raised before anything is committed.

    Parameters
    ----------
    reader : Reader
    source : str
        What is read, for the message.
    """

    def __init__(self, reader: Reader, source: str) -> None:
        self.reader, self.source = reader, source

    @property
    def report(self) -> ReadReport:
        """What was read, skipped and changed."""
        return self.reader.report

    def __iter__(self) -> Iterator[Record]:
        yield from self.reader
        self.report.require_records(self.source)


def read_lines(path: str) -> list[str]:
    """Lines of a small text file of arguments, blank ones dropped."""
    from pathlib import Path

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read this list ({getattr(error, 'strerror', None) or error})", where=path) from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def ranking(names: Iterable[str], hits: Hits) -> dict[str, dict[str, float]]:
    """Hits as a run: query -> id -> score. Places without a hit are left out; a record counts once, at its best."""
    run: dict[str, dict[str, float]] = {}
    for name, ids, scores, rows in zip(names, hits.ids, hits.scores, hits.rows, strict=True):
        ranked = run.setdefault(name, {})
        for identity, score, row in zip(ids.tolist(), scores.tolist(), rows.tolist(), strict=True):
            if row >= 0:
                ranked.setdefault(identity, score)  # best first
    return run
