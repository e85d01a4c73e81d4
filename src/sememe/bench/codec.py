"""Recall at equal bytes: our codes beside those of faiss and turbovec, with the time to fit and to encode.

Every byte stored beside a row counts; what is stored once does not. A cell is won by the best recall among the codes of
at most so many bytes. faiss ranks decoded rows by inner product and by distance, and the better of the two counts: for
unit rows both ask for the same neighbours, but not for the same errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sememe.bench import texts
from sememe.bench.harness import Column, Settings, Table, once
from sememe.bench.machine import Limits
from sememe.bench.peers import note, peer
from sememe.bench.race import K, Rows, exact, recall
from sememe.contracts import Vectors
from sememe.recipe import Recipe

SIZE = 30_000
BYTES = (16, 32, 48, 96, 192)
SHORTLISTS = (0, 50, 100)
OURS = {
    16: ("additive:16", "pq:15,norm=score", "pq:15,rotate=true,norm=score", "klt:16"),
    32: ("additive:32", "pq:31,norm=score", "pq:31,rotate=true,norm=score", "klt:32"),
    48: ("additive:48", "pq:47,norm=score", "klt:48", "rabitq:1"),
    96: ("additive:96", "pq:95,norm=score", "klt:96", "rabitq:2"),
    192: ("klt:192", "rabitq:4", "rabitq:5"),
}
_TRAIN = 16_384  # vectors that every code learns from
_QUERIES = 400
# Bytes at which faiss learns a rotation; sums centres of the whole space; sums them in groups of dimensions.
_ROTATED = (16, 32, 48)
_RESIDUAL = (16, 32, 48)
_GROUPS = {16: 2, 32: 2, 48: 4, 96: 8}
_SHORT = max(SHORTLISTS)


@dataclass(frozen=True, slots=True)
class Code:
    """A code: its bytes a vector, seconds to fit and to encode, and recall@10 for each shortlist."""

    name: str
    ours: bool
    size: int
    fit: float
    encode: float
    recalls: list[float]


def tables(settings: Settings, limits: Limits) -> list[Table]:
    """Static vectors, or those that were given; and the ready MiniLM vectors."""
    sets = [("given" if settings.vectors else "static", *texts.vectors(settings, SIZE))]
    ready = texts.ready_vectors() if settings.vectors is None else None
    if ready is not None:
        X, Q = ready
        sets.append(("MiniLM", X[: settings.size], Q))
    out = []
    for name, X, Q in sets:
        Q = Q[:_QUERIES]
        codes = list(_codes(np.ascontiguousarray(X), Q, settings))
        about = f"{name} vectors, {len(X):,} x {X.shape[1]}, {len(Q)} queries"
        out += [_equal_bytes(f"Recall@10 at equal bytes: {about}", codes)]
        out += [_every(f"Every code: {about}", codes, len(X))]
    return out


def _codes(X: Vectors, Q: Vectors, settings: Settings) -> Iterator[Code]:
    train = X[np.random.default_rng(settings.seed).permutation(len(X))[:_TRAIN]]
    truth = exact(X, Q)
    for size in BYTES:
        for stage in OURS[size]:
            if len(train) > 256 and size < 4 * X.shape[1]:
                yield _ours(stage, train, X, Q, truth, settings.threads)
    yield from _faiss(train, X, Q, truth, settings.threads)
    yield from _turbovec(train, X, Q, truth, settings.threads)


def _best(scores: Any, k: int) -> Rows:
    k = min(k, scores.shape[1])
    part = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, part, axis=1), axis=1)
    return np.asarray(np.take_along_axis(part, order, axis=1))


def _code(
    name: str, ours: bool, size: int, times: tuple[float, float], found: Any, truth: Rows, Q: Vectors, X: Vectors
) -> Code:
    recalls = []
    for short in SHORTLISTS:
        rows = found[:, : short or K]
        if short:
            scores = np.einsum("qd,qkd->qk", Q, X[rows])
            rows = np.take_along_axis(rows, _best(scores, K), axis=1)
        recalls.append(recall(rows, truth))
    return Code(name, ours, size, *times, recalls)


def _seconds(call: Callable[[], Any], threads: int) -> float:
    return once(call)[0].seconds(threads)


def _ours(stage: str, train: Vectors, X: Vectors, Q: Vectors, truth: Rows, threads: int) -> Code:
    quantizer = Recipe.parse(f"static | {stage} | flat").quantizer.make()
    fit = _seconds(lambda: quantizer.fit(train), threads)
    spent, codes = once(lambda: quantizer.encode(X))
    found = np.concatenate([_best(quantizer.scores(Q[i : i + 50], codes), _SHORT) for i in range(0, len(Q), 50)])
    times = (fit, spent.seconds(threads))
    return _code(f"sememe {stage}", True, quantizer.code_bytes_, times, found, truth, Q, X)


def _faiss_quantizers(library: Any, d: int) -> Iterator[tuple[str, Any, Any]]:
    """Name, a map that comes first or None, and the quantizer."""
    for m in BYTES:
        narrow = d // m * m
        if narrow:
            plain = None if narrow == d else library.PCAMatrix(d, narrow)
            yield f"{'' if plain is None else 'PCA,'}PQ{m}", plain, _quiet(library.ProductQuantizer(narrow, m, 8))
        if narrow and m in _ROTATED:
            rotation = library.OPQMatrix(d, m, narrow)
            rotation.niter = 10
            yield f"OPQ{m}", rotation, _quiet(library.ProductQuantizer(narrow, m, 8))
        if m in _RESIDUAL:
            summed = library.ResidualQuantizer(d, m, 8)
            summed.use_beam_LUT = 1  # the faster of its two ways
            yield f"RQ{m}", None, _quiet(summed)
        groups = _GROUPS.get(m, 0)
        if groups and d % groups == 0:
            yield f"PRQ{groups}x{m // groups}", None, _grouped(library, d, groups, m // groups)


def _quiet(quantizer: Any) -> Any:
    quantizer.cp.min_points_per_centroid = 1  # no warning for each codebook
    return quantizer


def _grouped(library: Any, d: int, groups: int, books: int) -> Any:
    whole = library.ProductResidualQuantizer(d, groups, books, 8)
    for group in range(groups):
        part = library.downcast_AdditiveQuantizer(whole.subquantizer(group))
        part.use_beam_LUT = 1
        _quiet(part)
    return whole


def _faiss(train: Vectors, X: Vectors, Q: Vectors, truth: Rows, threads: int) -> Iterator[Code]:
    library = peer("faiss")
    if library is None or min(X.shape[1], len(train)) < 256:
        return
    library.omp_set_num_threads(threads)
    for name, first, quantizer in _faiss_quantizers(library, X.shape[1]):
        yield _summed(f"faiss {name}", first, quantizer, train, X, Q, truth, threads)
    product = library.METRIC_INNER_PRODUCT
    indexes = {factory: library.index_factory(X.shape[1], factory, product) for factory in ("SQ4", "SQ6")}
    for bits in (1, 2, 4, 5):
        turn = library.RandomRotationMatrix(X.shape[1], X.shape[1])
        coded = library.IndexRaBitQ(X.shape[1], product, bits)
        indexes[f"RaBitQ {bits} bits"] = library.IndexPreTransform(turn, coded)
    for name, index in indexes.items():
        fit = _seconds(partial(index.train, train), threads)
        encode = _seconds(partial(index.add, X), threads)
        size = index.sa_code_size() if name.startswith("SQ") else library.downcast_index(index.index).code_size
        yield _code(f"faiss {name}", False, int(size), (fit, encode), index.search(Q, _SHORT)[1], truth, Q, X)


def _summed(
    name: str, first: Any, quantizer: Any, train: Vectors, X: Vectors, Q: Vectors, truth: Rows, threads: int
) -> Code:
    """A quantizer of faiss by what it decodes, as its index ranks under either metric."""

    def fit() -> None:
        if first is not None:
            first.train(train)
        quantizer.train(train if first is None else first.apply(train))

    fitting = _seconds(fit, threads)
    spent, codes = once(lambda: quantizer.compute_codes(X if first is None else first.apply(X)))
    decoded = quantizer.decode(codes)
    if first is not None:
        decoded = first.reverse_transform(decoded)
    half = np.einsum("ij,ij->i", decoded, decoded) / 2
    times, size = (fitting, spent.seconds(threads)), int(codes.shape[1])
    found = [
        np.concatenate([_best(Q[i : i + 50] @ decoded.T - less, _SHORT) for i in range(0, len(Q), 50)])
        for less in (np.float32(0), half)
    ]
    ranked = [_code(name, False, size, times, rows, truth, Q, X) for rows in found]
    return replace(ranked[0], recalls=[max(pair) for pair in zip(*(code.recalls for code in ranked))])


def _turbovec(train: Vectors, X: Vectors, Q: Vectors, truth: Rows, threads: int) -> Iterator[Code]:
    library = peer("turbovec")
    if library is None:
        return
    if X.shape[1] % 8:
        note(f"turbovec needs widths that are a multiple of 8, not {X.shape[1]}")
        return
    for bits in (2, 4):
        index = library.TurboQuantIndex(X.shape[1], bits)
        fit = _seconds(partial(index.calibrate, train[:2048]), threads)
        encode = _seconds(partial(index.add, X), threads)
        found = np.asarray(index.search(Q, _SHORT)[1]).astype(np.int64)
        size = -(-len(index.to_bytes()) // len(X))  # turbovec is counted by the size of its file
        yield _code(f"turbovec {bits} bits", False, size, (fit, encode), found, truth, Q, X)


def _every(title: str, codes: list[Code], n: int) -> Table:
    columns = [Column("code"), Column("B/vector", ".0f"), Column("fit, s", ".2f"), Column("encode, k/s", ",.0f")]
    columns += [Column(_called(short), ".3f") for short in SHORTLISTS]
    rows = [[c.name, c.size, c.fit, n / c.encode / 1e3, *c.recalls] for c in sorted(codes, key=lambda c: c.size)]
    return Table(title, columns, rows)


def _called(short: int) -> str:
    return f"{short} rescored" if short else "recall@10"


def _equal_bytes(title: str, codes: list[Code]) -> Table:
    columns = [Column("bytes, shortlist"), Column("ours", ".3f"), Column("code"), Column("best peer", ".3f")]
    table = Table(title, [*columns, Column("code of it"), Column("points", "+.1f")])
    for size in BYTES:
        for place, short in enumerate(SHORTLISTS):
            own, other = (
                max(((c.recalls[place], c.name) for c in codes if c.ours == ours and c.size <= size), default=None)
                for ours in (True, False)
            )
            if own is None:
                continue
            theirs = other or (None, None)
            points = None if other is None else 100 * (own[0] - other[0])
            table.rows.append([f"{size}, {_called(short)}", own[0], own[1].removeprefix("sememe "), *theirs, points])
    return table
