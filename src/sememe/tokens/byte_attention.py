"""Tokens from their bytes by cross-attention: queries that were learned look at a short row of bytes."""

from __future__ import annotations

import math
from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding, largest
from sememe.tokens.distill import distill, spread
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

    The size is ``(257 + limit) width + 2 width^2 + ...`` whatever the vocabulary, so unseen words cost nothing. Every
    distinct token of a batch costs ``width^2 + width d`` multiply-adds, and ``2 heads width`` a byte, where a table
    costs none.

    The paper leaves open what asks: here every head has one learned query, and the mean of the bytes is added to what
    the heads gather, so that an untrained layer already tells spellings apart. The paper's whole model, which reads
    words and predicts their subwords from the word's state, is `sememe.tokens.byte_to_word`.

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
        return self.read(self.rows[ids, :longest], there[:, :longest])

    def read(self, spelled: Any, there: Any) -> Any:
        """Vectors ``(n, d)`` of any bytes ``(n, l)``, ``l`` up to ``limit``; ``there`` says which are, at least one."""
        x = F.embedding(spelled.long(), self.bytes) + self.places[: spelled.shape[1]]
        # queries do not depend on the token, so both products leave the bytes: q . (K x) is (K' q) . x, and the mean of
        # V x is V times the mean of x
        asked = torch.einsum("hw,hwd->hd", self.queries, self.key.weight.unflatten(0, (self.heads, -1)))
        scores = (x @ asked.T).transpose(1, 2) / math.sqrt(self.width / self.heads)  # (n, h, l)
        share = scores.masked_fill(~there[:, None], -torch.inf).softmax(2)
        kept = there[:, None].to(x.dtype)
        means = torch.cat((share, kept / kept.sum(2, keepdim=True)), dim=1) @ x  # (n, h + 1, width)
        value = self.value.weight.unflatten(0, (self.heads, -1))
        gathered = torch.einsum("nhd,hwd->nhw", means[:, :-1], value).flatten(1)
        return self.out(gathered + means[:, -1])

    def _learn(self, table: Any, weights: Any) -> None:
        with torch.no_grad():  # what is gathered has a spread of its own: begin near the table's
            self.out.weight *= spread(table)
        distill(self, table, weights, own=True)

    @property
    def multiply_adds(self) -> int:
        """Scores and means of all bytes, the values of the means, and the way out."""
        return self.width * (self.limit * (2 * self.heads + 1) + self.width + self.embedding_dim)

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """As wide as the budget pays for, with sixteen bytes; four heads, or fewer where the width must be finer."""
        limit = 16

        def size(width: int) -> int:
            return (_BYTES + limit + 1 + dim) * width + 2 * width * width

        found = []
        for heads in (4, 2, 1):
            width = heads * largest(lambda part: size(heads * part), budget, 1, 4_096 // heads)  # noqa: B023
            found.append((abs(size(width) - budget), {"width": width, "heads": heads, "limit": limit}))
        near = [options for off, options in found if off <= 0.045 * budget]
        return near[0] if near else min(found, key=lambda entry: entry[0])[1]
