"""An index over bare vectors: for those who bring arrays instead of text.

index = VectorIndex.build("my.vectors", "base.fbin", "int4 | ivf:4096 | rescore:int8", memory="4GB")
scores, rows = index.search(queries, k=10)
scores, rows = index.search(queries, k=10, allow=mask)

Coarse codes answer the query and stay in memory; the finer tier of ``rescore`` lies on disk and is read for the
shortlist only, after "Progressively Optimized Bi-Granular Document Representation for Scalable Embedding Based
Retrieval" (2022, arXiv 2201.05409). Rows are numbered in the order in which vectors come; ``compact``
alone changes numbers.
"""

from __future__ import annotations

from os import PathLike
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import as_vectors
from sememe.errors import CorruptIndex, FormatError, InputError
from sememe.index import vector_build as building
from sememe.index import vector_changes as changes
from sememe.index.changes import load_codec
from sememe.index.code_rows import Found
from sememe.index.pipeline import Pipeline
from sememe.index.storage.store import Store
from sememe.index.vector_search import VectorSearcher
from sememe.index.vector_segment import VectorSegment
from sememe.index.vector_source import Given, Source
from sememe.kernels import native
from sememe.recipe import Recipe

MAX_K = 100_000


@register(
    "bigranular",
    room="index",
    kind="store",
    summary="An index over bare vectors: codes in memory, finer codes or floats on disk, read for the shortlist only.",
    paper=Paper(
        "Progressively Optimized Bi-Granular Document Representation for Scalable Embedding Based Retrieval",
        2022,
        "2201.05409",
    ),
    claim="Light codes with a shortlist verified from disk rank nearly as the dense vectors would.",
)
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
        self._cells = building.load_cells(self._store, int(self._pipeline.chain.dim_out_))
        self.dim = int(self._pipeline.chain.dim_in_)
        self._segments: list[VectorSegment] = []
        offset = 0
        for entry in self._store.manifest.segments:
            self._segments.append(VectorSegment(self._store, entry, offset, self._cells))
            offset += entry.rows
        self.rows = offset
        self._searcher = VectorSearcher(self._pipeline, self._segments)

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
        vectors : array (n, d), path of a .npy, .fbin, .hbin, .i8bin or .u8bin file, or iterable of arrays (b, d)
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
            Replace a finished index; it is gone as soon as codec and centres of the new one are learned.
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
        store = building.unfinished(path, fs) if resume else None
        if store is None:
            body = {
                "kind": building.KIND,
                "recipe": str(pipeline.recipe),
                "dim": source.dim,
                "seed": int(seed),
                "portion": plan.portion,
                "ids": numbers is not None,
                "building": True,
            }
            replaced = overwrite or (not resume and building.unfinished(path, fs) is not None)
            store = Store.create(path, body, fs=fs, overwrite=replaced)
            sample = source.sample(plan.sample, seed) if train is None else as_vectors(train, name="train")
            cells = building.learn(store, pipeline, as_vectors(sample, name="train", dim=source.dim), seed)
            del sample
        else:
            building.must_match(store, pipeline, source, numbers is not None, int(seed))
            load_codec(store, pipeline)
            cells = building.load_cells(store, int(pipeline.chain.dim_out_))
        building.fill(store, pipeline, cells, source, numbers, min(plan.portion, int(store.manifest.body["portion"])))
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
        allow: NDArray[np.bool_] | NDArray[np.uint64] | None = None,
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
        allow : bool array of shape (rows,) or uint64 array of shape (ceil(rows / 64),), optional
            True where a row may be found; or a bit for each row, the first in the lowest bit, which is read faster.
        rows : int array, optional
            The only rows that may be found, in any order: shorter than ``allow`` where few may. Not both.
        threads : int, optional
            How many to use at most; the machine's cores where not given.
        oversample : int, optional
            The shortlist that is scored again holds this many times ``k``, instead of what the recipe says.
        probes : int, optional
            Lists (``ivf``) that are scanned, or candidates (``cascade``, ``hnsw``) that are kept, instead of what the
            recipe says.

        Returns
        -------
        scores : float32 array of shape (q, k)
            Best first, of the finest codes; -inf where fewer than ``k`` rows may be found.
        rows : int64 array of shape (q, k)
            -1 as above. Ties go to the lower row in a flat index, to the earlier place in lists.

        Raises
        ------
        InputError
            Queries of another width or with NaN, a filter of another length, a row that is not there.
        """
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= MAX_K:
            raise InputError(f"k must be a whole number from 1 to {MAX_K}, got {k!r}")
        for value in (oversample, probes):
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if value is not None and not (whole and value >= 1):
                raise InputError(f"oversample and probes must be whole numbers of at least 1, got {value!r}")
        queries = as_vectors(Q, name="queries", dim=self.dim)
        allowed = self._searcher.allowed(allow, rows)
        if threads is None:
            return self._searcher.ranked(queries, int(k), allowed, oversample, probes)
        with native.limited(threads):
            return self._searcher.ranked(queries, int(k), allowed, oversample, probes)

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
        assert wanted is not None
        found = changes.delete(self._store, self._segments, wanted)
        if found:
            self._load()
        return found

    def compact(self, *, memory: str | int = "4GB") -> None:
        """Merge segments and drop what was deleted; codes stay as they are, and so do the answers of a flat index.

        Rows are numbered anew where some are dropped: ``ids`` then gives, where no ids were given, their numbers
        before, and what is added later needs ids.

        Raises
        ------
        ConflictError
            Another writer changed the index since it was opened; ``refresh`` and try again.
        """
        changes.compact(self._store, self._pipeline, self._cells, self._segments, memory)
        self._load()

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
            ``index``, ``recipe``, ``dim``, ``rows``, ``live``, ``deleted``, ``segments``, ``generation``, whether rows
            have ``ids``, ``code_bytes`` and ``rescore_bytes`` of a vector, and bytes of all: ``ram`` (what searches
            touch again and again: codes, lists, order, graph or sketches, centres, what the codec learned, tombstones,
            and the places of rows once a filter has asked for them), ``disk`` (every part on disk; ``rescore``,
            ``ids`` and the codes of a cascade are read here and there only; ``overhead`` is checksums and the
            manifest), each with its ``total``.
        """
        disk: dict[str, int] = {}
        manifest = self._store.manifest
        for segment in manifest.segments:
            for role, entry in segment.files.items():
                disk[role] = disk.get(role, 0) + entry.length
        disk["side"] = sum(entry.length for entry in manifest.files.values())
        shortlisted = getattr(self._pipeline.kind, "shortlists", False) and "graph" in disk
        seldom = ("rescore", "ids", *(["codes"] if shortlisted else []))
        ram = {role: size for role, size in disk.items() if role not in seldom}
        ram["places"] = sum(segment.map_bytes for segment in self._segments)
        disk["overhead"] = sum(e.size - e.length for e in manifest.entries()) + len(manifest.to_bytes())
        for part in (ram, disk):
            part["total"] = sum(part.values())
        return {
            "index": str(self.path),
            "recipe": str(self.recipe),
            "dim": self.dim,
            "rows": self.rows,
            "live": len(self),
            "deleted": self.rows - len(self),
            "segments": len(self._segments),
            "generation": manifest.generation,
            "ids": bool(manifest.body["ids"]),
            "code_bytes": int(self._pipeline.chain.code_bytes_),
            "rescore_bytes": 0 if self._pipeline.fine is None else int(self._pipeline.fine.code_bytes_),
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


def _check_body(store: Store) -> dict[str, Any]:
    body = store.manifest.body
    if body.get("kind") != building.KIND:
        fix = "use sememe.open" if body.get("kind") == "sememe" else None
        raise FormatError("this is not an index over bare vectors", where=str(store.path), fix=fix)
    if not isinstance(body.get("recipe"), str):
        raise CorruptIndex("the manifest does not say what the recipe is", where=str(store.path))
    return body
