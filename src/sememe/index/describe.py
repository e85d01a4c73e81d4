"""From a passage row to what a person or a script wants to see of it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np

from sememe.contracts import Value
from sememe.errors import InputError
from sememe.index.segment import SegmentReader


def locate(segments: Sequence[SegmentReader], row: int) -> tuple[SegmentReader, int]:
    """The segment and record row behind a global passage row."""
    for segment in segments:
        if segment.offset <= row < segment.offset + segment.passages:
            return segment, int(segment.records.records_of(np.array([row - segment.offset]))[0])
    raise InputError(f"there is no passage {row}", fix=f"there are {sum(s.passages for s in segments)}")


def identity(segments: Sequence[SegmentReader], row: int) -> str:
    """The id of the record behind a global passage row."""
    segment, record = locate(segments, row)
    return segment.records.strings("id")[record]


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
