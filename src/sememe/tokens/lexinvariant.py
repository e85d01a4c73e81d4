"""Symbols without an identity: fresh random vectors for every sequence, at the input and at the output."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None


@register(
    "lexinvariant",
    room="tokens",
    kind="context layer",
    summary="vectors drawn anew for each sequence: only that symbols repeat can be seen, not which they are",
    paper=Paper("Lexinvariant Language Models", 2023, "2305.16349"),
    claim="With a long context, a model without any fixed vectors comes near to one with a table, and it reads text "
    "under a substitution cipher.",
)
class LexinvariantEmbedding(TokenEmbedding):
    """For each sequence a table ``e ~ N(0, I / d)`` of its own; `LexinvariantHead` scores with the same table.

    Whatever permutes the symbols of a sequence leaves the distribution of what the model says as it is, so it must find
    out within the sequence what each symbol does. Each sequence of a batch costs ``v d`` random numbers: this is for
    vocabularies of characters or bytes.

    The vectors have length 1, as in the paper. A model that brings its input to unit spread makes them ``sqrt(d)``
    long, and the symbol just read then drowns what the blocks gather from the context: let the gain of that norm begin
    at ``d ** -0.5``.

    With ``share < 1`` only so many of the symbols, chosen anew for each sequence, get random vectors and the others
    those of a trained table: a regulariser on the way to an ordinary model.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    share : float
        Of the symbols that are random in each sequence, above 0 and at most 1; at 1 there is no trained table.
    orthogonal : bool
        Draw the vectors of a sequence at right angles, of length 1, which needs at least as many dimensions as symbols.
        Gaussian vectors come near to that in the wide models of the paper. In a narrow one their inner products, about
        ``d^-1/2``, hide how often each symbol occurred, which is the first thing to be learned.
    seed : int
        Of the vectors. The layer has a generator of its own, which goes on from call to call.
    """

    def __init__(
        self, vocabulary: Vocabulary, dim: int, share: float = 1.0, orthogonal: bool = False, seed: int = 0
    ) -> None:
        super().__init__(vocabulary, dim)
        if not 0 < share <= 1:
            raise InputError(f"share={share}", where="lexinvariant", fix="give a number above 0, at most 1")
        if orthogonal and dim < len(vocabulary):
            raise InputError(
                f"{len(vocabulary)} orthogonal vectors in {dim} dimensions",
                where="lexinvariant",
                fix="give more dimensions, or orthogonal=False",
            )
        self.share, self.orthogonal, self.seed = share, orthogonal, seed
        self.weight = nn.Parameter(dim**-0.5 * torch.randn(len(vocabulary), dim)) if share < 1 else None
        self.register_buffer("one", torch.ones(()), persistent=False)  # knows the type and the device
        self._generator = torch.Generator().manual_seed(seed)
        self._drawn: Any = None

    def draw(self, batch: int) -> Any:
        """Fresh tables ``(batch, v, d)``, which the head uses, too, until the next draw."""
        shape = (batch, self.num_embeddings, self.embedding_dim)
        fresh = torch.randn(shape, generator=self._generator) * self.embedding_dim**-0.5
        if self.orthogonal:
            fresh = torch.linalg.qr(fresh.transpose(1, 2)).Q.transpose(1, 2)
        fresh = fresh.to(self.one)
        if self.weight is not None:
            count = round(self.share * self.num_embeddings)
            order = torch.rand(shape[:2], generator=self._generator).argsort(1).to(fresh.device)
            fresh = torch.where((order < count)[..., None], fresh, self.weight)
        self._drawn = fresh
        return fresh

    def drawn(self, batch: int) -> Any:
        """The tables of the last draw, or new ones where it was for another number of sequences."""
        return self.draw(batch) if self._drawn is None or len(self._drawn) != batch else self._drawn

    def forward(self, ids: Any) -> Any:
        """Vectors ``(b, l, d)`` of ids ``(b, l)``, by tables drawn for this call."""
        if ids.ndim != 2:
            raise InputError(f"ids of shape {tuple(ids.shape)}", where="lexinvariant", fix="give sequences, (b, l)")
        tables = self.draw(len(ids))
        return tables.gather(1, self.checked(ids).long()[..., None].expand(-1, -1, self.embedding_dim))

    def vectors(self, ids: Any) -> Any:
        """There are none outside of a sequence."""
        raise InputError("a lexinvariant layer has no vectors outside of a sequence", fix="call it with ids (b, l)")

    def table(self) -> Any:
        """There is none: every sequence has its own."""
        raise InputError("a lexinvariant layer has no table: every sequence has its own", fix="call draw()")

    def fit(self, table: Any, *, weights: Any = None, metric: Any = None, seed: int = 0) -> Any:
        """Impossible: it has no vectors of its own."""
        raise InputError("a lexinvariant layer cannot be fitted to a table", fix="train a model with it")

    @property
    def multiply_adds(self) -> int:
        """None for a token; a sequence costs ``v d`` random numbers."""
        return 0


class LexinvariantHead(nn.Module):  # type: ignore[misc]
    """Logits by the vectors that the input layer drew for the same sequences: ``(U h) . e_v``.

    The paper scores by ``h . e_v``. The trained ``U`` in between is ours, for small models: the residual stream carries
    the vector of the current symbol to the end, and without ``U`` every symbol would begin by predicting itself.

    Parameters
    ----------
    embedding : LexinvariantEmbedding
    """

    def __init__(self, embedding: LexinvariantEmbedding) -> None:
        super().__init__()
        self._embedding = [embedding]  # in a list, so that its parameters are counted once
        self.out_features = embedding.num_embeddings
        self.turn = nn.Linear(embedding.embedding_dim, embedding.embedding_dim, bias=False)
        nn.init.normal_(self.turn.weight, std=0.02)

    def forward(self, x: Any) -> Any:
        """``(b, l, d)`` to ``(b, l, v)``."""
        return self.turn(x) @ self._embedding[0].drawn(len(x)).transpose(1, 2)
