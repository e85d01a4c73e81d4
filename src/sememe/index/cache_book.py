"""The entries of a semantic cache: rows, answers, order of use, expiry and bytes. Whoever uses it holds a lock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.index.nearest import GrowingTable, row_bytes

KEY_BYTES = 16  # of the digest of a vector
_TIMES = 16  # bytes of when an entry was made and when it ends
_FEW_DEAD = 1024  # rows without an entry that are not worth moving the others for


@dataclass(slots=True)
class Entry:
    """An answer, the digest of its vector, when it was made, and the bytes it takes."""

    answer: str
    key: bytes
    made: float
    size: int


@dataclass(slots=True)
class Snapshot:
    """All live entries, the least recently used first: what goes to disk.

    ``vectors`` float32 ``(n, d)``, ``keys`` uint8 ``(n, 16)``, ``made`` and ``ends`` float64 ``(n,)``.
    """

    vectors: Vectors
    answers: list[str]
    keys: NDArray[np.uint8]
    made: NDArray[np.float64]
    ends: NDArray[np.float64]
    settings: dict[str, Any] = field(default_factory=dict)


class Book:
    """Entries by row.

    Arrays that a lookup may be reading outside the lock are never moved: they are appended to, or replaced by new ones.

    Attributes
    ----------
    table : GrowingTable
    entries : OrderedDict of row to Entry
        The least recently used first.
    rows : dict of digest to row
    ends : ndarray
        When the entry of a row expires, float64; minus infinity where there is none.
    nbytes : int
    version : int
        Counts renumberings of rows.
    """

    def __init__(self, dim: int) -> None:
        self.dim, self.version = dim, 0
        self.clear()

    def clear(self) -> None:
        """Remove every entry."""
        self.table = GrowingTable(self.dim)
        self.entries: OrderedDict[int, Entry] = OrderedDict()
        self.rows: dict[bytes, int] = {}
        self.ends = np.full(64, -np.inf)
        self.nbytes = 0
        self.version += 1

    def add(self, vectors: Vectors, entries: Sequence[Entry], ends: NDArray[np.float64]) -> None:
        """Append entries with their unit rows ``(n, d)``, each digest new and different."""
        first = self.table.view.count
        stop = first + len(entries)
        if stop > len(self.ends):
            more = np.full(stop * 3 // 2, -np.inf)
            more[: len(self.ends)] = self.ends
            self.ends = more
        self.table.append(vectors)
        self.ends[first:stop] = ends
        for row, entry in enumerate(entries, first):
            self.entries[row] = entry
            self.rows[entry.key] = row
            self.nbytes += entry.size

    def drop(self, row: int | None) -> None:
        """Forget the entry of a row; None is nothing."""
        if row is not None:
            entry = self.entries.pop(row)
            del self.rows[entry.key]
            self.ends[row] = -np.inf
            self.nbytes -= entry.size

    def tidy(self) -> None:
        """Close the gaps once more rows are without an entry than with one."""
        count, live = self.table.view.count, len(self.entries)
        if count - live <= max(_FEW_DEAD, live):
            return
        rows = sorted(self.entries)
        places = {row: place for place, row in enumerate(rows)}
        ends = np.full(max(64, len(rows)), -np.inf)
        ends[: len(rows)] = self.ends[rows]
        self.table.replace(np.ascontiguousarray(self.table.rows()[rows]))
        self.entries = OrderedDict((places[row], entry) for row, entry in self.entries.items())
        self.rows = {entry.key: row for row, entry in self.entries.items()}
        self.ends = ends
        self.version += 1

    def snapshot(self, settings: dict[str, Any]) -> Snapshot:
        """All entries as arrays, the least recently used first."""
        rows = list(self.entries)
        entries = list(self.entries.values())
        return Snapshot(
            np.ascontiguousarray(self.table.rows()[rows]),
            [entry.answer for entry in entries],
            np.frombuffer(b"".join(entry.key for entry in entries), dtype=np.uint8).reshape(-1, KEY_BYTES),
            np.array([entry.made for entry in entries], dtype=np.float64),
            self.ends[rows],
            settings,
        )

    def restore(self, saved: Snapshot) -> None:
        """Put a snapshot in the place of all entries."""
        self.clear()
        entries = [
            Entry(answer, key.tobytes(), float(made), entry_bytes(self.dim, answer))
            for answer, key, made in zip(saved.answers, saved.keys, saved.made, strict=True)
        ]
        self.add(saved.vectors, entries, saved.ends)


def entry_bytes(dim: int, answer: str) -> int:
    """Bytes that one entry takes: vector, key, times and answer."""
    return row_bytes(dim) + KEY_BYTES + _TIMES + len(answer.encode("utf-8", "surrogatepass"))
