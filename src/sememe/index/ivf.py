"""Inverted lists over vectors: rows lie in cells around centres, and a query scans the most promising cells only.

Lists hold the rows of any quantizer's codes. Where codes may be written in any order (``index/vectors.py``), the rows
of a list are neighbours on disk and a probe reads one range; where records fix the order, the lists name rows.

A filter changes what is read, never what is right: few allowed rows are all scanned, and otherwise cells are opened
until as many allowed rows have been seen as a search without a filter would see.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import CorruptIndex, InputError
from sememe.index.arrays import layout_of
from sememe.index.best import NO_ROW
from sememe.index.scan import Ensure, scan
from sememe.index.spool import VectorSpool
from sememe.kernels.cells import FLAT, Cells

SAMPLE = 64  # rows a list that centres are learned from, at most
LISTS_FROM = 300_000  # rows of a collection from which lists are worth a look: fewer are scanned as fast
MEASURED_FROM = 5_000  # of which so many are measured
FEWEST = 16  # rows a list holds on average, at least: a small segment gets fewer lists
Found = tuple[NDArray[np.float32], NDArray[np.int64]]


class Lists:
    """The cells of a segment and which of its rows lie in each.

    Parameters
    ----------
    cells : Cells
    offsets : int64 array of shape (c + 1,)
        Where each list begins.
    order : uint32 array of shape (n,), optional
        The row of the segment at each place of the lists; None where rows lie in list order themselves.
    """

    def __init__(self, cells: Cells, offsets: NDArray[np.int64], order: NDArray[np.uint32] | None = None) -> None:
        self.cells, self.offsets, self.order = cells, offsets, order

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places in the lists, ascending, of ascending rows of the segment."""
        if self.order is None:
            return rows
        mask = np.zeros(len(self.order), dtype=bool)
        mask[rows] = True
        return np.flatnonzero(mask[self.order])

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the segment, ascending, at such places."""
        return places if self.order is None else np.sort(self.order[places].astype(np.int64))


def arranged(cells: Cells, X: Iterable[Vectors]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Offsets ``(c + 1,)`` of the lists of all rows in the blocks, and the rows ``(n,)`` list by list."""
    return gathered(len(cells), np.concatenate([np.zeros(0, dtype=np.int32), *map(cells.assign, X)]))


def gathered(count: int, owner: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """The same from the cell of each row."""
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(owner, minlength=count), out=offsets[1:])
    return offsets, np.argsort(owner, kind="stable").astype(np.uint32)


@register(
    "ivf",
    room="index",
    kind="index",
    summary="Inverted lists around k-means centres: only the codes of the most promising lists are scored.",
    paper=Paper("Product Quantization for Nearest Neighbor Search", 2011),
    claim="A few percent of the rows hold nearly all of the exact top 10.",
    exact=False,
)
class Ivf:
    """Inverted lists as an index kind, ``ivf:lists[,probes=...][,seed=0]``.

    Parameters
    ----------
    lists : int
        Cells, for a segment large enough; one of ``n`` rows has at most ``n / 16``.
    probes : int, optional
        Lists that a query scans, in proportion where a segment has fewer; the square root of ``lists`` where not given.
    seed : int
        Of the centres.
    """

    sparse = False

    def __init__(self, lists: int = 1024, *, probes: int | None = None, seed: int = 0) -> None:
        for name, value, high in (("lists", lists, 1 << 18), ("probes", probes, lists)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high):
                raise InputError(f"ivf {name} must be a whole number from 1 to {high}, got {value!r}")
        self.lists, self.seed = lists, seed
        self.probes = max(1, math.isqrt(lists)) if probes is None else probes

    def count(self, n: int) -> int:
        """Lists of a segment of ``n`` rows."""
        return max(1, min(self.lists, n // FEWEST))

    def fit(self, sample: Vectors, n: int) -> Cells:
        """Cells for ``n`` rows, learned from a sample of them."""
        return Cells.fit(sample, self.count(n), seed=self.seed)

    def build(self, blocks: Iterable[Vectors], dim: int) -> NDArray[np.uint8] | None:
        """The lists of projected vectors as one array of bytes."""
        with VectorSpool() as spool:
            for block in blocks:
                spool.append(block)
            if not len(spool):
                return None
            cells = self.fit(spool.sample(SAMPLE * self.count(len(spool)), self.seed), len(spool))
            offsets, order = arranged(cells, spool.blocks())
        arrays = {**_flat(cells), "offsets": offsets, "order": order}
        layout, size = layout_of(arrays)
        out = np.zeros(size, dtype=np.uint8)
        for name, (_, _, start) in layout.items():
            out[start : start + arrays[name].nbytes] = np.ascontiguousarray(arrays[name]).view(np.uint8)
        return out

    def graph_bytes(self, n: int, dim: int) -> int:
        """Bytes of the lists of ``n`` vectors."""
        return layout_of(self._empty(n, dim))[1] if n else 0

    def _empty(self, n: int, dim: int) -> dict[str, NDArray[Any]]:
        """Arrays of the right lengths for a segment of ``n`` rows, that take no memory."""
        c = self.count(n)
        g = 1 if c <= FLAT else round(c**0.5)
        shapes = {"centres": c * dim, "handicap": c, "reach": c, "groups": g * dim, "first": g + 1}
        kinds = {"first": np.int64, "offsets": np.int64, "order": np.uint32}
        lengths = {**shapes, "offsets": c + 1, "order": n}
        return {
            name: np.broadcast_to(np.zeros(1, dtype=kinds.get(name, np.float32)), (length,))
            for name, length in lengths.items()
        }

    def open(self, buffer: NDArray[np.uint8], n: int, dim: int) -> Lists:
        """The lists in verified bytes."""
        layout, size = layout_of(self._empty(n, dim))
        if len(buffer) != size:
            raise CorruptIndex("the lists do not fit their segment", fix="run: sememe compact to build them again")
        arrays = {
            name: buffer[start : start + np.dtype(kind).itemsize * length].view(kind)
            for name, (kind, length, start) in layout.items()
        }
        cells = cells_of(arrays, dim)
        offsets, order = arrays["offsets"], arrays["order"]
        if offsets[0] != 0 or offsets[-1] != n or (np.diff(offsets) < 0).any() or int(order.max(initial=0)) >= n:
            raise CorruptIndex("the lists name rows that are not there", fix="run: sememe compact to build them again")
        return Lists(cells, offsets, order)

    # -- what the planner asks ------------------------------------------------------------------------------------

    @classmethod
    def sweep(cls, rows: int, measured: int, dim: int, code_bytes: int) -> list[str]:
        """As ``index.structure.Structure.sweep``: about four lists for the square root of the rows."""
        if rows < LISTS_FROM or measured < MEASURED_FROM:
            return []
        return [f"ivf:{1 << round(math.log2(4 * math.sqrt(rows)))}"]

    def reached(self, opened: Lists, quantizer: Any, codes: NDArray[np.uint8], Q: Vectors, k: int) -> NDArray[np.int64]:
        """As ``index.structure.Structure.reached``: the rows of the lists that a query scans."""
        probes, sizes = self._probes(len(opened.cells), self.probes), np.diff(opened.offsets)
        found = []
        for promise in opened.cells.promise(Q):
            chosen = _opened(promise, sizes, probes, min(k, len(codes)))
            found.append(opened.rows(_ranges(opened.offsets[chosen], sizes[chosen])))
        out = np.full((len(Q), max(map(len, found), default=0)), NO_ROW, dtype=np.int64)
        for line, rows in zip(out, found):
            line[: len(rows)] = rows
        return out

    def growth(self, rows: int, factor: float) -> float:
        """As ``index.structure.Structure.growth``: lists become longer, or as many more of them are scanned."""
        return factor

    def _probes(self, count: int, wanted: int) -> int:
        """Lists to scan of ``count``, in proportion where a segment has fewer than ``lists``."""
        return min(count, max(1, -(-wanted * count // self.lists)))

    # -- search ---------------------------------------------------------------------------------------------------

    def search(
        self,
        segment: Any,
        quantizer: Any,
        Q: Vectors,
        k: int,
        rows: NDArray[np.int64] | None,
        filtered: bool,
        effort: int | None = None,
    ) -> Found:
        """The best rows of the most promising lists, as many lists as ``effort`` says."""
        n = segment.passages
        lists: Lists = segment.graph(self)
        count = len(lists.cells)
        probes = self._probes(count, effort or self.probes)
        allowed = n if rows is None else len(rows)
        wanted = min(k, allowed)
        enough = max(wanted, -(-n * probes // count))  # rows that a search without a filter scans, about
        if allowed <= enough or not len(Q):
            return scan(quantizer, Q, segment.codes, k, rows, segment.ensure_codes)
        places = None if rows is None else lists.places(rows)
        bounds = lists.offsets if places is None else np.searchsorted(places, lists.offsets)
        sizes = np.diff(bounds)
        promise = lists.cells.promise(Q)
        scores = np.full((len(Q), wanted), -np.inf, dtype=np.float32)
        found = np.full((len(Q), wanted), NO_ROW, dtype=np.int64)
        for query in range(len(Q)):
            chosen = _opened(promise[query], sizes, probes, wanted if places is None else enough)
            at = _ranges(bounds[chosen], sizes[chosen])
            ensure = segment.ensure_codes
            if ensure is not None and lists.order is None and places is None:
                _verify(ensure, segment.codes.shape[1], bounds[chosen], bounds[chosen + 1])
                ensure = None
            candidates = lists.rows(at if places is None else places[at])
            values, best = scan(quantizer, Q[query : query + 1], segment.codes, k, candidates, ensure)
            scores[query, : values.shape[1]], found[query, : best.shape[1]] = values[0], best[0]
        return scores, found


def _opened(promise: NDArray[np.float32], sizes: NDArray[np.int64], probes: int, enough: int) -> NDArray[np.int64]:
    """The ``probes`` most promising lists, or as many more as hold ``enough`` rows, in ascending order."""
    count = len(promise)
    while probes < count:
        chosen = np.argpartition(promise, count - probes)[count - probes :]
        if int(sizes[chosen].sum()) >= enough:
            return np.sort(chosen)
        probes = min(count, 2 * probes)
    return np.arange(count)


def _ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of all ranges ``[start, start + size)``, one after another."""
    before = np.cumsum(sizes) - sizes
    return np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)


def _verify(ensure: Ensure, width: int, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
    """Have ranges of codes of so many bytes verified: a call for each range, not a look at each row."""
    for start, stop in zip((starts * width).tolist(), (stops * width).tolist()):
        ensure(start, stop)


def _flat(cells: Cells) -> dict[str, NDArray[Any]]:
    """The arrays of cells, each in one dimension."""
    return {name: np.ascontiguousarray(array).reshape(-1) for name, array in vars(cells).items()}


def cells_of(arrays: dict[str, NDArray[Any]], dim: int) -> Cells:
    """Cells from such arrays."""
    shaped = {name: arrays[name].reshape(-1, dim) for name in ("centres", "groups")}
    return Cells(
        shaped["centres"], arrays["handicap"], arrays["reach"], shaped["groups"], arrays["first"].astype(np.int64)
    )
