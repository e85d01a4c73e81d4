"""Tokens from their bytes by cross-attention: queries that were learned look at a short row of bytes."""

from __future__ import annotations

import math
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

_BYTES = 257  # and one that stands where there is no byte at all


@register(
    "byte-attention",
    room="tokens",
    kind="layer",
    summary="learned queries attend over a token's bytes and their places; one vector comes out",
    paper=Paper("Word-Level Representation From Bytes For Language Modeling", 2022, "2211.12677"),
    claim="Vectors made from bytes by cross-attention are on par with a table of subwords at a tenth of its size.",
)
class ByteCrossAttention(TokenEmbedding):
    """Bytes ``x_i = E[b_i] + P[i]``; each of some learned queries gathers ``softmax(q . K x_i) V x_i``; then ``O``.

    The size is ``(257 + limit) width + 2 width^2 + ...`` whatever the vocabulary, so unseen words cost nothing, but
    every distinct token of a batch costs two products a byte: some ``2 limit width^2`` multiply-adds where a table
    costs none.

    The paper leaves open what asks: here every head has one learned query, and the mean of the bytes is added to what
    the heads gather, so that an untrained layer already tells spellings apart. The paper's output side, which predicts
    the subwords of a word from the word's state, is a matter of the model and not of this layer.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    width : int
        Of the byte vectors, a multiple of ``heads``.
    heads : int
    limit : int
        Bytes of a token that are looked at.
    """

    distinct = True

    def __init__(self, vocabulary: Vocabulary, dim: int, width: int = 64, heads: int = 4, limit: int = 16) -> None:
        super().__init__(vocabulary, dim)
        if min(width, heads, limit) < 1 or width % heads:
            raise InputError(
                f"width={width}, heads={heads}, limit={limit}",
                where="byte-attention",
                fix="positive numbers, and a width that is a multiple of heads",
            )
        self.width, self.heads, self.limit = width, heads, limit
        spelled, lengths = vocabulary.bytes(limit)
        rows = torch.from_numpy(spelled).short()
        there = torch.arange(limit) < torch.from_numpy(lengths).clamp_min(1)[:, None]
        rows[torch.from_numpy(lengths) == 0, 0] = _BYTES - 1
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("there", there, persistent=False)
        self.bytes = nn.Parameter(torch.randn(_BYTES, width))
        self.places = nn.Parameter(torch.randn(limit, width))
        self.queries = nn.Parameter(torch.randn(heads, width // heads))
        self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.out = nn.Linear(width, dim, bias=False)

    def vectors(self, ids: Any) -> Any:
        """What the queries gather."""
        there = self.there[ids]
        longest = max(1, int(there.sum(1).max()))
        there = there[:, :longest]
        x = F.embedding(self.rows[ids, :longest].long(), self.bytes) + self.places[:longest]
        keys, values = (layer(x).unflatten(-1, (self.heads, -1)) for layer in (self.key, self.value))  # (n, l, h, w)
        scores = (keys * self.queries).sum(-1) / math.sqrt(self.width / self.heads)
        share = scores.masked_fill(~there[..., None], -torch.inf).softmax(1)
        gathered = (values * share[..., None]).sum(1).flatten(1)
        kept = there[..., None].to(x.dtype)
        return self.out(gathered + (x * kept).sum(1) / kept.sum(1))

    @property
    def multiply_adds(self) -> int:
        """Keys and values of all bytes, their meeting with the queries, and the way out."""
        return 2 * self.limit * self.width * (self.width + 1) + self.width * self.embedding_dim

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """As wide as the budget pays for, with four heads and sixteen bytes."""
        heads, limit = 4, 16

        def size(quarter: int) -> int:
            width = heads * quarter
            return (_BYTES + limit + 1 + dim) * width + 2 * width * width

        return {"width": heads * largest(size, budget, 1, 1_024), "heads": heads, "limit": limit}
