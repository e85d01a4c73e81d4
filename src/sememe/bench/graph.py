"""Graph search over static vectors at equal recall: ours against hnswlib, usearch and faiss."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sememe.bench import texts
from sememe.bench.harness import Column, Settings, Table, once
from sememe.bench.machine import Limits
from sememe.bench.peers import peer
from sememe.bench.race import Contender, K, race
from sememe.contracts import Vectors
from sememe.index.vectors import VectorIndex

SIZE = 50_000
EFFORTS = (10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 1000)
REQUIRED = (0.9, 0.95, 0.99)
CONNECTIVITY, BUILD = 16, 100
RECIPES = ("int8 | hnsw:16,build=100", "int8 | hnsw:16,build=100 | rescore:fp16", "int8 | flat")


def tables(settings: Settings, limits: Limits) -> list[Table]:
    """What building costs, then a race at each recall."""
    X, Q = texts.vectors(settings, SIZE)
    whole = f"{len(X):,} vectors of {X.shape[1]} dimensions"
    built = Table(f"Building, {whole}", [Column("what"), Column("s", ".1f"), Column("B/vector", ".0f")])
    with tempfile.TemporaryDirectory() as place:
        contenders = [*_ours(X, Path(place), settings, built), *_hnswlib(X, settings, built)]
        contenders += [*_usearch(X, settings, built), *_faiss(X, settings, built)]
        out = [
            race(f"At least {need} recall@10, {whole}", contenders, X, Q, settings, limits, required=need)
            for need in REQUIRED
        ]
    return [built, *out]


def _ours(X: Vectors, place: Path, settings: Settings, built: Table) -> Iterator[Contender]:
    for number, recipe in enumerate(RECIPES):
        spent, index = once(partial(VectorIndex.build, place / str(number), X, recipe))
        size = sum(file.stat().st_size for file in (place / str(number)).iterdir()) / len(X)
        built.rows.append([f"sememe {recipe}", spent.seconds(settings.threads), size])
        graph = "hnsw" in recipe

        def search(Q: Vectors, ef: int | None, index: VectorIndex = index) -> Any:
            return index.search(Q, K, probes=ef, threads=settings.threads)[1]

        name, read = f"sememe {recipe}", None if graph else float(X.shape[1])
        yield Contender(name, True, size, search, EFFORTS if graph else (None,), read)


def _hnswlib(X: Vectors, settings: Settings, built: Table) -> Iterator[Contender]:
    library = peer("hnswlib")
    if library is None:
        return
    index = library.Index(space="ip", dim=X.shape[1])
    index.init_index(len(X), M=CONNECTIVITY, ef_construction=BUILD, random_seed=settings.seed)
    index.set_num_threads(settings.threads)
    spent, _ = once(lambda: index.add_items(X))
    size = index.index_file_size() / len(X)
    built.rows.append(["hnswlib", spent.seconds(settings.threads), size])

    def search(Q: Vectors, ef: int) -> Any:
        index.set_ef(ef)
        return index.knn_query(Q, K)[0].astype(np.int64)

    yield Contender("hnswlib", False, size, search, EFFORTS)


def _usearch(X: Vectors, settings: Settings, built: Table) -> Iterator[Contender]:
    library = peer("usearch.index")
    if library is None:
        return
    keys = np.arange(len(X), dtype=np.uint64)
    for dtype in ("f32", "i8"):
        index = library.Index(ndim=X.shape[1], metric="ip", dtype=dtype, connectivity=CONNECTIVITY, expansion_add=BUILD)
        spent, _ = once(partial(index.add, keys, X, threads=settings.threads))
        size = index.serialized_length / len(X)
        built.rows.append([f"usearch {dtype}", spent.seconds(settings.threads), size])

        def search(Q: Vectors, ef: int, index: Any = index) -> Any:
            index.expansion_search = ef
            return np.atleast_2d(index.search(Q, K, threads=settings.threads).keys).astype(np.int64)

        yield Contender(f"usearch {dtype}", False, size, search, EFFORTS)


def _faiss(X: Vectors, settings: Settings, built: Table) -> Iterator[Contender]:
    library = peer("faiss")
    if library is None:
        return
    library.omp_set_num_threads(settings.threads)
    d, product = X.shape[1], library.METRIC_INNER_PRODUCT
    # Not by index_factory: its regular expressions crash where another library brought its own of the C++ runtime.
    made = {
        "flat": library.IndexHNSWFlat(d, CONNECTIVITY, product),
        "SQ8": library.IndexHNSWSQ(d, library.ScalarQuantizer.QT_8bit, CONNECTIVITY, product),
    }
    for name, index in made.items():
        index.hnsw.efConstruction = BUILD

        def fill(index: Any = index) -> None:
            index.train(X)
            index.add(X)

        spent, _ = once(fill)
        size = len(library.serialize_index(index)) / len(X)
        built.rows.append([f"faiss HNSW {name}", spent.seconds(settings.threads), size])

        def search(Q: Vectors, ef: int, index: Any = index) -> Any:
            index.hnsw.efSearch = ef
            return index.search(Q, K)[1]

        yield Contender(f"faiss HNSW {name}", False, size, search, EFFORTS)
