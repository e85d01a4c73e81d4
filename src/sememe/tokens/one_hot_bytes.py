"""Bytes without any table: one coordinate a byte at the input, and the same coordinates at the output."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None


@register(
    "one-hot-bytes",
    room="tokens",
    kind="byte layer",
    summary="a byte is one coordinate of the model's width, at the input and at the output: no tables at all",
    paper=Paper("Neural Machine Translation without Embeddings", 2020, "2008.09396"),
    claim="Byte models without embeddings match those with a table, and dropping tokens helps both.",
)
class OneHotBytes(TokenEmbedding):
    """The unit vector of coordinate ``i`` for symbol ``i``; `FirstCoordinates` is the output that goes with it.

    It needs at least as many dimensions as symbols: 256 for bytes, and one more for each special symbol. What is
    saved are two tables of ``256 d`` numbers, which matters for very small models only; what is gained is that nothing
    has to be learned before a byte can be told from another.

    Parameters
    ----------
    vocabulary : Vocabulary
        Only its size matters; `Vocabulary.of(256)` for bytes.
    dim : int
    drop : float
        Share of the symbols whose vector is all zeros while training (the paper's token dropout).
    """

    def __init__(self, vocabulary: Vocabulary, dim: int, drop: float = 0.0) -> None:
        super().__init__(vocabulary, dim)
        if dim < len(vocabulary):
            raise InputError(
                f"{dim} dimensions for {len(vocabulary)} symbols",
                where="one-hot-bytes",
                fix="give at least one dimension a symbol",
            )
        self.drop = checked_share(drop)
        self.register_buffer("one", torch.ones(()), persistent=False)  # knows the type and the device

    def vectors(self, ids: Any) -> Any:
        """Unit vectors."""
        return F.one_hot(ids.long(), self.embedding_dim).to(self.one.dtype)

    def forward(self, ids: Any) -> Any:
        """Unit vectors ``(..., d)``, some of them zeros while training."""
        return dropped(super().forward(ids), self.drop if self.training else 0.0)

    @property
    def multiply_adds(self) -> int:
        """None."""
        return 0

    def _empty(self, shape: Any) -> Any:
        return self.one.new_zeros(*shape, self.embedding_dim)


class FirstCoordinates(nn.Module):  # type: ignore[misc]
    """The first coordinates of the state are the logits: an output layer without parameters.

    What comes in goes out with it: a model that brings its input to unit spread makes a byte ``sqrt(d)`` long, and
    begins by predicting that it comes again. Let the gain of such a norm begin at ``d ** -0.5``, and that of the last
    one at about 3, so that logits can rule most bytes out; without either a small model of text was 0.3 bits a byte
    worse after 150 steps.

    Parameters
    ----------
    symbols : int
    """

    def __init__(self, symbols: int = 256) -> None:
        super().__init__()
        self.out_features = symbols

    def forward(self, x: Any) -> Any:
        """``(..., d)`` to ``(..., symbols)``."""
        return x[..., : self.out_features]


class TokenDropout(nn.Module):  # type: ignore[misc]
    """Any input layer, with some of its vectors set to zero while training.

    Parameters
    ----------
    embedding : nn.Module
        ``forward(ids (b, l)) -> (b, l, d)``. Its ``weight``, where it has one, can still be tied to the output.
    drop : float
        Share of the places, from 0 to below 1.
    """

    def __init__(self, embedding: nn.Module, drop: float) -> None:
        super().__init__()
        self.embedding, self.drop = embedding, checked_share(drop)

    @property
    def weight(self) -> Any:
        """The table inside, for tied output."""
        return getattr(self.embedding, "weight", None)

    def forward(self, ids: Any) -> Any:
        """``(b, l)`` to ``(b, l, d)``."""
        return dropped(self.embedding(ids), self.drop if self.training else 0.0)


def checked_share(drop: float) -> float:
    """The share, or an InputError where it is none."""
    if not 0 <= drop < 1:
        raise InputError(f"drop={drop}", fix="give a share from 0 to below 1")
    return drop


def dropped(x: Any, drop: float) -> Any:
    """Vectors ``(..., d)``, each zero with this probability; the others stay as they are, since a norm comes next."""
    if not drop:
        return x
    return x * (torch.rand(x.shape[:-1], device=x.device) >= drop)[..., None]
