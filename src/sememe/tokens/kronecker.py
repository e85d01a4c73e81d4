"""Tokens by their bytes and where they stand: one row of a projection for each byte at each place."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.bag_sums import bag_sums
from sememe.tokens.base import TokenEmbedding, largest
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_LONGEST = 64
_USUAL, _FEW = 16, 4  # positions: as many as most tokens have; too few to tell them apart


@register(
    "kronecker",
    room="tokens",
    kind="layer",
    summary="a fixed Kronecker code of a token's bytes and their places, and one projection of it",
    paper=Paper(
        "Kronecker Embeddings: Byte-Level Structured Token Representations for Parameter-Efficient Language Models",
        2026,
        "2605.29459",
    ),
    claim="91 to 94 % fewer input parameters, at a validation loss that is no worse than that of a trained table.",
)
class KroneckerEmbedding(TokenEmbedding):
    """``W v(t)`` with ``v(t) = L^-1/2 sum_i onehot(b_i) (x) onehot(i)`` over the first bytes ``b_1 .. b_L`` of a token.

    The code has ``256 positions`` dimensions and at most ``positions`` of them are not zero, so the product is a sum of
    ``L`` gathered rows. Two tokens that agree in their first ``positions`` bytes and their length get the same vector.
    A symbol without bytes gets zeros.

    The projection has ``256 positions x dim`` weights whatever the vocabulary: with 16 positions it is as large as a
    table of 4,096 symbols, so it pays for large vocabularies only.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    positions : int
        Bytes of a token that are looked at, 1 to 64.
    rank : int
        Of the projection: ``W = A B`` with ``A (256 positions, rank)`` and ``B (rank, dim)``; 0 for a full one.
    """

    distinct = True

    def __init__(self, vocabulary: Vocabulary, dim: int, positions: int = 16, rank: int = 0) -> None:
        super().__init__(vocabulary, dim)
        if not 1 <= positions <= _LONGEST:
            raise InputError(f"positions={positions}", where="kronecker", fix=f"give 1 to {_LONGEST}")
        if not 0 <= rank <= dim:
            raise InputError(f"rank={rank}", where="kronecker", fix=f"give 0 to {dim}")
        self.positions, self.rank = positions, rank
        spelled, lengths = vocabulary.bytes(positions)
        rows = torch.from_numpy(spelled).long() + 256 * torch.arange(positions)
        # what lies behind the last byte points behind the last row
        rows[torch.arange(positions) >= torch.from_numpy(lengths)[:, None]] = 256 * positions
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("scale", torch.from_numpy(lengths).clamp_min(1).float().rsqrt(), persistent=False)
        self.weight = nn.Parameter(0.02 * torch.randn(256 * positions, rank or dim))
        self.narrow = nn.Parameter(rank**-0.5 * torch.randn(rank, dim)) if rank else None

    def vectors(self, ids: Any) -> Any:
        """Sums of the rows of the bytes."""
        rows = self.rows[ids]
        there = rows < len(self.weight)
        counts = there.sum(1)
        sums = bag_sums(self.weight, rows[there], counts.cumsum(0) - counts)
        scaled = sums * self.scale[ids, None].to(sums.dtype)
        return scaled if self.narrow is None else scaled @ self.narrow

    def dense(self, ids: Any) -> Any:
        """The same by the definition: the code itself ``(n, 256 positions)``, times the weights."""
        code = F.one_hot(self.rows[ids], 256 * self.positions + 1).sum(1)[:, :-1].to(self.weight.dtype)
        whole = self.weight if self.narrow is None else self.weight @ self.narrow
        return (code * self.scale[ids, None].to(code.dtype)) @ whole

    @property
    def multiply_adds(self) -> int:
        """An addition a byte and dimension, the scale, and the second factor of a projection that has two."""
        return (self.positions + 1 + self.rank) * (self.rank or self.embedding_dim) + self.rank * (
            self.embedding_dim - self.rank
        )

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """As many positions as the budget pays for; a projection of two factors where those are off or below four."""
        full = largest(lambda p: 256 * p * dim, budget, 1, _LONGEST)
        if full >= _FEW and abs(256 * full * dim - budget) <= 0.049 * budget:
            return {"positions": full}
        found = []
        for positions in range(1, _USUAL + 1):
            rank = largest(lambda r: r * (256 * positions + dim), budget, 1, dim)  # noqa: B023
            found.append((abs(rank * (256 * positions + dim) - budget), -positions, rank))
        near = [entry for entry in found if entry[0] <= 0.02 * budget] or [min(found)]
        off, positions, rank = min(near, key=lambda entry: abs(-entry[1] - _USUAL // 2))
        if abs(256 * full * dim - budget) <= off:
            return {"positions": full}
        return {"positions": -positions, "rank": rank}

    def _learn(self, table: Any, weights: Any) -> None:
        """Weighted least squares, exactly: ridge-regularised normal equations over the bytes that occur."""
        from sememe.tokens.least_squares import solve_sparse

        there = self.rows < 256 * self.positions
        index = torch.stack((torch.arange(len(table))[:, None].expand_as(self.rows)[there], self.rows[there]))
        values = self.scale[index[0]]
        with torch.no_grad():
            whole = solve_sparse(index, values, (len(table), len(self.weight)), table, weights)
            if self.narrow is None:
                self.weight.copy_(whole)
                return
            # the best projection of that rank: the principal axes of what the full one rebuilds
            rebuilt = torch.sparse_coo_tensor(index, values, (len(table), len(whole)), check_invariants=True) @ whole
            scaled = rebuilt if weights is None else rebuilt * weights.clamp_min(0).sqrt()[:, None]
            axes = torch.linalg.eigh(scaled.double().T @ scaled.double()).eigenvectors[:, -self.rank :].to(whole.dtype)
            self.weight.copy_(whole @ axes)
            self.narrow.copy_(axes.T)
