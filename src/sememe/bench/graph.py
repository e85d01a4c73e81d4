"""Graph search over static vectors at equal recall: ours against hnswlib and usearch, without filters and with.

hnswlib keeps floats. usearch gets int8 numbers made with one scale for all vectors, which it loses less with than with
its own rounding, and floats. (faiss crashes in a process that has loaded hnswlib, so it is not here; the scan and
filter benches have it.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.bench import texts
from sememe.bench.harness import Column, Settings, Spent, Table, interleaved, once
from sememe.bench.machine import Limits
from sememe.bench.peers import note, peer
from sememe.bench.race import SAFETY, Contender, K, race
from sememe.contracts import Vectors
from sememe.index.vectors import VectorIndex
from sememe.kernels import native

SIZE = 100_000
EFFORTS = (10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 1000)
WIDER = (2000, 4000, 8000)  # answers of usearch that are filtered afterwards
REQUIRED = (0.9, 0.95, 0.99)
FILTERED = 0.95
FILTERS = (("random", 0.5), ("random", 0.05), ("random", 0.005), ("near", 0.05), ("far", 0.05))
CONNECTIVITY, BUILD = 16, 100
OURS = f"hnsw:{CONNECTIVITY},build={BUILD}"
RECIPES = (f"int8 | {OURS}", f"fp16 | {OURS}", f"int8 | {OURS} | rescore:fp16", "int8 | flat")
_QUERIES, _FEW = 300, 5  # queries put to a filtered search, and to one that calls back into Python
_SEEN = 0.01  # share of rows that pass from which a filter that calls back into Python is tried
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fenced:
    """A graph searched under a filter: a function of a query ``(1, d)``, a mask and a setting, to rows."""

    name: str
    search: Callable[[Vectors, Mask, int], Any]
    settings: tuple[int, ...] = EFFORTS
    slow: bool = False


@dataclass(slots=True)
class Built:
    """What building a contender took."""

    name: str
    spent: Spent
    size: float


def tables(settings: Settings, limits: Limits) -> list[Table]:
    """What building costs, a race at each recall, and one under each filter."""
    X, Q = texts.vectors(settings, SIZE)
    whole = f"{len(X):,} vectors of {X.shape[1]} dimensions"
    built: list[Built] = []
    fenced: list[Fenced] = []
    with tempfile.TemporaryDirectory() as place:
        contenders = [*_ours(X, Path(place), settings, built, fenced), *_hnswlib(X, settings, built, fenced)]
        contenders += _usearch(X, settings, built, fenced)
        out = [
            race(f"At least {need} recall@10, {whole}", contenders, X, Q, settings, limits, required=need)
            for need in REQUIRED
        ]
        out += [_filtered(kind, share, fenced, X, Q[:_QUERIES], settings) for kind, share in FILTERS]
    return [_building(f"Building, {whole}", built, settings.threads), *out]


def _ours(X: Vectors, place: Path, settings: Settings, built: list[Built], fenced: list[Fenced]) -> Iterator[Contender]:
    for number, recipe in enumerate(RECIPES):
        with native.limited(settings.threads):
            spent, index = once(partial(VectorIndex.build, place / str(number), X, recipe))
        size = sum(file.stat().st_size for file in (place / str(number)).iterdir()) / len(X)
        built.append(Built(f"sememe {recipe}", spent, size))
        graph = "hnsw" in recipe

        def search(Q: Vectors, ef: int | None, index: VectorIndex = index) -> Any:
            return index.search(Q, K, probes=ef, threads=settings.threads)[1]

        def under(q: Vectors, mask: Mask, ef: int, index: VectorIndex = index) -> Any:
            return index.search(q, K, allow=mask, probes=ef, threads=settings.threads)[1][0]

        name, read = f"sememe {recipe}", None if graph else float(X.shape[1])
        fenced.append(Fenced(name, under, EFFORTS if graph else EFFORTS[:1]))
        yield Contender(name, True, size, search, EFFORTS if graph else (None,), read)


def _hnswlib(X: Vectors, settings: Settings, built: list[Built], fenced: list[Fenced]) -> Iterator[Contender]:
    library = peer("hnswlib")
    if library is None:
        return
    index = library.Index(space="ip", dim=X.shape[1])
    index.init_index(len(X), M=CONNECTIVITY, ef_construction=BUILD, random_seed=settings.seed)
    index.set_num_threads(settings.threads)
    spent, _ = once(lambda: index.add_items(X))
    size = index.index_file_size() / len(X)
    built.append(Built("hnswlib", spent, size))

    def search(Q: Vectors, ef: int) -> Any:
        index.set_ef(ef)
        return index.knn_query(Q, K)[0].astype(np.int64)

    def under(q: Vectors, mask: Mask, ef: int) -> Any:
        index.set_ef(ef)
        try:
            return index.knn_query(q, K, num_threads=1, filter=mask.__getitem__)[0][0].astype(np.int64)
        except RuntimeError:  # it has no answer where it met fewer than k
            return np.empty(0, dtype=np.int64)

    fenced.append(Fenced("hnswlib, callback", under, EFFORTS[3::2], slow=True))
    yield Contender("hnswlib", False, size, search, EFFORTS)


def _usearch(X: Vectors, settings: Settings, built: list[Built], fenced: list[Fenced]) -> Iterator[Contender]:
    library = peer("usearch.index")
    if library is None:
        return
    keys = np.arange(len(X), dtype=np.uint64)
    for dtype in ("f32", "i8"):
        index = library.Index(ndim=X.shape[1], metric="ip", dtype=dtype, connectivity=CONNECTIVITY, expansion_add=BUILD)
        rows = _narrow(X, float(np.abs(X).max())) if dtype == "i8" else X
        spent, _ = once(partial(index.add, keys, rows, threads=settings.threads))
        size = index.serialized_length / len(X)
        built.append(Built(f"usearch {dtype}", spent, size))

        def ask(Q: Vectors, ef: int, count: int, index: Any = index, narrow: bool = dtype == "i8") -> Any:
            index.expansion_search = ef
            queries = _narrow(Q, np.abs(Q).max(axis=1, keepdims=True)) if narrow else Q
            return np.atleast_2d(index.search(queries, count, threads=settings.threads).keys).astype(np.int64)

        def search(Q: Vectors, ef: int, ask: Any = ask) -> Any:
            return ask(Q, ef, K)

        def under(q: Vectors, mask: Mask, ef: int, ask: Any = ask) -> Any:
            found = ask(q, ef, ef)[0]
            return found[mask[found]][:K]

        fenced.append(Fenced(f"usearch {dtype}, filtered afterwards", under, EFFORTS + WIDER))
        yield Contender(f"usearch {dtype}", False, size, search, EFFORTS)


def _narrow(X: Vectors, largest: Any) -> NDArray[np.int8]:
    """Vectors as int8, the largest magnitude as 127."""
    return np.rint(X * (127 / largest)).astype(np.int8)


def _building(title: str, built: list[Built], threads: int) -> Table:
    table = Table(
        title, [Column("what"), Column("s", ".1f"), Column("B/vector", ".0f"), Column("x fastest peer", ".2f")]
    )
    rivals = [each.spent.seconds(threads) for each in built if not each.name.startswith("sememe")]
    for each in built:
        taken = each.spent.seconds(threads)
        ratio = min(rivals) / taken if rivals and each.name.startswith("sememe") and "hnsw" in each.name else None
        table.rows.append([each.name, taken, each.size, ratio])
    return table


def _filtered(kind: str, share: float, fenced: list[Fenced], X: Vectors, Q: Vectors, settings: Settings) -> Table:
    """One query at a time, each with its own filter; each contender at its first setting that finds enough.

    Settings are chosen on one half of the queries, as in `race`, and everything is measured on the other.
    """
    from sememe.bench.filter import mask_of

    generator = np.random.default_rng(settings.seed)
    scores, order = Q @ X.T, generator.permutation(len(X))
    masks, truth = [], []
    for line in scores:
        masks.append(mask_of(X, order, line, kind, share, generator))
        rows = np.flatnonzero(masks[-1])
        truth.append(rows[np.argsort(-line[rows], kind="stable")[:K]])
    half = len(Q) // 2

    def answers(each: Fenced, setting: int, first: int, last: int) -> list[Any]:
        return [each.search(Q[at : at + 1], masks[at], setting) for at in range(first, last)]

    def recall(found: list[Any], first: int) -> float:
        return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth[first:])]))

    needed = 1 - SAFETY * (1 - FILTERED)
    chosen: dict[str, tuple[int, float, int]] = {}
    calls: dict[str, Callable[[], Any]] = {}
    for each in fenced:
        if each.slow and share < _SEEN:
            continue  # nearly every row would be put to the callback
        count = min(half, _FEW) if each.slow else half
        fit = next((s for s in each.settings if recall(answers(each, s, 0, count), 0) >= needed), None)
        if fit is None:
            note(f"{each.name} does not reach recall {FILTERED} where {share:.1%} pass ({kind})")
            continue
        chosen[each.name] = fit, recall(answers(each, fit, half, half + count), half), count
        calls[each.name] = partial(answers, each, fit, half, half + count)
    times = interleaved(calls, settings.rounds)
    seconds = {name: times[name].seconds(1) / count for name, (_, _, count) in chosen.items()}
    rivals = [taken for name, taken in seconds.items() if not name.startswith("sememe")]
    columns = [Column("what"), Column("setting", "d"), Column("recall@10", ".4f"), Column("queries/s", ",.0f")]
    table = Table(f"{kind} filter, {share:.1%} of {len(X):,} rows pass", [*columns, Column("x best peer", ".2f")])
    for name, taken in seconds.items():
        ratio = min(rivals) / taken if rivals and name.startswith("sememe") else None
        table.rows.append([name, chosen[name][0], chosen[name][1], 1 / taken, ratio])
    return table
