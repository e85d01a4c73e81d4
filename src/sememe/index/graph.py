"""A navigable small-world graph over a segment, built and searched by usearch, verified by us.

The engine parses nothing that our checksums have not passed: the whole graph file is verified before ``restore`` sees
it, because a damaged graph can crash the engine. Candidates from the graph are scored again with the segment's codes,
so a hit's score is the one a flat scan would give it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import CorruptIndex, InputError, MissingDependency
from sememe.index.best import TopK
from sememe.index.scan import gather, scan

_BYTES = {"i8": 1.0, "f16": 2.0, "f32": 4.0, "b1": 0.125}
_HEAD = 8 + 2 + 2  # key and level in the node, level again in the table at the file's head
_FILE = 144  # header and dimensions of the file


@register(
    "hnsw",
    room="index",
    kind="index",
    summary="A hierarchical navigable small-world graph: few codes are scored, at the price of links.",
    paper=Paper("Efficient and robust approximate nearest neighbor search using HNSW graphs", 2016, "1603.09320"),
    claim="Finds at least 95 % of the exact top 10 while scoring a small share of the vectors.",
    exact=False,
)
class Hnsw:
    """HNSW as an index kind, ``hnsw[:connectivity][,ef=64][,build=128][,dtype=i8]``.

    Parameters
    ----------
    connectivity : int
        Links of a node on the upper levels; the lowest level has twice as many.
    ef : int
        Candidates kept while searching: more finds more and takes longer.
    build : int
        Candidates kept while building.
    dtype : {"i8", "f16", "f32", "b1"}
        How the engine keeps its own copy of the vectors.
    """

    sparse = False

    def __init__(self, connectivity: int = 16, *, ef: int = 64, build: int = 128, dtype: str = "i8") -> None:
        if dtype not in _BYTES:
            raise InputError(f"hnsw has no dtype {dtype!r}", fix=f"use one of {', '.join(_BYTES)}")
        for name, value, low, high in (
            ("connectivity", connectivity, 2, 256),
            ("ef", ef, 1, 4096),
            ("build", build, 1, 4096),
        ):
            if not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"hnsw {name} must be a whole number from {low} to {high}, got {value!r}")
        self.connectivity, self.ef, self.expansion, self.dtype = connectivity, ef, build, dtype

    def build(self, blocks: Iterable[Vectors], dim: int) -> NDArray[np.uint8] | None:
        """The graph over projected vectors, as the engine's bytes; row numbers are the keys.

        One thread, so that the same vectors give the same bytes.
        """
        index = _engine().Index(
            ndim=self._width(dim),
            metric="hamming" if self.dtype == "b1" else "ip",
            dtype=self.dtype,
            connectivity=self.connectivity,
            expansion_add=self.expansion,
            expansion_search=self.ef,
        )
        start = 0
        for block in blocks:
            keys = np.arange(start, start + len(block), dtype=np.uint64)
            index.add(keys, self._cast(block), threads=1)
            start += len(block)
        return np.frombuffer(index.save(), dtype=np.uint8) if start else None

    def graph_bytes(self, n: int, dim: int) -> int:
        """Expected bytes of the graph of ``n`` vectors.

        Each node holds its vector, key, level and ``2 c`` links of 4 bytes; a share ``c**-l`` of the nodes has ``c``
        more links on level ``l``.
        """
        if not n:
            return 0
        c = self.connectivity
        vector = -(-self._width(dim) // 8) if self.dtype == "b1" else dim * _BYTES[self.dtype]
        links = 4 + 8 * c + (4 + 4 * c) / (c - 1)
        return round(_FILE + n * (_HEAD + vector + links))

    def open(self, buffer: NDArray[np.uint8], n: int, dim: int) -> Any:
        """The engine's view of verified bytes."""
        index = _engine().Index.restore(buffer, view=True)
        if index is None or len(index) != n or index.ndim != self._width(dim):
            raise CorruptIndex("the graph does not fit its segment", fix="run: sememe compact to build it again")
        index.expansion_search = self.ef
        return index

    def search(
        self,
        segment: Any,
        quantizer: Any,
        Q: Vectors,
        k: int,
        rows: NDArray[np.int64] | None,
        filtered: bool,
        effort: int | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Candidates from the graph, scored by the codes.

        With a filter the allowed rows are scanned instead: a graph loses recall silently when few rows pass. Deleted
        rows alone do not turn the graph off; a query that is left with fewer than ``k`` candidates is scanned.
        """
        allowed = segment.passages if rows is None else len(rows)
        wanted = min(k, allowed)
        if filtered or wanted * 4 >= segment.passages:
            return scan(quantizer, Q, segment.codes, k, rows, segment.ensure_codes)
        dropped = segment.passages - allowed
        count = min(segment.passages, max(effort or self.ef, wanted) + min(dropped, 4 * wanted + 64))
        found = segment.graph(self).search(self._cast(Q), count, threads=1)
        keys = np.atleast_2d(found.keys).astype(np.int64)
        counts = np.atleast_1d(getattr(found, "counts", np.full(len(keys), keys.shape[1])))
        best = TopK(len(Q), wanted)
        short: list[int] = []
        for query in range(len(Q)):
            candidates = np.unique(keys[query, : int(counts[query])])
            if rows is not None:
                at = np.minimum(np.searchsorted(rows, candidates), len(rows) - 1)
                candidates = candidates[rows[at] == candidates]
            if len(candidates) < wanted:
                short.append(query)
                continue
            values = quantizer.scores(Q[query : query + 1], gather(segment.codes, candidates, segment.ensure_codes))[0]
            best.offer(query, values, candidates)
        if short:
            exact = scan(quantizer, np.ascontiguousarray(Q[short]), segment.codes, k, rows, segment.ensure_codes)
            for query, values, candidates in zip(short, *exact):
                best.offer(query, values, candidates)
        return best.result()

    def _width(self, dim: int) -> int:
        return -(-dim // 8) * 8 if self.dtype == "b1" else dim

    def _cast(self, X: Vectors) -> NDArray[Any]:
        return np.packbits(X > 0, axis=1) if self.dtype == "b1" else X


def _engine() -> Any:
    try:
        from usearch import index
    except ImportError:
        raise MissingDependency("usearch", command="pip install usearch", need="an hnsw index") from None
    return index
