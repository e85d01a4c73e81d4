"""Filtered search, one query at a time, each with a filter of its own.

Filters let rows through at random, or rows that lie together, near the query or far from it. Everybody gets the filter
in the form that it takes (a mask, a bitmap, a clause of SQL), made outside the time; the index of records gets a
condition on metadata, and reads and evaluates it within the time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.bench import texts
from sememe.bench.harness import Column, Settings, Table, interleaved
from sememe.bench.machine import Limits
from sememe.bench.peers import peer
from sememe.bench.race import K
from sememe.bench.scan import lance_table, sqlite_table
from sememe.contracts import Record, Vectors
from sememe.index.cascade import Cascade
from sememe.index.engine import build
from sememe.index.vectors import VectorIndex

SIZE = 100_000
FILTERS = tuple((kind, share) for kind in ("random", "near", "far") for share in (0.5, 0.05, 0.005, 0.0005))
AS_GOOD = 0.99  # recall from which a peer counts
_QUERIES = 50
_FEW = 5  # queries put to what takes long
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Filtering:
    """A contender: what makes its form of a mask, and a function of a query ``(1, d)`` and that form."""

    name: str
    prepare: Callable[[Mask], Any]
    search: Callable[[Vectors, Any], Any]
    slow: bool = False


def tables(settings: Settings, limits: Limits) -> list[Table]:
    """A table a filter."""
    X, Q = texts.vectors(settings, SIZE)
    Q = Q[:_QUERIES]
    generator = np.random.default_rng(settings.seed)
    scores = Q @ X.T
    order = generator.permutation(len(X))  # a number for each row, of which random filters are a stretch
    with tempfile.TemporaryDirectory() as folder:
        contenders = [*_ours(X, order, Path(folder)), *_peers(X, settings)]
        found = []
        for kind, share in FILTERS:
            masks = [mask_of(X, order, line, kind, share, generator) for line in scores]
            found.append(_race(kind, share, masks, contenders, X, Q, scores, settings, limits))
        return found


def mask_of(X: Vectors, order: Any, scores: Any, kind: str, share: float, generator: np.random.Generator) -> Mask:
    """Rows at random (a stretch of ``order``), or those nearest to one row.

    That row is the best for the query, or drawn from the tenth of all that is farthest from it.
    """
    n = len(X)
    size = max(1, round(share * n))
    if kind == "random":
        first = int(generator.integers(n - size + 1))
        return np.asarray((order >= first) & (order < first + size))
    tenth = max(1, n // 10)
    centre = int(scores.argmax()) if kind == "near" else generator.choice(np.argpartition(scores, tenth - 1)[:tenth])
    mask = np.zeros(n, dtype=bool)
    mask[np.argpartition(-(X @ X[centre]), size - 1)[:size]] = True
    return mask


def _same(mask: Mask) -> Mask:
    return mask


class _Known:
    """An encoder that knows the vector of every row by its number."""

    name, digest = "known", "known"

    def __init__(self, X: Vectors) -> None:
        self.X, self.dim = X, X.shape[1]

    def encode(self, texts: Sequence[str], **options: Any) -> Vectors:
        """The rows that the texts name."""
        return self.X[[int(text) for text in texts]]


def _ours(X: Vectors, order: Any, folder: Path) -> Iterator[Filtering]:
    cascade = Cascade(X)

    def search(q: Vectors, allow: Any) -> Any:
        return cascade.topk(q, K, margin=5.0, allow=allow)[1][0]

    yield Filtering("sememe cascade, mask", _same, search)
    yield Filtering("sememe cascade, bitmap", cascade.blocks.bitmap, search)
    for recipe in ("fp32 | cascade", "int4 | flat | rescore:fp32"):
        index = VectorIndex.build(folder / recipe.partition(" ")[0], X, recipe)

        def by_index(q: Vectors, mask: Any, index: VectorIndex = index) -> Any:
            return index.search(q, K, allow=mask)[1][0]

        yield Filtering(f"sememe index, {recipe}, mask", _same, by_index)
        yield Filtering(f"sememe index, {recipe}, bitmap", cascade.blocks.bitmap, by_index)
    records = (Record(str(row), str(row), metadata={"place": place}) for row, place in enumerate(order.tolist()))
    whole = build(records, folder / "records", "static | cascade", encoder=_Known(X))

    def stretch(mask: Mask) -> Any:
        places = order[mask]
        low, high = int(places.min()), int(places.max())
        return f"place between {low} and {high}" if high - low + 1 == len(places) else None

    def by_condition(q: Vectors, where: str) -> Any:
        return whole.search(q, K, where).rows[0]

    yield Filtering("sememe index of records, static | cascade, condition", stretch, by_condition)


def _peers(X: Vectors, settings: Settings) -> Iterator[Filtering]:
    from sememe.kernels.rescore import rescore

    faiss = peer("faiss")
    if faiss is not None:
        faiss.omp_set_num_threads(settings.threads)
        flat = faiss.IndexFlatIP(X.shape[1])
        flat.add(X)

        def packed(mask: Mask) -> Any:
            return np.packbits(mask, bitorder="little")

        def by_faiss(q: Vectors, bits: Any) -> Any:
            return flat.search(q, K, params=faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits)))[1][0]

        yield Filtering("faiss flat, bitmap", packed, by_faiss)
    turbovec = peer("turbovec") if X.shape[1] % 8 == 0 else None
    if turbovec is not None:
        turbo = turbovec.TurboQuantIndex(X.shape[1], 4)
        turbo.add(X)
        turbo.prepare()

        def again(q: Vectors, mask: Mask) -> Any:
            return rescore(X, q, np.asarray(turbo.search(q, 5 * K, mask=mask)[1]).astype(np.int64), K)[1][0]

        yield Filtering("turbovec, mask, our rescoring", _same, again)
    lance = lance_table(X)
    if lance is not None:

        def clause(mask: Mask) -> Any:
            rows = np.flatnonzero(mask)
            return f"n in ({', '.join(map(str, rows.tolist()))})" if len(rows) <= 1000 else None

        def by_lance(q: Vectors, where: str) -> Any:
            asked = lance.search(q[0]).distance_type("dot").where(where, prefilter=True).limit(K)
            return np.array(asked.to_arrow()["n"].to_pylist())

        yield Filtering("lancedb, list of ids", clause, by_lance, slow=True)
    sqlite = sqlite_table(X)
    if sqlite is not None:

        def ids(mask: Mask) -> Any:
            rows = np.flatnonzero(mask)
            return ", ".join(map(str, rows.tolist())) if len(rows) <= 1000 else None

        def by_sqlite(q: Vectors, rows: str) -> Any:
            ask = f"select rowid from v where e match ? and k = ? and rowid in ({rows})"
            return np.array([row for (row,) in sqlite.execute(ask, (q.tobytes(), K))])

        yield Filtering("sqlite-vec, list of ids", ids, by_sqlite, slow=True)


def _race(
    kind: str, share: float, masks: list[Mask], contenders: list[Filtering], X: Vectors, Q: Vectors, scores: Any,
    settings: Settings, limits: Limits,
) -> Table:  # fmt: skip
    calls: dict[str, Callable[[], Any]] = {}
    asked: dict[str, int] = {}
    recall: dict[str, float] = {}
    for each in contenders:
        count = min(len(Q), _FEW) if each.slow else len(Q)
        ready = [each.prepare(mask) for mask in masks[:count]]
        if any(form is None for form in ready):
            continue  # a list of thousands of rows, or rows that no condition describes
        calls[each.name], asked[each.name] = partial(_all, each, Q, ready), count
        shares = []
        for found, line, mask in zip(calls[each.name](), scores, masks):
            rows = np.flatnonzero(mask)
            wanted = rows[np.argsort(-line[rows], kind="stable")[:K]]
            shares.append(len(np.intersect1d(found, wanted)) / len(wanted))
        recall[each.name] = float(np.mean(shares))
    times = interleaved(calls, settings.rounds)
    seconds = {name: spent.seconds(settings.threads) / asked[name] for name, spent in times.items()}
    rivals = [s for name, s in seconds.items() if not name.startswith("sememe") and recall[name] >= AS_GOOD]
    columns = [Column("what"), Column("recall@10", ".4f"), Column("queries/s", ",.0f"), Column("ms", ".3f")]
    table = Table(f"{kind}, {share:.2%} of {len(X):,} rows pass", [*columns, Column("x best peer", ".2f")])
    for name, taken in seconds.items():
        ratio = min(rivals) / taken if rivals and name.startswith("sememe") else None
        table.rows.append([name, recall[name], 1 / taken, taken * 1e3, ratio])
    read = 1e3 * share * X.nbytes / limits.bandwidth
    table.note = f"Reading the floats of the rows that pass takes {read:.3f} ms at the bandwidth of memory."
    return table


def _all(each: Filtering, Q: Vectors, ready: list[Any]) -> list[Any]:
    return [each.search(Q[at : at + 1], form) for at, form in enumerate(ready)]
