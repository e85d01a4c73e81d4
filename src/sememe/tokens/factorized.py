"""A table as the product of a tall narrow one and a projection."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding, largest, roots
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
    measured_in="decoupled",
)
class FactorizedEmbedding(TokenEmbedding):
    """``v(t) = E_t P`` with ``E (v, r)`` and ``P (r, d)``: ``v r + r d`` parameters.

    A table of a large vocabulary grows by ``v`` numbers with each dimension; ``wider`` is the finer step: so many of
    the most frequent symbols (the lowest ids, where the vocabulary has no counts) have one dimension more.

    The vectors lie in ``r`` dimensions. The projection costs ``r d`` multiply-adds, once for each distinct id of a
    batch; for ``r`` near ``d`` it is larger than what it saves.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    rank : int
        Width ``r`` of the table; 0 takes an eighth of ``dim``.
    wider : int
        Symbols that have ``r + 1`` dimensions.
    """

    distinct = True
    metrics = True

    def __init__(self, vocabulary: Vocabulary, dim: int, rank: int = 0, wider: int = 0) -> None:
        super().__init__(vocabulary, dim)
        if not 0 <= rank <= dim:
            raise InputError(f"rank={rank}", where="factorized", fix=f"give 1 to {dim}")
        if not 0 <= wider < max(len(vocabulary), 1) or (wider and rank == dim):
            raise InputError(f"wider={wider}", where="factorized", fix="fewer than the symbols, and no full rank")
        self.rank, self.wider = rank, wider
        used = rank or max(1, dim // 8)
        self.table_weight = nn.Parameter(0.02 * torch.randn(len(vocabulary), used))
        self.projection = nn.Parameter(used**-0.5 * torch.randn(used + (wider > 0), dim))
        if wider:
            self.counted = True  # of this one: who is wider hangs on counts
            self.more = nn.Parameter(0.02 * torch.randn(wider))
            ranks = np.minimum(vocabulary.ranks, wider)
            self.register_buffer("ranks", torch.from_numpy(ranks), persistent=False)

    def vectors(self, ids: Any) -> Any:
        """Narrow rows, projected."""
        rows = F.embedding(ids, self.table_weight)
        if self.wider:
            more = F.pad(self.more, (0, 1))[self.ranks[ids]]  # zero for those that have none
            rows = torch.cat((rows, more[:, None]), dim=1)
        return rows @ self.projection

    @property
    def multiply_adds(self) -> int:
        """Of the projection."""
        return int(self.projection.numel())

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """The width that the budget pays for; where that is too coarse, some symbols are wider."""
        step = len(vocabulary) + dim
        rank = largest(lambda rank: rank * step, budget, 1, dim)
        if abs(rank * step - budget) <= 0.049 * budget:
            return {"rank": rank}
        rank = min(max(budget // step, 1), dim)
        wider = budget - rank * step - dim
        return {"rank": rank, "wider": wider} if 0 < wider < len(vocabulary) and rank < dim else {"rank": rank}

    def _learn(self, table: Any, weights: Any) -> None:
        """The nearest table of that rank: a singular value decomposition, rows scaled by the roots of the weights."""
        self._learn_for(table, weights, None)

    def _learn_for(self, table: Any, weights: Any, metric: Any) -> None:
        root, back = (torch.from_numpy(matrix) for matrix in roots(metric, self.embedding_dim))
        with torch.no_grad():
            narrow, projection = low_rank((table.double() @ root).to(table.dtype), len(self.projection), weights)
            projection = (projection.double() @ back).to(table.dtype)
            self.projection.copy_(projection)
            if self.wider:
                order = torch.from_numpy(self.vocabulary.by_frequency[: self.wider].copy())
                self.more.copy_(narrow[order, -1])
                narrow = narrow[:, :-1]
            self.table_weight.copy_(narrow)


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
