"""The ordinary table, which everything else here is measured against."""

from __future__ import annotations

from typing import Any

from sememe.catalog import register
from sememe.errors import MissingDependency
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None


@register("table", room="tokens", kind="layer", summary="one trained row a symbol: the ordinary table")
class PlainTable(TokenEmbedding):
    """``v`` rows of ``d`` numbers. It cannot be made smaller: only a budget of ``v d`` parameters fits.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    """

    def __init__(self, vocabulary: Vocabulary, dim: int) -> None:
        super().__init__(vocabulary, dim)
        self.weight = nn.Parameter(0.02 * torch.randn(len(vocabulary), dim))

    def vectors(self, ids: Any) -> Any:
        """Rows of the table."""
        return F.embedding(ids, self.weight)

    @property
    def multiply_adds(self) -> int:
        """None: a row is gathered."""
        return 0

    def _learn(self, table: Any, weights: Any) -> None:
        with torch.no_grad():
            self.weight.copy_(table)
