"""A trained table in codes: each row in a few bytes, decoded when it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import register
from sememe.codec.klt import KLT
from sememe.errors import BudgetError, InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding, largest
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_PREFIX = "state_"
_LEVELS = 1_100  # bytes of the code's levels and scales, whatever its size


@register(
    "codes",
    room="tokens",
    kind="fitted layer",
    summary="the rows of a trained table in transform codes of any number of bytes, decoded when asked for",
)
class CodedTable(TokenEmbedding):
    """Transform codes (`sememe.codec.KLT`) of the rows of a table, and their least-squares shrinkage to the mean row.

    It is fitted to a table that exists and has nothing to train: what it saves costs similarity and no time. A row of
    float32 takes ``4 d`` bytes, its code ``size``; the axes are stored once, in float16, and count.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    size : int
        Bytes a row, 2 to ``8 ceil(d / 8) + 1``; 0 takes half a byte a dimension.
    """

    def __init__(self, vocabulary: Vocabulary, dim: int, size: int = 0) -> None:
        super().__init__(vocabulary, dim)
        self.size_given = size or max(2, dim // 2)
        most = 8 * -(-dim // 8) + 1
        if not 2 <= self.size_given <= most:
            raise InputError(f"size={size}", where="codes", fix=f"give 2 to {most} bytes a row of {dim} dimensions")
        self._codec: KLT | None = None
        self._names: list[str] = []
        self.register_buffer("codes", torch.zeros(len(vocabulary), self.size_given, dtype=torch.uint8))
        self.register_buffer("shrink", torch.ones(()))
        self.register_buffer("centre", torch.zeros(dim))

    @property
    def options(self) -> dict[str, Any]:
        """The size of a row."""
        return {"size": self.size_given}

    def vectors(self, ids: Any) -> Any:
        """Decoded rows; before `fit`, zeros."""
        if not self._names:
            return torch.zeros(len(ids), self.embedding_dim)
        if self._codec is None:
            self._codec = KLT(self.size_given)
            self._codec.load_state({name: getattr(self, f"{_PREFIX}{name}").numpy() for name in self._names})
        decoded = self._codec.decode(np.ascontiguousarray(self.codes[ids].numpy()))
        rows = torch.from_numpy(np.ascontiguousarray(decoded)).to(self.centre.dtype)
        return self.centre + self.shrink * (rows - self.centre)

    @property
    def multiply_adds(self) -> int:
        """Turning back to the dimensions: at most ``d^2``, fewer where axes got no bits."""
        axes = len(self.state_components_) if self._names else self.embedding_dim
        return (axes + 1) * self.embedding_dim

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """Bytes a row that the budget leaves after the axes."""
        most = 8 * -(-dim // 8) + 1
        if 4 * budget < 2 * len(vocabulary):
            raise BudgetError(f"{budget:,} parameters are less than two bytes for each of {len(vocabulary):,} symbols")

        return {"size": largest(lambda size: _expected(len(vocabulary), dim, size), budget, 2, most)}

    @property
    def size(self) -> float:
        """What a budget counts; before `fit`, what is expected of it."""
        return super().size if self._names else _expected(self.num_embeddings, self.embedding_dim, self.size_given)

    def _learn(self, table: Any, weights: Any) -> None:
        rows = np.ascontiguousarray(table.numpy())
        codec = KLT(self.size_given).fit(rows)
        self._hold(codec.state())
        self._codec = codec
        self.codes = torch.from_numpy(codec.encode(rows))
        self.centre = table.mean(0)
        self.shrink = torch.ones(())
        away, wanted = self.vectors(torch.arange(len(table))) - self.centre, table - self.centre
        square = away.square().sum()
        self.shrink = (away * wanted).sum() / square if square > 0 else torch.ones(())

    def _hold(self, state: dict[str, Any]) -> None:
        for name in self._names:
            delattr(self, f"{_PREFIX}{name}")
        self._names = sorted(state)
        for name in self._names:
            self.register_buffer(f"{_PREFIX}{name}", torch.from_numpy(np.array(state[name])))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        begin = f"{prefix}{_PREFIX}"
        self._hold({k.removeprefix(begin): v.numpy() for k, v in state_dict.items() if k.startswith(begin)})
        self._codec = None
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _expected(rows: int, dim: int, size: int) -> float:
    """Parameters that codes of ``size`` bytes take, with their axes (eight need a byte of each code) and levels."""
    axes = 8 * min(size - 1, -(-dim // 8))
    return (rows * size + axes * (2 * dim + 4) + 8 * dim + _LEVELS) / 4
