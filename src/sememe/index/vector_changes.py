"""Deleting from an index over vectors, and merging its segments: codes are moved as they are, never coded again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe import progress
from sememe.contracts import Codes, Vectors
from sememe.errors import ConflictError
from sememe.index import vector_build as building
from sememe.index.ivf import gathered
from sememe.index.pipeline import Pipeline
from sememe.index.scan import Flat
from sememe.index.storage.manifest import Manifest, Segment
from sememe.index.storage.store import Store
from sememe.index.vector_segment import VectorSegment
from sememe.index.writer import segment_name, write_graph
from sememe.kernels.cells import Cells

if TYPE_CHECKING:
    from sememe.index.storage.transaction import Transaction

_BLOCK = 1 << 13  # rows moved at a time


def delete(store: Store, segments: list[VectorSegment], wanted: NDArray[np.int64]) -> int:
    """Mark the vectors with these ids as deleted; how many there were.

    Raises
    ------
    ConflictError
        Another writer changed these segments meanwhile.
    """
    targets: dict[str, NDArray[np.bool_]] = {}
    for segment in segments:
        known = segment.ids()
        if known is None:
            known = np.arange(segment.offset, segment.offset + segment.passages)
        hit = np.isin(known, wanted)
        if segment.deleted is not None:
            hit &= ~segment.deleted
        if hit.any():
            targets[segment.entry.name] = hit
    if not targets:
        return 0
    base = store.manifest
    with store.begin() as transaction:
        marks = {}
        for segment in segments:
            if segment.entry.name in targets:
                both = targets[segment.entry.name] | (False if segment.deleted is None else segment.deleted)
                marks[segment.entry.name] = transaction.write("deleted", np.packbits(both))

        def update(fresh: Manifest) -> Manifest:
            _must_be_as_before(fresh, base)
            changed = [
                replace(s, files={**s.files, "deleted": marks[s.name]}) if s.name in marks else s
                for s in fresh.segments
            ]
            return replace(fresh, segments=tuple(changed))

        transaction.commit(update)
    return int(sum(hit.sum() for hit in targets.values()))


def compact(
    store: Store, pipeline: Pipeline, cells: Cells | None, segments: list[VectorSegment], memory: str | int
) -> None:
    """Merge segments into as few as memory allows, without the deleted rows; nothing happens where that is so.

    Where rows had no ids of their own and some are dropped, the rows that stay keep their old numbers as ids.

    Raises
    ------
    ConflictError
        Another writer changed these segments meanwhile; what it added stands behind them.
    """
    portion = building.Plan.of(memory, pipeline, int(pipeline.chain.dim_in_)).portion
    alive = [np.arange(s.passages) if s.deleted is None else np.flatnonzero(~s.deleted) for s in segments]
    live, dead = sum(map(len, alive)), sum(s.dead for s in segments)
    if not dead and len(segments) <= -(-live // portion):
        return
    named = bool(store.manifest.body["ids"])
    owners = np.repeat(np.arange(len(segments), dtype=np.uint32), [len(rows) for rows in alive])
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *alive])
    base = store.manifest
    with store.begin() as transaction, progress.task("merging", total=live, unit="vectors") as step:
        merged = []
        for start in range(0, live, portion):
            part = _Part(segments, owners[start : start + portion], rows[start : start + portion])
            merged.append(_merged(transaction, pipeline, cells, part, ids=named or dead > 0))
            step(merged[-1].rows)

        def update(fresh: Manifest) -> Manifest:
            _must_be_as_before(fresh, base)
            if fresh.body != base.body or (dead and not named and len(fresh.segments) > len(base.segments)):
                raise ConflictError("another writer added vectors meanwhile", fix="refresh and try again")
            later = fresh.segments[len(base.segments) :]
            kept: list[Segment] = []
            for segment in merged:
                taken = [s.name for s in (*fresh.segments, *kept)]
                kept.append(replace(segment, name=segment_name(fresh.generation, taken)))
            body = {**fresh.body, "ids": named or dead > 0}
            return replace(fresh, segments=(*kept, *later), body=body)

        transaction.commit(update)


def _must_be_as_before(fresh: Manifest, base: Manifest) -> None:
    if fresh.segments[: len(base.segments)] != base.segments or fresh.files != base.files:
        raise ConflictError("another writer changed these vectors", fix="refresh and try again")


class _Part:
    """The live rows that one merged segment takes: for each the number of its segment, and its row there."""

    def __init__(self, segments: list[VectorSegment], owners: NDArray[np.uint32], rows: NDArray[np.int64]) -> None:
        self.segments, self.owners, self.rows = segments, owners, rows

    def __len__(self) -> int:
        return len(self.rows)

    def ids(self) -> NDArray[np.int64]:
        """Ids of the rows, or their numbers where they had none."""
        out = np.empty(len(self), dtype=np.int64)
        for number, segment in enumerate(self.segments):
            here, known = self.owners == number, segment.ids()
            out[here] = self.rows[here] + segment.offset if known is None else known[self.rows[here]]
        return out

    def cells(self) -> NDArray[np.int32]:
        """The list of each row."""
        out = np.empty(len(self), dtype=np.int32)
        for number, segment in enumerate(self.segments):
            here = self.owners == number
            assert segment.lists is not None
            places = segment.place_of(self.rows[here])
            out[here] = np.searchsorted(segment.lists.offsets, places, side="right") - 1
        return out

    def codes(self, order: NDArray[np.uint32] | None, finer: bool) -> Iterator[Codes]:
        """Codes of the rows, or of those at ``order``, a block at a time, verified."""
        for start in range(0, len(self), _BLOCK):
            chosen = slice(start, start + _BLOCK) if order is None else order[start : start + _BLOCK]
            owners, rows = self.owners[chosen], self.rows[chosen]
            width = self.segments[0].codes_of(finer).shape[1]
            out = np.empty((len(rows), width), dtype=np.uint8)
            for number in np.unique(owners).tolist():
                here, segment = owners == number, self.segments[number]
                places = segment.place_of(rows[here])
                segment.ensure_rows_of(finer, places)
                out[here] = segment.codes_of(finer)[places]
            yield out


def _merged(transaction: Transaction, pipeline: Pipeline, cells: Cells | None, part: _Part, *, ids: bool) -> Segment:
    """The files of one segment over the rows of ``part``."""
    files: dict[str, Any] = {}
    info: dict[str, Any] = {"code_bytes": int(pipeline.chain.code_bytes_)}
    order: NDArray[np.uint32] | None = None
    if cells is not None:
        offsets, order = gathered(len(cells), part.cells())
        files["order"] = transaction.write("order", order)
        files["lists"] = transaction.write("lists", offsets)
    elif not isinstance(pipeline.kind, Flat):
        write_graph(transaction, pipeline, _decoded(pipeline, part), int(pipeline.chain.dim_out_), files, info)
    files["codes"] = _write(transaction, "codes", part.codes(order, False))
    if pipeline.fine is not None:
        files["rescore"] = _write(transaction, "rescore", part.codes(order, True))
        info["rescore_bytes"] = int(pipeline.fine.code_bytes_)
    if ids:
        files["ids"] = transaction.write("ids", part.ids())
    return Segment(name="new", rows=len(part), files=files, info=info)


def _decoded(pipeline: Pipeline, part: _Part) -> Iterator[Vectors]:
    """Vectors in projected space, from the finest code that has them."""
    finer = pipeline.rescore is not None and not pipeline.rescore.full
    for codes in part.codes(None, finer):
        yield (pipeline.fine if finer else pipeline.chain).decode(codes)


def _write(transaction: Transaction, role: str, blocks: Iterator[Codes]) -> Any:
    writer = transaction.new_file(role)
    for block in blocks:
        writer.write(block)
    return writer.close()
