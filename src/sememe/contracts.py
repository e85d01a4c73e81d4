"""What the rooms promise each other: records, vectors, encoders, codecs, indexes.

All arrays are NumPy and C-contiguous. Vectors are ``float32`` of shape ``(n, d)``, one row a text. Ids are ``str``
to the user and ``int64`` rows inside. Similarity is the inner product; cosine is the inner product of unit rows.

Names used everywhere: ``n`` rows, ``d`` dimension, ``q`` queries, ``k`` results, ``v`` vocabulary size.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError

FEW_NUMBERS = 4096  # of one query or a few: up to here one pass that may be in doubt is worth while
Vectors = NDArray[np.float32]
Codes = NDArray[np.uint8]
Kind = Literal["passage", "query"]
Value = str | float | int | datetime.date | list[str]


@dataclass(frozen=True, slots=True)
class Record:
    """One document as a reader delivers it.

    ``metadata`` values are text (``str``), number (``int``/``float``), date (``datetime.date``) or tags
    (``list[str]``). ``source`` is ``file:line`` where the record began.
    """

    id: str
    text: str
    title: str = ""
    source: str = ""
    metadata: dict[str, Value] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """Title and text as one string: what a whole-document chunk encodes."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of characters ``[start, stop)`` of ``Record.text``."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of different length: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    ``values`` is float32 ``(total, d)``, ``offsets`` int64 ``(n + 1,)``. ``spans``, where given, is int64
    ``(total, 2)``: the characters of the input text each token came from, ``(0, 0)`` for special tokens.
    """

    values: Vectors
    offsets: NDArray[np.int64]
    spans: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Vectors:
        return self.values[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True, slots=True)
class Hits:
    """Results of a search, best first: ``ids`` object ``(q, k)`` of str, ``scores`` float32 ``(q, k)``.

    ``rows`` int64 ``(q, k)`` are the passages behind them. Where fewer than ``k`` items match, ``k`` is that number.
    """

    ids: NDArray[Any]
    scores: NDArray[np.float32]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


@runtime_checkable
class Encoder(Protocol):
    """Text to vectors. ``digest`` names weights and settings: equal digests give equal vectors.

    May also offer ``encode_tokens(texts, *, kind) -> Ragged`` (with ``spans``) and
    ``encode_sparse(texts, *, kind) -> scipy.sparse.csr_array`` of shape ``(n, v)``.
    """

    name: str
    dim: int
    digest: str

    def encode(
        self, texts: Sequence[str], *, kind: Kind = "passage", batch_size: int = 64, progress: bool = False
    ) -> Vectors:
        """Unit float32 rows ``(n, dim)``, one for each text, in order."""
        ...


@runtime_checkable
class Transform(Protocol):
    """A scikit-learn transformer of vectors: ``(n, d) -> (n, d')``. May offer ``inverse_transform``."""

    def fit(self, X: Vectors, y: object = None) -> Transform:
        """Learn from ``(n, d)`` rows."""
        ...

    def transform(self, X: Vectors) -> Vectors:
        """Map ``(n, d)`` to float32 ``(n, d')``."""
        ...


@runtime_checkable
class Quantizer(Protocol):
    """Vectors to codes. After ``fit``, ``code_bytes_`` is the exact bytes a vector takes."""

    code_bytes_: int

    def fit(self, X: Vectors, y: object = None) -> Quantizer:
        """Learn from ``(n, d)`` rows."""
        ...

    def encode(self, X: Vectors) -> Codes:
        """Codes, uint8 ``(n, code_bytes_)``."""
        ...

    def decode(self, codes: Codes) -> Vectors:
        """Approximate float32 rows ``(n, d)``."""
        ...

    def scores(self, Q: Vectors, codes: Codes) -> NDArray[np.float32]:
        """Asymmetric inner products, float32 ``(q, n)``: float queries against codes."""
        ...


class Chunker(Protocol):
    """Cuts a text into spans. Every character that is not white space lies in at least one span."""

    def spans(self, text: str) -> list[Span]:
        """Spans in order; an empty or blank text gives no span."""
        ...


class Index(Protocol):
    """A searchable collection on disk."""

    def add(self, records: Iterable[Record]) -> int:
        """Append records; the number added."""
        ...

    def delete(self, ids: Iterable[str]) -> int:
        """Mark records as deleted; the number found."""
        ...

    def search(self, queries: Sequence[str], k: int = 10, where: str | None = None) -> Hits:
        """The ``k`` best records for each query among those that satisfy ``where``."""
        ...


def as_vectors(X: object, *, name: str = "X", dim: int | None = None) -> Vectors:
    """``X`` as C-contiguous float32 ``(n, d)``, or an InputError that names the offending row.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Any real dtype; NaN and infinity are refused.
    name : str
        How the message calls the array.
    dim : int, optional
        The width it must have.
    """
    try:
        array = np.ascontiguousarray(X, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is not a table of numbers ({error})") from None
    if array.ndim != 2:
        raise InputError(f"{name} must have shape (n, d), got {array.shape}", fix="Reshape your data to two dimensions")
    if dim is not None and array.shape[1] != dim:
        raise InputError(f"{name} has {array.shape[1]} columns, expected {dim}")
    if not _finite(array):
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise InputError(f"{name} holds NaN or infinity in row {row}", fix="remove or replace that row")
    return array


def _finite(array: Vectors) -> bool:
    """Whether every number is finite; of few numbers, as of one query, the sum of squares tells it sooner."""
    return (array.size <= FEW_NUMBERS and isfinite(np.vdot(array, array))) or bool(np.isfinite(array).all())


def unit_rows(X: Vectors) -> Vectors:
    """Rows divided by their Euclidean norm; zero rows stay zero. Shape ``(n, d)`` in and out."""
    norms = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64))
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return np.ascontiguousarray(X * scale[:, None], dtype=np.float32)
