"""The network of the hypernetwork: from the rows of a token's pieces to the token's own rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sememe.contracts import Vectors
from sememe.errors import InputError, MissingDependency
from sememe.lab.model import Shape, Trunk

try:
    import torch
    from torch import nn
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a hypernetwork") from None


class PieceNetwork(nn.Module):  # type: ignore[misc]
    """A small transformer over the pieces of a token, in their order.

    For each table, a new row is a weighted mean of the pieces' rows, with weights that the transformer gives, and a
    correction read from its states. Before training both are those of the mean of pieces.

    Parameters
    ----------
    tables : sequence of float32 ndarrays of shape (v, d)
        The frozen tables: one, or input and output.
    width, layers, heads : int
        Of the transformer.
    most : int
        Pieces that are looked at; the first and last ones of longer spellings.
    """

    def __init__(self, tables: Sequence[Vectors], *, width: int, layers: int, heads: int, most: int) -> None:
        super().__init__()
        if most < 2:
            raise InputError(f"{most} pieces are too few to compose", fix="give at least 2")
        self.most, self.size, self.dim = most, len(tables[0]), tables[0].shape[1]
        stacked = np.stack(tables)
        means = stacked.mean(axis=1, dtype=np.float64).astype(np.float32)
        spread = np.sqrt(np.maximum(((stacked - means[:, None]) ** 2).mean(axis=(1, 2)), 1e-12)).astype(np.float32)
        self.register_buffer("rows", torch.from_numpy(np.ascontiguousarray(stacked)), persistent=False)
        self.register_buffer("means", torch.from_numpy(means), persistent=False)
        self.register_buffer("spread", torch.from_numpy(spread), persistent=False)
        count = len(tables)
        self.into = nn.Linear(count * self.dim, width, bias=False)
        self.trunk = Trunk(Shape(dim=width, layers=layers, heads=heads, context=most), "learned")
        self.score = nn.Linear(width, count)
        self.correct = nn.Linear(width, count * self.dim)
        for layer in (self.score, self.correct):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def padded(self, pieces: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        """Numbers of pieces ``(m, l)`` and which of them are there, bool ``(m, l)``."""
        cut = [self._cut(found) for found in pieces]
        width = max(map(len, cut), default=1)
        numbers = np.zeros((len(cut), max(width, 1)), dtype=np.int64)
        keep = np.zeros(numbers.shape, dtype=bool)
        for row, found in enumerate(cut):
            numbers[row, : len(found)], keep[row, : len(found)] = found, True
        return torch.from_numpy(numbers), torch.from_numpy(keep)

    def _cut(self, pieces: Sequence[int]) -> list[int]:
        half = self.most // 2
        return list(pieces) if len(pieces) <= self.most else [*pieces[: self.most - half], *pieces[-half:]]

    def forward(self, numbers: Any, keep: Any) -> Any:
        """Rows ``(t, m, d)`` for ``t`` tables; tokens without pieces get the tables' means."""
        found = (self.rows[:, numbers] - self.means[:, None, None]) / self.spread[:, None, None, None]  # (t, m, l, d)
        states = self.trunk(self.into(found.permute(1, 2, 0, 3).flatten(2)), causal=False, keep=keep)
        hidden = ~keep[:, :, None]
        weights = self.score(states).masked_fill(hidden, torch.finfo(states.dtype).min).softmax(dim=1)  # (m, l, t)
        there = keep.any(dim=1)
        local = torch.einsum("mlt,tmld->tmd", weights, found)
        count = keep.sum(dim=1).clamp_min(1)[:, None]
        pooled = states.masked_fill(hidden, 0).sum(dim=1) / count
        more = self.correct(pooled).unflatten(1, (len(self.rows), self.dim)).transpose(0, 1)
        made = torch.where(there[None, :, None], local + more, 0)
        return self.means[:, None] + self.spread[:, None, None] * made

    def of(self, pieces: Sequence[Sequence[int]]) -> Any:
        """Rows ``(t, m, d)`` of tokens by their pieces."""
        return self(*self.padded(pieces))
