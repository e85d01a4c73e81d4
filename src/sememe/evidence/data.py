"""Reading the evaluation data that experiments use. None of it comes with Sememe."""

from __future__ import annotations

import csv
import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sememe.contracts import Vectors
from sememe.errors import InputError

VECTOR_SETS = ("scifact", "cranfield", "cisi")


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """A retrieval collection, and its vectors where they are ready.

    Attributes
    ----------
    documents, queries : dict of id to text
        A document is its title and text.
    qrels : dict of query id to {document id: grade}
    corpus_vectors, query_vectors : float32 ndarrays of shape (n, 384) and (q, 384), or None
        all-MiniLM-L6-v2, unit rows, in the order of ``documents`` and ``queries``.
    titles : dict of id to text
    """

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    titles: dict[str, str]
    corpus_vectors: Vectors | None = None
    query_vectors: Vectors | None = None

    def vectors(self) -> tuple[Vectors, Vectors]:
        """``corpus_vectors`` and ``query_vectors``, or an InputError where this collection has none."""
        if self.corpus_vectors is None or self.query_vectors is None:
            raise InputError(f"{self.name} has no ready vectors", fix=f"use {', '.join(VECTOR_SETS)}, or encode it")
        return self.corpus_vectors, self.query_vectors


class DataFolder:
    """The folder of evaluation data.

    Parameters
    ----------
    path : str, optional
        Where it is; the environment variable SEMEME_DATA when not given. It is looked at only when something is read.
    """

    def __init__(self, path: str | None = None) -> None:
        given = path or os.environ.get("SEMEME_DATA")
        self.path = Path(given) if given else None

    def require(self, name: str) -> Path:
        """The folder of one data set, or an InputError that says how to give it."""
        if self.path is None:
            raise InputError(
                f"this experiment needs the data set {name}",
                fix="set SEMEME_DATA or give --data DIR, the folder that holds it",
            )
        folder = self.path / name
        if not folder.is_dir():
            raise InputError(
                f"there is no data set {name} here", where=str(self.path), fix="set SEMEME_DATA or give --data"
            )
        return folder

    def retrieval(self, name: str) -> RetrievalSet:
        """A collection in the BEIR layout, with its MiniLM vectors where ``embeddings-minilm`` has them."""
        from sememe.text import read, read_qrels, read_queries

        folder = self.require(name)
        records = list(read(_one_of(folder, "corpus.jsonl.gz", "corpus.jsonl")))
        queries = read_queries(folder / "queries.jsonl")
        corpus_vectors, query_vectors = None, None
        if name in VECTOR_SETS:
            vectors = self.require("embeddings-minilm")
            corpus_vectors, query_vectors = (
                np.load(vectors / f"{name}.{part}.f16.npy").astype(np.float32) for part in ("corpus", "queries")
            )
            if len(corpus_vectors) != len(records) or len(query_vectors) != len(queries):
                raise InputError("the ready vectors do not belong to this collection", where=str(vectors))
        return RetrievalSet(
            name,
            {record.id: record.content for record in records},
            dict(queries),
            read_qrels(folder / "qrels.tsv"),
            {record.id: record.title for record in records},
            corpus_vectors,
            query_vectors,
        )

    def table(self, *parts: str) -> list[list[str]]:
        """Rows of a TSV below the folder, without its header; quotes are plain characters."""
        path = self.require(parts[0]).joinpath(*parts[1:])
        try:
            with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        except OSError as error:
            raise InputError(f"cannot read this table ({error})", where=str(path)) from None
        return rows[1:]


def _one_of(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise InputError(f"none of {', '.join(names)} is here", where=str(folder))
