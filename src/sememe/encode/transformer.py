"""What the transformer encoders share: batches of similar length, pooling over tokens, token vectors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Kind, Ragged, Vectors
from sememe.encode.base import DenseEncoder, Rows, check_kind, check_texts
from sememe.encode.parallel import spread_torch

Ids = NDArray[np.int64]
_BLOCK = 8192  # texts tokenized and sorted at once
_TOKENS_A_TEXT = (
    16  # batch_size times this is the number of tokens at once: small batches stay in the processor's cache
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """One tokenized text: ids ``(t,)``, and the characters of each, ``(t, 2)``, where they were asked for."""

    ids: Ids
    spans: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts of similar length: their row numbers, ids ``(b, t)`` and lengths ``(b,)``."""

    rows: Rows
    ids: Ids
    lengths: NDArray[np.int64]

    @property
    def mask(self) -> Ids:
        """1 for a token, 0 for padding, int64 ``(b, t)``."""
        return (np.arange(self.ids.shape[1]) < self.lengths[:, None]).astype(np.int64)

    @property
    def padded(self) -> bool:
        """Whether any text is shorter than the longest."""
        return bool((self.lengths < self.ids.shape[1]).any())


def batches(tokens: Sequence[Ids], budget: int, pad: int = 0) -> Iterator[Batch]:
    """Batches of at most about ``budget`` tokens, the longest texts first.

    Sorting puts texts of equal length together, so that little is spent on padding; the longest come first, so that
    what does not fit into memory fails at once and the estimated time only falls.
    """
    lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        rows = order[start : start + max(1, budget // longest)]
        ids = np.full((len(rows), longest), pad, dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : lengths[row]] = tokens[row]
        yield Batch(rows, ids, lengths[rows])
        start += len(rows)


def pool(states: Any, batch: Batch, how: str) -> Vectors:
    """One vector a text from token states ``(b, t, d)``: their mean, the first, or the last; float32 ``(b, d)``."""
    if how == "cls":
        return np.ascontiguousarray(states[:, 0], dtype=np.float32)
    if how == "last":
        return np.ascontiguousarray(states[np.arange(len(states)), np.maximum(batch.lengths - 1, 0)], dtype=np.float32)
    if not batch.padded:
        return states.mean(axis=1, dtype=np.float32)
    total = np.matmul(batch.mask[:, None, :].astype(np.float32), states)[:, 0]  # (b, d)
    return total / np.maximum(batch.lengths, 1).astype(np.float32)[:, None]


class TransformerEncoder(DenseEncoder):
    """A tokenizer, a model and a pooling. A subclass gives the first two.

    Attributes
    ----------
    pooling : {"mean", "cls", "last"}
        How token states become one vector.
    """

    pooling: str = "mean"
    pad: int = 0

    @abstractmethod
    def _tokenize(self, texts: list[str], kind: Kind, *, spans: bool = False) -> list[Tokens]:
        """Ids with special tokens, cut to ``max_tokens``."""

    @abstractmethod
    def _states(self, batch: Batch) -> NDArray[np.float32]:
        """The last layer's states, float32 ``(b, t, d)``."""

    def _spread(self, function: Callable[[Batch], Any], items: Iterator[Batch]) -> Iterator[tuple[Batch, Any]]:
        """Run ``function`` over batches, side by side where that is faster."""
        return spread_torch(function, items)

    def _embed(self, texts: list[str], kind: Kind, batch_size: int) -> Iterator[tuple[Rows, Vectors]]:
        for start in range(0, len(texts), _BLOCK):
            tokens = [t.ids for t in self._tokenize(texts[start : start + _BLOCK], kind)]
            cut = batches(tokens, batch_size * _TOKENS_A_TEXT, self.pad)
            for batch, vectors in self._spread(lambda b: pool(self._states(b), b, self.pooling), cut):
                yield batch.rows + start, vectors

    def count_tokens(self, texts: Sequence[str], *, kind: Kind = "passage") -> NDArray[np.int64]:
        """How many rows ``encode_tokens`` gives for each text, ``(n,)``, without running the model."""
        return np.array([len(t.ids) for t in self._tokenize(check_texts(texts), kind)], dtype=np.int64)

    def encode_tokens(self, texts: Sequence[str], *, kind: Kind = "passage", batch_size: int = 64) -> Ragged:
        """The last layer's state of every token, special ones included, with the characters it came from.

        A text is read up to ``max_tokens``; rows are not normalized.
        """
        check_kind(kind)
        tokens = self._tokenize(check_texts(texts), kind, spans=True)
        offsets = np.zeros(len(tokens) + 1, dtype=np.int64)
        np.cumsum([len(t.ids) for t in tokens], out=offsets[1:])
        values = np.zeros((int(offsets[-1]), self.dim), dtype=np.float32)
        cut = batches([t.ids for t in tokens], batch_size * _TOKENS_A_TEXT, self.pad)
        for batch, states in self._spread(self._states, cut):
            for place, row in enumerate(batch.rows):
                values[offsets[row] : offsets[row + 1]] = states[place, : batch.lengths[place]]
        found = [t.spans for t in tokens if t.spans is not None]
        spans = np.concatenate(found) if found else np.zeros((0, 2), dtype=np.int64)
        return Ragged(values, offsets, spans)


def tokenize_with(tokenizer: Any, texts: list[str], *, spans: bool) -> list[Tokens]:
    """Run a ``tokenizers.Tokenizer``; offsets cost time and are made only where they are asked for."""
    if not texts:
        return []
    if not spans:
        return [Tokens(np.array(e.ids, dtype=np.int64)) for e in tokenizer.encode_batch_fast(texts)]
    return [
        Tokens(np.array(e.ids, dtype=np.int64), np.array(e.offsets, dtype=np.int64).reshape(-1, 2))
        for e in tokenizer.encode_batch(texts)
    ]
