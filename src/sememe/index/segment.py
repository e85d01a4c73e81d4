"""One immutable segment as a reader sees it: codes, records, postings and graph, all mapped and verified on touch."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.errors import CorruptIndex
from sememe.index.arrays import Packed
from sememe.index.code_rows import Found
from sememe.index.impact import open_postings
from sememe.index.postings import Postings
from sememe.index.ragged import RaggedTable
from sememe.index.records import Records
from sememe.index.scan import Ensure, rescored

if TYPE_CHECKING:
    from sememe.index.storage.blockfile import BlockFile
    from sememe.index.storage.manifest import Segment
    from sememe.index.storage.store import Store


def is_tombstone(role: str) -> bool:
    """Whether a file of that role marks deleted records: one bit each, the union of all such files counts."""
    return role == "deleted" or role.startswith("deleted.")


class SegmentReader:
    """A segment of a store.

    Parameters
    ----------
    store : Store
        The open index.
    entry : Segment
        What the manifest says about the segment.
    offset : int
        The global row of its first passage.

    Attributes
    ----------
    codes : uint8 array of shape (passages, code_bytes)
        Of as many vectors as there are, where a passage has several: ``ragged`` tells whose they are.
        Mapped; ``ensure_codes(start, stop)`` verifies a range of bytes before it is read.
    records : Records
    ragged : RaggedTable or None
    postings : Postings or None
    deleted : bool array of shape (records,) or None
    """

    def __init__(self, store: Store, entry: Segment, offset: int) -> None:
        self.entry, self.offset, self.passages = entry, offset, entry.rows
        self._store = store
        info = entry.info
        try:
            roles = [role for role in ("records", "columns", "text") if role in entry.files]
            files: dict[str, BlockFile] = {role: self._file(role) for role in roles}
            self.records = Records(files, info, entry.rows)
            vectors = int(info.get("vectors", entry.rows))
            self.codes, self._codes_file = self._table("codes", int(info.get("code_bytes", 0)), vectors)
            self.fine_codes, self._fine_file = self._table("rescore", int(info.get("rescore_bytes", 0)), entry.rows)
            if self._fine_file is not None:
                self._fine_file.expect_few_rows()
            self._by_row = [*files.values(), *([self._fine_file] if self._fine_file is not None else [])]
            self.ragged = self._ragged(info)
            self.postings = self._postings(info)
            self.deleted = self._deleted()
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, CorruptIndex):
                raise
            raise CorruptIndex(f"the manifest's facts are malformed ({error!r})", where=entry.name) from None
        self._graph: Any = None

    def _file(self, role: str) -> BlockFile:
        return self._store.file(self.entry.files[role])

    def _table(self, role: str, width: int, rows: int) -> tuple[NDArray[np.uint8], BlockFile | None]:
        if role not in self.entry.files:
            if width and rows:
                raise CorruptIndex(f"the {role} of {self.passages} passages are missing", where=self.entry.name)
            return np.zeros((rows, width), dtype=np.uint8), None
        file = self._file(role)
        if file.length != rows * width:
            raise CorruptIndex(f"the {role} have {file.length} bytes, expected {rows * width}")
        return file.array(np.uint8, (rows, width)), file

    def _ragged(self, info: dict[str, Any]) -> RaggedTable | None:
        if "ragged" not in self.entry.files:
            return None
        packed = Packed(self._file("ragged"), info["ragged_layout"])
        return RaggedTable(packed, self.passages, int(info["vectors"]))

    def _postings(self, info: dict[str, Any]) -> Postings | None:
        if "postings" not in self.entry.files:
            return None
        return open_postings(Packed(self._file("postings"), info["postings_layout"]), info["postings"], self.passages)

    def _deleted(self) -> NDArray[np.bool_] | None:
        masks = [
            np.unpackbits(
                self._file(role).verified_array(np.uint8, (-(-self.records.count // 8),)), count=self.records.count
            )
            for role in self.entry.files
            if is_tombstone(role)
        ]
        return np.bitwise_or.reduce(masks).astype(bool) if masks else None

    @property
    def live_records(self) -> int:
        """Records that are not deleted."""
        return self.records.count - (0 if self.deleted is None else int(self.deleted.sum()))

    @property
    def codes_file(self) -> BlockFile | None:
        """What the codes lie in; None where there are none."""
        return self._codes_file

    @property
    def ensure_codes(self) -> Ensure | None:
        """What verifies a range of bytes of the codes; None once all are verified, which spares short scans a look."""
        return None if self._codes_file is None or self._codes_file.all_checked else self._codes_file.ensure

    def ensure_code_rows(self, rows: NDArray[np.int64]) -> None:
        """Verify the codes of rows picked out, in any order."""
        if self._codes_file is not None:
            self._codes_file.ensure_rows(rows, self.codes.shape[1])

    def ensure_fine(self, start: int, stop: int) -> None:
        """Verify bytes ``[start, stop)`` of the rescoring codes."""
        if self._fine_file is not None:
            self._fine_file.ensure(start, stop)

    def rescored(self, fine: Any, Q: Vectors, rows: NDArray[np.int64], k: int) -> Found:
        """The ``k`` best of each query's local ``rows`` ``(q, s)`` by the finer codes: ``(q, k')`` each."""
        assert self._fine_file is not None
        return rescored(fine, Q, self.fine_codes, self._fine_file, rows, k)

    def release(self) -> None:
        """Give back the memory of files that are read by row: one touch maps as much as lies together in the cache.

        What searches read from end to end (codes, graph, postings) stays.
        """
        for file in self._by_row:
            file.release()

    def graph(self, kind: Any) -> Any:
        """The engine over this segment's graph, whose every byte is verified first."""
        if self._graph is None:
            if "graph" not in self.entry.files:
                raise CorruptIndex("the graph is missing", where=self.entry.name)
            file = self._file("graph")
            if self._store.verify_mode == "off":
                file.verify_all()  # a damaged graph can crash the engine, so this is checked whatever was asked for
            buffer = file.verified_array(np.uint8, (file.length,))
            self._graph = kind.open(buffer, self.passages, int(self.entry.info["graph_dim"])), buffer
        return self._graph[0]  # the buffer stays with it: the engine keeps a bare pointer into it

    def alive_passages(self) -> NDArray[np.bool_] | None:
        """Mask over passages of records that are not deleted; None where all are alive."""
        return self._alive

    @cached_property
    def _alive(self) -> NDArray[np.bool_] | None:
        return None if self.deleted is None else self.records.passage_mask(~self.deleted)

    def alive_vectors(self) -> NDArray[np.bool_] | None:
        """Mask over the rows of ``codes`` that belong to such passages; None where all are alive."""
        alive = self.alive_passages()
        return alive if alive is None or self.ragged is None else np.repeat(alive, self.ragged.counts)
