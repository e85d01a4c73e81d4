"""From query vectors and terms to ranked passages, and from passages to records.

Per segment the index kind gives its best passages; they are merged by score, ties to the lower row, so that the answer
does not depend on how the passages lie in segments. Rescoring and fusion then work on the merged list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Ragged, Vectors
from sememe.index import inverted
from sememe.index.best import TopK, is_ranking
from sememe.index.impact import Impact
from sememe.index.pipeline import Pipeline
from sememe.index.predicates import Where, fields_of
from sememe.index.queries import Queries
from sememe.index.scan import COPIED
from sememe.index.segment import SegmentReader
from sememe.kernels.select import Selection, select

REMEMBERED = 4  # filters, of a byte a record and one a passage
DIRECT = 256  # passages that pass a filter up to which all are scored by the finer codes, without a shortlist
Ranked = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class Scope:
    """The passages of one segment that may be found.

    ``records`` is a mask over its records, None where all may; ``filtered`` tells that a ``where`` chose them, not
    deletion alone.
    """

    segment: SegmentReader
    records: NDArray[np.bool_] | None
    filtered: bool

    @cached_property
    def passages(self) -> NDArray[np.bool_] | None:
        """Mask over passages; None where all may be found."""
        return None if self.records is None else self.segment.records.passage_mask(self.records)

    @property
    def bits(self) -> NDArray[np.uint64] | None:
        """The same, a bit a passage."""
        return None if self._selection is None else self._selection.bits

    @property
    def rows(self) -> NDArray[np.int64] | None:
        """Local rows of the passages, ascending; None where all may be found."""
        return None if self.bits is None else select(self.bits, self.segment.passages).rows

    @property
    def count(self) -> int:
        """How many passages may be found."""
        return self.segment.passages if self._selection is None else self._selection.passing

    @cached_property
    def _selection(self) -> Selection | None:
        return None if self.passages is None else select(self.passages, self.segment.passages, 0)

    @cached_property
    def findable_records(self) -> int:
        """Records with at least one passage that may be found."""
        records = self.segment.records
        if records.one_passage_each:
            return self.count
        has = np.diff(records.first()) > 0
        return int(has.sum() if self.records is None else (has & self.records).sum())


class Scopes:
    """What may be found under which filter, for the segments of one version of an index.

    The last few filters are remembered: their segments never change.
    """

    def __init__(self, segments: Sequence[SegmentReader]) -> None:
        self.segments = segments
        self._known: dict[str | None, list[Scope]] = {}

    @cached_property
    def _fields(self) -> dict[str, set[str]]:
        return fields_of(segment.records for segment in self.segments)

    def of(self, where: str | None) -> list[Scope]:
        """What may be found in each segment: not deleted, and chosen by ``where``."""
        known = self._known.get(where)
        if known is not None:
            return known
        condition = None if where is None else Where(where, self._fields)
        found = []
        for segment in self.segments:
            mask = None if segment.deleted is None else ~segment.deleted
            if condition is not None:
                chosen = condition.mask(segment.records)
                mask = chosen if mask is None else chosen & mask
            found.append(Scope(segment, mask, condition is not None))
        for oldest in list(self._known)[: max(0, len(self._known) - REMEMBERED + 1)]:
            self._known.pop(oldest, None)
        self._known[where] = found
        return found


class Searcher:
    """Searches a list of scopes with a pipeline.

    Parameters
    ----------
    pipeline : Pipeline
        With a fitted codec, for dense recipes.
    scopes : list of Scope
        Their segments in order of global rows.
    oversample, ef : int, optional
        Override the shortlist factor of rescoring and the effort of a graph.
    """

    def __init__(
        self, pipeline: Pipeline, scopes: list[Scope], *, oversample: int | None = None, ef: int | None = None
    ) -> None:
        self.pipeline, self.scopes, self.oversample, self.ef = pipeline, scopes, oversample, ef

    def records(self, queries: Queries, k: int) -> Ranked:
        """The best passage of each of the ``k`` best records, as scores and global passage rows ``(q, k')``.

        The shortlist of passages grows until it holds ``k`` records or everything that matches.
        """
        reachable = sum(scope.findable_records for scope in self.scopes)
        total = sum(scope.count for scope in self.scopes)
        wanted = min(k, reachable)
        if wanted and all(scope.segment.records.one_passage_each for scope in self.scopes):
            return self.passages(queries, wanted)
        best = TopK(len(queries), wanted)
        pending = np.arange(len(queries))
        depth = wanted if reachable == total else min(total, 4 * wanted)
        while len(pending) and wanted:
            scores, rows = self.passages(queries.take(pending), depth)
            keep = self._first_of_record(rows)
            whole = (keep.sum(axis=1) >= wanted) | (depth >= total) | (np.sum(rows >= 0, axis=1) < depth)
            for_now = whole[:, None] & keep
            query, column = np.nonzero(for_now)
            best.merge(pending[query], scores[query, column], rows[query, column])
            pending = pending[~whole]
            depth = min(total, 4 * depth)
        return best.result()

    def _first_of_record(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which entries of ``rows`` ``(q, depth)`` are the first of their record in their line."""
        owners = self.owners(rows)
        keep = rows >= 0
        for line in range(len(rows)):
            first = np.zeros(rows.shape[1], dtype=bool)
            first[np.unique(owners[line], return_index=True)[1]] = True
            keep[line] &= first
        return keep

    def owners(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """A number for the record of each global passage row, different for different records; -1 stays."""
        owners = np.full(rows.shape, -1, dtype=np.int64)
        base = 0
        for scope in self.scopes:
            segment = scope.segment
            here = (rows >= segment.offset) & (rows < segment.offset + segment.passages)
            if here.any():
                owners[here] = base + segment.records.records_of(rows[here] - segment.offset)
            base += segment.records.count
        return owners

    def passages(self, queries: Queries, k: int) -> Ranked:
        """The ``k`` best passages for each query, scores and global rows ``(q, k')``."""
        if self.pipeline.kind.sparse:
            return self._sparse(queries, k)
        hybrid = self.pipeline.hybrid
        if hybrid is None:
            return self._dense(queries, k)
        depth = max(hybrid.depth, k)
        assert queries.terms is not None
        return hybrid.fuse(self._dense(queries, depth), inverted.bm25(self._parts(), queries.terms, depth), k)

    def _sparse(self, queries: Queries, k: int) -> Ranked:
        if queries.terms is not None:
            return inverted.bm25(self._parts(), queries.terms, k)
        kind, effort = self.pipeline.kind, {}
        if isinstance(kind, Impact) and not any(scope.filtered for scope in self.scopes):
            effort = {"share": kind.share, "slack": kind.slack}
        return inverted.inner_product(self._parts(), queries.sparse, k, **effort)

    def _parts(self) -> list[inverted.Part]:
        return [
            inverted.Part(s.segment.postings, s.segment.offset, s.segment.alive_passages(), s.passages)
            for s in self.scopes
            if s.segment.postings is not None
        ]

    def _dense(self, queries: Queries, k: int) -> Ranked:
        assert queries.vectors is not None
        pipeline = self.pipeline
        if pipeline.chain is None or not len(queries.vectors):
            return TopK(len(queries), 0).result()
        rescore = pipeline.rescore
        wanted = k if rescore is None else rescore.shortlist(k, self.oversample)
        projected = pipeline.project(queries.vectors)
        if rescore is None:
            return self._by_codes(projected, wanted)
        assert not isinstance(queries.vectors, Ragged) and not isinstance(projected, Ragged)  # the pipeline refused it
        if self._few(max(wanted, DIRECT)):
            rows = np.concatenate([s.rows + s.segment.offset for s in self.scopes if s.rows is not None])
            rows = np.broadcast_to(rows, (len(queries), len(rows)))
        else:
            rows = self._by_codes(projected, wanted)[1]
        return self._rescored(queries.vectors if rescore.full else projected, rows, k)

    def _few(self, most: int) -> bool:
        """Whether a filter leaves at most so many passages."""
        return all(scope.filtered for scope in self.scopes) and sum(scope.count for scope in self.scopes) <= most

    def _by_codes(self, projected: Vectors | Ragged, k: int) -> Ranked:
        """The ``k`` best passages by the codes that the index kind searches."""
        kind, quantizer = self.pipeline.kind, self.pipeline.chain.quantizer
        masks = bool(getattr(kind, "masks", False))
        scopes = [scope for scope in self.scopes if scope.count]
        best = TopK(len(projected), min(k, sum(scope.count for scope in scopes)))
        for scope in scopes:
            segment, allowed = scope.segment, scope.bits if masks else scope.rows
            scores, rows = kind.search(segment, quantizer, projected, k, allowed, scope.filtered, self.ef)
            if len(scopes) == 1 and is_ranking(scores, rows):
                return scores, rows + segment.offset if segment.offset else rows
            query, column = np.nonzero(rows >= 0)
            best.merge(query, scores[query, column], rows[query, column] + segment.offset)
        return best.result()

    def picked(self, rows: NDArray[np.int64]) -> int:
        """How many rows of mapped files a search looked at, about, whose answer is ``rows``."""
        rescore = self.pipeline.rescore
        listed = 0 if rescore is None else len(rows) * rescore.shortlist(rows.shape[1], self.oversample)
        return rows.size if listed <= COPIED else rows.size + listed

    def _rescored(self, Q: Vectors, rows: NDArray[np.int64], k: int) -> Ranked:
        """Score the shortlist ``rows`` again with the finer code and keep ``k``."""
        fine = self.pipeline.fine
        if len(self.scopes) == 1 and rows.size and int(rows.min()) >= 0:
            segment = self.scopes[0].segment
            scores, found = segment.rescored(fine, Q, rows - segment.offset, k)
            return scores, found + segment.offset
        best = TopK(len(Q), min(k, rows.shape[1]))
        for scope in self.scopes:
            segment = scope.segment
            here = (rows >= segment.offset) & (rows < segment.offset + segment.passages)
            for query in np.flatnonzero(here.any(axis=1)).tolist():
                local = rows[query, here[query]] - segment.offset
                scores, found = segment.rescored(fine, Q[query : query + 1], local[None], k)
                best.offer(query, scores[0], found[0] + segment.offset)
        return best.result()
