"""Walking a folder of documents: sorted, without following folder links, everything left out counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sememe.contracts import Record
from sememe.errors import InputError, SememeError
from sememe.text.fields import Options
from sememe.text.formats import EXTENSIONS, PARSERS, extension
from sememe.text.lines import Input
from sememe.text.report import ReadReport

_GENERATED = {"__pycache__", "node_modules", "site-packages", "venv", "__pypackages__"}


def folder_records(root: Path, options: Options, report: ReadReport) -> Iterator[Record]:
    """Records of every readable file under ``root``, in sorted order of paths; ids are relative POSIX paths.

    Not entered, and counted one by one: hidden folders (names with a leading dot), ``__pycache__``, ``node_modules``,
    ``site-packages``, ``venv``, and links to folders (so that no loop can arise). Not read, and counted: hidden files,
    broken links, pipes and devices, and files of other formats, by extension. A file that cannot be read (no
    permission, damaged, a table without a text column) is counted as skipped; under ``strict`` it is an error.
    """
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            report.note(str(folder), "folder cannot be opened", detail=error.strerror or "")
            continue
        inside = []
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir():
                reason = _closed(entry)
                if reason:
                    report.note(str(path), reason, "ignored")
                else:
                    inside.append(path)
            elif _wanted(entry, report):
                yield from _file_records(path, root, options, report)
        pending.extend(reversed(inside))


def _closed(entry: os.DirEntry[str]) -> str:
    """Why a folder is not entered, or an empty string."""
    if entry.is_symlink():
        return "link to a folder, not followed"
    if entry.name.startswith("."):
        return "hidden folder, not entered"
    return "folder of generated or installed files, not entered" if entry.name in _GENERATED else ""


def _wanted(entry: os.DirEntry[str], report: ReadReport) -> bool:
    kind = extension(entry.name)
    if entry.name.startswith("."):
        report.note(entry.path, "hidden file", "ignored")
    elif not entry.is_file():
        report.note(entry.path, "broken link" if entry.is_symlink() else "neither a file nor a folder", "ignored")
    elif kind not in EXTENSIONS:
        report.note(entry.path, f"not a format that is read: {kind or 'no extension'}", "ignored")
    else:
        return True
    return False


def _file_records(path: Path, root: Path, options: Options, report: ReadReport) -> Iterator[Record]:
    source = Input(path, str(path), path.relative_to(root).as_posix())
    try:
        yield from PARSERS[EXTENSIONS[extension(path.name)]](source, options, report)
    except InputError as error:
        if options.strict:
            raise
        report.note(error.where or str(path), "file cannot be read further", detail=error.what)
    except SememeError as error:  # an optional package that is not installed
        if options.strict:
            raise
        report.note(str(path), str(error))
