"""What hashed layers share: a few rows of a small table for every string, known or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError, MissingDependency
from sememe.tokens.bag_sums import bag_sums
from sememe.tokens.base import TokenEmbedding, largest
from sememe.tokens.ngrams import Places
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None


class Bags:
    """Which rows each string adds up: ``rows[offsets[i]:offsets[i + 1]]``.

    Parameters
    ----------
    owner : int64 ndarray of shape (g,)
        String of each row, ascending.
    rows : int64 ndarray of shape (g, k)
        Rows that it asks for.
    count : int
        Strings ``n``.
    """

    def __init__(self, owner: Places, rows: NDArray[np.int64], count: int) -> None:
        each = np.bincount(owner, minlength=count) * rows.shape[1]
        self.offsets = torch.from_numpy(np.concatenate(([0], np.cumsum(each))))
        self.rows = torch.from_numpy(rows.reshape(-1).astype(np.int32))


def gather_bags(rows: Any, offsets: Any, ids: Any) -> tuple[Any, Any]:
    """The rows of some strings, one after the other, and where each string's begin: no loop, no padding."""
    starts, counts = offsets[ids], offsets[ids + 1] - offsets[ids]
    ends = counts.cumsum(0)
    total = torch.arange(int(ends[-1]) if len(ends) else 0, device=rows.device)
    return rows[total + torch.repeat_interleave(starts - ends + counts, counts)].long(), ends - counts


class HashedEmbedding(TokenEmbedding):
    """A layer ``v(t) = c sum of the rows that the spelling of t hashes to``, whose `embed` takes any string.

    The constant ``c`` is one over the mean number of rows, whose root the rows begin longer: a vector then starts as
    long as a row of a plain table, and a step of Adam moves it no farther than one. Without the constant, sums of some
    seventy rows move seventy times as far, all in one direction, which soon is the largest part of every vector.

    Which rows these are is worked out for the whole vocabulary when the layer is made (`bags`), so that `forward`
    hashes nothing: each distinct id of a batch gathers and adds its rows once, and the batch gathers the sums.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    rows : int
        Of the table.
    rank : int
        Width of its rows, where a trained matrix ``(rank, dim)`` brings their sums to ``dim``; 0 for rows of ``dim``
        and no matrix.
    """

    distinct = True

    def __init__(self, vocabulary: Vocabulary, dim: int, rows: int, rank: int = 0) -> None:
        super().__init__(vocabulary, dim)
        if not 1 <= rows < 1 << 31:
            raise InputError(f"a table of {rows} rows", where=type(self).__name__, fix="give 1 to 2 billion")
        if not 0 <= rank <= dim:
            raise InputError(f"rank={rank}", where=type(self).__name__, fix=f"give 0 to {dim}")
        self.rows, self.rank = rows, rank

    def _prepare(self) -> None:
        """Look up the vocabulary; the last thing a constructor does."""
        known = self.bags(self.vocabulary.pieces)
        self.register_buffer("bag_rows", known.rows, persistent=False)
        self.register_buffer("bag_offsets", known.offsets, persistent=False)
        each = max(len(known.rows) / len(self.vocabulary), 1.0)
        self.scale = 1 / each
        width = self.rank or self.embedding_dim
        self.weight = nn.Parameter(0.02 * each**0.5 * torch.randn(self.rows, width))
        if self.rank:
            self.projection = nn.Parameter(width**-0.5 * torch.randn(width, self.embedding_dim))

    def bags(self, texts: Sequence[bytes | str]) -> Bags:
        """Rows of each string."""
        raise InputError(f"{type(self).__name__} does not say which rows a string has")

    def vectors(self, ids: Any) -> Any:
        """Scaled sums of rows."""
        rows, begins = gather_bags(self.bag_rows, self.bag_offsets, ids)
        return self._of(rows, begins)

    def _of(self, rows: Any, begins: Any) -> Any:
        """Vectors of strings whose rows lie one after the other."""
        sums = self.scale * bag_sums(self.weight, rows, begins)
        return sums @ self.projection if self.rank else sums

    def embed(self, texts: Sequence[bytes | str]) -> Any:
        """Vectors ``(n, d)`` of any strings: there is no unknown one."""
        found = self.bags(texts)
        device = self.weight.device
        return self._of(found.rows.long().to(device), found.offsets[:-1].to(device))

    @property
    def multiply_adds(self) -> int:
        """An addition for each row and dimension, of the mean symbol, rounded up, the scale, and the matrix."""
        width = self.rank or self.embedding_dim
        return (-(-len(self.bag_rows) // len(self.vocabulary)) + 1) * width + self.rank * self.embedding_dim

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """As many rows as the budget pays for."""
        return {"rows": largest(lambda rows: rows * dim, budget, 1, max(2 * len(vocabulary), 1))}

    def _learn(self, table: Any, weights: Any) -> None:
        """Weighted least squares: the vectors are linear in the rows.

        Narrow rows are those of the full solution in the leading directions of what it rebuilds, which is the best of
        that rank (reduced-rank regression).
        """
        from sememe.tokens.factorized import low_rank
        from sememe.tokens.least_squares import solve_sparse

        count = self.bag_offsets.diff()
        owner = torch.repeat_interleave(torch.arange(len(count)), count)
        index = torch.stack((owner, self.bag_rows.long()))
        values = torch.full((len(self.bag_rows),), self.scale)
        with torch.no_grad():
            full = solve_sparse(index, values, (len(table), self.rows), table, weights)
            if self.rank:
                begins = self.bag_offsets[:-1]
                rebuilt = self.scale * F.embedding_bag(self.bag_rows.long(), full, begins, mode="sum")
                _, projection = low_rank(rebuilt, self.rank, weights)
                self.projection.copy_(projection)
                full = full @ torch.linalg.pinv(projection)
            self.weight.copy_(full)
