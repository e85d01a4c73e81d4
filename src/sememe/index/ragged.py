"""Which vectors of a segment belong to which passage, and which centre's list each stands in.

A segment of a multi-vector index stores the codes of all its vectors, passage by passage, as any other codes; beside
them stands one file with ``offsets`` ``(passages + 1,)`` and, where the code has centres, ``lists.starts`` ``(cells +
1,)`` and ``lists.rows``: the passage of every vector, sorted by centre. A passage stands in a list as often as it has
vectors there, so the bytes are known before anything is encoded.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Codes, Ragged
from sememe.errors import CorruptIndex
from sememe.index.arrays import OFFSETS, Packed, narrow, write_packed

Rows = NDArray[np.int64]


def positions(offsets: Rows, rows: Rows) -> Rows:
    """Where the entries of some rows of a ragged table lie, row after row, ``(their number,)``."""
    counts = offsets[rows + 1] - offsets[rows]
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(offsets[rows] - (ends - counts), counts)


def offsets_of(counts: NDArray[np.integer]) -> Rows:
    """Counts ``(n,)`` as offsets ``(n + 1,)`` from 0."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def take(ragged: Ragged, rows: Rows) -> Ragged:
    """Some rows of a ragged table."""
    values = ragged.values[positions(ragged.offsets, rows)]
    return Ragged(values, offsets_of(np.diff(ragged.offsets)[rows]))


def cells(quantizer: Any) -> int:
    """How many centres a code has that passages can be listed under; 0 for codes without."""
    return len(quantizer.centres_) if hasattr(quantizer, "cells_of") else 0


class RaggedWriter:
    """Collects the vectors' numbers and centres of one segment, in the order of its passages."""

    def __init__(self) -> None:
        self._counts: list[NDArray[np.integer]] = [np.zeros(0, dtype=np.int64)]
        self._cells: list[NDArray[np.integer]] = []
        self._centres = 0

    def add_counts(self, counts: NDArray[np.integer]) -> None:
        """How many vectors each of the next passages has."""
        self._counts.append(counts)

    def add_codes(self, quantizer: Any, codes: Codes) -> None:
        """The codes of the next vectors ``(n, code_bytes)``."""
        self._centres = cells(quantizer)
        if self._centres:
            self._cells.append(quantizer.cells_of(codes).astype(np.uint16))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the file holds, by name."""
        counts = np.concatenate(self._counts)
        arrays: dict[str, NDArray[Any]] = {"offsets": narrow(offsets_of(counts))}
        if self._cells:
            owners = np.repeat(np.arange(len(counts), dtype=np.uint32), counts)
            chosen = np.concatenate(self._cells)
            sizes = np.bincount(chosen, minlength=self._centres)
            arrays["lists.starts"] = narrow(offsets_of(sizes))
            arrays["lists.rows"] = owners[np.argsort(chosen, kind="stable")]
        return arrays

    def write(self, transaction: Any, files: dict[str, Any], info: dict[str, Any]) -> None:
        """Write the file of the segment and note what it holds."""
        arrays = self.arrays()
        info["vectors"] = int(arrays["offsets"][-1])
        files["ragged"], info["ragged_layout"] = write_packed(transaction, "ragged", arrays)


class RaggedTable:
    """The same as a reader sees it; every byte is verified before it is used.

    Parameters
    ----------
    packed : Packed
    passages, vectors : int
        Rows of the segment, and codes behind them.
    """

    def __init__(self, packed: Packed, passages: int, vectors: int) -> None:
        self._offsets, self._passages, self._vectors = packed.get("offsets", *OFFSETS), passages, vectors
        self._starts = packed.get("lists.starts", *OFFSETS) if "lists.starts" in packed else None
        self._rows = packed.get("lists.rows", np.uint32) if "lists.rows" in packed else None
        listed = vectors if self._rows is None else len(self._rows)
        if len(self._offsets) != passages + 1 or listed != vectors or (self._starts is None) != (self._rows is None):
            raise CorruptIndex("the vectors' table does not fit its segment", fix="run: sememe verify")

    @cached_property
    def offsets(self) -> Rows:
        """Vectors of passage ``i``: ``[offsets[i], offsets[i + 1])``; int64 ``(passages + 1,)``."""
        offsets = self._offsets.all().astype(np.int64)
        if offsets[0] != 0 or offsets[-1] != self._vectors or (np.diff(offsets) < 0).any():
            raise CorruptIndex("the vectors' table does not fit its segment", fix="run: sememe verify")
        return offsets

    @property
    def counts(self) -> Rows:
        """Vectors of each passage, ``(passages,)``."""
        return np.diff(self.offsets)

    @cached_property
    def _list_starts(self) -> Rows:
        assert self._starts is not None
        return self._starts.all().astype(np.int64)

    @property
    def listed(self) -> bool:
        """Whether there are lists."""
        return self._rows is not None

    def members(self, cell: int) -> NDArray[np.uint32]:
        """The passages with a vector at one centre, ascending, once for each such vector."""
        assert self._rows is not None
        if cell + 1 >= len(self._list_starts):
            raise CorruptIndex(f"there is no list of centre {cell}", fix="run: sememe verify")
        rows = self._rows.slice(*self._list_starts[cell : cell + 2].tolist())
        if len(rows) and int(rows.max()) >= self._passages:
            raise CorruptIndex("a list names a passage that is not there", fix="run: sememe verify")
        return rows
