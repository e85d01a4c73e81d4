"""A table as the product of a tall narrow one and a projection."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding, largest
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None


@register(
    "factorized",
    room="tokens",
    kind="layer",
    summary="a narrow table and a projection to the model's width",
    paper=Paper("Rethinking embedding coupling in pre-trained language models", 2020, "2010.12821"),
    claim="A small input width costs nothing when what it saves is spent in the layers.",
)
class FactorizedEmbedding(TokenEmbedding):
    """``v(t) = E_t P`` with ``E (v, r)`` and ``P (r, d)``: ``v r + r d`` parameters.

    The vectors lie in ``r`` dimensions. The projection costs ``r d`` multiply-adds, once for each distinct id of a
    batch; for ``r`` near ``d`` it is larger than what it saves.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    rank : int
        Width ``r`` of the table; 0 takes an eighth of ``dim``.
    """

    distinct = True

    def __init__(self, vocabulary: Vocabulary, dim: int, rank: int = 0) -> None:
        super().__init__(vocabulary, dim)
        if not 0 <= rank <= dim:
            raise InputError(f"rank={rank}", where="factorized", fix=f"give 1 to {dim}")
        self.rank = rank
        used = rank or max(1, dim // 8)
        self.table_weight = nn.Parameter(0.02 * torch.randn(len(vocabulary), used))
        self.projection = nn.Parameter(used**-0.5 * torch.randn(used, dim))

    def vectors(self, ids: Any) -> Any:
        """Narrow rows, projected."""
        return F.embedding(ids, self.table_weight) @ self.projection

    @property
    def multiply_adds(self) -> int:
        """Of the projection."""
        return int(self.projection.numel())

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """The width that the budget pays for."""
        return {"rank": largest(lambda rank: rank * (len(vocabulary) + dim), budget, 1, dim)}

    def _learn(self, table: Any, weights: Any) -> None:
        """The nearest table of that rank: a singular value decomposition, rows scaled by the roots of the weights."""
        with torch.no_grad():
            narrow, projection = low_rank(table, len(self.projection), weights)
            self.table_weight.copy_(narrow)
            self.projection.copy_(projection)


def low_rank(table: Any, rank: int, weights: Any = None) -> tuple[Any, Any]:
    """``(n, r)`` and ``(r, d)`` whose product is nearest to ``table`` in (weighted) squares, both of one size.

    With weights the best projection is that of the weighted rows, and each row is then projected as it is.
    """
    scaled = table if weights is None else table * weights.clamp_min(0).sqrt()[:, None]
    values, axes = torch.linalg.eigh(scaled.double().T @ scaled.double())  # d x d: a table is tall
    basis = axes[:, -rank:].flip(1)
    strength = values[-rank:].flip(0).clamp_min(0).sqrt()
    # the length of rows is shared between the two parts as a fresh layer has it
    spread = (strength / max(float(strength.mean()), 1e-12)).clamp_min(1e-3)
    narrow = (table.double() @ basis) / spread
    return narrow.to(table.dtype), (basis * spread).T.to(table.dtype)
