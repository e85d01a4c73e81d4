"""Write one segment: records stream in, passages are encoded in batches, codes stream out.

Memory holds ids, offsets and metadata of the segment, the sample the codec is fitted on, and one batch; text goes
straight to its file and vectors to a scratch file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sememe import progress
from sememe.contracts import Ragged, Record, Span, Vectors, as_vectors
from sememe.errors import InputError
from sememe.index.arrays import write_packed
from sememe.index.passages import contents, cut
from sememe.index.pipeline import Pipeline
from sememe.index.postings import PostingsWriter
from sememe.index.ragged import RaggedWriter, Rows
from sememe.index.records import RecordsWriter, check_id
from sememe.index.spool import VectorSpool

if TYPE_CHECKING:
    from sememe.index.storage.manifest import Segment

POLICIES = ("error", "first", "replace")
BATCH = 512  # passages encoded together
BATCH_CHARACTERS = 4 << 20
TOKEN_BATCH = 64  # passages whose token vectors are held at once


@dataclass
class Intake:
    """Decides what happens to each incoming record, by its id.

    Parameters
    ----------
    policy : {"error", "first", "replace"}
        For an id that is already there: refuse, keep the one that came first, or let the later one take its place.
    known : dict of id to (segment name, record row)
        Records that are already in the index.
    """

    policy: str
    known: dict[str, tuple[str, int]] = field(default_factory=dict)
    replaced: list[tuple[str, int]] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    skipped: int = 0
    admitted: int = 0
    rows: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise InputError(f"there is no duplicate policy {self.policy!r}", fix=f"use one of {', '.join(POLICIES)}")

    def admit(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records to store, in order."""
        for record in records:
            if not isinstance(record, Record):
                raise InputError(f"expected a Record, got {type(record).__name__}", fix="see sememe.contracts.Record")
            check_id(record)
            if record.id in self.rows or record.id in self.known:
                if self.policy == "error":
                    raise InputError(
                        f"the id {record.id!r} appears twice",
                        where=record.source or None,
                        fix="make ids unique, or choose on_duplicate 'first' or 'replace'",
                    )
                if self.policy == "first":
                    self.skipped += 1
                    continue
                if record.id in self.rows:
                    self.dropped.append(self.rows[record.id])
                else:
                    self.replaced.append(self.known.pop(record.id))
            self.rows[record.id] = self.admitted
            self.admitted += 1
            yield record


def write_segment(
    transaction: Any,
    pipeline: Pipeline,
    records: Iterable[Record],
    intake: Intake,
    scratch: Path,
    *,
    seed: int = 0,
    sample: int = 50_000,
) -> tuple[Segment | None, dict[str, int]]:
    """Encode ``records`` into the files of one segment; None where nothing was admitted.

    The pipeline's codec is fitted on a sample of the passages where it is not fitted yet.
    """
    table = RecordsWriter(transaction)
    postings = _postings_writer(pipeline)
    ragged = RaggedWriter() if pipeline.multi else None
    counts = {"empty": 0}
    with VectorSpool(scratch) as spool, progress.task("encoding", unit="passages") as step:
        for batch in _batches(intake.admit(records), pipeline):
            counts["empty"] += sum(not spans for _, spans in batch)
            for record, spans in batch:
                table.add(record, spans)
                if postings is not None and pipeline.analyzer is not None:
                    for text in contents(record, spans):
                        postings.add_terms(list(pipeline.analyzer.terms(text)))
            if pipeline.sparse == "weights":
                assert postings is not None
                _add_sparse(postings, pipeline, batch)
            elif ragged is not None:
                for tokens in _encode_tokens(pipeline, batch):
                    spool.append(tokens.values)
                    ragged.add_counts(np.diff(tokens.offsets))
            elif not pipeline.sparse:
                spool.append(_encode(pipeline, batch))
            step(sum(len(spans) for _, spans in batch))
        if not table.records:
            return None, counts
        files, info = table.close()
        if postings is not None:
            weights = pipeline.kind.weights if pipeline.sparse == "weights" else "counts"
            info["postings"], arrays = postings.arrays(weights)
            files["postings"], info["postings_layout"] = write_packed(transaction, "postings", arrays)
        if len(spool):
            if pipeline.chain is None:
                pipeline.fit(spool.sample(sample, seed))
            files |= _write_codes(transaction, pipeline, spool, ragged, info)
    return finish(transaction, "new", table.passages, files, info, intake.dropped), counts


def finish(
    transaction: Any, name: str, passages: int, files: dict[str, Any], info: dict[str, Any], dropped: list[int]
) -> Segment:
    """The manifest's entry of a segment whose files are written; ``dropped`` records are born deleted."""
    from sememe.index.storage.manifest import Segment

    if dropped:
        mask = np.zeros(int(info["records"]), dtype=bool)
        mask[dropped] = True
        files["deleted"] = transaction.write("deleted", np.packbits(mask))
    return Segment(name=name, rows=passages, files=files, info=info)


def _postings_writer(pipeline: Pipeline) -> PostingsWriter | None:
    if pipeline.sparse == "weights":
        return PostingsWriter(named=False)
    return PostingsWriter(named=True) if pipeline.analyzer is not None else None


def _batches(records: Iterable[Record], pipeline: Pipeline) -> Iterator[list[tuple[Record, list[Span]]]]:
    batch: list[tuple[Record, list[Span]]] = []
    passages = characters = 0
    for record in records:
        spans = cut(record, pipeline.chunker)
        batch.append((record, spans))
        passages += len(spans)
        characters += len(record.text)
        if passages >= BATCH or characters >= BATCH_CHARACTERS:
            yield batch
            batch, passages, characters = [], 0, 0
    if batch:
        yield batch


def _encode(pipeline: Pipeline, batch: list[tuple[Record, list[Span]]]) -> Vectors:
    records = [record for record, _ in batch]
    spans = [cuts for _, cuts in batch]
    X = pipeline.passage_encoder(records, spans)
    expected = sum(map(len, spans))
    if len(X) != expected:
        raise InputError(
            f"the encoder gave {len(X)} vectors for {expected} passages", where=str(pipeline.recipe.encoder)
        )
    _refuse_infinite(X, batch)
    return as_vectors(X)


def _refuse_infinite(X: Vectors, batch: list[tuple[Record, list[Span]]], owners: Rows | None = None) -> None:
    """Name the record behind the first row that is not finite; ``owners`` are the passages of the rows."""
    if np.isfinite(X).all():
        return
    bad = int(np.flatnonzero(~np.isfinite(X).all(axis=1))[0])
    passage = bad if owners is None else int(owners[bad])
    owner = int(np.searchsorted(np.cumsum([len(spans) for _, spans in batch]), passage, side="right"))
    raise InputError("the encoder gave NaN or infinity", where=f"record {batch[owner][0].id!r}")


def _encode_tokens(pipeline: Pipeline, batch: list[tuple[Record, list[Span]]]) -> Iterator[Ragged]:
    """The vectors to store of a batch's passages, a few passages at a time."""
    texts = [text for record, spans in batch for text in contents(record, spans)]
    for start in range(0, len(texts), TOKEN_BATCH):
        tokens = pipeline.encode_tokens(texts[start : start + TOKEN_BATCH])
        owners = start + np.repeat(np.arange(len(tokens)), np.diff(tokens.offsets))
        _refuse_infinite(tokens.values, batch, owners)
        yield pipeline.kind.pool(tokens)


def _add_sparse(postings: PostingsWriter, pipeline: Pipeline, batch: list[tuple[Record, list[Span]]]) -> None:
    texts = [text for record, spans in batch for text in contents(record, spans)]
    if not texts:
        return
    matrix = pipeline.encoder.encode_sparse(texts, kind="passage")
    matrix.sort_indices()
    postings.add_weights(matrix.indptr, matrix.indices, matrix.data)


def _write_codes(
    transaction: Any, pipeline: Pipeline, spool: VectorSpool, ragged: RaggedWriter | None, info: dict[str, Any]
) -> dict[str, Any]:
    """Codes, rescoring codes and graph of the vectors in the scratch file; whose they are, where that is ragged."""
    files: dict[str, Any] = {}
    writer = transaction.new_file("codes")
    fine = transaction.new_file("rescore") if pipeline.fine is not None else None
    for X in spool.blocks():
        codes = pipeline.chain.encode(X)
        writer.write(codes)
        if ragged is not None:
            ragged.add_codes(pipeline.chain.quantizer, codes)
        if fine is not None:
            fine.write(pipeline.fine.encode(pipeline.fine_input(X)))
    files["codes"] = writer.close()
    info["code_bytes"] = int(pipeline.chain.code_bytes_)
    if ragged is not None:
        ragged.write(transaction, files, info)
    if fine is not None:
        files["rescore"] = fine.close()
        info["rescore_bytes"] = int(pipeline.fine.code_bytes_)
    dim = pipeline.chain.project(next(spool.blocks())[:1]).shape[1]
    write_graph(transaction, pipeline, (pipeline.chain.project(X) for X in spool.blocks()), dim, files, info)
    return files


def write_graph(
    transaction: Any,
    pipeline: Pipeline,
    blocks: Iterable[Vectors],
    dim: int,
    files: dict[str, Any],
    info: dict[str, Any],
) -> None:
    """The graph of an index kind that has one, over projected vectors."""
    graph = pipeline.kind.build(blocks, dim)
    if graph is not None:
        files["graph"] = transaction.write("graph", graph)
        info["graph_dim"] = dim


def segment_name(generation: int, taken: Iterable[str]) -> str:
    """A name no other segment of the index has."""
    numbers = [int(name.rpartition("-")[2]) for name in taken if name.rpartition("-")[2].isdigit()]
    return f"s-{max([0, *numbers, math.floor(generation)]) + 1}"
