"""One immutable segment of an index over vectors: codes, lists, ids and the finer tier, mapped and verified on touch.

A row of the segment is the number in which its vector came, its *place* where its codes lie: the same, unless the
index kind puts rows in another order. Index kinds see places only.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.errors import CorruptIndex
from sememe.index.code_rows import CodeRows, Found
from sememe.index.ivf import Lists
from sememe.index.scan import Allowed, Ensure, gather, is_mask, rescored
from sememe.index.segment import is_tombstone
from sememe.kernels.cells import Cells
from sememe.kernels.select import select

if TYPE_CHECKING:
    from sememe.index.storage.blockfile import BlockFile
    from sememe.index.storage.manifest import Segment
    from sememe.index.storage.store import Store

FEW = 8  # rows are looked up one by one where less than one in so many is allowed


class VectorSegment:
    """A segment of a store of vectors.

    Parameters
    ----------
    store : Store
    entry : Segment
    offset : int
        The number of its first row in the index.
    cells : Cells or None
        Those of the index, where its kind has any.

    Attributes
    ----------
    codes : uint8 array of shape (passages, code_bytes)
        In order of places; ``ensure_codes`` verifies a range of bytes before it is read.
    codes_file : BlockFile
        What they lie in.
    passages : int
        Rows, deleted ones included. (Index kinds call them so.)
    """

    def __init__(self, store: Store, entry: Segment, offset: int, cells: Cells | None) -> None:
        self.entry, self.offset, self.passages, self._store = entry, offset, entry.rows, store
        try:
            self.codes, self.codes_file = self._table("codes", np.uint8, int(entry.info["code_bytes"]))
            self.fine_codes: NDArray[np.uint8] | None = None
            if "rescore" in entry.files:
                self.fine_codes, self._fine_file = self._table("rescore", np.uint8, int(entry.info["rescore_bytes"]))
                self._fine_file.expect_scattered_reads()
            self._order = self._table("order", np.uint32, 1) if "order" in entry.files else None
            self._ids = self._table("ids", np.int64, 1) if "ids" in entry.files else None
            self.lists = None if cells is None else self._lists(cells)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, CorruptIndex):
                raise
            raise CorruptIndex(f"the manifest's facts are malformed ({error!r})", where=entry.name) from None
        self._graph: Any = None

    def _table(self, role: str, dtype: type[np.generic], width: int) -> tuple[NDArray[Any], BlockFile]:
        file = self._store.file(self.entry.files[role])
        if file.length != self.passages * width * np.dtype(dtype).itemsize:
            raise CorruptIndex(f"the {role} of {self.passages} rows have {file.length} bytes", where=self.entry.name)
        return file.array(dtype, (self.passages, width)), file

    def _lists(self, cells: Cells) -> Lists:
        file = self._store.file(self.entry.files["lists"])
        offsets = file.verified_array(np.int64, (len(cells) + 1,))
        if offsets[0] != 0 or offsets[-1] != self.passages or (np.diff(offsets) < 0).any():
            raise CorruptIndex("the lists do not fit their segment", where=self.entry.name, fix="run: sememe verify")
        return Lists(cells, offsets)

    @property
    def ensure_codes(self) -> Ensure | None:
        """What verifies a range of bytes of the codes; None once all are verified, which spares short scans a look."""
        return None if self.codes_file.all_checked else self.codes_file.ensure

    def ensure_code_rows(self, rows: NDArray[np.int64]) -> None:
        """Verify the codes of places picked out, in any order."""
        self.codes_file.ensure_rows(rows, self.codes.shape[1])

    def codes_of(self, finer: bool) -> NDArray[np.uint8]:
        """The codes, or those of the finer tier, in order of places."""
        assert not finer or self.fine_codes is not None
        return self.fine_codes if finer and self.fine_codes is not None else self.codes

    def ensure_rows_of(self, finer: bool, places: NDArray[np.int64]) -> None:
        """Verify those codes at some places, in any order."""
        file = self._fine_file if finer else self.codes_file
        file.ensure_rows(places, self.codes_of(finer).shape[1])

    def _ensure_fine(self, start: int, stop: int) -> None:
        self._fine_file.ensure(start, stop)

    def graph(self, kind: Any) -> Any:
        """The lists, or the engine over this segment's graph, whose every byte is verified first."""
        if self.lists is not None:
            return self.lists
        if self._graph is None:
            if "graph" not in self.entry.files:
                raise CorruptIndex("the graph is missing", where=self.entry.name)
            file = self._store.file(self.entry.files["graph"])
            if self._store.verify_mode == "off":
                file.verify_all()  # a damaged graph can crash the engine, so this is checked whatever was asked for
            buffer = file.verified_array(np.uint8, (file.length,))
            self._graph = kind.open(buffer, self.passages, int(self.entry.info["graph_dim"])), buffer
        return self._graph[0]  # the buffer stays with it: the engine keeps a bare pointer into it

    # -- rows and places ------------------------------------------------------------------------------------------

    @cached_property
    def order(self) -> NDArray[np.uint32] | None:
        """The row at each place; None where that is the place itself."""
        if self._order is None:
            return None
        array, file = self._order
        file.ensure(0, file.length)
        if self.passages and int(array.max()) >= self.passages:
            raise CorruptIndex("the order names rows that are not there", where=self.entry.name)
        return array[:, 0]

    @cached_property
    def _place_of(self) -> NDArray[np.uint32]:
        """The place of each row."""
        assert self.order is not None
        out = np.full(self.passages, self.passages, dtype=np.uint32)
        out[self.order] = np.arange(self.passages, dtype=np.uint32)
        if self.passages and int(out.max()) == self.passages:
            raise CorruptIndex("the order names a row twice", where=self.entry.name, fix="run: sememe verify")
        return out

    @property
    def map_bytes(self) -> int:
        """Memory that the place of each row takes, once a filter has asked for it."""
        return self._place_of.nbytes if "_place_of" in vars(self) else 0

    def rows_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows at places."""
        return places if self.order is None else self.order[places].astype(np.int64)

    def place_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The place of each row, in their order."""
        return rows if self.order is None else self._place_of[rows].astype(np.int64)

    def places_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places, ascending, of ascending rows."""
        if self.order is None:
            return rows
        if len(rows) * FEW < self.passages:
            return np.sort(self._place_of[rows].astype(np.int64))
        mask = np.zeros(self.passages, dtype=bool)
        mask[rows] = True
        return np.flatnonzero(mask[self.order])

    def ids(self) -> NDArray[np.int64] | None:
        """The id of each row; None where ids are row numbers."""
        if self._ids is None:
            return None
        array, file = self._ids
        file.ensure(0, file.length)
        return array[:, 0]

    @cached_property
    def deleted(self) -> NDArray[np.bool_] | None:
        """Mask over deleted rows; None where there are none."""
        masks = []
        for role, entry in self.entry.files.items():
            if is_tombstone(role):
                file = self._store.file(entry)
                if file.length != -(-self.passages // 8):
                    raise CorruptIndex(f"the tombstones of {self.passages} rows have {file.length} bytes")
                packed = file.verified_array(np.uint8, (file.length,))
                masks.append(np.unpackbits(packed, count=self.passages).astype(bool))
        return np.logical_or.reduce(masks) if masks else None

    @cached_property
    def dead(self) -> int:
        """How many rows are deleted."""
        return 0 if self.deleted is None else int(self.deleted.sum())

    def living(self, rows: Allowed | None, mask: bool) -> Allowed:
        """Those of ``rows`` that are not deleted, in the form they come in; of all (None) as a ``mask`` or a list."""
        if rows is None:
            return self._alive if mask else self._alive_rows
        if self.deleted is None:
            return rows
        if not is_mask(rows):
            return rows[self._alive[rows]]
        return rows & (self._alive if rows.dtype == bool else self._alive_bits)

    @cached_property
    def _alive_bits(self) -> NDArray[np.uint64]:
        return select(self._alive, self.passages, 0).bits

    @cached_property
    def _alive(self) -> NDArray[np.bool_]:
        return np.ones(self.passages, dtype=bool) if self.deleted is None else ~self.deleted

    @cached_property
    def _alive_rows(self) -> NDArray[np.int64]:
        return np.flatnonzero(self._alive)

    # -- the finer tier -------------------------------------------------------------------------------------------

    def rescored(self, fine: Any, Q: Vectors, places: NDArray[np.int64], k: int) -> Found:
        """The ``k`` best of each query's places ``(q, s)`` by the finer codes: ``(q, k')`` each."""
        assert self.fine_codes is not None
        return rescored(fine, Q, self.fine_codes, self._fine_file, places, k)

    def best_allowed(self, fine: Any, Q: Vectors, rows: Allowed, k: int, most: int) -> tuple[Allowed, Found | None]:
        """The ``k`` best places by the finer codes, where at most ``most`` rows may be found; None where more may.

        Before that the rows that may be found, as bits where they came as a mask.
        """
        codes = None if self.fine_codes is None else CodeRows.of(fine, Q, self.fine_codes)
        if codes is None or self.fine_codes is None:
            return rows, None
        alive = self.living(rows, False)
        if is_mask(alive):
            return codes.best_allowed(alive, k, most, self._fine_file)
        if len(alive) > most:
            return alive, None
        places = self.places_of(alive)
        self._fine_file.ensure_rows(places, self.fine_codes.shape[1])
        return alive, codes.best(np.broadcast_to(places, (len(Q), len(places))), k)

    def vectors(self, quantizer: Any, fine: Any, rows: NDArray[np.int64]) -> Vectors:
        """Decoded vectors of ``rows``, from the finest codes there are."""
        places = self.place_of(rows)
        order = np.argsort(places, kind="stable")
        codes, ensure = (
            (self.codes, self.ensure_codes) if self.fine_codes is None else (self.fine_codes, self._ensure_fine)
        )
        picked = gather(codes, places[order], ensure)
        decoded = (quantizer if self.fine_codes is None else fine).decode(picked)
        out = np.empty_like(decoded)
        out[order] = decoded
        return out
