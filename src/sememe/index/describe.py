"""From a passage row to what a person or a script wants to see of it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Value
from sememe.errors import InputError
from sememe.index.segment import SegmentReader


def locate(segments: Sequence[SegmentReader], row: int) -> tuple[SegmentReader, int]:
    """The segment and record row behind a global passage row."""
    for segment in segments:
        if segment.offset <= row < segment.offset + segment.passages:
            return segment, int(segment.records.records_of(np.array([row - segment.offset]))[0])
    raise InputError(f"there is no passage {row}", fix=f"there are {sum(s.passages for s in segments)}")


def identities(segments: Sequence[SegmentReader], rows: NDArray[np.int64]) -> NDArray[Any]:
    """The ids of the records behind global passage rows, an object array of the same shape; ``""`` for row -1."""
    ids = np.full(rows.size, "", dtype=object)
    flat = rows.reshape(-1)
    for segment in segments:
        here = np.flatnonzero((flat >= segment.offset) & (flat < segment.offset + segment.passages))
        if len(here):
            ids[here] = segment.records.strings("id").some(segment.records.records_of(flat[here] - segment.offset))
    return ids.reshape(rows.shape)


def hit(segments: Sequence[SegmentReader], row: int) -> dict[str, Any]:
    """Id, text of the passage, title, source, span and metadata, as JSON."""
    segment, record = locate(segments, row)
    records, local = segment.records, row - segment.offset
    text = records.text(record)
    span = records.spans(local, local + 1, record)[0]
    return {
        "id": records.strings("id")[record],
        "score": None,
        "text": text[span.start : span.stop],
        "title": records.strings("title")[record],
        "source": records.strings("source")[record],
        "span": [span.start, span.stop],
        "metadata": {name: plain(value) for name, value in records.columns.metadata(record).items()},
    }


def plain(value: Value) -> Any:
    """A metadata value as JSON: dates as ISO text."""
    return value.isoformat() if isinstance(value, datetime.date) else value
