"""An index over bare vectors: for those who bring arrays instead of text.

index = VectorIndex.build("my.vectors", "base.fbin", "int4 | ivf:4096 | rescore:int8", memory="4GB")
scores, rows = index.search(queries, k=10)
scores, rows = index.search(queries, k=10, allow=mask)

Coarse codes answer the query and stay in memory; the finer tier of ``rescore`` lies on disk and is read for the
shortlist only, after "Progressively Optimized Bi-Granular Document Representation for Scalable Embedding Based
Retrieval" (2022, arXiv 2201.05409). Rows are numbered in the order in which vectors come; numbers never change.
"""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors, as_vectors
from sememe.errors import ConflictError, CorruptIndex, FormatError, InputError
from sememe.index import vector_build as building
from sememe.index.arrays import Packed
from sememe.index.best import NO_ROW
from sememe.index.changes import load_codec
from sememe.index.ivf import cells_of
from sememe.index.pipeline import Pipeline
from sememe.index.storage.layout import Listing
from sememe.index.storage.manifest import Manifest
from sememe.index.storage.store import Store
from sememe.index.vector_segment import Found, VectorSegment
from sememe.index.vector_source import Given, Source
from sememe.kernels import native
from sememe.kernels.cells import Cells
from sememe.recipe import Recipe

KIND = "sememe-vectors"
SPARE = 256  # deleted rows up to which a search asks for as many more instead of naming all the others
MAX_K = 100_000


class VectorIndex:
    """A searchable set of vectors on disk. Made by ``build`` or ``open``; a context manager.

    Attributes
    ----------
    path : Path
    recipe : Recipe
        Without an encoder.
    dim : int
        Columns of the vectors that go in.
    """

    def __init__(self, store: Store, pipeline: Pipeline) -> None:
        self._store, self._pipeline = store, pipeline
        self.path, self.recipe = store.path, pipeline.recipe
        self._load()

    def _load(self) -> None:
        load_codec(self._store, self._pipeline)
        self._cells = _load_cells(self._store, int(self._pipeline.chain.dim_out_))
        self.dim = int(self._pipeline.chain.dim_in_)
        self._segments: list[VectorSegment] = []
        offset = 0
        for entry in self._store.manifest.segments:
            self._segments.append(VectorSegment(self._store, entry, offset, self._cells))
            offset += entry.rows
        self.rows = offset
        self._offsets = np.array([segment.offset for segment in self._segments], dtype=np.int64)

    # -- build and open -------------------------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        path: str | PathLike[str],
        vectors: Given,
        recipe: str | Recipe = "int4 | flat",
        *,
        ids: Any = None,
        train: Any = None,
        memory: str | int = "4GB",
        checkpoint: int | None = None,
        resume: bool = True,
        overwrite: bool = False,
        seed: int = 0,
        fs: Any = None,
    ) -> VectorIndex:
        """Build an index in one pass over the vectors, within a limit on memory.

        Parameters
        ----------
        path : path-like
            The folder of the index.
        vectors : array of shape (n, d), path of a .npy, .fbin, .i8bin or .u8bin file, or iterable of arrays (b, d)
            Rows are kept as they are; give unit rows for cosine.
        recipe : str or Recipe
            ``[transform |]* [quantizer |] index [| rescore:...]``, for example ``"int4 | ivf:4096 | rescore:fp16"``.
        ids : int64 array of shape (n,), optional
            What ``delete`` and ``ids`` go by; row numbers where not given. They need not be unique.
        train : array of shape (m, d), optional
            Vectors to learn codec and centres from. Otherwise they are drawn from an array or file; of an iterable,
            the first ones.
        memory : str or int
            What the process may hold, for instance ``"4GB"``. It sets how many rows are worked on at a time.
        checkpoint : int, optional
            Rows after which the build is committed, at most; about a million where memory allows.
        resume : bool
            Go on with a build of the same recipe that was interrupted here; the vectors must be the same. Without it
            that one is thrown away.
        overwrite : bool
            Replace a finished index.
        seed : int
            Of the sample.

        Raises
        ------
        InputError
            Vectors that cannot be used (the message names the row), too little memory for the recipe, or a resumed
            build with other vectors.
        StorageError
            The folder holds something else, or the disk refused.
        """
        pipeline = building.pipeline_of(recipe)
        source, numbers = Source(vectors), building.check_ids(ids)
        if numbers is not None and source.rows is not None and len(numbers) != source.rows:
            raise InputError(f"{len(numbers)} ids were given for {source.rows} vectors", fix="give one for each")
        plan = building.Plan.of(memory, pipeline, source.dim, checkpoint)
        store = _unfinished(path, fs) if resume else None
        if store is None:
            body = {
                "kind": KIND,
                "recipe": str(pipeline.recipe),
                "dim": source.dim,
                "seed": int(seed),
                "portion": plan.portion,
                "ids": numbers is not None,
                "building": True,
            }
            replaced = overwrite or (not resume and _begun(path, fs))
            store = Store.create(path, body, fs=fs, overwrite=replaced)
            sample = source.sample(plan.sample, seed) if train is None else as_vectors(train, name="train")
            cells = building.learn(store, pipeline, as_vectors(sample, name="train", dim=source.dim), seed)
            del sample
        else:
            _must_match(store, pipeline, source, numbers is not None, int(seed))
            load_codec(store, pipeline)
            cells = _load_cells(store, int(pipeline.chain.dim_out_))
        _fill(store, pipeline, cells, source, numbers, min(plan.portion, int(store.manifest.body["portion"])))
        return cls(store, pipeline)

    @classmethod
    def open(
        cls, path: str | PathLike[str], verify: Literal["lazy", "full", "off"] = "lazy", *, fs: Any = None
    ) -> VectorIndex:
        """Open an index at its newest version.

        Parameters
        ----------
        path : path-like
        verify : {"lazy", "full", "off"}
            Check blocks when they are first touched, all of them now, or not at all.

        Raises
        ------
        CorruptIndex, FormatError
            Damaged; not an index over vectors; or one whose build did not finish.
        """
        store = Store.open(path, fs=fs, verify=verify)
        try:
            body = _check_body(store)
            if body.get("building"):
                done = sum(segment.rows for segment in store.manifest.segments)
                raise FormatError(
                    f"the build of this index stopped after {done} rows",
                    where=str(store.path),
                    fix="run the same build again: it goes on from there",
                )
            return cls(store, building.pipeline_of(str(body["recipe"])))
        except BaseException:
            store.close()
            raise

    # -- search ---------------------------------------------------------------------------------------------------

    def search(
        self,
        Q: Any,
        k: int = 10,
        *,
        allow: NDArray[np.bool_] | None = None,
        rows: Any = None,
        threads: int | None = None,
        oversample: int | None = None,
        probes: int | None = None,
    ) -> Found:
        """The ``k`` best vectors for each query by inner product.

        Parameters
        ----------
        Q : array of shape (q, d)
        k : int
            At least 1.
        allow : bool array of shape (rows,), optional
            True where a row may be found.
        rows : int array, optional
            The only rows that may be found, in any order: shorter than ``allow`` where few may. Not both.
        threads : int, optional
            How many to use at most; the machine's cores where not given.
        oversample : int, optional
            The shortlist that is scored again holds this many times ``k``, instead of what the recipe says.
        probes : int, optional
            Lists (``ivf``) that are scanned, or candidates (``hnsw``) that are kept, instead of what the recipe says.

        Returns
        -------
        scores : float32 array of shape (q, k)
            Best first, of the finest codes; -inf where fewer than ``k`` rows may be found.
        rows : int64 array of shape (q, k)
            Ties go to the lower row (of the coarse codes, and of the finer ones in the shortlist); -1 as above.

        Raises
        ------
        InputError
            Queries of another width or with NaN, a filter of another length, a row that is not there.
        """
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= MAX_K:
            raise InputError(f"k must be a whole number from 1 to {MAX_K}, got {k!r}")
        for name, value in (("oversample", oversample), ("probes", probes)):
            if value is not None and (isinstance(value, bool) or value < 1):
                raise InputError(f"{name} must be at least 1, got {value!r}")
        queries = as_vectors(Q, name="queries", dim=self.dim)
        allowed = self._allowed(allow, rows)
        with native.limited(threads):
            return self._search(queries, int(k), allowed, oversample, probes)

    def _allowed(self, allow: Any, rows: Any) -> list[NDArray[np.int64] | None]:
        """Ascending rows of each segment that a filter lets through; None where there is no filter."""
        if allow is None and rows is None:
            return [None] * len(self._segments)
        if rows is None:
            mask = np.asarray(allow)
            if mask.dtype != bool or mask.shape != (self.rows,):
                raise InputError(f"allow must be bool of shape ({self.rows},), got {mask.dtype} of shape {mask.shape}")
            return [np.flatnonzero(mask[s.offset : s.offset + s.passages]) for s in self._segments]
        if allow is not None:
            raise InputError("allow and rows were both given", fix="give one of them")
        chosen = np.unique(np.asarray(rows))
        if chosen.size and chosen.dtype.kind not in "iu":
            raise InputError(f"rows must be whole numbers, got {chosen.dtype}")
        chosen = chosen.astype(np.int64)
        if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < self.rows:
            raise InputError(f"rows reach from {chosen[0]} to {chosen[-1]}, and there are {self.rows}")
        cuts = np.searchsorted(chosen, self._offsets[1:])
        return [part - s.offset for part, s in zip(np.split(chosen, cuts), self._segments)]

    def _search(
        self, queries: Vectors, k: int, allowed: list[NDArray[np.int64] | None], oversample: int | None, effort: Any
    ) -> Found:
        pipeline, rescore = self._pipeline, self._pipeline.rescore
        wanted = k if rescore is None else rescore.shortlist(k, oversample)
        projected = pipeline.chain.project(queries) if pipeline.chain.transforms else queries
        parts = []
        for segment, rows in zip(self._segments, allowed):
            scores, places = self._one(segment, projected, wanted, rows, effort)
            parts.append((scores, np.where(places >= 0, places + segment.offset, NO_ROW)))
        scores, places = _best(parts, wanted, len(queries))
        if rescore is not None:
            scores, places = self._rescored(queries if rescore.full else projected, places, k)
        found = self._rows_at(places)
        if scores.shape[1] < k:
            wide = ((0, 0), (0, k - scores.shape[1]))
            scores = np.pad(scores, wide, constant_values=-np.inf)
            found = np.pad(found, wide, constant_values=NO_ROW)
        return scores, found

    def _one(
        self, segment: VectorSegment, Q: Vectors, k: int, rows: NDArray[np.int64] | None, effort: int | None
    ) -> Found:
        """The best places of one segment that are not deleted; rows None: without a filter."""
        kind, quantizer = self._pipeline.kind, self._pipeline.chain.quantizer
        filtered = rows is not None
        if rows is None and segment.deleted is not None:
            if segment.dead <= min(SPARE, segment.passages // 4):
                more = kind.search(segment, quantizer, Q, k + segment.dead, None, False, effort)
                return _without(segment, *more, k)
            rows = segment.alive_rows
        elif rows is not None and segment.deleted is not None:
            rows = rows[~segment.deleted[rows]]
        if rows is None:
            found: Found = kind.search(segment, quantizer, Q, k, None, False, effort)
            return found
        if not len(rows):
            return np.empty((len(Q), 0), dtype=np.float32), np.empty((len(Q), 0), dtype=np.int64)
        found = kind.search(segment, quantizer, Q, k, segment.places_of(rows), filtered, effort)
        return found

    def _rescored(self, Q: Vectors, places: NDArray[np.int64], k: int) -> Found:
        """Score the shortlist of places ``(q, s)`` again with the finer codes and keep ``k``."""
        scores = np.full((len(Q), min(k, places.shape[1])), -np.inf, dtype=np.float32)
        found = np.full(scores.shape, NO_ROW, dtype=np.int64)
        for query in range(len(Q)):
            listed = np.sort(places[query][places[query] >= 0])
            cuts = np.searchsorted(listed, self._offsets[1:])
            parts = []
            for segment, some in zip(self._segments, np.split(listed, cuts)):
                if len(some):
                    q = Q[query : query + 1]
                    values, best = segment.rescored(self._pipeline.fine, q, some - segment.offset, k)
                    parts.append((values, best + segment.offset))
            values, best = _best(parts, k, 1)
            scores[query, : values.shape[1]], found[query, : best.shape[1]] = values[0], best[0]
        return scores, found

    def _rows_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Global rows of global places; -1 stays."""
        if self._cells is None or not places.size:
            return places
        owners = np.searchsorted(self._offsets, places, side="right") - 1
        out = places.copy()
        for number in np.unique(owners[places >= 0]).tolist():
            segment, here = self._segments[number], (owners == number) & (places >= 0)
            out[here] = segment.rows_at(places[here] - segment.offset) + segment.offset
        return out

    # -- change ---------------------------------------------------------------------------------------------------

    def add(self, vectors: Given, *, ids: Any = None, memory: str | int = "4GB") -> int:
        """Append vectors, in one commit; how many. Codec and centres stay as they are.

        Parameters
        ----------
        vectors, ids, memory
            As for ``build``; ids are needed exactly where the index has them.
        """
        source, numbers = Source(vectors), building.check_ids(ids)
        if source.dim != self.dim:
            raise InputError(f"the vectors have {source.dim} columns, expected {self.dim}")
        if (numbers is not None) != bool(self._store.manifest.body["ids"]):
            raise InputError("ids are given for all vectors of an index or for none of them")
        plan = building.Plan.of(memory, self._pipeline, self.dim)
        base = self._store.manifest
        with self._store.begin() as transaction:
            new = [
                building.write_portion(transaction, self._pipeline, self._cells, X, some)
                for X, some in building.portions(source, 0, plan.portion, numbers)
            ]
            transaction.commit(lambda fresh: building.append(fresh, base, new))
        self._load()
        return sum(segment.rows for segment in new)

    def delete(self, ids: Any) -> int:
        """Mark vectors as deleted, by id or, where none were given, by row; how many there were.

        Raises
        ------
        ConflictError
            Another writer changed the index since it was opened; ``refresh`` and try again.
        """
        wanted = building.check_ids(np.atleast_1d(np.asarray(ids)) if np.size(ids) else np.empty(0, np.int64))
        targets: dict[str, NDArray[np.bool_]] = {}
        for segment in self._segments:
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
        base = self._store.manifest
        with self._store.begin() as transaction:
            marks = {}
            for segment in self._segments:
                if (hit := targets.get(segment.entry.name)) is not None:  # type: ignore[assignment]
                    both = hit if segment.deleted is None else hit | segment.deleted
                    marks[segment.entry.name] = transaction.write("deleted", np.packbits(both))

            def update(fresh: Manifest) -> Manifest:
                if fresh.segments[: len(base.segments)] != base.segments or fresh.files != base.files:
                    raise ConflictError("another writer changed these vectors", fix="refresh and try again")
                changed = [
                    replace(s, files={**s.files, "deleted": marks[s.name]}) if s.name in marks else s
                    for s in fresh.segments
                ]
                return replace(fresh, segments=tuple(changed))

            transaction.commit(update)
        self._load()
        return int(sum(hit.sum() for hit in targets.values()))

    def refresh(self) -> bool:
        """Move to the newest version; whether there was a newer one."""
        moved = self._store.refresh()
        if moved:
            self._pipeline = building.pipeline_of(str(_check_body(self._store)["recipe"]))
            self.recipe = self._pipeline.recipe
            self._load()
        return moved

    # -- facts ----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Vectors that are not deleted."""
        return self.rows - sum(segment.dead for segment in self._segments)

    def ids(self, rows: Any) -> NDArray[np.int64]:
        """The id of each row, of the same shape; -1 stays -1. Row numbers where no ids were given."""
        wanted = np.asarray(rows, dtype=np.int64)
        out = wanted.copy()
        for segment in self._segments:
            known = segment.ids()
            here = (wanted >= segment.offset) & (wanted < segment.offset + segment.passages)
            if known is not None and here.any():
                out[here] = known[wanted[here] - segment.offset]
        return out

    def info(self) -> dict[str, Any]:
        """What the index holds and what every byte is for.

        Returns
        -------
        dict
            ``recipe``, ``dim``, ``rows``, ``live``, ``segments``, and bytes: ``ram`` (what searches touch again and
            again: codes, lists, order, graph, centres, what the codec learned, tombstones, and the places of rows once
            a filter has asked for them), ``disk`` (every part on disk; ``rescore`` and ``ids`` are read here and there
            only; ``overhead`` is checksums and the manifest), each with its ``total``.
        """
        disk: dict[str, int] = {}
        manifest = self._store.manifest
        for segment in manifest.segments:
            for role, entry in segment.files.items():
                disk[role] = disk.get(role, 0) + entry.length
        disk["side"] = sum(entry.length for entry in manifest.files.values())
        ram = {role: size for role, size in disk.items() if role not in ("rescore", "ids")}
        ram["places"] = sum(segment.map_bytes for segment in self._segments)
        disk["overhead"] = sum(e.size - e.length for e in manifest.entries()) + len(manifest.to_bytes())
        for part in (ram, disk):
            part["total"] = sum(part.values())
        return {
            "recipe": str(self.recipe),
            "dim": self.dim,
            "rows": self.rows,
            "live": len(self),
            "segments": len(self._segments),
            "ram": ram,
            "disk": disk,
        }

    def close(self) -> None:
        """Let go of the files."""
        self._store.close()

    def __enter__(self) -> VectorIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _best(parts: list[Found], k: int, queries: int) -> Found:
    """The ``k`` best of rankings ``(q, k')`` that share no row, best first, ties to the lower row."""
    if len(parts) == 1:
        return parts[0][0][:, :k], parts[0][1][:, :k]
    if not parts:
        return np.empty((queries, 0), dtype=np.float32), np.empty((queries, 0), dtype=np.int64)
    scores, rows = (np.concatenate(part, axis=1) for part in zip(*parts))
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _without(segment: VectorSegment, scores: NDArray[np.float32], places: NDArray[np.int64], k: int) -> Found:
    """A ranking less the deleted rows, cut to ``k``."""
    assert segment.deleted is not None
    gone = (places < 0) | segment.deleted[segment.rows_at(np.maximum(places, 0))]
    order = np.argsort(gone, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(gone, order, axis=1)
    return (
        np.where(kept, np.float32(-np.inf), np.take_along_axis(scores, order, axis=1)),
        np.where(kept, NO_ROW, np.take_along_axis(places, order, axis=1)),
    )


def _check_body(store: Store) -> dict[str, Any]:
    body = store.manifest.body
    if body.get("kind") != KIND:
        fix = "use sememe.open" if body.get("kind") == "sememe" else None
        raise FormatError("this is not an index over bare vectors", where=str(store.path), fix=fix)
    if not isinstance(body.get("recipe"), str):
        raise CorruptIndex("the manifest does not say what the recipe is", where=str(store.path))
    return body


def _load_cells(store: Store, dim: int) -> Cells | None:
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


# -- building ---------------------------------------------------------------------------------------------------------


def _begun(path: str | PathLike[str], fs: Any) -> bool:
    store = _unfinished(path, fs)
    if store is not None:
        store.close()
    return store is not None


def _unfinished(path: str | PathLike[str], fs: Any) -> Store | None:
    """The store of a build that was interrupted after its first commit; None where there is none."""
    from sememe.index.storage.fs import FileSystem

    fs = fs or FileSystem()
    if not Path(path).is_dir() or not Listing.read(fs, Path(path)).highest:
        return None
    store = Store.open(path, fs=fs)
    if store.manifest.body.get("kind") == KIND and store.manifest.body.get("building"):
        return store
    store.close()
    return None


def _must_match(store: Store, pipeline: Pipeline, source: Source, ids: bool, seed: int) -> None:
    """Refuse to go on with a build that was begun with something else."""
    here = {"recipe": str(pipeline.recipe), "dim": source.dim, "ids": ids, "seed": seed}
    for name, value in here.items():
        if store.manifest.body.get(name) != value:
            raise InputError(
                f"a build with {name} {store.manifest.body.get(name)!r} was interrupted here, and this is {value!r}",
                where=str(store.path),
                fix="go on with the same, or give resume=False to begin anew",
            )


def _fill(
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
    coming = building.portions(source, start, size, ids, first=done[-1].rows if done else None)
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
            new = building.write_portion(transaction, pipeline, cells, X, some)
            transaction.commit(lambda fresh, base=base, new=new: building.append(fresh, base, [new]))  # type: ignore[misc]
    with store.begin() as transaction:
        base = store.manifest
        transaction.commit(lambda fresh: building.append(fresh, base, [], building=False))
    store.vacuum(keep=1)
