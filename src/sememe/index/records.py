"""The record table of a segment: ids, titles, sources, text, metadata, and which passages belong to which record.

Text goes straight to its own file while records stream in; everything else is small and is packed into one file at the
end. The passages of a record are consecutive, so the map needs one number a record (``first``), and none where every
record has exactly one passage. Spans are not stored where every passage is its whole record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Record, Span
from sememe.errors import CorruptIndex, InputError
from sememe.index.arrays import OFFSETS, Lazy, Packed, Strings, StringsWriter, decode_text, encode_text, narrow
from sememe.index.columns import Columns, ColumnsWriter

if TYPE_CHECKING:
    from sememe.index.storage.blockfile import BlockFile

MAX_ID_BYTES = 512
MAX_SPAN = np.iinfo(np.uint32).max


class RecordsWriter:
    """Collects records for one segment.

    Parameters
    ----------
    transaction : Transaction
        Where the files of the segment are written.
    """

    def __init__(self, transaction: Any) -> None:
        self._transaction = transaction
        self._text: Any = None
        self._text_ends = [0]
        self._strings = {name: StringsWriter() for name in ("id", "title", "source")}
        self._columns = ColumnsWriter()
        self._first = [0]
        self._spans: list[int] = []
        self._whole = True
        self.id_bytes = 0

    @property
    def records(self) -> int:
        """Records so far."""
        return len(self._first) - 1

    @property
    def passages(self) -> int:
        """Passages so far."""
        return self._first[-1]

    def add(self, record: Record, spans: list[Span]) -> None:
        """The next record and the spans of its passages."""
        check_id(record)
        text = encode_text(record.text)
        if len(record.text) > MAX_SPAN:
            raise InputError(f"record {record.id!r} has {len(record.text):,} characters", fix="split it below 2**32")
        if text:
            if self._text is None:
                self._text = self._transaction.new_file("text")
            self._text.write(text)
        self._text_ends.append(self._text_ends[-1] + len(text))
        for name, value in (("id", record.id), ("title", record.title), ("source", record.source)):
            self._strings[name].add(value)
        self._columns.add(record.metadata, record.id)
        self._first.append(self._first[-1] + len(spans))
        for span in spans:
            self._spans += (span.start, span.stop)
            self._whole &= len(spans) == 1 and span.start == 0 and span.stop == len(record.text)

    def close(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Write what is left; the entries by role, and the part of the segment's ``info`` that describes them."""
        from sememe.index.arrays import write_packed

        files: dict[str, Any] = {}
        if self._text is not None:
            files["text"] = self._text.close()
        arrays: dict[str, NDArray[Any]] = {}
        for name, writer in self._strings.items():
            arrays |= writer.arrays(name)
        if self._text is not None:
            arrays["text.offsets"] = narrow(np.asarray(self._text_ends, dtype=np.int64))
        first = np.asarray(self._first, dtype=np.int64)
        if not np.array_equal(first, np.arange(len(first))):
            arrays["first"] = narrow(first)
        if not self._whole:
            arrays["spans"] = np.asarray(self._spans, dtype=np.uint32)
        schema, columns = self._columns.arrays()
        info: dict[str, Any] = {"records": self.records, "schema": schema}
        for role, group in (("records", arrays), ("columns", columns)):
            if group:
                files[role], info[f"{role}_layout"] = write_packed(self._transaction, role, group)
        return files, info


class Records:
    """The record table of one segment; nothing is read until it is asked for.

    Parameters
    ----------
    files : mapping of role to BlockFile
        ``records``, and where they exist ``text`` and ``columns``.
    info : dict
        What ``RecordsWriter.close`` returned.
    passages : int
        Passages of the segment.
    """

    def __init__(self, files: dict[str, BlockFile], info: dict[str, Any], passages: int) -> None:
        self.count, self.passages = int(info["records"]), passages
        packed = Packed(files["records"], info["records_layout"]) if "records" in files else None
        empty = Strings(None, None, self.count)
        self._strings = {n: Strings.of(packed, n, self.count) if packed else empty for n in ("id", "title", "source")}
        text = files.get("text")
        self._text = Strings(
            Lazy(text, "|u1", text.length, 0) if text is not None else None,
            packed.get("text.offsets", *OFFSETS) if packed and "text.offsets" in packed else None,
            self.count,
        )
        self._first = packed.get("first", *OFFSETS) if packed and "first" in packed else None
        self._spans = packed.get("spans", np.uint32) if packed and "spans" in packed else None
        expected = self.count + 1 if self._first is not None else passages
        if len(self._first if self._first is not None else range(self.count)) != expected:
            raise CorruptIndex(f"{self.count} records do not fit {passages} passages")
        if self._spans is not None and len(self._spans) != 2 * passages:
            raise CorruptIndex(f"{len(self._spans)} span ends for {passages} passages")
        layout = info.get("columns_layout")
        columns = Packed(files["columns"], layout) if layout and "columns" in files else None
        self.columns = Columns(columns, info["schema"], self.count)

    @property
    def one_passage_each(self) -> bool:
        """Whether record ``i`` is passage ``i``."""
        return self._first is None

    def strings(self, name: str) -> Strings:
        """The ``id``, ``title`` or ``source`` of every record."""
        return self._strings[name]

    def ids(self) -> list[str]:
        """All ids, in order."""
        return [decode_text(raw) for raw in self._strings["id"].all_raw()]

    def records_of(self, passages: NDArray[np.int64]) -> NDArray[np.int64]:
        """The record row of each passage row, any shape."""
        if self._first is None:
            return passages
        return np.searchsorted(self._first.all(), passages, side="right").astype(np.int64) - 1

    def first(self) -> NDArray[np.int64]:
        """Where the passages of each record begin, ``(records + 1,)``."""
        if self._first is None:
            return np.arange(self.count + 1, dtype=np.int64)
        return self._first.all().astype(np.int64)

    def passage_mask(self, records: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask over records as a mask over passages."""
        if self._first is None:
            return records
        first = self.first()
        return np.repeat(records, first[1:] - first[:-1])

    def text(self, row: int) -> str:
        """The whole text of a record."""
        return self._text[row]

    def spans(self, start: int, stop: int, record: int) -> list[Span]:
        """The spans of passages ``[start, stop)``, all of one record."""
        if self._spans is None:
            return [Span(0, len(self.text(record)))] * (stop - start)
        ends = self._spans.slice(2 * start, 2 * stop).reshape(-1, 2).tolist()
        return [Span(a, b) for a, b in ends]

    def record(self, row: int) -> Record:
        """One record, as it was given."""
        return Record(
            id=self._strings["id"][row],
            text=self.text(row),
            title=self._strings["title"][row],
            source=self._strings["source"][row],
            metadata=self.columns.metadata(row),
        )


def check_id(record: Record) -> None:
    """Ids are non-empty and at most 512 bytes of UTF-8."""
    if not isinstance(record.id, str) or not record.id:
        raise InputError("a record has no id", where=record.source or None, fix="give every record a non-empty id")
    if len(encode_text(record.id)) > MAX_ID_BYTES:
        raise InputError(
            f"the id {record.id[:40]!r}... is longer than {MAX_ID_BYTES} bytes", where=record.source or None
        )
