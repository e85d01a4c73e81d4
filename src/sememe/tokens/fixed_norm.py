"""Rows of one length, and states of one length: norms with a single number instead of a row of them."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import MissingDependency
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None


@register(
    "fixnorm",
    room="tokens",
    kind="layer",
    summary="a trained table whose rows all have the same length, one learned number",
    paper=Paper("Transformers without Tears: Improving the Normalization of Self-Attention", 2019, "1910.05895"),
    claim="Rows of one length, states of one length and norms before each part train without a warm-up, and better.",
)
class FixNorm(TokenEmbedding):
    """``scale * w / |w|`` for each row ``w``: direction carries meaning, length does not carry frequency.

    ``weight`` is the table of these rows, so a tied output gives cosines times the length of the state: in a model
    whose last norm makes states of length ``sqrt(d)``, logits begin at most ``scale * sqrt(d)``. It costs a table and
    one number more, so only a budget of a full table fits.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    scale : float
        The length at first.
    """

    distinct = True

    def __init__(self, vocabulary: Vocabulary, dim: int, scale: float = 1.0) -> None:
        super().__init__(vocabulary, dim)
        self.scale = scale
        self.directions = nn.Parameter(torch.randn(len(vocabulary), dim) * dim**-0.5)
        self.length = nn.Parameter(torch.tensor(float(scale)))

    @property
    def weight(self) -> Any:
        """The rows ``(v, d)``, with gradient."""
        return self.length * F.normalize(self.directions, dim=1)

    def vectors(self, ids: Any) -> Any:
        """Rows of one length."""
        return self.length * F.normalize(F.embedding(ids, self.directions), dim=1)

    @property
    def multiply_adds(self) -> int:
        """The length of the row, and its division."""
        return 2 * self.embedding_dim

    def _learn(self, table: Any, weights: Any) -> None:
        """Exactly: the same directions, and the (weighted) mean of the lengths; a row of zeros keeps a direction."""
        lengths = table.norm(dim=1)
        weight = torch.ones_like(lengths) if weights is None or not float(weights.sum()) else weights
        with torch.no_grad():
            self.directions[lengths > 0] = table[lengths > 0]
            self.length.copy_((weight * lengths).sum() / weight.sum())


class ScaleNorm(nn.Module):  # type: ignore[misc]
    """``g x / |x|`` with one learned ``g``, in place of a layer norm; ``g`` begins as the root of ``dim``.

    Parameters
    ----------
    dim : int
    eps : float
        The least length that is divided by.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.tensor(float(dim) ** 0.5))

    def forward(self, x: Any) -> Any:
        """``(..., d)`` to ``(..., d)``."""
        return x * (self.gain / x.norm(dim=-1, keepdim=True).clamp_min(self.eps))
