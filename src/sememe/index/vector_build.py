"""Write an index over vectors in portions: rows in, codes out, a commit after each, within a limit on memory.

A portion is the rows that are held as floats at a time. Each becomes a segment of its own and is committed when it is
written, so a build that is killed goes on from the last one; the manifest says until the end that it is not done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe import progress
from sememe.contracts import Codes, Vectors
from sememe.errors import ConflictError, CorruptIndex, InputError, RecipeError
from sememe.index.arrays import Packed, write_packed
from sememe.index.cascade_kind import CascadeKind
from sememe.index.changes import write_codec
from sememe.index.ivf import SAMPLE, Ivf, cells_of, gathered
from sememe.index.pipeline import Pipeline
from sememe.index.scan import Flat
from sememe.index.storage.fs import FileSystem
from sememe.index.storage.layout import Listing
from sememe.index.storage.manifest import Manifest, Segment
from sememe.index.storage.store import Store
from sememe.index.vector_source import Source
from sememe.index.writer import segment_name, write_graph
from sememe.kernels import native
from sememe.kernels.cells import Cells
from sememe.recipe import Recipe

if TYPE_CHECKING:
    from sememe.index.storage.transaction import Transaction

KIND = "sememe-vectors"
PORTION = 1 << 20  # rows at most
FEWEST = 4096  # rows of a portion, at least
TRAIN = 50_000  # rows that a codec is fitted on
BASE = 192 << 20  # bytes that the interpreter, the libraries and small buffers take
_BLOCK = 1 << 13  # rows coded at a time
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


class Given:
    """Stands where the encoder of a bare recipe would be."""

    name = digest = "vectors"


def pipeline_of(recipe: str | Recipe) -> Pipeline:
    """The pipeline of a bare recipe; kinds that work on text or on several vectors a row are refused."""
    parsed = Recipe.parse(recipe, bare=True)
    pipeline = Pipeline(parsed, encoder=Given())
    if pipeline.kind.sparse or pipeline.multi or pipeline.hybrid is not None:
        raise RecipeError(f"{str(parsed)!r} does not work on one vector a row", fix="for example: int4 | ivf:1024")
    return pipeline


def bytes_of(memory: str | int) -> int:
    """A size such as ``"4GB"``, ``"512 MiB"`` or a number of bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?I?B?)\s*", str(memory).upper())
    if isinstance(memory, bool) or match is None or match[2] not in _UNITS:
        raise InputError(f"memory={memory!r} is not a size", fix='write it like "4GB"')
    return int(float(match[1]) * _UNITS[match[2]])


@dataclass(frozen=True)
class Plan:
    """How a build divides its memory: rows of a portion, and rows that are learned from."""

    portion: int
    sample: int

    @classmethod
    def of(cls, memory: str | int, pipeline: Pipeline, dim: int, checkpoint: int | None = None) -> Plan:
        """For vectors of width ``dim``; ``checkpoint`` rows a portion at most.

        Raises
        ------
        InputError
            For less memory than any build of this recipe needs; the message says how much that is.
        """
        from sememe.codec.chain import Chain

        if checkpoint is not None and (isinstance(checkpoint, bool) or checkpoint < FEWEST):
            raise InputError(f"checkpoint={checkpoint!r} rows is too few", fix=f"give {FEWEST} or more")
        limit = bytes_of(memory)
        codes = Chain.from_recipe(pipeline.recipe).bytes_per_vector(dim)
        if pipeline.rescore is not None:
            codes += pipeline.rescore.make().bytes_per_vector(dim)
        # As float, as code, as code in another order (or in the engine of a graph) while it is written, and its place.
        row = 4 * dim + (1 if isinstance(pipeline.kind, (Flat, CascadeKind)) else 2) * codes + 24
        if isinstance(pipeline.kind, CascadeKind):
            row += 3 * -(-pipeline.kind.graph_bytes(FEWEST, dim) // FEWEST)  # as they come, laid out, and as bytes
        elif hasattr(pipeline.kind, "working_bytes"):
            row += pipeline.kind.working_bytes(dim)
        learn = 16 * dim  # the sample, its projection, a sorted copy and a block of distances
        lists = 12 * dim * pipeline.kind.lists if isinstance(pipeline.kind, Ivf) else 0
        free = limit - BASE - lists
        need = BASE + lists + FEWEST * max(row, learn)
        if free < FEWEST * max(row, learn):
            raise InputError(
                f"memory={memory!r} is too little for {str(pipeline.recipe)!r} on {dim} columns",
                fix=f"give at least {-(-need // 10**6)}MB",
            )
        wanted = max(TRAIN, SAMPLE * pipeline.kind.lists if isinstance(pipeline.kind, Ivf) else 0)
        return cls(min(free // row, checkpoint or PORTION), min(free // learn, wanted))


def learn(store: Store, pipeline: Pipeline, sample: Vectors, seed: int) -> Cells | None:
    """Fit codec and cells on a sample, and publish them as a version that holds no rows yet."""
    rows = np.random.default_rng(seed).permutation(len(sample))[:TRAIN]
    pipeline.fit(sample if len(rows) == len(sample) else np.ascontiguousarray(sample[np.sort(rows)]))
    cells = pipeline.kind.fit(pipeline.chain.project(sample), len(sample)) if isinstance(pipeline.kind, Ivf) else None
    with store.begin() as transaction:
        facts, files = write_codec(transaction, pipeline)
        body = {**store.manifest.body, "codec": facts}
        if cells is not None:
            arrays = {name: np.ascontiguousarray(array).reshape(-1) for name, array in vars(cells).items()}
            files["cells"], body["cells"] = write_packed(transaction, "cells", arrays)
        transaction.commit(lambda fresh: replace(fresh, segments=(), body=body, files=files))
    return cells


def portions(
    source: Source, start: int, size: int, ids: NDArray[np.int64] | None = None, first: int | None = None
) -> Iterator[tuple[Vectors, NDArray[np.int64] | None]]:
    """Rows from ``start`` on, ``size`` at a time (``first`` at the first time), with their ids.

    The array that is handed out is used again.
    """
    most = max(size, first or 0)
    buffer = np.empty((most if source.rows is None else max(1, min(most, source.rows - start)), source.dim), np.float32)
    filled, at, full = 0, start, min(first or size, len(buffer))
    for block in source.read(start):
        while len(block):
            some = block[: full - filled]
            buffer[filled : filled + len(some)] = some
            filled, block = filled + len(some), block[len(some) :]
            if filled == full:
                yield buffer[:filled], _ids(ids, at, filled)
                at, filled, full = at + filled, 0, min(size, len(buffer))
    if filled:
        yield buffer[:filled], _ids(ids, at, filled)
        at += filled
    if ids is not None and at != len(ids):
        raise InputError(f"{len(ids)} ids were given for {at} vectors", fix="give one for each")


def _ids(ids: NDArray[np.int64] | None, start: int, count: int) -> NDArray[np.int64] | None:
    if ids is None:
        return None
    if start + count > len(ids):
        raise InputError(f"{len(ids)} ids were given for more vectors", fix="give one for each")
    return ids[start : start + count]


def check_ids(ids: object) -> NDArray[np.int64] | None:
    """Ids as int64 ``(n,)``, or an InputError."""
    if ids is None:
        return None
    array = np.asarray(ids)
    if array.ndim != 1 or array.dtype.kind not in "iu" or (array.dtype == np.uint64 and array.max(initial=0) >> 63):
        raise InputError(f"ids must be whole numbers of shape (n,), got {array.dtype} of shape {array.shape}")
    return array.astype(np.int64, copy=False)


def write_portion(
    transaction: Transaction, pipeline: Pipeline, cells: Cells | None, X: Vectors, ids: NDArray[np.int64] | None
) -> Segment:
    """The files of one segment over rows ``(n, d)``; its name is given at the commit."""
    import xxhash

    fine, n = pipeline.fine, len(X)
    codes = np.empty((n, pipeline.chain.code_bytes_), dtype=np.uint8)
    finer = None if fine is None else np.empty((n, fine.code_bytes_), dtype=np.uint8)
    owner = np.empty(n, dtype=np.int32)

    def code(start: int) -> int:
        part = slice(start, min(start + _BLOCK, n))
        rows = X[part]
        projected = pipeline.chain.project(rows)
        codes[part] = pipeline.chain.quantizer.encode(projected)
        if finer is not None:
            assert pipeline.rescore is not None
            finer[part] = fine.encode(rows if pipeline.rescore.full else projected)
        if cells is not None:
            owner[part] = cells.assign(projected)
        return part.stop - start

    with ThreadPoolExecutor(native.threads()) as pool, progress.task("coding", total=n, unit="vectors") as step:
        for done in pool.map(code, range(0, n, _BLOCK)):
            step(done)
    files: dict[str, Any] = {}
    info: dict[str, Any] = {"code_bytes": int(codes.shape[1]), "input": xxhash.xxh3_64_hexdigest(X.data)}
    order: NDArray[np.uint32] | None = None
    if cells is not None:
        offsets, order = gathered(len(cells), owner)
        files["order"] = transaction.write("order", order)
        files["lists"] = transaction.write("lists", offsets)
    elif not isinstance(pipeline.kind, Flat):
        blocks = (pipeline.chain.project(X[start : start + _BLOCK]) for start in range(0, n, _BLOCK))
        write_graph(transaction, pipeline, blocks, int(pipeline.chain.dim_out_), files, info)
    files["codes"] = _write(transaction, "codes", codes, order)
    if finer is not None:
        files["rescore"], info["rescore_bytes"] = _write(transaction, "rescore", finer, order), int(finer.shape[1])
    if ids is not None:
        files["ids"] = transaction.write("ids", ids)
    return Segment(name="new", rows=n, files=files, info=info)


def _write(transaction: Transaction, role: str, codes: Codes, order: NDArray[np.uint32] | None) -> Any:
    writer = transaction.new_file(role)
    for start in range(0, len(codes), _BLOCK):
        stop = start + _BLOCK
        writer.write(codes[start:stop] if order is None else codes[order[start:stop]])
    return writer.close()


def append(fresh: Manifest, base: Manifest, segments: list[Segment], **facts: Any) -> Manifest:
    """``fresh`` with more segments, or a ConflictError where it is no longer the index that the writer opened."""
    if fresh.files != base.files:
        raise ConflictError("the index was built anew meanwhile", fix="open it again")
    kept = list(fresh.segments)
    for segment in segments:
        kept.append(replace(segment, name=segment_name(fresh.generation, [s.name for s in kept])))
    return replace(fresh, segments=tuple(kept), body={**fresh.body, **facts})


def load_cells(store: Store, dim: int) -> Cells | None:
    """The centres of the index, of so many columns; None where its kind has none."""
    layout = store.manifest.body.get("cells")
    if layout is None:
        return None
    try:
        packed = Packed(store.file(store.manifest.files["cells"]), layout)
        return cells_of({name: packed.get(name).all() for name in layout}, dim)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CorruptIndex):
            raise
        raise CorruptIndex(f"the centres are malformed ({error!r})", where=str(store.path)) from None


def unfinished(path: str | PathLike[str], fs: Any) -> Store | None:
    """The store of a build that was interrupted after its first commit; None where there is none."""
    fs = fs or FileSystem()
    if not fs.is_dir(Path(path)) or not Listing.read(fs, Path(path)).highest:
        return None
    store = Store.open(path, fs=fs)
    if store.manifest.body.get("kind") == KIND and store.manifest.body.get("building"):
        return store
    store.close()
    return None


def must_match(store: Store, pipeline: Pipeline, source: Source, ids: bool, seed: int) -> None:
    """Refuse to go on with a build that was begun with something else."""
    here = {"recipe": str(pipeline.recipe), "dim": source.dim, "ids": ids, "seed": seed}
    for name, value in here.items():
        if store.manifest.body.get(name) != value:
            raise InputError(
                f"a build with {name} {store.manifest.body.get(name)!r} was interrupted here, and this is {value!r}",
                where=str(store.path),
                fix="go on with the same, or give resume=False to begin anew",
            )


def fill(
    store: Store,
    pipeline: Pipeline,
    cells: Cells | None,
    source: Source,
    ids: NDArray[np.int64] | None,
    size: int,
) -> None:
    """Write what is not there yet, a commit a portion, and declare the index done."""
    import xxhash

    done = store.manifest.segments
    start = sum(segment.rows for segment in done[:-1])  # the last portion is read again and compared
    coming = portions(source, start, size, ids, first=done[-1].rows if done else None)
    if done:
        X, _ = next(coming, (np.empty((0, source.dim), dtype=np.float32), None))
        if xxhash.xxh3_64_hexdigest(X.data) != done[-1].info.get("input"):
            raise InputError(
                f"rows {start} to {start + done[-1].rows} are not those of the interrupted build",
                where=str(store.path),
                fix="give the same vectors, or resume=False to begin anew",
            )
    for X, some in coming:
        with store.begin() as transaction:
            base = store.manifest
            new = write_portion(transaction, pipeline, cells, X, some)
            transaction.commit(lambda fresh, base=base, new=new: append(fresh, base, [new]))  # type: ignore[misc]
    with store.begin() as transaction:
        base = store.manifest
        transaction.commit(lambda fresh: append(fresh, base, [], building=False))
    store.vacuum(keep=1)
