"""What the dense encoders share: checking texts, batches, progress, unit rows."""

from __future__ import annotations

import contextlib
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sememe import progress as reporting
from sememe.contracts import Encoder, Kind, Vectors, unit_rows
from sememe.errors import InputError

Rows = NDArray[np.int64]
KINDS = ("passage", "query")


@dataclass(frozen=True, slots=True)
class Distance:
    """Cosines between what two encoders give for the same texts: their mean and the smallest."""

    mean_cosine: float
    min_cosine: float
    texts: int


class DenseEncoder(ABC):
    """Base of the encoders that give one vector a text.

    A subclass sets ``name``, ``dim`` and ``digest`` and gives raw rows batch by batch; their length is made 1 here.

    Attributes
    ----------
    name : str
        As a recipe writes it.
    dim : int
        Width of a row.
    digest : str
        Names the weights and every setting that changes a vector.
    max_tokens : int or None
        Tokens beyond this are not read; None where there is no limit.
    asymmetric : bool
        Whether queries are encoded differently from passages.
    """

    name: str
    dim: int
    digest: str
    max_tokens: int | None = None
    asymmetric: bool = False

    def encode(
        self, texts: Sequence[str], *, kind: Kind = "passage", batch_size: int = 64, progress: bool = False
    ) -> Vectors:
        """Unit float32 rows ``(n, dim)``, one for each text, in order.

        Parameters
        ----------
        texts : sequence of str
            Any text. Lone surrogates, which no file holds, are read as U+FFFD.
        kind : {"passage", "query"}
            What the texts are; matters only where ``asymmetric`` is true.
        batch_size : int
            Texts of ordinary length that are worked on at once.
        progress : bool
            Report progress on standard error.

        Raises
        ------
        InputError
            Where ``texts`` is a single string, or holds something that is not a string.
        """
        clean = check_texts(texts)
        check_kind(kind)
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        out = np.zeros((len(clean), self.dim), dtype=np.float32)
        with stepping(f"encoding with {self.name}", len(clean), progress) as step:
            for rows, vectors in self._embed(clean, kind, batch_size):
                out[rows] = self._finish(vectors)
                step(len(vectors))
        return out

    def distance_to(self, other: Encoder, texts: Sequence[str]) -> Distance:
        """How far another encoder of the same width is from this one, over some texts."""
        if other.dim != self.dim:
            raise InputError(f"{self.name} gives {self.dim} dimensions and {other.name} {other.dim}")
        cosines = np.einsum("ij,ij->i", self.encode(texts), other.encode(texts))
        if not len(cosines):
            raise InputError("there are no texts to compare on")
        return Distance(float(cosines.mean()), float(cosines.min()), len(cosines))

    def _finish(self, vectors: Vectors) -> Vectors:
        return unit_rows(vectors)

    @abstractmethod
    def _embed(self, texts: list[str], kind: Kind, batch_size: int) -> Iterator[tuple[Rows | slice, Vectors]]:
        """Pairs of row numbers and their raw vectors ``(b, dim)``; every row with content occurs once."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}, {self.dim} dimensions>"


@contextlib.contextmanager
def stepping(label: str, total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """A progress step, or one that says nothing."""
    if not wanted:
        yield lambda count: None
        return
    with reporting.task(label, total=total, unit="texts") as step:
        yield step


def check_texts(texts: Sequence[str]) -> list[str]:
    """``texts`` as a list that can be written as UTF-8: a lone surrogate becomes U+FFFD."""
    if isinstance(texts, (str, bytes)):
        raise InputError("texts must be a list of strings, got a single one", fix="write [text]")
    clean = list(texts)
    for row, text in enumerate(clean):
        if not isinstance(text, str):
            raise InputError(f"texts[{row}] is {type(text).__name__}, not a string")
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                clean[row] = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    return clean


def check_kind(kind: str) -> None:
    """Refuse anything but ``passage`` and ``query``."""
    if kind not in KINDS:
        raise InputError(f"kind is {kind!r}", fix="use 'passage' or 'query'")


def fingerprint(*parts: object) -> str:
    """A short digest of anything JSON can write: 32 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()
