"""A graph of neighbours over a segment: few codes are scored, at the price of links.

Our own engine (``kernels.graph``) builds and walks it over int8; ``graph_usearch`` stands in where the native core was
not built, for other number types, and for the graphs of old indexes. The file says whose it is. Whatever the walk
finds is scored again with the segment's codes, so a hit's score is the one a flat scan would give it.

A walk is not always the best plan: where few rows may be found, a scan of those is faster and exact. ``Hnsw.search``
weighs the two by bytes, and scans as well for any query that a walk leaves with fewer than ``k`` rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec.integer import Int8
from sememe.contracts import Vectors
from sememe.errors import CorruptIndex, InputError
from sememe.index import graph_file
from sememe.index.best import NO_ROW, TopK
from sememe.index.code_rows import CodeRows
from sememe.index.graph_file import OpenGraph
from sememe.index.graph_usearch import BYTES, Usearch
from sememe.index.scan import Allowed, gather, is_mask, scan, verify
from sememe.kernels import native
from sememe.kernels.select import Selection, select

GRAPH_FROM = 5_000  # measured passages from which a graph is worth a look
SCANNED = 100  # rows that a scan reads in the time in which a walk deals with one candidate
Found = tuple[NDArray[np.float32], NDArray[np.int64]]


@register(
    "hnsw",
    room="index",
    kind="index",
    summary="A navigable graph of neighbours: few codes are scored, at the price of links.",
    paper=Paper("Efficient and robust approximate nearest neighbor search using HNSW graphs", 2016, "1603.09320"),
    claim="Finds at least 95 % of the exact top 10 while scoring a small share of the vectors.",
    exact=False,
)
class Hnsw:
    """A graph as an index kind, ``hnsw[:connectivity][,ef=64][,build=128][,dtype=i8]``.

    The settings are those of HNSW; our own graph has its lowest level only, where walks set out from a sample of rows.

    Parameters
    ----------
    connectivity : int
        A row has at most twice as many links.
    ef : int
        Candidates kept while searching: more finds more and takes longer.
    build : int
        Candidates kept while building.
    dtype : {"i8", "f16", "f32", "b1"}
        What walks score: int8, by our own engine, or another type, by usearch. Over the codes of ``int8`` our walks
        read those; else the graph keeps a copy of the vectors in that type.
    """

    sparse = False
    masks = True  # ``search`` takes a filter as a mask as well

    def __init__(self, connectivity: int = 16, *, ef: int = 64, build: int = 128, dtype: str = "i8") -> None:
        if dtype not in BYTES:
            raise InputError(f"hnsw has no dtype {dtype!r}", fix=f"use one of {', '.join(BYTES)}")
        for name, value, low, high in (
            ("connectivity", connectivity, 2, 256),
            ("ef", ef, 1, 4096),
            ("build", build, 1, 4096),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"hnsw {name} must be a whole number from {low} to {high}, got {value!r}")
        self.connectivity, self.ef, self.expansion, self.dtype = connectivity, ef, build, dtype
        self._over_codes = False
        self._stand_in = Usearch(connectivity, build, dtype)

    def over(self, quantizer: Any) -> None:
        """Tell the kind whose codes it will search; walks read int8 codes by dimension where they lie."""
        self._over_codes = _walkable(quantizer)

    @property
    def _ours(self) -> bool:
        return self.dtype == "i8" and native.core() is not None

    def build(self, blocks: Iterable[Vectors], dim: int) -> NDArray[np.uint8] | None:
        """The bytes of the graph over projected vectors; the same for the same vectors, whatever the threads."""
        if not self._ours:
            return self._stand_in.build(blocks, dim)
        return graph_file.write(blocks, 2 * self.connectivity, self.expansion, own=not self._over_codes)

    def graph_bytes(self, n: int, dim: int) -> int:
        """Bytes of the graph of ``n`` vectors: exact for our own, expected for the stand-in's."""
        if not self._ours:
            return self._stand_in.size_of(n, dim)
        return graph_file.size_of(n, 2 * self.connectivity, 0 if self._over_codes else dim)

    def working_bytes(self, dim: int) -> int:
        """Memory that a row takes while the graph is built: table and links, each in two forms, and the file."""
        return 2 * dim + 160 + 28 * self.connectivity

    def open(self, buffer: NDArray[np.uint8], n: int, dim: int) -> Any:
        """The graph in verified bytes, of whichever engine."""
        if graph_file.is_ours(buffer):
            return graph_file.read(buffer, n, dim)
        return self._stand_in.open(buffer, n, dim)

    @classmethod
    def sweep(cls, rows: int, measured: int, dim: int, code_bytes: int) -> list[str]:
        """As ``index.structure.Structure.sweep``."""
        return ["hnsw:16"] if measured >= GRAPH_FROM else []

    def reached(self, opened: Any, quantizer: Any, codes: NDArray[np.uint8], Q: Vectors, k: int) -> NDArray[np.int64]:
        """As ``index.structure.Structure.reached``."""
        return self.candidates(opened, quantizer, codes, Q, max(self.ef, k))

    def growth(self, rows: int, factor: float) -> float:
        """As ``index.structure.Structure.growth``: a walk takes the logarithm of the rows."""
        return math.log(max(rows * factor, 2)) / math.log(max(rows, 2))

    def walks(self, rows: int, code_bytes: int, dim: int, wide: int | None = None) -> bool:
        """Whether a walk that keeps ``wide`` candidates beats a scan of so many rows."""
        return (wide or self.ef) <= _widest(rows, code_bytes, dim)

    def candidates(
        self, graph: Any, quantizer: Any, codes: NDArray[np.uint8], Q: Vectors, count: int
    ) -> NDArray[np.int64]:
        """Rows that a walk which keeps ``count`` finds, int64 ``(q, c)``, -1 where it found fewer; codes verified."""
        if not isinstance(graph, OpenGraph):
            return self._stand_in.candidates(graph, Q, count)
        rows, weights, _ = _walked(graph, quantizer, codes, Q)
        return graph.graph.search(rows, weights, count, count)[1]

    def search(
        self,
        segment: Any,
        quantizer: Any,
        Q: Vectors,
        k: int,
        rows: Allowed | None,
        filtered: bool,
        effort: int | None = None,
    ) -> Found:
        """The best rows that a walk finds, scored by the codes; ``rows`` are those allowed, or a mask (None: all).

        Fewer than ``k`` only where fewer may be found.
        """
        n, code_bytes = segment.codes.shape
        if not n or not len(Q):
            return TopK(len(Q), 0).result()
        graph = segment.graph(self)
        chosen = None if rows is None else _chosen(graph, rows, n)
        allowed = n if chosen is None else chosen.passing
        wanted = min(k, allowed)
        wide = max(effort or self.ef, wanted)
        if isinstance(graph, OpenGraph) and 0 < allowed < n:
            wide += round(wide * math.log2(n / allowed) / 4)  # a walk among few rows has poorer links
        possible = native.core() is not None if isinstance(graph, OpenGraph) else not filtered
        if not possible or not self.walks(allowed, code_bytes, Q.shape[1], wide):
            return scan(quantizer, Q, segment.codes, k, _rows(rows, n), segment.ensure_codes)
        if isinstance(graph, OpenGraph):
            scores, found = _best(graph, segment, quantizer, Q, wanted, wide, chosen)
        else:
            wide = min(n, wide + min(n - allowed, 4 * wanted + 64))
            candidates = self._stand_in.candidates(graph, Q, wide)
            if rows is not None:
                candidates = np.where(_member(rows, candidates, n), candidates, NO_ROW)
            scores, found = _scored(segment, quantizer, Q, candidates, wanted)
        short = np.flatnonzero(found[:, -1] < 0) if found.shape[1] == wanted else np.arange(len(Q))
        if not len(short):
            return scores, found
        best = TopK(len(Q), wanted)
        query, column = np.nonzero(found >= 0)
        kept = ~np.isin(query, short)
        best.merge(query[kept], scores[query[kept], column[kept]], found[query[kept], column[kept]])
        exact = scan(quantizer, np.ascontiguousarray(Q[short]), segment.codes, k, _rows(rows, n), segment.ensure_codes)
        for place, values, places in zip(short.tolist(), *exact):
            best.offer(place, values, places)
        return best.result()


def _best(
    opened: OpenGraph, segment: Any, quantizer: Any, Q: Vectors, k: int, wide: int, chosen: Selection | None
) -> Found:
    """What our own walk finds: -inf and -1 at the end of lines that are shorter than ``k``."""
    if opened.table is None:
        verify(segment.codes, None, segment.ensure_codes)
    rows, weights, constants = _walked(opened, quantizer, segment.codes, Q)
    limits: dict[str, Any] = {}
    if chosen is not None:
        limits = {"allow": chosen.bits, "widest": _widest(chosen.passing, segment.codes.shape[1], Q.shape[1])}
    count = wide if constants is None else k
    scores, found = opened.graph.search(rows, weights, count, wide, constants=constants, **limits)
    return (scores, found) if constants is not None else _scored(segment, quantizer, Q, found, k)


def _widest(rows: int, code_bytes: int, dim: int) -> int:
    """Candidates of a walk that takes as long as a scan of so many rows."""
    return rows * code_bytes // (SCANNED * dim)


def _walkable(quantizer: Any) -> bool:
    return isinstance(quantizer, Int8) and quantizer.scale == "dimension"


def _walked(
    opened: OpenGraph, quantizer: Any, codes: NDArray[np.uint8], Q: Vectors
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64] | None]:
    """The rows of a walk, the weights of queries for them, and what is added where the result is the codes' score."""
    if opened.table is not None:
        return opened.table, Q.astype(np.float64), None
    if not _walkable(quantizer):
        raise CorruptIndex("the graph is one over int8 codes, and these are others", fix="build the index again")
    prepared = quantizer.native_scan(Q)
    return codes, prepared.weights, prepared.constants


def _scored(segment: Any, quantizer: Any, Q: Vectors, candidates: NDArray[np.int64], k: int) -> Found:
    """The ``k`` best of candidates ``(q, c)`` by the codes; -inf and -1 at the end of lines that had fewer."""
    if candidates.shape[1] >= k and len(Q) and candidates.min(initial=0) >= 0:
        codes = CodeRows.of(quantizer, Q, segment.codes)
        if codes is not None:
            segment.ensure_code_rows(candidates.reshape(-1))
            return codes.best(candidates, k)
    scores = np.full((len(Q), k), -np.inf, dtype=np.float32)
    found = np.full((len(Q), k), NO_ROW, dtype=np.int64)
    for query, line in enumerate(candidates):
        some = np.unique(line[line >= 0])
        if len(some):
            values, best = _ranked(segment, quantizer, Q[query : query + 1], some, k)
            scores[query, : values.shape[1]], found[query, : best.shape[1]] = values[0], best[0]
    return scores, found


def _ranked(segment: Any, quantizer: Any, q: Vectors, rows: NDArray[np.int64], k: int) -> Found:
    """The ``k`` best of ascending rows for one query; few codes are copied rather than scanned where they lie."""
    codes = gather(segment.codes, rows, segment.ensure_codes)
    scores, places = scan(quantizer, q, codes, k)
    return scores, rows[places]


def _rows(rows: Allowed | None, n: int) -> NDArray[np.int64] | None:
    """Allowed rows as a list."""
    return select(rows, n).rows if rows is not None and is_mask(rows) else rows


def _member(rows: Allowed, candidates: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """Which candidates are allowed; -1 is not."""
    mask = np.zeros(n, dtype=bool)
    mask[_rows(rows, n)] = True
    return mask[candidates] & (candidates >= 0)


def _chosen(graph: Any, rows: Allowed, n: int) -> Selection:
    """How many rows pass, and their bits; those of a list are kept with the graph: deletions come with every search."""
    if is_mask(rows):
        return select(rows, n, most=0)
    if not isinstance(graph, OpenGraph):
        return Selection(len(rows), np.empty(0, dtype=np.uint64), rows)
    kept = graph.kept
    if kept is None or kept[0] is not rows:
        mask = np.zeros(n, dtype=bool)
        mask[rows] = True
        graph.kept = kept = rows, select(mask, n, most=0)
    return kept[1]
