"""How large a collection is, measured on a part of it: what the ledger's prediction starts from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Record
from sememe.index.arrays import ALIGN, encode_text
from sememe.index.columns import ColumnsWriter
from sememe.index.passages import contents, cut
from sememe.index.pipeline import Pipeline
from sememe.recipe import Recipe

Counts = dict[str, float]


@dataclass(frozen=True)
class CorpusSizes:
    """Counts over a quarter, half and all of a random sample.

    Most counts grow in proportion, with what the second half of the sample added telling the rate: dictionaries that
    are full add nothing. Vocabularies follow ``a + b * n**p`` (Heaps' law, 1978, with a constant for words that every
    part has), which three points determine.
    """

    quarter: Counts
    half: Counts
    whole: Counts

    @classmethod
    def of(cls, records: Iterable[Record], recipe: Recipe | str, *, encoder: Any = None) -> CorpusSizes:
        """Measure records as ``recipe`` would cut them.

        Parameters
        ----------
        records : iterable of Record
            A random sample, or all there is. (The first records of a collection are not like the rest: their ids,
            for one, are shorter.)
        recipe : Recipe or str
            Says how records are cut, and whether terms or token vectors are counted.
        encoder : Encoder, optional
            Instead of the one the recipe names.
        """
        known = list(records)
        pipeline = Pipeline(recipe, encoder=encoder)
        parts = (known[: len(known) // 4], known[: len(known) // 2], known)
        return cls(*(_count(part, pipeline) for part in parts))

    def grown(self, factor: float) -> dict[str, Any]:
        """The arguments of ``ledger.predict`` for a collection ``factor`` times as large as the sample."""
        records = self.whole["records"]
        more = records * (factor - 1) / max(1, records - self.half["records"])
        grown: dict[str, Any] = {}
        for name, count in self.whole.items():
            later, earlier = count - self.half[name], self.half[name] - self.quarter[name]
            if name in ("terms", "term_bytes") and later > 0 and earlier > 0:
                power = float(np.clip(np.log2(later / earlier), 0.05, 1.0))
                grown[name] = round(count + later * (factor**power - 1) / (1 - 2**-power))
            else:
                grown[name] = round(count + later * more)
        grown["spans"] = bool(self.whole["spans"])
        return grown


def _count(records: list[Record], pipeline: Pipeline) -> Counts:
    chunker, analyzer = pipeline.chunker, pipeline.analyzer
    names = (
        "passages",
        "records",
        "id_bytes",
        "text_bytes",
        "title_bytes",
        "source_bytes",
        "spans",
        "postings",
        "vectors",
    )
    counts: Counts = dict.fromkeys(names, 0)
    columns = ColumnsWriter()
    vocabulary: set[str] = set()
    for record in records:
        spans = cut(record, chunker)
        counts["records"] += 1
        counts["passages"] += len(spans)
        counts["spans"] += any(s.start > 0 or s.stop < len(record.text) for s in spans) or len(spans) > 1
        for name, value in (
            ("id", record.id),
            ("text", record.text),
            ("title", record.title),
            ("source", record.source),
        ):
            counts[f"{name}_bytes"] += len(encode_text(value))
        columns.add(record.metadata, record.id)
        if pipeline.multi:
            counts["vectors"] += pipeline.kind.vectors(_tokens(pipeline.encoder, contents(record, spans)))
        if analyzer is not None:
            for text in contents(record, spans):
                words = set(analyzer.terms(text))
                counts["postings"] += len(words)
                vocabulary |= words
    counts["terms"] = len(vocabulary)
    counts["term_bytes"] = sum(len(encode_text(word)) for word in vocabulary)
    _, arrays = columns.arrays()
    counts["metadata_bytes"] = sum(-(-array.nbytes // ALIGN) * ALIGN for array in arrays.values())
    return counts


def _tokens(encoder: Any, texts: list[str]) -> NDArray[np.int64]:
    """Tokens of each text, without encoding them where the encoder can count."""
    if not texts:
        return np.zeros(0, dtype=np.int64)
    if hasattr(encoder, "count_tokens"):
        return np.asarray(encoder.count_tokens(texts), dtype=np.int64)
    return np.diff(encoder.encode_tokens(texts, kind="passage").offsets)
