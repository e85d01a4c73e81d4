"""Queries in the forms that a recipe needs, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Ragged, Vectors, as_vectors
from sememe.errors import InputError
from sememe.index import ragged
from sememe.index.pipeline import Pipeline
from sememe.index.pooling import pool


@dataclass(frozen=True)
class Queries:
    """A batch of queries in the forms that a recipe needs.

    ``vectors`` is float32 ``(q, d)``, or ragged unit rows where a query has several; ``terms`` are the words of each
    query, ``sparse`` is a CSR array ``(q, v)``.
    """

    vectors: Vectors | Ragged | None = None
    terms: Sequence[Sequence[str]] | None = None
    sparse: Any = None

    def __len__(self) -> int:
        if self.vectors is not None:
            return len(self.vectors)
        return len(self.terms) if self.terms is not None else int(self.sparse.shape[0])

    def take(self, rows: NDArray[np.int64]) -> Queries:
        """Some of the queries."""
        return Queries(
            ragged.take(self.vectors, rows)
            if isinstance(self.vectors, Ragged)
            else None
            if self.vectors is None
            else np.ascontiguousarray(self.vectors[rows]),
            None if self.terms is None else [self.terms[i] for i in rows.tolist()],
            None if self.sparse is None else self.sparse[rows],
        )


def is_vectors(queries: object) -> bool:
    """Whether these are query vectors rather than texts."""
    return isinstance(queries, Ragged) or (isinstance(queries, np.ndarray) and queries.dtype.kind in "fiub")


def prepare(queries: str | Sequence[str] | NDArray[Any] | Ragged, pipeline: Pipeline, dim: int | None) -> Queries:
    """Check queries and encode texts: dense vectors, terms, or sparse vectors, as the recipe needs.

    Parameters
    ----------
    queries : str, sequence of str, float array of shape (q, d), or Ragged for several vectors a query
    pipeline : Pipeline
        Its query encoder is used for texts only.
    dim : int or None
        Width of the index's vectors; None for lexical recipes.

    Raises
    ------
    InputError
        A blank query, vectors with NaN or of the wrong width, or vectors where text is needed.
    """
    if isinstance(queries, Ragged) or is_vectors(queries):
        if pipeline.kind.sparse or pipeline.hybrid:
            raise InputError(f"{str(pipeline.recipe)!r} needs the text of a query", fix="pass str instead of vectors")
        if pipeline.multi != isinstance(queries, Ragged):
            raise InputError(
                f"{str(pipeline.recipe)!r} has {'several vectors' if pipeline.multi else 'one vector'} a query",
                fix=f"pass text or {'a sememe.contracts.Ragged' if pipeline.multi else 'an array of shape (q, d)'}",
            )
        if isinstance(queries, Ragged):
            return Queries(_unit(queries, dim))
        return Queries(as_vectors(queries, name="queries", dim=dim))
    texts = [queries] if isinstance(queries, str) else list(queries)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"query {row} is a {type(text).__name__}", fix="pass text or an array of vectors")
        if not text.strip():
            raise InputError(f"query {row} is blank", fix="leave it out or give it some text")
    terms = [list(pipeline.analyzer.terms(text)) for text in texts] if pipeline.analyzer is not None else None
    if pipeline.sparse == "terms":
        return Queries(terms=terms)
    if pipeline.sparse == "weights":
        return Queries(sparse=pipeline.query_encoder.encode_sparse(texts, kind="query"))
    if not texts:
        return Queries(np.zeros((0, dim or 0), dtype=np.float32), terms)
    if pipeline.multi:
        return Queries(_unit(pipeline.encode_tokens(texts, "query"), dim), terms)
    return Queries(as_vectors(pipeline.encode_queries(texts), name="query vectors", dim=dim), terms)


def _unit(tokens: Ragged, dim: int | None) -> Ragged:
    """All vectors of the queries, checked, with unit length; a query without any gets a zero vector."""
    offsets = np.asarray(tokens.offsets, dtype=np.int64)
    if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or offsets[-1] != len(tokens.values):
        raise InputError("the offsets of the query vectors do not run from 0 to their number")
    if (np.diff(offsets) < 0).any():
        raise InputError("the offsets of the query vectors do not ascend")
    return pool(Ragged(as_vectors(tokens.values, name="query vectors", dim=dim), offsets))
