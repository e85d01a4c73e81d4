"""Symbols by sines and cosines of their rank, and a small network over these."""

from __future__ import annotations

import math
from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding, largest
from sememe.tokens.distill import distill
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None


@register(
    "fourier-id",
    room="tokens",
    kind="layer",
    summary="sines and cosines of a token's rank by frequency, through a small network with a residual",
    paper=Paper("Parameter-Efficient Transformer Embeddings", 2025, "2505.02266"),
    claim="Sines and cosines of the token's number and a small network do about as well as a table, with far fewer "
    "parameters.",
)
class FourierIdEmbedding(TokenEmbedding):
    """``phi(x) + W2 gelu(W1 phi(x))`` of ``phi(x) = (sin(pi k x), cos(pi k x))``, ``k = 1 .. d / 2``, ``x`` the rank.

    The ranks are spread over ``[-1, 1)``. The end is left out: sine and cosine are the same at both ends, and the first
    and the last symbol would share their vector.

    Neighbours in rank differ by an angle of at most ``pi d / v``, so that in a large vocabulary they are hardly told
    apart at first; what the network must learn is the sharper the larger ``v / d`` is. Its size does not depend on the
    vocabulary: ``2 d hidden`` weights against ``v d``, so it pays where ``v`` is far above ``2 hidden``.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    hidden : int
        Width inside the network; 0 takes ``2 dim``.
    by_frequency : bool
        Number the symbols from frequent to rare (see `Vocabulary.by_frequency`), so that neighbours are at least about
        equally frequent; otherwise as the tokenizer does.
    """

    distinct = True
    counted = True

    def __init__(self, vocabulary: Vocabulary, dim: int, hidden: int = 0, by_frequency: bool = True) -> None:
        super().__init__(vocabulary, dim)
        if hidden < 0:
            raise InputError(
                f"hidden={hidden}", where="fourier-id", fix="give a positive width, or 0 for the usual one"
            )
        self.hidden, self.by_frequency = hidden, by_frequency
        width = hidden or 2 * dim
        ranks = torch.from_numpy(vocabulary.ranks) if by_frequency else torch.arange(len(vocabulary))
        self.register_buffer("angles", math.pi * (2 * ranks.double() / len(vocabulary) - 1), persistent=False)
        self.up, self.down = nn.Linear(dim, width), nn.Linear(width, dim)

    def features(self, ids: Any) -> Any:
        """``(sin, cos)`` of all harmonics, ``(n, d)``; worked out in double precision, since ``k`` may be large."""
        harmonics = torch.arange(1, (self.embedding_dim + 1) // 2 + 1, device=ids.device)
        turned = self.angles[ids, None].double() * harmonics
        both = torch.cat((turned.sin(), turned.cos()), dim=1)[:, : self.embedding_dim]
        return both.to(self.up.weight.dtype)

    def vectors(self, ids: Any) -> Any:
        """The features, and what the network adds."""
        features = self.features(ids)
        return features + self.down(F.gelu(self.up(features)))

    def _learn(self, table: Any, weights: Any) -> None:
        distill(self, table, weights, own=True)

    @property
    def multiply_adds(self) -> int:
        """Both products of the network (the sines are not counted)."""
        return 2 * self.embedding_dim * self.up.out_features

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """As wide a network as the budget pays for."""
        return {"hidden": largest(lambda width: (2 * dim + 1) * width + dim, budget, 1, 1 << 20)}
