"""Every change to an index as one commit: add, delete, compact, and the rules for writers that meet.

Two additions rebase onto each other unless they bring the same id. Two deletions rebase unless they delete the same
record. Merging segments keeps what others added meanwhile, and gives way to whoever deleted. Whoever comes second and
cannot rebase gets a ConflictError and has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe import progress
from sememe.contracts import Record, Vectors
from sememe.errors import ConflictError, CorruptIndex
from sememe.index.arrays import Packed, write_packed
from sememe.index.pipeline import Pipeline
from sememe.index.postings import PostingsWriter
from sememe.index.ragged import RaggedWriter
from sememe.index.records import RecordsWriter
from sememe.index.segment import SegmentReader, is_tombstone
from sememe.index.storage.blockfile import FileEntry
from sememe.index.storage.manifest import Manifest, Segment
from sememe.index.storage.store import Store
from sememe.index.writer import Intake, finish, segment_name, write_graph, write_segment

CODECS = ("chain", "fine")
Rows = dict[str, NDArray[np.int64]]  # record rows by segment name


def read(source: Any, policy: str) -> Iterable[Record]:
    """The records of a source; paths go through the readers, which share the duplicate policy."""
    if isinstance(source, (str, Path)) or hasattr(source, "__fspath__"):
        from sememe.text import read as read_text

        return read_text(source, on_duplicate=policy)
    return source


def live_ids(segments: Sequence[SegmentReader]) -> dict[str, tuple[str, int]]:
    """Where each record that is not deleted lies: id to (segment name, record row)."""
    found: dict[str, tuple[str, int]] = {}
    for segment in segments:
        for row, identity in enumerate(segment.records.ids()):
            if segment.deleted is None or not segment.deleted[row]:
                found[identity] = (segment.entry.name, row)
    return found


def fields(segments: Sequence[SegmentReader]) -> dict[str, set[str]]:
    """The metadata fields of all segments and their types."""
    found: dict[str, set[str]] = {}
    for segment in segments:
        for name, kinds in segment.records.columns.types().items():
            found.setdefault(name, set()).update(kinds)
    return found


# -- the fitted codec -------------------------------------------------------------------------------------------------


def load_codec(store: Store, pipeline: Pipeline) -> None:
    """Put the learned arrays of the manifest's codec into the pipeline, where it has none yet."""
    from sememe.codec.chain import Chain

    facts, files = store.manifest.body.get("codec"), store.manifest.files
    if facts is None or pipeline.chain is not None:
        return
    states = {}
    for part in CODECS:
        if part not in facts:
            continue
        try:
            layout, shapes = facts[part]["layout"], facts[part]["shapes"]
            packed = Packed(store.file(files[part]), layout) if layout else None
            states[part] = {n: packed.get(n).all().reshape(shapes[n]).copy() for n in layout} if packed else {}
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, CorruptIndex):
                raise
            raise CorruptIndex(f"the fitted codec is malformed ({error!r})", where=str(store.path)) from None
    pipeline.chain = Chain.restore(pipeline.recipe, states["chain"])
    if pipeline.rescore is not None:
        pipeline.fine = pipeline.rescore.make().load_state(states["fine"])


def write_codec(transaction: Any, pipeline: Pipeline) -> tuple[dict[str, Any], dict[str, FileEntry]]:
    """Write what the pipeline's codecs learned; the facts for the manifest's body, and the files."""
    facts: dict[str, Any] = {}
    files: dict[str, FileEntry] = {}
    for part in CODECS:
        codec = getattr(pipeline, part)
        if codec is None:
            continue
        state = {name: np.asarray(array) for name, array in codec.state().items()}
        shapes = {name: list(array.shape) for name, array in state.items()}
        flat = {name: np.ascontiguousarray(array).reshape(-1) for name, array in state.items()}
        layout: dict[str, Any] = {}
        if flat:
            files[part], layout = write_packed(transaction, part, flat)
        facts[part] = {"layout": layout, "shapes": shapes}
    return facts, files


# -- add --------------------------------------------------------------------------------------------------------------


def add(
    store: Store, pipeline: Pipeline, segments: Sequence[SegmentReader], records: Iterable[Record], intake: Intake
) -> dict[str, int]:
    """Write one segment of ``records`` and publish it; fits the codec where the index has none yet."""
    base, body = store.manifest, store.manifest.body
    fitted = pipeline.chain is not None
    with store.begin() as transaction:
        try:
            segment, counts = write_segment(
                transaction, pipeline, records, intake, store.path, seed=body["seed"], sample=body["sample"]
            )
            codec, files = write_codec(transaction, pipeline) if not fitted and pipeline.chain is not None else ({}, {})
            targets = _by_segment(intake.replaced)
            marks = _write_marks(transaction, segments, targets)

            def update(fresh: Manifest) -> Manifest:
                _refuse_replaced(base, fresh)
                if codec and "codec" in fresh.body:
                    raise ConflictError("another writer fitted the codec first", fix="open the index again and add")
                _refuse_shared_ids(store, base, fresh, intake.rows)
                kept = _marked(store, base, fresh, targets, marks)
                if segment is not None:
                    kept.append(replace(segment, name=segment_name(fresh.generation, [s.name for s in kept])))
                facts = {**fresh.body, "codec": codec} if codec else fresh.body
                return replace(fresh, segments=tuple(kept), body=facts, files={**fresh.files, **files})

            if segment is not None or not base.generation:
                transaction.commit(update)
        except BaseException:
            if not fitted:
                pipeline.chain = pipeline.fine = None
            raise
    return counts


def _refuse_replaced(base: Manifest, fresh: Manifest) -> None:
    """Another build may have overwritten the index: then codes, rows and names mean something else."""
    if not base.generation:
        return
    facts = [{key: value for key, value in m.body.items() if key != "codec"} for m in (base, fresh)]
    if facts[0] != facts[1] or (base.files and base.files != fresh.files):
        raise ConflictError("the index was built anew meanwhile", fix="open it again")


def _refuse_shared_ids(store: Store, base: Manifest, fresh: Manifest, mine: dict[str, int]) -> None:
    known = {segment.name: _content(segment) for segment in base.segments}
    for entry in fresh.segments:
        if known.get(entry.name) == _content(entry):
            continue
        shared = next((i for i in live_ids([SegmentReader(store, entry, 0)]) if i in mine), None)
        if shared is not None:
            raise ConflictError(f"another writer added or merged the id {shared!r}", fix="refresh and try again")


# -- delete -----------------------------------------------------------------------------------------------------------


def delete(store: Store, segments: Sequence[SegmentReader], ids: set[str]) -> int:
    """Mark the records with these ids as deleted; how many there were."""
    known = live_ids(segments)
    targets = _by_segment([known[identity] for identity in ids if identity in known])
    if not targets:
        return 0
    base = store.manifest
    with store.begin() as transaction:
        marks = _write_marks(transaction, segments, targets)

        def update(fresh: Manifest) -> Manifest:
            _refuse_replaced(base, fresh)
            return replace(fresh, segments=tuple(_marked(store, base, fresh, targets, marks)))

        transaction.commit(update)
    return sum(map(len, targets.values()))


def _by_segment(places: Iterable[tuple[str, int]]) -> Rows:
    rows: dict[str, list[int]] = {}
    for name, row in places:
        rows.setdefault(name, []).append(row)
    return {name: np.sort(np.asarray(found, dtype=np.int64)) for name, found in rows.items()}


def _write_marks(transaction: Any, segments: Sequence[SegmentReader], targets: Rows) -> dict[str, FileEntry]:
    """A bitmap for each segment that loses records: those deleted before and those deleted now."""
    marks = {}
    for segment in segments:
        if segment.entry.name in targets:
            mask = np.zeros(segment.records.count, dtype=bool) if segment.deleted is None else segment.deleted.copy()
            mask[targets[segment.entry.name]] = True
            marks[segment.entry.name] = transaction.write("deleted", np.packbits(mask))
    return marks


def _tombstones(segment: Segment) -> dict[str, FileEntry]:
    return {role: entry for role, entry in segment.files.items() if is_tombstone(role)}


def _content(segment: Segment) -> dict[str, FileEntry]:
    """What never changes about a segment."""
    return {role: entry for role, entry in segment.files.items() if not is_tombstone(role)}


def _marked(store: Store, base: Manifest, fresh: Manifest, targets: Rows, marks: dict[str, FileEntry]) -> list[Segment]:
    """The segments of ``fresh`` with the marks applied, or a ConflictError."""
    before = {segment.name: segment for segment in base.segments}
    there = {segment.name: _content(segment) for segment in fresh.segments}
    if lost := [name for name in marks if there.get(name) != _content(before[name])]:
        raise ConflictError(f"another writer merged the segment {lost[0]}", fix="refresh and try again")
    result = []
    for segment in fresh.segments:
        if segment.name not in marks:
            result.append(segment)
            continue
        stones = _tombstones(segment)
        if stones == _tombstones(before[segment.name]):
            files = {role: entry for role, entry in segment.files.items() if role not in stones}
            result.append(replace(segment, files={**files, "deleted": marks[segment.name]}))
            continue
        now = SegmentReader(store, segment, 0)
        if now.deleted is not None and now.deleted[targets[segment.name]].any():
            rows = targets[segment.name]
            row = int(rows[now.deleted[rows]][0])
            identity = now.records.strings("id")[row]
            raise ConflictError(f"another writer deleted {identity!r} first", fix="refresh and try again")
        role = f"deleted.{len(stones)}"
        result.append(replace(segment, files={**segment.files, role: marks[segment.name]}))
    return result


# -- compact ----------------------------------------------------------------------------------------------------------


def compact(store: Store, pipeline: Pipeline, segments: Sequence[SegmentReader]) -> None:
    """Merge ``segments`` into one that holds their live records, with its own graph and postings."""
    if not segments or (len(segments) == 1 and segments[0].deleted is None):
        return
    base = store.manifest
    with store.begin() as transaction:
        merged = _merge(transaction, pipeline, segments) if any(s.live_records for s in segments) else None

        def update(fresh: Manifest) -> Manifest:
            _refuse_replaced(base, fresh)
            if fresh.segments[: len(base.segments)] != base.segments:
                raise ConflictError("another writer deleted or merged records meanwhile", fix="refresh and try again")
            later = list(fresh.segments[len(base.segments) :])
            names = [segment.name for segment in fresh.segments]
            first = [] if merged is None else [replace(merged, name=segment_name(fresh.generation, names))]
            return replace(fresh, segments=(*first, *later))

        transaction.commit(update)


def _merge(transaction: Any, pipeline: Pipeline, segments: Sequence[SegmentReader]) -> Segment:
    table = RecordsWriter(transaction)
    with progress.task("merging", total=sum(s.records.count for s in segments), unit="records") as step:
        for segment in segments:
            first = segment.records.first()
            for row in range(segment.records.count):
                if segment.deleted is None or not segment.deleted[row]:
                    spans = segment.records.spans(int(first[row]), int(first[row + 1]), row)
                    table.add(segment.records.record(row), spans)
                step()
    files, info = table.close()
    if segments[0].postings is not None:
        _merge_postings(transaction, segments, files, info)
    ragged = RaggedWriter() if pipeline.multi else None
    for role, size in (("codes", "code_bytes"), ("rescore", "rescore_bytes")):
        if size in segments[0].entry.info:
            writer = transaction.new_file(role)
            for block in _live_codes(segments, role):
                writer.write(block)
                if ragged is not None:
                    ragged.add_codes(pipeline.chain.quantizer, block)
            files[role] = writer.close()
            info[size] = segments[0].entry.info[size]
    if ragged is not None:
        _merge_ragged(ragged, segments)
        ragged.write(transaction, files, info)
    if pipeline.chain is not None and table.passages:
        write_graph(transaction, pipeline, _decoded(pipeline, segments), int(pipeline.chain.dim_out_), files, info)
    return finish(transaction, "merged", table.passages, files, info, [])


def _live_codes(segments: Sequence[SegmentReader], role: str) -> Iterator[NDArray[np.uint8]]:
    """Codes of live passages, in order, a few megabytes at a time."""
    for segment in segments:
        codes, ensure, alive = (
            (segment.codes, segment.ensure_codes, segment.alive_vectors())
            if role == "codes"
            else (segment.fine_codes, segment.ensure_fine, segment.alive_passages())
        )
        step = max(1, (4 << 20) // max(1, codes.shape[1]))
        for start in range(0, len(codes), step):
            stop = min(start + step, len(codes))
            if ensure is not None:
                ensure(start * codes.shape[1], stop * codes.shape[1])
            yield codes[start:stop] if alive is None else codes[start:stop][alive[start:stop]]


def _merge_ragged(writer: RaggedWriter, segments: Sequence[SegmentReader]) -> None:
    for segment in segments:
        if segment.ragged is None:
            raise CorruptIndex("the vectors' table is missing", where=segment.entry.name)
        alive = segment.alive_passages()
        writer.add_counts(segment.ragged.counts if alive is None else segment.ragged.counts[alive])


def _decoded(pipeline: Pipeline, segments: Sequence[SegmentReader]) -> Iterator[Vectors]:
    """Live vectors in projected space, from the finest code that has them."""
    finer = pipeline.rescore is not None and not pipeline.rescore.full
    for codes in _live_codes(segments, "rescore" if finer else "codes"):
        yield (pipeline.fine if finer else pipeline.chain).decode(codes)


def _merge_postings(
    transaction: Any, segments: Sequence[SegmentReader], files: dict[str, FileEntry], info: dict[str, Any]
) -> None:
    first = segments[0].postings
    assert first is not None
    writer = PostingsWriter(named=first.named)
    for segment in segments:
        postings, alive = segment.postings, segment.alive_passages()
        if postings is None:
            raise CorruptIndex("a segment has no postings and others have", where=segment.entry.name)
        keep = np.ones(segment.passages, dtype=bool) if alive is None else alive
        writer.add_lists(postings.lists(keep), postings.lengths[keep])
    info["postings"], arrays = writer.arrays(first.weights)
    files["postings"], info["postings_layout"] = write_packed(transaction, "postings", arrays)
