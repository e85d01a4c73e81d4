"""TREC run files: six columns, ``query Q0 document rank score tag``, as every evaluation tool reads them.

Columns are separated by white space. Where an id holds a space, the whole file is separated by tabs, and a line
with tabs is read that way. Files whose name ends in ``.gz`` are gzip.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from sememe.errors import InputError


def read_run(path: str | os.PathLike[str]) -> dict[str, dict[str, float]]:
    """Read a TREC run: query id -> document id -> score. The rank column is not used, as trec_eval does not.

    Raises
    ------
    InputError
        With file and line: not six columns, a score that is not a finite number, a document twice for a query, text
        that is not UTF-8; or a file that cannot be opened.
    """
    run: dict[str, dict[str, float]] = {}
    for number, line in _lines(path):
        where = f"{path}:{number}"
        columns = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
        if len(columns) != 6:
            raise InputError(
                f"{len(columns)} columns where a TREC run has six", where=where, fix="query Q0 document rank score tag"
            )
        query, _, document, _, text, _ = columns
        try:
            score = float(text)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise InputError(f"{text!r} is not a finite score", where=where)
        ranked = run.setdefault(query, {})
        if document in ranked:
            raise InputError(f"document {document!r} stands twice for query {query!r}", where=where)
        ranked[document] = score
    return run


def write_run(
    run: Mapping[str, Mapping[str, float] | Sequence[str]], path: str | os.PathLike[str], *, tag: str = "sememe"
) -> None:
    """Write a TREC run, each query best first.

    Scores are written so that they read back equal. Equal scores are ordered by document id, descending, as trec_eval
    orders them, so that the rank column says what will be measured. A list of ids gets scores that fall with rank.

    Raises
    ------
    InputError
        An id that is empty or holds a tab or line break, a score that is not finite, or a file that cannot be written.
    """
    ids = [tag, *run, *(document for ranked in run.values() for document in ranked)]
    for name in ids:
        if not name or any(character in name for character in "\t\r\n"):
            raise InputError(
                f"{name!r} cannot stand in a TREC run", fix="ids hold no tab or line break and are not empty"
            )
    separator = "\t" if any(len(name.split()) > 1 or name != name.strip() for name in ids) else " "
    try:
        with _open(path, "wt") as file:
            for query, ranked in run.items():
                for rank, (document, score) in enumerate(_ordered(query, ranked), start=1):
                    columns = (query, "Q0", document, str(rank), repr(score), tag)
                    file.write(separator.join(columns) + "\n")
    except OSError as error:
        raise InputError(f"cannot write the run ({error.strerror})", where=str(path)) from None


def _ordered(query: str, ranked: Mapping[str, float] | Sequence[str]) -> list[tuple[str, float]]:
    if not isinstance(ranked, Mapping):
        return [(document, float(len(ranked) - rank)) for rank, document in enumerate(ranked)]
    pairs = [(document, float(score)) for document, score in ranked.items()]
    if not all(math.isfinite(score) for _, score in pairs):
        raise InputError(f"a score of query {query!r} is NaN or infinite", where="run")
    return sorted(pairs, key=lambda pair: (pair[1], pair[0]), reverse=True)


def _open(path: str | os.PathLike[str], mode: str) -> IO[str]:
    if Path(path).suffix == ".gz":
        return cast(IO[str], gzip.open(path, mode, encoding="utf-8"))
    return cast(IO[str], Path(path).open(mode, encoding="utf-8"))


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        with _open(path, "rt") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error.reason})", where=f"{path}:{number + 1}", fix="save it as UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read the run ({what})", where=str(path)) from None
