"""Build an index, and open one.

index = sememe.build("docs/", "my.index", recipe="sentences:4 | static | int8 | flat")
index.results(index.search("who may approve it?", where="year >= 2024"))
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any, Literal

from sememe import progress as progress_module
from sememe.contracts import Record
from sememe.errors import InputError
from sememe.index import changes
from sememe.index.collection import Index, Source, check_body
from sememe.index.ledger import BuildReport
from sememe.index.pipeline import Pipeline
from sememe.index.storage.store import Store
from sememe.index.writer import Intake
from sememe.recipe import Recipe

__all__ = ["Index", "build", "open"]


@contextmanager
def showing(progress: bool) -> Iterator[None]:
    """Show progress as the command line does, for the time of a ``with`` block."""
    before = progress_module._mode
    if progress:
        progress_module.set_mode("auto")
    try:
        yield
    finally:
        progress_module.set_mode(before)


def _some(records: Iterable[Record]) -> Iterator[Record]:
    """The records; none at all is an error, so that nothing never replaces something."""
    count = 0
    for count, record in enumerate(records, 1):  # noqa: B007
        yield record
    if not count:
        raise InputError("there are no records, and the index that is there would be lost", fix="check the source")


def build(
    source: Source,
    path: str | PathLike[str],
    recipe: Recipe | str = "static | int8 | flat",
    *,
    encoder: Any = None,
    query_encoder: Any = None,
    cache: Any = None,
    on_duplicate: str = "error",
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
    sample: int = 50_000,
    fs: Any = None,
) -> Index:
    """Read, cut, encode and store a collection; the opened index, with its ``report``.

    Parameters
    ----------
    source : path or iterable of Record
        What ``sememe.read`` understands.
    path : path-like
        The folder of the index. It becomes an index when the build is done, not before.
    recipe : Recipe or str
    encoder, query_encoder : Encoder, optional
        Instead of the ones the recipe names; their digests are stored.
    cache : path or VectorCache, optional
        Keeps vectors, so that an interrupted build does not encode twice.
    on_duplicate : {"error", "first", "replace"}
        For ids that repeat; kept as the policy of ``add``. Files read from a path share it, except that ``replace``
        works between additions only: within one path a repeated id is an error.
    seed : int
        Chooses the sample.
    overwrite : bool
        Replace an index at ``path``; the old one answers until the new one is done.
    progress : bool
        Show progress on standard error.
    sample : int
        Passages that the codec is fitted on, at most.
    fs : FileSystem, optional
        For tests.

    Raises
    ------
    InputError
        Bad records, or a recipe that does not fit the data.
    StorageError
        The folder holds something already, or the disk refused.
    """
    started = time.monotonic()
    pipeline = Pipeline(recipe, encoder=encoder, query_encoder=query_encoder, cache=cache)
    intake = Intake(on_duplicate)
    dense = not pipeline.kind.sparse
    body = {
        "kind": "sememe",
        "recipe": str(pipeline.recipe),
        "dim": int(pipeline.encoder.dim) if dense else None,
        "on_duplicate": on_duplicate,
        "seed": int(seed),
        "sample": int(sample),
        **pipeline.identity(),
    }
    store = Store.create(path, body, fs=fs, overwrite=overwrite)
    reader = changes.read(source, on_duplicate)
    with showing(progress):
        counts = changes.add(store, pipeline, [], _some(reader) if overwrite else reader, intake)
    index = Index(store, pipeline)
    index._checked = True
    index.report = BuildReport(
        index=str(index.path),
        recipe=str(pipeline.recipe),
        records=index.records,
        passages=index.passages,
        ledger=index.ledger(),
        seconds=time.monotonic() - started,
        duplicates=intake.skipped + len(intake.dropped),
        empty=counts["empty"],
        read=getattr(reader, "report", None),
    )
    return index


def open(
    path: str | PathLike[str],
    verify: Literal["lazy", "full", "off"] = "lazy",
    *,
    encoder: Any = None,
    query_encoder: Any = None,
    cache: Any = None,
    fs: Any = None,
) -> Index:
    """Open an index at its newest version.

    Parameters
    ----------
    path : path-like
    verify : {"lazy", "full", "off"}
        Check blocks when they are first touched, all of them now, or not at all.
    encoder, query_encoder : Encoder, optional
        Instead of the ones the recipe names; their digests must be the stored ones.
    cache : path or VectorCache, optional
        For ``add``.
    fs : FileSystem, optional
        For tests.

    Raises
    ------
    CorruptIndex, FormatError
        Damaged, or not an index of this version.
    InputError
        The given encoder is not the one the index was built with.
    """
    store = Store.open(path, fs=fs, verify=verify)
    try:
        recipe = check_body(store.manifest.body, store.path)
        index = Index(store, Pipeline(recipe, encoder=encoder, query_encoder=query_encoder, cache=cache))
        if encoder is not None or query_encoder is not None:
            index._check_encoder()
    except BaseException:
        store.close()
        raise
    return index
