"""From queries to rows of an index over vectors: filters to places, places to a ranking, a shortlist scored again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.index.best import NO_ROW
from sememe.index.cascade_kind import CascadeKind
from sememe.index.code_rows import Found
from sememe.index.pipeline import Pipeline
from sememe.index.scan import Allowed, is_mask
from sememe.index.vector_segment import VectorSegment
from sememe.kernels.select import as_bits, select, unpack

SPARE = 256  # deleted rows up to which a search asks for as many more instead of naming all the others
DIRECT = 256  # rows that pass a filter up to which all are scored by the finer codes, without a shortlist


class VectorSearcher:
    """Searches segments with a pipeline.

    Parameters
    ----------
    pipeline : Pipeline
        With a fitted codec.
    segments : list of VectorSegment
        In order of rows.
    """

    def __init__(self, pipeline: Pipeline, segments: list[VectorSegment]) -> None:
        self.pipeline, self.segments = pipeline, segments
        self.rows = sum(segment.passages for segment in segments)
        self._offsets = np.array([segment.offset for segment in segments], dtype=np.int64)
        self._masks = bool(getattr(pipeline.kind, "masks", False))
        self._ordered = any(segment.order is not None for segment in segments)
        self._spares = not isinstance(pipeline.kind, CascadeKind)  # a mask costs that one nothing, a longer list does

    def allowed(self, allow: Any, rows: Any) -> list[Allowed | None]:
        """The rows of each segment that a filter lets through; None where there is no filter."""
        if allow is None and rows is None:
            return [None] * len(self.segments)
        if rows is None:
            mask = np.asarray(allow)
            if mask.dtype == np.uint64 and mask.shape == (-(-self.rows // 64),):
                if self._masks and len(self.segments) == 1:
                    return [as_bits(mask, self.rows)]
                mask = unpack(mask, self.rows)
            if mask.dtype.char != "?" or mask.shape != (self.rows,):
                raise InputError(
                    f"allow must be bool of shape ({self.rows},), got {mask.dtype} of shape {mask.shape}",
                    fix=f"or uint64 of shape ({-(-self.rows // 64)},), a bit for each row",
                )
            if self._masks and len(self.segments) == 1:
                return [mask]
            parts = [mask[s.offset : s.offset + s.passages] for s in self.segments]
            return [*parts] if self._masks else [select(part, len(part)).rows for part in parts]
        if allow is not None:
            raise InputError("allow and rows were both given", fix="give one of them")
        chosen = np.unique(np.asarray(rows))
        if chosen.size and chosen.dtype.kind not in "iu":
            raise InputError(f"rows must be whole numbers, got {chosen.dtype}")
        chosen = chosen.astype(np.int64)
        if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < self.rows:
            raise InputError(f"rows reach from {chosen[0]} to {chosen[-1]}, and there are {self.rows}")
        cuts = np.searchsorted(chosen, self._offsets[1:])
        return [part - s.offset for part, s in zip(np.split(chosen, cuts), self.segments)]

    def ranked(
        self, queries: Vectors, k: int, allowed: list[Allowed | None], oversample: int | None, effort: Any
    ) -> Found:
        """The ``k`` best of the ``allowed`` rows for each query ``(q, d)``: scores and global rows ``(q, k)``."""
        pipeline, rescore = self.pipeline, self.pipeline.rescore
        projected = pipeline.chain.project(queries) if pipeline.chain.transforms else queries
        if rescore is None:
            scores, places = self._shortlist(projected, k, allowed, effort)
        else:
            wanted = min(rescore.shortlist(k, oversample), max(self.rows, 1))
            finer = queries if rescore.full else projected
            allowed, found = self._directly(finer, k, allowed, max(wanted, DIRECT))
            if found is None:
                found = self._rescored(finer, self._shortlist(projected, wanted, allowed, effort)[1], k)
            scores, places = found
        rows = self._rows_at(places)
        short = k - scores.shape[1]
        if short > 0:
            scores = np.hstack([scores, np.full((len(queries), short), -np.inf, dtype=np.float32)])
            rows = np.hstack([rows, np.full((len(queries), short), NO_ROW)])
        return scores, rows

    def _shortlist(self, Q: Vectors, k: int, allowed: list[Allowed | None], effort: Any) -> Found:
        """The ``k`` best global places by the codes."""
        parts = []
        for segment, rows in zip(self.segments, allowed):
            scores, places = self._one(segment, Q, k, rows, effort)
            parts.append((scores, _moved(places, segment.offset)))
        return _best(parts, k, len(Q))

    def _directly(
        self, Q: Vectors, k: int, allowed: list[Allowed | None], most: int
    ) -> tuple[list[Allowed | None], Found | None]:
        """The ``k`` best global places by the finer codes, if a filter lets at most ``most`` rows of a segment pass.

        Before that the filters, as bits where they were looked at as masks.
        """
        parts, allowed = [], [*allowed]
        for number, (segment, rows) in enumerate(zip(self.segments, allowed)):
            if rows is None:
                return allowed, None
            allowed[number], found = segment.best_allowed(self.pipeline.fine, Q, rows, k, most)
            if found is None:
                return allowed, None
            parts.append((found[0], _moved(found[1], segment.offset)))
        return allowed, _best(parts, k, len(Q))

    def _one(self, segment: VectorSegment, Q: Vectors, k: int, rows: Allowed | None, effort: int | None) -> Found:
        """The best places of one segment that are not deleted; rows None: without a filter."""
        kind, quantizer = self.pipeline.kind, self.pipeline.chain.quantizer
        filtered = rows is not None
        if segment.deleted is not None:
            spare = min(SPARE, segment.passages // 4) if self._spares else 0
            if rows is None and segment.dead <= spare:
                scores, places = kind.search(segment, quantizer, Q, k + segment.dead, None, False, effort)
                return _without(segment, scores, places, k)
            rows = segment.living(rows, self._masks)
        if rows is not None and not is_mask(rows):
            if not len(rows):
                return np.empty((len(Q), 0), dtype=np.float32), np.empty((len(Q), 0), dtype=np.int64)
            rows = segment.places_of(rows)
        found: Found = kind.search(segment, quantizer, Q, k, rows, filtered, effort)
        return found

    def _rescored(self, Q: Vectors, places: NDArray[np.int64], k: int) -> Found:
        """Score the shortlist of places ``(q, s)`` again with the finer codes and keep ``k``."""
        if len(self.segments) == 1 and places.size and places.min() >= 0:
            return self.segments[0].rescored(self.pipeline.fine, Q, places, k)
        scores = np.full((len(Q), min(k, places.shape[1])), -np.inf, dtype=np.float32)
        found = np.full(scores.shape, NO_ROW, dtype=np.int64)
        for query in range(len(Q)):
            listed = np.sort(places[query][places[query] >= 0])
            cuts = np.searchsorted(listed, self._offsets[1:])
            parts = []
            for segment, some in zip(self.segments, np.split(listed, cuts)):
                if len(some):
                    here = (some - segment.offset)[None]
                    values, best = segment.rescored(self.pipeline.fine, Q[query : query + 1], here, k)
                    parts.append((values, best + segment.offset))
            values, best = _best(parts, k, 1)
            scores[query, : values.shape[1]], found[query, : best.shape[1]] = values[0], best[0]
        return scores, found

    def _rows_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Global rows of global places; -1 stays."""
        if not self._ordered or not places.size:
            return places
        owners = np.searchsorted(self._offsets, places, side="right") - 1
        out = places.copy()
        for number in np.unique(owners[places >= 0]).tolist():
            segment, here = self.segments[number], (owners == number) & (places >= 0)
            out[here] = segment.rows_at(places[here] - segment.offset) + segment.offset
        return out


def _moved(places: NDArray[np.int64], offset: int) -> NDArray[np.int64]:
    """Places of a segment as places of the index; -1 stays."""
    return np.where(places >= 0, places + offset, NO_ROW) if offset else places


def _best(parts: list[Found], k: int, queries: int) -> Found:
    """The ``k`` best of rankings ``(q, k')`` that share no row, best first, ties to the lower row."""
    if len(parts) == 1:
        scores, rows = parts[0]
        return (scores, rows) if scores.shape[1] <= k else (scores[:, :k], rows[:, :k])
    if not parts:
        return np.empty((queries, 0), dtype=np.float32), np.empty((queries, 0), dtype=np.int64)
    scores, rows = (np.concatenate(part, axis=1) for part in zip(*parts))
    wide = scores.shape[1]
    k = min(k, wide)
    cut = np.partition(scores, wide - k, axis=1)[:, wide - k] if k < wide else np.full(queries, -np.inf)
    order = np.empty((queries, k), dtype=np.intp)
    for query in range(queries):  # only what may be among the best is sorted
        some = np.flatnonzero(scores[query] >= cut[query])
        order[query] = some[np.lexsort((rows[query, some], -scores[query, some]))[:k]]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def _without(segment: VectorSegment, scores: NDArray[np.float32], places: NDArray[np.int64], k: int) -> Found:
    """A ranking less the deleted rows, cut to ``k``."""
    assert segment.deleted is not None
    gone = (places < 0) | segment.deleted[segment.rows_at(np.maximum(places, 0))]
    order = np.argsort(gone, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(gone, order, axis=1)
    return (
        np.where(kept, np.float32(-np.inf), np.take_along_axis(scores, order, axis=1)),
        np.where(kept, NO_ROW, np.take_along_axis(places, order, axis=1)),
    )
