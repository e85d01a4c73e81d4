"""A bench for search under filters: kinds of filter, how many rows pass, and whether those lie near the query.

After "Benchmarking Filtered Approximate Nearest Neighbor Search Algorithms on Transformer-based Embedding Vectors"
(2025, arXiv 2507.21989): no method is best everywhere, so every method is run on the whole matrix. What a filter costs
depends on three things that are varied one by one: the share of rows that pass, the shape of the condition, and
whether the rows that pass lie near the query (a graph finds them on its way) or far from it (it does not).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sememe import progress
from sememe.catalog import Paper, register
from sememe.contracts import Vectors, as_vectors
from sememe.errors import InputError
from sememe.kernels.rescore import rescore
from sememe.kernels.select import select

FILTERED_PAPER = Paper(
    "Benchmarking Filtered Approximate Nearest Neighbor Search Algorithms on Transformer-based Embedding Vectors",
    2025,
    "2507.21989",
)
SHARES = (0.9, 0.5, 0.2, 0.1, 0.05, 0.01, 0.005, 0.001, 0.0001)
KINDS = ("range", "equal", "among")
RELATIONS = ("independent", "near", "far")
MEMBERS = 4  # values in the set of a membership filter


@dataclass(frozen=True, eq=False)
class Condition:
    """A filter as every method gets it: by value for those that know the column, as a mask for all others.

    Attributes
    ----------
    column : str
    kind : {"range", "equal", "among"}
    ranges : tuple of (int, int)
        Which ranks of the column's values pass, both ends included: one stretch for a range or a category, several
        for a set of categories.
    mask : ndarray of shape (n,)
        bool.
    """

    column: str
    kind: str
    ranges: tuple[tuple[int, int], ...]
    mask: NDArray[np.bool_]


class Method(Protocol):
    """A way to search under a filter."""

    @property
    def name(self) -> str:
        """How results call it."""

    @property
    def settings(self) -> Sequence[Any]:
        """From the cheapest to the most thorough."""

    @property
    def nbytes(self) -> int:
        """What it keeps beside the vectors."""

    def build(self, X: Vectors, ranks: Mapping[str, NDArray[np.int64]]) -> None:
        """Take the vectors ``(n, d)`` and, of each column, the rank of every row's value."""

    def search(self, q: Vectors, k: int, condition: Condition, setting: Any) -> NDArray[np.int64]:
        """The best rows for one query ``(1, d)``, best first, at most ``k``."""


@dataclass(frozen=True, eq=False)
class Column:
    """An attribute.

    Attributes
    ----------
    values : ndarray of shape (n,)
        Of the rows: numbers.
    asked : ndarray of shape (q,), optional
        Of the queries, on the same scale: needed for filters that lie near the query or far from it.
    """

    values: NDArray[Any]
    asked: NDArray[Any] | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One method with one setting under one kind of filter.

    Attributes
    ----------
    method, setting, column, kind, relation : str
    share : float
        Of rows that pass.
    recall : float
        Mean share of the exact answer that was found.
    seconds : float
        Median over rounds of the mean for a query.
    short : int
        Queries that got fewer rows than there are, up to ``k``.
    """

    method: str
    setting: str
    column: str
    kind: str
    relation: str
    share: float
    recall: float
    seconds: float
    short: int


class PreFilter:
    """Pick the rows that pass and score each exactly."""

    name = "pre-filter scan"
    settings = ("exact",)
    nbytes = 0

    def build(self, X: Vectors, ranks: Mapping[str, NDArray[np.int64]]) -> None:
        """Nothing to build."""
        self._X = X

    def search(self, q: Vectors, k: int, condition: Condition, setting: Any) -> NDArray[np.int64]:
        """As `Method.search`."""
        rows = select(condition.mask, len(self._X)).rows
        assert rows is not None
        return rescore(self._X, q, rows[None], k)[1][0]


@register(
    "filtered-bench",
    room="measure",
    kind="measure",
    summary="Recall and rate of filtered search over shares, kinds of filter, and filters near or far from the query",
    paper=FILTERED_PAPER,
    claim="No method is best everywhere: scoring all rows that pass wins where less than about 1 % pass, graphs win "
    "where many pass.",
)
class FilteredSearchBench:
    """Methods under the same filters, one query at a time, each query with a filter of its own.

    Parameters
    ----------
    methods : sequence of Method
    k : int
        Neighbours.
    rounds : int
        How often a cell is timed; methods take turns.
    seed : int
        Of the filters' places.
    clock : callable
        Seconds; CPU time of this thread when not given.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        *,
        k: int = 10,
        rounds: int = 3,
        seed: int = 0,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        if not methods or k < 1 or rounds < 1 or len({method.name for method in methods}) < len(methods):
            raise InputError("a filtered bench needs methods with different names, k and rounds of at least 1")
        self.methods, self.k, self.rounds, self.seed, self.clock = methods, k, rounds, seed, clock
        self.built: dict[str, dict[str, float]] = {}

    def run(
        self,
        X: Vectors,
        Q: Vectors,
        columns: Mapping[str, Column],
        cells: Iterable[tuple[str, str, str, float]],
    ) -> list[Cell]:
        """Measure every method in every cell.

        Parameters
        ----------
        X, Q : ndarrays of shape (n, d) and (q, d)
            The score is the inner product.
        columns : mapping of name to Column
        cells : iterable of (column, kind, relation, share)
            For instance from `matrix`.

        Returns
        -------
        list of Cell
            ``built`` holds each method's seconds to build and its bytes afterwards.

        Raises
        ------
        InputError
            Columns of another length, an unknown kind or relation, or a share outside 0 to 1.
        """
        X, Q = as_vectors(X), as_vectors(Q, name="queries", dim=X.shape[1])
        ranks: dict[str, NDArray[np.int64]] = {}
        for name, column in columns.items():
            if column.values.shape != (len(X),) or (column.asked is not None and column.asked.shape != (len(Q),)):
                raise InputError(f"the column {name!r} does not fit {len(X)} rows and {len(Q)} queries")
            ranks[name] = np.empty(len(X), dtype=np.int64)
            ranks[name][np.argsort(column.values, kind="stable")] = np.arange(len(X))
        for method in self.methods:
            begin = time.process_time()
            method.build(X, ranks)
            self.built[method.name] = {"seconds": time.process_time() - begin, "bytes": float(method.nbytes)}
        scores = Q @ X.T
        found: list[Cell] = []
        wanted = list(cells)
        with progress.task("filtered search", total=len(wanted), unit="filters") as advance:
            for number, (name, kind, relation, share) in enumerate(wanted):
                generator = np.random.default_rng((self.seed, number))
                places = asked_ranks(columns[name], ranks[name], relation, generator, len(Q))
                conditions = [
                    condition(name, ranks[name], kind, relation, share, int(place), generator) for place in places
                ]
                truth = [top(line, one.mask, self.k) for line, one in zip(scores, conditions)]
                found += self._cell(Q, conditions, truth, (name, kind, relation, share))
                advance(1)
        return found

    def _cell(
        self,
        Q: Vectors,
        conditions: list[Condition],
        truth: list[NDArray[np.int64]],
        where: tuple[str, str, str, float],
    ) -> list[Cell]:
        pairs = [(method, setting) for method in self.methods for setting in method.settings]
        times: list[list[float]] = [[] for _ in pairs]
        answers: list[list[NDArray[np.int64]]] = [[] for _ in pairs]
        for _ in range(self.rounds):
            for number, (method, setting) in enumerate(pairs):
                begin = self.clock()
                answers[number] = [
                    method.search(Q[i : i + 1], self.k, one, setting) for i, one in enumerate(conditions)
                ]
                times[number].append((self.clock() - begin) / len(Q))
        column, kind, relation, share = where
        return [
            Cell(
                method=method.name,
                setting=str(setting),
                column=column,
                kind=kind,
                relation=relation,
                share=share,
                recall=float(np.mean([len(np.intersect1d(a, t)) / len(t) for a, t in zip(answer, truth)])),
                seconds=float(np.median(taken)),
                short=sum(len(a) < len(t) for a, t in zip(answer, truth)),
            )
            for (method, setting), answer, taken in zip(pairs, answers, times)
        ]


def matrix(
    columns: Mapping[str, Column], shares: Sequence[float] = SHARES, kinds: Sequence[str] = KINDS
) -> list[tuple[str, str, str, float]]:
    """Every cell that the columns allow: filters near and far only where the queries have values."""
    return [
        (name, kind, relation, share)
        for name, column in columns.items()
        for relation in (RELATIONS[1:] if column.asked is not None else RELATIONS[:1])
        for kind in kinds
        for share in shares
    ]


def asked_ranks(
    column: Column, ranks: NDArray[np.int64], relation: str, generator: np.random.Generator, queries: int
) -> NDArray[np.int64]:
    """Where each query's filter shall be: at its own value, or anywhere."""
    if relation not in RELATIONS:
        raise InputError(f"a filter cannot lie {relation!r}", fix=f"use one of {', '.join(RELATIONS)}")
    if relation == "independent":
        return generator.integers(len(ranks), size=queries)
    if column.asked is None:
        raise InputError(f"filters {relation} the query need the queries' own values of the column")
    return np.minimum(np.searchsorted(np.sort(column.values), column.asked), len(ranks) - 1)


def condition(
    name: str,
    ranks: NDArray[np.int64],
    kind: str,
    relation: str,
    share: float,
    place: int,
    generator: np.random.Generator,
) -> Condition:
    """A filter that lets ``share`` of the rows through, about the rank ``place`` or, ``far``, at the end away from it.

    Categories are stretches of equal length of the sorted column; a set holds `MEMBERS` of them, every other one
    where there are enough.
    """
    n = len(ranks)
    if not 0 < share <= 1 or kind not in KINDS:
        raise InputError(f"a filter {kind!r} for a share of {share} is not possible", fix=f"kinds: {', '.join(KINDS)}")
    size = min(n, max(1, round(share * n)))
    if relation == "far":
        place = n - 1 if place < n / 2 else 0
    if kind == "range":
        first = min(max(0, place - size // 2), n - size)
        ranges: tuple[tuple[int, int], ...] = ((first, first + size - 1),)
    elif kind == "equal":
        first = min(place // size * size, n - size)
        ranges = ((first, first + size - 1),)
    else:
        part = max(1, size // MEMBERS)
        count = n // part
        members = np.arange(0, count, 2) if count >= 2 * MEMBERS else np.arange(count)
        wanted = min(MEMBERS, len(members), size)
        if relation == "independent":
            chosen = np.sort(generator.choice(members, wanted, replace=False))
        else:
            chosen = np.sort(members[np.argsort(np.abs(members * part + part // 2 - place), kind="stable")[:wanted]])
        ranges = tuple((int(c) * part, int(c) * part + part - 1) for c in chosen)
    mask = np.zeros(n, dtype=bool)
    for low, high in ranges:
        mask |= (ranks >= low) & (ranks <= high)
    return Condition(name, kind, ranges, mask)


def top(scores: NDArray[np.float32], mask: NDArray[np.bool_], k: int) -> NDArray[np.int64]:
    """The ``k`` best rows of those that pass, fewer where there are fewer; ties to the lower row."""
    rows = np.flatnonzero(mask)
    return rows[np.lexsort((rows, -scores[rows]))[:k]]


def fastest(cells: Sequence[Cell], recall: float) -> dict[tuple[str, str, str, float], dict[str, Cell]]:
    """For every filter (column, kind, relation, share) each method's fastest setting with at least that recall.

    Methods that do not reach it in any setting are left out.
    """
    best: dict[tuple[str, str, str, float], dict[str, Cell]] = {}
    for cell in cells:
        here = best.setdefault((cell.column, cell.kind, cell.relation, cell.share), {})
        if cell.recall >= recall and (cell.method not in here or cell.seconds < here[cell.method].seconds):
            here[cell.method] = cell
    return best


def crossover(cells: Sequence[Cell], first: str, others: Sequence[str], recall: float) -> dict[str, float]:
    """The largest share up to which ``first`` is faster than all of ``others``, at every share up to it.

    Returns
    -------
    dict of "column kind relation" to float
        0 where it is not the fastest even at the smallest share. A method that does not reach ``recall`` loses.
    """
    found: dict[str, float] = {}
    table = fastest(cells, recall)
    for where in sorted(table, key=lambda w: w[3]):
        name, best = " ".join(where[:3]), table[where]
        before = [w[3] for w in table if w[:3] == where[:3] and w[3] < where[3]]
        rivals = [best[other].seconds for other in others if other in best]
        wins = first in best and best[first].seconds < min(rivals, default=np.inf)
        if wins and found.get(name, 0.0) == max(before, default=0.0):
            found[name] = where[3]
        found.setdefault(name, 0.0)
    return found
