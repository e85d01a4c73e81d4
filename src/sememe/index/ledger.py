"""What every byte of an index is for: measured on a built one, predicted for one that is not built yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sememe import catalog
from sememe.recipe import Recipe

if TYPE_CHECKING:
    from sememe.index.segment import SegmentReader
    from sememe.index.storage.store import Store

CHECKED = 64 << 10  # payload bytes under one 8-byte checksum
FILE_BYTES, TABLE_ENTRY = 16, 8
MANIFEST_BYTES, MANIFEST_FILE_BYTES = 3_000, 300
_RAM = ("codes", "side", "graph", "postings", "map", "tombstones")
_DISK_ONLY = ("ids", "rescore", "text", "metadata", "overhead")


@dataclass(frozen=True)
class Ledger:
    """Bytes of each part of an index.

    ``ram`` is what searches touch again and again; the rest is read for hits, for filters and for the shortlist only.

    Attributes
    ----------
    codes : int
        The vectors, as the quantizer keeps them.
    side : int
        What the codec learned: projections, codebooks, ranges.
    graph, postings, rescore : int
        Links and the engine's own vectors; inverted lists; the finer code of the rescoring tier.
    map : int
        Which passages belong to which record, their spans, and which vectors belong to which passage.
    tombstones : int
        Marks of deleted records.
    ids, text, metadata : int
        Ids; text, titles and sources; typed columns. All with their offsets.
    overhead : int
        Checksums, padding and the manifest.
    """

    codes: int = 0
    side: int = 0
    graph: int = 0
    postings: int = 0
    map: int = 0
    tombstones: int = 0
    ids: int = 0
    rescore: int = 0
    text: int = 0
    metadata: int = 0
    overhead: int = 0

    @property
    def ram(self) -> int:
        """Bytes that searches keep touching."""
        return sum(getattr(self, name) for name in _RAM)

    @property
    def total(self) -> int:
        """Bytes on disk."""
        return sum(getattr(self, part.name) for part in fields(self))

    def as_json(self) -> dict[str, int]:
        """All parts, with ``ram`` and ``total``."""
        return {**asdict(self), "ram": self.ram, "total": self.total}

    @classmethod
    def of(cls, store: Store, segments: Sequence[SegmentReader]) -> Ledger:
        """Measure the files of an open index."""
        from sememe.index.segment import is_tombstone

        parts = dict.fromkeys((part.name for part in fields(cls)), 0)
        manifest = store.manifest
        parts["side"] = sum(entry.length for entry in manifest.files.values())
        for segment in segments:
            info = segment.entry.info
            for role, entry in segment.entry.files.items():
                if role == "records":
                    for name, (dtype, length, _) in info["records_layout"].items():
                        parts[_part_of(name)] += np.dtype(dtype).itemsize * length
                elif role == "ragged":
                    for name, (dtype, length, _) in info["ragged_layout"].items():
                        part = "map" if name == "offsets" else "postings"
                        parts[part] += np.dtype(dtype).itemsize * length
                else:
                    parts["tombstones" if is_tombstone(role) else "metadata" if role == "columns" else role] += (
                        entry.length
                    )
        size = sum(entry.size for entry in manifest.entries()) + len(manifest.to_bytes())
        parts["overhead"] = size - sum(parts.values())
        return cls(**parts)


def _part_of(array: str) -> str:
    """Which part of the ledger an array of the record table belongs to."""
    if array in ("first", "spans"):
        return "map"
    return "ids" if array.startswith("id.") else "text"


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    ``duplicates`` counts records that gave way to another of the same id, ``empty`` those without title and text,
    which no query can find. ``read`` is the reader's report, where one read the source.
    """

    index: str
    recipe: str
    records: int
    passages: int
    ledger: Ledger
    seconds: float
    duplicates: int = 0
    empty: int = 0
    read: Any = field(default=None, compare=False)

    def as_json(self) -> dict[str, Any]:
        """The shape that ``sememe build --json`` prints."""
        return {
            "index": self.index,
            "recipe": self.recipe,
            "records": self.records,
            "passages": self.passages,
            "bytes": self.ledger.as_json(),
            "seconds": round(self.seconds, 3),
            "duplicates": self.duplicates,
            "empty": self.empty,
            **(
                {}
                if self.read is None
                else {"input": {a: self.read.total(a) for a in ("skipped", "changed", "ignored")}}
            ),
        }


def predict(
    recipe: Recipe | str,
    *,
    passages: int,
    records: int,
    dim: int,
    id_bytes: int,
    text_bytes: int = 0,
    title_bytes: int = 0,
    source_bytes: int = 0,
    metadata_bytes: int = 0,
    postings: int = 0,
    terms: int = 0,
    term_bytes: int = 0,
    spans: bool | None = None,
    vectors: int = 0,
) -> Ledger:
    """The ledger of an index with these contents, before anything is encoded.

    Parameters
    ----------
    recipe : Recipe or str
    passages, records : int
        Equal, with ``spans`` False, where every record is one passage.
    dim : int
        Width of the encoder's vectors; 0 for lexical recipes.
    id_bytes, text_bytes, title_bytes, source_bytes : int
        UTF-8 bytes of all records together.
    metadata_bytes : int
        Bytes of the typed columns.
    postings, terms, term_bytes : int
        Pairs of term and passage, different terms, and their UTF-8 bytes, for recipes with a lexical part.
    spans : bool, optional
        Whether passages are pieces of records; by default, whether there are more passages than records.
    vectors : int
        Vectors of all passages, for recipes that keep several of each.
    """
    from sememe.index.pipeline import kind_of

    recipe = Recipe.parse(recipe)
    kind = kind_of(recipe)
    spans = passages != records if spans is None else spans
    parts: dict[str, int] = {"metadata": metadata_bytes}
    parts["ids"] = id_bytes + _offsets(id_bytes, records)
    parts["text"] = sum(size + _offsets(size, records) for size in (text_bytes, title_bytes, source_bytes) if size)
    parts["map"] = (4 * (records + 1) if passages != records else 0) + (8 * passages if spans else 0)
    if not kind.sparse:
        multi = getattr(kind, "multi", False)
        _predict_dense(recipe, kind, vectors if multi else passages, dim, parts)
        if multi:
            parts["map"] += 4 * (passages + 1)
            quantizer = recipe.quantizer.make()
            if hasattr(quantizer, "cells_of"):  # passages are listed under the code's centres
                parts["postings"] = 4 * vectors + 4 * (quantizer.cells + 1)
    if postings:
        lexical = not kind.sparse or hasattr(catalog.find(recipe.encoder.name).make, "terms")
        from sememe.index.inverted import Inverted

        listed_by = kind if kind.sparse else Inverted()
        lists = listed_by.posting_bytes(postings, terms, passages, counts=lexical)
        parts["postings"] = (
            parts.get("postings", 0) + lists + (term_bytes + _offsets(term_bytes, terms) if term_bytes else 8 * terms)
        )
    files = [size for name, size in parts.items() if size]
    tables = sum(FILE_BYTES + TABLE_ENTRY * -(-size // CHECKED) for size in files)
    return Ledger(**parts, overhead=tables + MANIFEST_BYTES + MANIFEST_FILE_BYTES * len(files))


def _predict_dense(recipe: Recipe, kind: Any, vectors: int, dim: int, parts: dict[str, int]) -> None:
    from sememe.codec.chain import Chain

    chain = Chain.from_recipe(recipe)
    projected = dim
    for transform in chain.transforms:
        projected = transform.dim_out(projected)
    parts["codes"] = vectors * chain.bytes_per_vector(dim)
    parts["graph"] = kind.graph_bytes(vectors, projected)
    parts["side"] = _side_bytes(str(recipe), dim) if vectors else 0
    for stage in recipe.rerankers:
        reranker = stage.make()
        if stage.name == "rescore":
            parts["rescore"] = vectors * reranker.make().bytes_per_vector(dim if reranker.full else projected)


@lru_cache(maxsize=256)
def _side_bytes(recipe: str, dim: int) -> int:
    """Learned bytes depend on widths, not on data: fit on noise and look."""
    from sememe.index.pipeline import state_bytes

    return state_bytes(
        Recipe.parse(recipe), np.random.default_rng(0).standard_normal((max(512, dim + 1), dim), np.float32)
    )


def _offsets(size: int, count: int) -> int:
    return (count + 1) * (4 if size <= np.iinfo(np.uint32).max else 8) if size else 0
