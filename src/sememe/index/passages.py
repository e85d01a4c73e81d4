"""From records to passages: what is cut, what is encoded.

A passage is a span of a record's text. What is encoded is the title, a space, and the span's text: the title stands in
every passage, once. A record with a title and blank text keeps one passage, its title; a record with neither has no
passage, can be found by no query, and is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sememe.contracts import Chunker, Record, Span, Vectors
from sememe.errors import InputError

TITLE_ONLY = [Span(0, 0)]


def cut(record: Record, chunker: Chunker) -> list[Span]:
    """The spans of a record's passages, in order."""
    spans = list(chunker.spans(record.text))
    for span in spans:
        if not 0 <= span.start <= span.stop <= len(record.text):
            raise InputError(
                f"the chunker cut characters {span.start} to {span.stop} of {len(record.text)}",
                where=f"record {record.id!r}",
            )
    if not spans and record.title.strip():
        return list(TITLE_ONLY)
    return spans


def contents(record: Record, spans: list[Span]) -> list[str]:
    """What is encoded for each span: the title once, then the span's text."""
    lead = f"{record.title} " if record.title else ""
    return [(lead + record.text[span.start : span.stop]).strip() for span in spans]


@dataclass
class PassageEncoder:
    """Passages to vectors, either each on its own or all of a document at once (late chunking).

    Parameters
    ----------
    encoder : Encoder
        Encodes passages; late chunking needs its ``encode_tokens``.
    late : bool
        Encode the whole document and pool its token vectors over each span, so that a passage knows its context
        (Late Chunking, 2024, arXiv 2409.04701).
    """

    encoder: Any
    late: bool = False

    def __call__(self, records: list[Record], spans: list[list[Span]]) -> Vectors:
        """One float32 row for each span of each record, in order."""
        if not self.late:
            texts = [text for record, cuts in zip(records, spans) for text in contents(record, cuts)]
            if not texts:
                return np.zeros((0, self.encoder.dim), dtype=np.float32)
            return np.ascontiguousarray(self.encoder.encode(texts, kind="passage"), dtype=np.float32)
        from sememe.encode.late import encode_spans

        rows = [np.zeros((0, self.encoder.dim), dtype=np.float32)]
        for record, cuts in zip(records, spans):
            if cuts == TITLE_ONLY:
                rows.append(self.encoder.encode([record.title], kind="passage"))
            elif cuts:
                lead = len(record.title) + 1 if record.title else 0
                whole = f"{record.title} {record.text}" if record.title else record.text
                rows.append(encode_spans(self.encoder, whole, [Span(s.start + lead, s.stop + lead) for s in cuts]))
        return np.ascontiguousarray(np.concatenate(rows), dtype=np.float32)
