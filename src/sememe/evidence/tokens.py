"""Token vectors encoded once and used by many recipes: encoding is nearly all the time of a multi-vector experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sememe.contracts import Kind, Ragged, Vectors, unit_rows
from sememe.index.ragged import offsets_of


class Remembered:
    """An encoder that knows the token vectors of some passages and queries already.

    Its single vectors are the means of the same token vectors, which is how MiniLM pools.

    Parameters
    ----------
    encoder : Encoder
        With ``encode_tokens``.
    passages, queries : sequence of str
        All texts that will be asked for.
    """

    def __init__(self, encoder: Any, passages: Sequence[str], queries: Sequence[str]) -> None:
        self.name, self.dim, self.digest = encoder.name, encoder.dim, encoder.digest
        self._known: dict[tuple[Kind, str], Vectors] = {}
        for kind, texts in (("passage", list(passages)), ("query", list(queries))):
            tokens = encoder.encode_tokens(texts, kind=kind)
            self._known.update(((kind, text), tokens[row]) for row, text in enumerate(texts))  # type: ignore[misc]

    def encode_tokens(self, texts: Sequence[str], *, kind: Kind = "passage") -> Ragged:
        """The token vectors of known texts."""
        rows = [np.zeros((0, self.dim), dtype=np.float32), *(self._known[kind, text] for text in texts)]
        return Ragged(np.concatenate(rows), offsets_of(np.array([len(row) for row in rows[1:]], dtype=np.int64)))

    def encode(
        self, texts: Sequence[str], *, kind: Kind = "passage", batch_size: int = 64, progress: bool = False
    ) -> Vectors:
        """Unit means of the token vectors, ``(n, dim)``."""
        means = [self._known[kind, text].mean(axis=0) for text in texts]
        return unit_rows(np.array(means, dtype=np.float32).reshape(-1, self.dim))
