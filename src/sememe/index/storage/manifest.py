"""The one small file that says what an index is: canonical JSON behind a header with its digest.

    sememe-index 1 0.1.0 1234 <64 hexadecimal digits>
    {"body":{...},"files":{...},"generation":7,...}

The header holds the format version, the oldest Sememe that reads it, the bytes of JSON and a BLAKE2b-256 digest of
the rest of the header and the JSON. Later formats keep this line, so an old reader can tell "newer than I am"
(``FormatError``) from "damaged" (``CorruptIndex``).

The parser trusts nothing, not even a manifest whose digest is right: types, ranges, and names that could leave the
folder are all checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sememe import __version__
from sememe.errors import CorruptIndex, FormatError, InputError
from sememe.index.storage.blockfile import FileEntry, digest_of

FORMAT = 1
NEEDS = "0.1.0"  # the oldest Sememe that reads format 1
READER_FLAGS: frozenset[str] = frozenset()  # features a reader must know to answer rightly; none yet
WRITER_FLAGS: frozenset[str] = frozenset()  # features a writer must know to keep; none yet
LARGEST = 1 << 28  # bytes of manifest that are read at all

_HEADER = re.compile(rb"sememe-index ([0-9]{1,9}) ([0-9A-Za-z.+-]{1,32}) ([0-9]{1,12}) ([0-9a-f]{64})\n")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}\.seg")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEYS = {
    "body", "files", "format_version", "generation", "library_version", "reader_flags", "segments", "writer_flags",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows that were committed together. ``files`` maps a role to its file, ``info`` holds JSON values."""

    name: str
    rows: int
    files: dict[str, FileEntry] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version of an index.

    ``body`` is free for whoever uses the store (JSON values only), ``files`` are those of the index as a whole.
    ``generation`` and ``library_version`` are set by the commit.
    """

    generation: int = 0
    segments: tuple[Segment, ...] = ()
    body: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)
    format_version: int = FORMAT
    reader_flags: tuple[str, ...] = ()
    writer_flags: tuple[str, ...] = ()
    library_version: str = __version__

    def entries(self) -> Iterator[FileEntry]:
        """Every file this version consists of."""
        yield from self.files.values()
        for segment in self.segments:
            yield from segment.files.values()

    @property
    def rows(self) -> int:
        """Rows of all segments together."""
        return sum(segment.rows for segment in self.segments)

    def to_bytes(self) -> bytes:
        """The file's content; equal manifests give equal bytes.

        Raises
        ------
        InputError
            Where ``body`` or a segment's ``info`` is not JSON, or anything else would not read back.
        """
        plain = {
            "format_version": self.format_version,
            "library_version": self.library_version,
            "reader_flags": sorted(self.reader_flags),
            "writer_flags": sorted(self.writer_flags),
            "generation": self.generation,
            "body": self.body,
            "files": {role: entry.to_json() for role, entry in self.files.items()},
            "segments": [
                {
                    "name": segment.name,
                    "rows": segment.rows,
                    "files": {role: entry.to_json() for role, entry in segment.files.items()},
                    "info": segment.info,
                }
                for segment in self.segments
            ],
        }
        try:
            text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"this cannot be kept in a manifest ({error})") from None
        start = f"sememe-index {self.format_version} {NEEDS} {len(text)}".encode("ascii")
        data = start + b" " + digest_of(start, text).encode("ascii") + b"\n" + text
        try:
            Manifest.from_bytes(data, where="the new manifest")  # what could not be read back must not be published
        except CorruptIndex as error:
            raise InputError(error.what) from None
        return data

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> Manifest:
        """Read a manifest, believing nothing.

        Parameters
        ----------
        data : bytes
            The whole file.
        where : str
            Its path, for the message.

        Raises
        ------
        CorruptIndex
            Digest, length, type, range or name is wrong.
        FormatError
            A later Sememe is needed, or the file is something else.
        """
        header = _HEADER.match(data)
        if header is None:
            _damaged(where, "the manifest's header, at offset 0, is cut off or damaged")
        text = data[header.end() :]
        if len(text) != int(header[3]):
            _damaged(where, f"the manifest is {len(data)} bytes long and should be {header.end() + int(header[3])}")
        if digest_of(data[: header.start(4) - 1], text) != header[4].decode("ascii"):
            _damaged(where, f"bytes 0 to {len(data)} of the manifest do not match their digest")
        if int(header[1]) > FORMAT:
            raise FormatError(
                f"the index has format {int(header[1])} and needs sememe >= {header[2].decode('ascii')}; "
                f"this is {__version__}",
                where=where,
                fix="upgrade sememe",
            )
        try:
            plain = json.loads(text.decode("ascii"), object_pairs_hook=_unique, parse_constant=_no_constant)
            return _Reader(where).manifest(plain)
        except (ValueError, RecursionError) as error:
            _damaged(where, f"the manifest is not the JSON it should be ({error})")


def _damaged(where: str, what: str) -> NoReturn:
    raise CorruptIndex(what, where=where, fix="run sememe verify, then sememe recover to go back to the last good one")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key appears twice")
    return table


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class _Reader:
    """Plain JSON to a manifest, each value checked for type and range."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.seen: dict[str, FileEntry] = {}

    def manifest(self, plain: Any) -> Manifest:
        table = self.table(plain, "the manifest")
        version = self.integer(table.get("format_version"), "format_version", low=1)
        flags = self.flags(table, "reader_flags")
        if unknown := [flag for flag in flags if flag not in READER_FLAGS]:
            library = self.text(table.get("library_version"), "library_version")
            raise FormatError(
                f"the index uses {', '.join(map(repr, unknown))}, which this sememe ({__version__}) does not know; "
                f"it was written by {library}",
                where=self.where,
                fix=f"it needs sememe >= {library}",
            )
        if set(table) != _KEYS or version != FORMAT:
            _damaged(self.where, "the manifest does not have the keys of its format")
        if not isinstance(table["segments"], list):
            _damaged(self.where, "segments is not a list")
        segments = tuple(self.segment(one) for one in table["segments"])
        if len({segment.name for segment in segments}) != len(segments):
            _damaged(self.where, "two segments have one name")
        return Manifest(
            generation=self.integer(table["generation"], "generation", low=1),
            segments=segments,
            body=self.table(table["body"], "body"),
            files=self.files(table["files"]),
            format_version=version,
            reader_flags=flags,
            writer_flags=self.flags(table, "writer_flags"),
            library_version=self.text(table["library_version"], "library_version"),
        )

    def segment(self, plain: Any) -> Segment:
        table = self.table(plain, "a segment")
        if set(table) != {"name", "rows", "files", "info"}:
            _damaged(self.where, "a segment does not have the keys name, rows, files and info")
        return Segment(
            name=self.text(table["name"], "a segment's name"),
            rows=self.integer(table["rows"], "rows"),
            files=self.files(table["files"]),
            info=self.table(table["info"], "info"),
        )

    def files(self, plain: Any) -> dict[str, FileEntry]:
        return {self.text(role, "a role"): self.entry(one) for role, one in self.table(plain, "files").items()}

    def entry(self, plain: Any) -> FileEntry:
        table = self.table(plain, "a file")
        if set(table) != {"name", "length", "digest", "table"}:
            _damaged(self.where, "a file does not have the keys name, length, digest and table")
        name = self.text(table["name"], "a file's name")
        if not _FILE_NAME.fullmatch(name):
            _damaged(self.where, f"{name!r} cannot be the name of a file of an index")
        length = self.integer(table["length"], "length")
        for key in ("digest", "table"):
            if not _DIGEST.fullmatch(self.text(table[key], key)):
                _damaged(self.where, f"the {key} of {name} is not a digest")
        entry = FileEntry(name, length, table["digest"], table["table"])
        if self.seen.setdefault(name, entry) != entry:
            _damaged(self.where, f"{name} is described in two ways")
        return entry

    def flags(self, table: dict[str, Any], key: str) -> tuple[str, ...]:
        values = table.get(key)
        if not isinstance(values, list):
            _damaged(self.where, f"{key} is not a list")
        return tuple(sorted(self.text(value, key) for value in values))  # a set: their order means nothing

    def table(self, value: Any, what: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            _damaged(self.where, f"{what} is not an object")
        return value

    def integer(self, value: Any, what: str, low: int = 0) -> int:
        if type(value) is not int or not low <= value < 1 << 62:
            _damaged(self.where, f"{what} is not a whole number of at least {low}")
        return value

    def text(self, value: Any, what: str) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= 1024:
            _damaged(self.where, f"{what} is not a text of 1 to 1024 characters")
        return value
