"""Flat search over static vectors: codes as they are, and candidates scored again at a required recall."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sememe.bench import texts
from sememe.bench.harness import Settings, Table
from sememe.bench.machine import Limits
from sememe.bench.peers import note, peer
from sememe.bench.race import Contender, K, race
from sememe.contracts import Vectors
from sememe.recipe import Recipe

SIZE = 100_000
CODES = ("fp32", "fp16", "int8", "int4", "rabitq:2", "binary")
DEPTHS = (10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 400, 600, 800)
_TRAIN = 20_000


def tables(settings: Settings, limits: Limits) -> list[Table]:
    """Codes alone, then with scoring again at recall .99 and .999."""
    X, Q = texts.vectors(settings, SIZE)
    whole = f"{len(X):,} vectors of {X.shape[1]} dimensions"
    alone = [*_ours(X), *_faiss(X, settings), *_turbovec(X), *_numkong(X), *_usearch(X, settings), *_sqlite(X)]
    alone += _lancedb(X)
    out = [race(f"Codes as they are, {whole}", alone, X, Q, settings, limits)]
    with tempfile.TemporaryDirectory() as folder:
        again = [*_indexes(X, Path(folder)), *_cascades(X), *_turbovec_again(X), *_faiss_again(X, settings)]
        for required in (0.99, 0.999):
            title = f"At least {required} recall@10, candidates scored again by floats, {whole}"
            out.append(race(title, again, X, Q, settings, limits, required=required))
    return out


def _ours(X: Vectors) -> Iterator[Contender]:
    from sememe.index.scan import scan

    for stage in CODES:
        quantizer = Recipe.parse(f"static | {stage} | flat").quantizer.make().fit(X[:_TRAIN])
        codes = quantizer.encode(X)

        def search(Q: Vectors, _: Any, quantizer: Any = quantizer, codes: Any = codes) -> Any:
            return scan(quantizer, Q, codes, K)[1]

        yield Contender(f"sememe {stage}", True, quantizer.code_bytes_, search, read=quantizer.code_bytes_)


def _indexes(X: Vectors, folder: Path) -> Iterator[Contender]:
    from sememe.index.vectors import VectorIndex

    sizes = (80, 120, 160, 200, 240, 320, 400, 480, 640, 800, 1000, 1280, 1600, 2000, 2560, 3200, 4800, 6400)
    for bits in (1, 2):
        recipe = f"fp32 | cascade:{bits}"
        index = VectorIndex.build(folder / str(bits), X, recipe)

        def search(Q: Vectors, probes: int, index: VectorIndex = index) -> Any:
            return index.search(Q, K, probes=probes)[1]

        read = index.info()["ram"].get("graph", X.nbytes) / len(X)
        yield Contender(f"sememe index, {recipe}", True, read + X[0].nbytes, search, sizes, read)


def _cascades(X: Vectors) -> Iterator[Contender]:
    from sememe.index.cascade import Cascade

    sizes = (20, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400, 3200)
    grid = [(size, margin) for size in sizes for margin in (3.0, 3.5, 4.0, 4.5, 5.0, np.inf)]
    # Roughly microseconds: a candidate kept, and a row read.
    grid.sort(key=lambda s: 0.05 * s[0] + 0.13 * min(s[0], 64 + 4 * s[1] ** 3))
    for bits in (1, 2):
        made = Cascade(X, bits=bits)

        def search(Q: Vectors, setting: tuple[int, float], made: Cascade = made) -> Any:
            return made.topk(Q, K, candidates=setting[0], margin=setting[1])[1]

        read = made.blocks.nbytes / len(X)
        yield Contender(f"sememe cascade, {bits} bit", True, read + X[0].nbytes, search, grid, read)


def _again(X: Vectors, Q: Vectors, rows: Any) -> Any:
    """Score candidates ``(q, c)`` again, as a user of a library without that would: with NumPy."""
    best = np.empty((len(Q), K), dtype=np.int64)
    for at, query in enumerate(Q):
        scores = X[rows[at]] @ query
        best[at] = rows[at][np.argpartition(-scores, K - 1)[:K]]
    return best


def _turbovec_index(X: Vectors, bits: int) -> Any:
    library = peer("turbovec")
    if library is None:
        return None
    if X.shape[1] % 8:
        note(f"turbovec needs widths that are a multiple of 8, not {X.shape[1]}")
        return None
    index = library.TurboQuantIndex(X.shape[1], bits)
    index.add(X)
    index.prepare()
    return index


def _turbovec(X: Vectors) -> Iterator[Contender]:
    for bits in (2, 4):
        index = _turbovec_index(X, bits)
        if index is not None:
            read = X.shape[1] * bits / 8

            def search(Q: Vectors, _: Any, index: Any = index) -> Any:
                return np.asarray(index.search(Q, K)[1])

            yield Contender(f"turbovec, {bits} bit", False, read, search, read=read)


def _turbovec_again(X: Vectors) -> Iterator[Contender]:
    from sememe.kernels.rescore import rescore

    for bits in (2, 4):
        index = _turbovec_index(X, bits)
        if index is None:
            continue
        read = X.shape[1] * bits / 8

        def numpy(Q: Vectors, depth: int, index: Any = index) -> Any:
            return _again(X, Q, np.asarray(index.search(Q, depth)[1]).astype(np.int64))

        def ours(Q: Vectors, depth: int, index: Any = index) -> Any:
            return rescore(X, Q, np.asarray(index.search(Q, depth)[1]).astype(np.int64), K)[1]

        size = read + X[0].nbytes
        yield Contender(f"turbovec, {bits} bit, then NumPy", False, size, numpy, DEPTHS, read)
        yield Contender(f"turbovec, {bits} bit, then our rescoring", False, size, ours, DEPTHS, read)


def _faiss(X: Vectors, settings: Settings) -> Iterator[Contender]:
    library = peer("faiss")
    if library is None:
        return
    library.omp_set_num_threads(settings.threads)
    d = X.shape[1]
    names = {"flat": "Flat", "fp16": "SQfp16", "SQ8": "SQ8", "SQ4": "SQ4", f"PQ{d // 2}x4 fast-scan": f"PQ{d // 2}x4fs"}
    for name, factory in names.items():
        if "PQ" in factory and d % 2:
            continue
        index = library.index_factory(d, factory, library.METRIC_INNER_PRODUCT)
        index.train(X[:_TRAIN])
        index.add(X)
        size = index.sa_code_size() if "fs" not in factory else d / 4

        def search(Q: Vectors, _: Any, index: Any = index) -> Any:
            return index.search(Q, K)[1]

        yield Contender(f"faiss {name}", False, size, search, read=size)


def _faiss_again(X: Vectors, settings: Settings) -> Iterator[Contender]:
    library = peer("faiss")
    if library is None:
        return
    library.omp_set_num_threads(settings.threads)
    d = X.shape[1]
    flat = library.index_factory(d, "Flat", library.METRIC_INNER_PRODUCT)
    flat.add(X)
    yield Contender("faiss flat", False, 4 * d, lambda Q, _: flat.search(Q, K)[1], read=4 * d)
    quick = library.index_factory(d, f"PQ{d // 2}x4fs,RFlat", library.METRIC_INNER_PRODUCT)
    quick.train(X[:_TRAIN])
    quick.add(X)

    def search(Q: Vectors, depth: int) -> Any:
        wanted = library.IndexRefineSearchParameters(k_factor=depth / K)
        return quick.search(Q, K, params=wanted)[1]

    yield Contender("faiss PQ fast-scan, refined", False, d / 4 + 4 * d, search, DEPTHS, d / 4)


def _numkong(X: Vectors) -> Iterator[Contender]:
    library = peer("numkong")
    if library is None:
        return
    scale = np.float32(127 / np.abs(X).max())
    table = library.dots_pack(np.rint(X * scale).astype(np.int8))

    def search(Q: Vectors, _: Any) -> Any:
        queries = np.rint(Q / np.abs(Q).max(axis=1, keepdims=True) * 127).astype(np.int8)
        products = np.asarray(library.dots_packed(queries, table))
        return np.argpartition(-products, K - 1, axis=1)[:, :K]

    yield Contender("numkong int8, then argpartition", False, X.shape[1], search, read=X.shape[1])


def _usearch(X: Vectors, settings: Settings) -> Iterator[Contender]:
    library = peer("usearch.index")
    if library is None:
        return
    for dtype, kind in (("f16", np.float16), ("i8", np.int8)):
        rows = (X * 127 / np.abs(X).max()).round().astype(kind) if kind is np.int8 else X.astype(kind)

        def search(Q: Vectors, _: Any, rows: Any = rows, kind: Any = kind) -> Any:
            queries = np.rint(Q / np.abs(Q).max(axis=1, keepdims=True) * 127) if kind is np.int8 else Q
            found = library.search(
                rows, queries.astype(kind), K, library.MetricKind.IP, exact=True, threads=settings.threads
            )
            return np.atleast_2d(found.keys).astype(np.int64)

        yield Contender(f"usearch exact, {dtype}", False, rows[0].nbytes, search, read=rows[0].nbytes)


def sqlite_table(X: Vectors, column: str = "") -> Any:
    """An SQLite connection with the vectors in the virtual table ``v`` of sqlite-vec, or None where that is missing."""
    library = peer("sqlite_vec")
    if library is None:
        return None
    connection = sqlite3.connect(":memory:")
    if not hasattr(connection, "enable_load_extension"):
        note("this Python's sqlite3 cannot load extensions; sqlite-vec is left out")
        return None
    connection.enable_load_extension(True)
    library.load(connection)
    more = f", {column} integer" if column else ""
    connection.execute(f"create virtual table v using vec0(e float[{X.shape[1]}] distance_metric=cosine{more})")
    marks, rows = ("?, ?, ?", 3) if column else ("?, ?", 2)
    names = f"rowid, e, {column}" if column else "rowid, e"
    connection.executemany(
        f"insert into v({names}) values ({marks})",
        ((at, row.tobytes(), at)[:rows] for at, row in enumerate(X)),
    )
    return connection


def _sqlite(X: Vectors) -> Iterator[Contender]:
    connection = sqlite_table(X)
    if connection is None:
        return
    ask = "select rowid from v where e match ? and k = ? order by distance"

    def search(Q: Vectors, _: Any) -> Any:
        return [[row for (row,) in connection.execute(ask, (query.tobytes(), K))] for query in Q]

    yield Contender("sqlite-vec", False, X[0].nbytes, search, read=X[0].nbytes, batch=False)


def _lancedb(X: Vectors) -> Iterator[Contender]:
    table = lance_table(X)
    if table is None:
        return

    def search(Q: Vectors, _: Any) -> Any:
        return [table.search(q).distance_type("dot").limit(K).to_arrow()["n"].to_pylist() for q in Q]

    yield Contender("lancedb flat", False, X[0].nbytes, search, read=X[0].nbytes, batch=False)


def lance_table(X: Vectors) -> Any:
    """A LanceDB table with columns ``n`` and ``vector`` in a temporary folder, or None where it is missing."""
    library, arrow = peer("lancedb"), peer("pyarrow")
    if library is None or arrow is None:
        return None
    import tempfile

    place = tempfile.TemporaryDirectory()
    values = arrow.FixedSizeListArray.from_arrays(arrow.array(X.ravel()), X.shape[1])
    table = library.connect(place.name).create_table("v", arrow.table({"n": np.arange(len(X)), "vector": values}))
    table.kept = place  # the folder goes when the table does
    return table
