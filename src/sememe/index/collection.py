"""The index as its user sees it: search it, change it, ask what it is.

An index is a folder of immutable segments. Every change is one commit, visible whole or not at all; an ``Index`` keeps
the version it opened until it commits itself or ``refresh`` is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Hits, Ragged, Record
from sememe.errors import FormatError, InputError
from sememe.index import changes, describe
from sememe.index.ledger import BuildReport, Ledger
from sememe.index.pipeline import Pipeline
from sememe.index.queries import is_vectors, prepare
from sememe.index.search import Scopes, Searcher
from sememe.index.segment import SegmentReader
from sememe.index.storage.store import Store
from sememe.index.writer import Intake
from sememe.recipe import Recipe

if TYPE_CHECKING:
    from sememe.index.storage.store import VerifyReport

MAX_K = 100_000
ROW_TOUCHES = 64 << 10  # bytes that the system maps, at most, where a few of them are read
COLUMN_BYTES = 8  # of a value that a filter looks at
Source = str | PathLike[str] | Iterable[Record]
Unit = Literal["record", "passage"]


class Index:
    """A searchable collection on disk. Made by ``build`` or ``open``.

    Attributes
    ----------
    path : Path
    recipe : Recipe
    report : BuildReport or None
        What the build or the last ``add`` did.
    """

    def __init__(self, store: Store, pipeline: Pipeline) -> None:
        self.store, self.pipeline = store, pipeline
        self.report: BuildReport | None = None
        self._checked = False
        self._load()

    def _load(self) -> None:
        changes.load_codec(self.store, self.pipeline)
        self.segments: list[SegmentReader] = []
        offset = 0
        for entry in self.store.manifest.segments:
            self.segments.append(SegmentReader(self.store, entry, offset))
            offset += entry.rows
        self._scopes = Scopes(self.segments)
        self._touched, self._enough = 0, sum(segment.codes.nbytes for segment in self.segments) // 8

    @property
    def path(self) -> Path:
        """The folder."""
        return self.store.path

    @property
    def recipe(self) -> Recipe:
        """What the index was built with."""
        return self.pipeline.recipe

    @property
    def records(self) -> int:
        """Records that are not deleted."""
        return sum(segment.live_records for segment in self.segments)

    @property
    def passages(self) -> int:
        """Passages, those of deleted records included, as they count against bytes."""
        return sum(segment.passages for segment in self.segments)

    def __len__(self) -> int:
        return self.records

    # -- search ---------------------------------------------------------------------------------------------------

    def search(
        self,
        queries: str | Sequence[str] | NDArray[Any] | Ragged,
        k: int = 10,
        where: str | None = None,
        *,
        unit: Unit = "record",
        oversample: int | None = None,
        ef: int | None = None,
    ) -> Hits:
        """The ``k`` best records (or passages) for each query.

        Parameters
        ----------
        queries : str, sequence of str, float array of shape (q, d), or Ragged
            Vectors must come from the recipe's query encoder, ragged where a query has several; a recipe with a lexical
            part needs text.
        k : int
            At least 1. Fewer are returned where fewer match.
        where : str, optional
            A condition on metadata, in the language of ``sememe.index.filters``. Exact at every selectivity.
        unit : {"record", "passage"}
            A record's score is that of its best passage.
        oversample, ef : int, optional
            Override the recipe's shortlist factor for rescoring, and a graph's effort.

        Returns
        -------
        Hits
            ``rows`` are global passage rows of the version that is open. A lexical search finds only passages that
            share a term with the query: shorter lines are padded with id ``""``, score -inf and row -1.

        Raises
        ------
        InputError
            Blank query, ``k`` below 1, vectors with NaN or of the wrong width, or an encoder other than the index's.
        FilterError
            A wrong ``where``.
        """
        for name, value in (("k", k), ("oversample", oversample), ("ef", ef)):
            if value is None and name != "k":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= MAX_K:
                raise InputError(f"{name} must be a whole number from 1 to {MAX_K:,}, got {value!r}")
        if unit not in ("record", "passage"):
            raise InputError(f"there is no unit {unit!r}", fix="use 'record' or 'passage'")
        if not is_vectors(queries):
            self._check_encoder()
        batch = prepare(queries, self.pipeline, self.store.manifest.body["dim"])
        searcher = Searcher(self.pipeline, self._scopes.of(where), oversample=oversample, ef=ef)
        scores, rows = searcher.records(batch, int(k)) if unit == "record" else searcher.passages(batch, int(k))
        ids = describe.identities(self.segments, rows)
        self._release(searcher.picked(rows), where is not None)
        return Hits(ids, scores, rows)

    def _release(self, picked: int, filtered: bool) -> None:
        """Give back the memory of rows picked out of files, once it may be an eighth of what the codes take."""
        self._touched += picked * ROW_TOUCHES
        if filtered:
            self._touched += sum(segment.records.count for segment in self.segments) * COLUMN_BYTES
        if self._touched > self._enough:
            self._touched = 0
            for segment in self.segments:
                segment.release()

    def _check_encoder(self) -> None:
        if not self._checked:
            self.pipeline.check_identity(self.store.manifest.body)
            self._checked = True

    def describe(self, row: int, score: float | None = None) -> dict[str, Any]:
        """One hit as JSON: id, score, text of the passage, title, source, span and metadata."""
        return {**describe.hit(self.segments, int(row)), "score": None if score is None else float(score)}

    def results(self, hits: Hits) -> list[list[dict[str, Any]]]:
        """All hits as JSON, a list for each query."""
        found = [
            [self.describe(int(row), float(score)) for row, score in zip(rows, scores) if row >= 0]
            for rows, scores in zip(hits.rows, hits.scores)
        ]
        self._release(hits.rows.size, False)
        return found

    # -- change ---------------------------------------------------------------------------------------------------

    def add(self, records: Source, *, on_duplicate: str | None = None) -> int:
        """Append records in a new segment, encoded by the codec as it was fitted; the number added.

        Parameters
        ----------
        records : path or iterable of Record
        on_duplicate : {"error", "first", "replace"}, optional
            For ids that are already there; the index's own policy by default.

        Raises
        ------
        ConflictError
            Another writer added one of the same ids, or deleted a record that this call replaces.
        """
        self._check_encoder()
        intake = Intake(on_duplicate or self.store.manifest.body["on_duplicate"], changes.live_ids(self.segments))
        changes.add(self.store, self.pipeline, self.segments, changes.read(records, intake.policy), intake)
        self._load()
        return intake.admitted - len(intake.dropped)

    def delete(self, ids: Iterable[str]) -> int:
        """Mark records as deleted; the number found. Ids that are not there are ignored.

        Raises
        ------
        ConflictError
            Another writer deleted one of them, or compacted the index, since it was opened.
        """
        if isinstance(ids, str):
            raise InputError("delete takes a list of ids, not one string", fix=f"write delete([{ids!r}])")
        found = changes.delete(self.store, self.segments, set(ids))
        self._load()
        return found

    def compact(self) -> None:
        """Merge all segments into one without the deleted records; answers of an exact recipe stay the same."""
        changes.compact(self.store, self.pipeline, self.segments)
        self._load()

    def refresh(self) -> bool:
        """Move to the newest version on disk; whether there was a newer one."""
        before = self.store.manifest
        if not self.store.refresh():
            return False
        after = self.store.manifest
        if before.body != after.body or before.files != after.files:  # fitted by another writer, or built anew
            self.pipeline, self._checked = self.pipeline.again(check_body(after.body, self.path)), False
        self._load()
        return True

    # -- facts ----------------------------------------------------------------------------------------------------

    def verify(self) -> VerifyReport:
        """Read every byte and compare it with its checksum."""
        return self.store.verify()

    def ledger(self) -> Ledger:
        """Bytes of each part, measured on the files."""
        return Ledger.of(self.store, self.segments)

    def info(self) -> dict[str, Any]:
        """The facts about this index as JSON."""
        body = self.store.manifest.body
        return {
            "index": str(self.path),
            "recipe": body["recipe"],
            "records": self.records,
            "passages": self.passages,
            "deleted": sum(segment.records.count for segment in self.segments) - self.records,
            "segments": len(self.segments),
            "generation": self.store.manifest.generation,
            "encoder": body["encoder"],
            "query_encoder": body["query_encoder"],
            "on_duplicate": body["on_duplicate"],
            "dim": body["dim"],
            "fields": {name: sorted(kinds) for name, kinds in changes.fields(self.segments).items()},
            "bytes": self.ledger().as_json(),
        }

    def close(self) -> None:
        """Let go of the files; arrays that were handed out stay valid."""
        self.segments, self._scopes = [], Scopes([])
        self.store.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_body(body: dict[str, Any], path: Path) -> str:
    """The recipe in a manifest's body, or a FormatError where the store holds something else."""
    if body.get("kind") != "sememe" or not isinstance(body.get("recipe"), str):
        fix = "open it with sememe.index.VectorIndex" if body.get("kind") == "sememe-vectors" else None
        raise FormatError("this store does not hold an index of records", where=str(path), fix=fix)
    return str(body["recipe"])
