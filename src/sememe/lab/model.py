"""Small transformers whose input table, output table and positions can be exchanged, and nothing else.

Two models share one trunk: `SmallLM` predicts the next symbol, `SmallEncoder` fills gaps. Every comparison in Sememe
that trains a model trains one of these, with the recipe of `sememe.lab.train`, so that contenders differ only in the
part that is being compared. What the input layer returns is normalised before the first block: no contender gains or
loses by the scale of its vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sememe.errors import InputError, MissingDependency
from sememe.positions.base import Positions, named

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="training a small model") from None


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a small model.

    Attributes
    ----------
    dim, layers, heads : int
        Width, blocks, and heads (which divide the width).
    hidden : int
        Width inside the gated feed-forward; 0 takes 8/3 of ``dim``, rounded up to a multiple of 8.
    context : int
        The most symbols that are looked at together.
    """

    dim: int = 128
    layers: int = 2
    heads: int = 4
    hidden: int = 0
    context: int = 128

    @property
    def width(self) -> int:
        """Dimensions of a head."""
        return self.dim // self.heads

    @property
    def inner(self) -> int:
        """Width inside the feed-forward."""
        return self.hidden or 8 * math.ceil(self.dim / 3)

    def checked(self) -> Shape:
        """Itself, or an InputError where the numbers do not fit together."""
        if min(self.dim, self.layers, self.heads, self.context) < 1 or self.hidden < 0 or self.dim % self.heads:
            raise InputError(f"{self} is no shape", fix="positive numbers, and a dim that is a multiple of heads")
        return self


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from this seed within the block, and leave PyTorch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def table(vocabulary: int, dim: int) -> nn.Embedding:
    """An ordinary input table ``(v, d)`` with small normal entries, which suits tied output."""
    embedding = nn.Embedding(vocabulary, dim)
    nn.init.normal_(embedding.weight, std=0.02)
    return embedding


class Block(nn.Module):  # type: ignore[misc]
    """Attention, then a gated feed-forward (SwiGLU), each behind an RMS norm and added to what came in."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, inner = shape.dim, shape.inner
        self.heads, self.width = shape.heads, shape.width
        self.before_attention, self.before_feed = nn.RMSNorm(d), nn.RMSNorm(d)
        self.mix = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.up = nn.Linear(d, 2 * inner, bias=False)
        self.down = nn.Linear(inner, d, bias=False)
        for layer in (self.mix, self.up):
            nn.init.normal_(layer.weight, std=d**-0.5)
        for layer in (self.out, self.down):  # scaled down so that a deep residual stream keeps its size
            nn.init.normal_(layer.weight, std=(layer.in_features * 2 * shape.layers) ** -0.5)

    def forward(self, x: Any, positions: Positions, *, causal: bool, bias: Any) -> Any:
        """``(b, l, d)`` to ``(b, l, d)``; ``bias`` holds the causal mask where it is not None."""
        b, length, d = x.shape
        mixed = self.mix(self.before_attention(x)).view(b, length, 3, self.heads, self.width)
        q, k, v = mixed.permute(2, 0, 3, 1, 4)  # each (b, h, l, w)
        met = positions.attend(q, k, v, causal=causal, bias=bias)
        x = x + self.out(met.transpose(1, 2).reshape(b, length, d))
        gate, value = self.up(self.before_feed(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * value)


class Trunk(nn.Module):  # type: ignore[misc]
    """The blocks between input and output, with normalised vectors at both ends."""

    def __init__(self, shape: Shape, positions: Positions | str) -> None:
        super().__init__()
        self.shape = shape.checked()
        self.positions = (
            named(
                positions,
                width=shape.width,
                heads=shape.heads,
                layers=shape.layers,
                context=shape.context + 1,  # the start takes a place
                dim=shape.dim,
            )
            if isinstance(positions, str)
            else positions
        )
        self.first, self.last = nn.RMSNorm(shape.dim), nn.RMSNorm(shape.dim)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))

    def forward(self, x: Any, *, causal: bool, keep: Any = None) -> Any:
        """``(b, l, d)`` to ``(b, l, d)``; ``keep`` bool ``(b, l)`` says which places may be looked at."""
        length = x.shape[1]
        x = self.positions.place(self.first(x))
        bias = self.positions.bias(length)
        if keep is not None:
            # finite, so that a row without any place to look at gives no NaN
            hidden = torch.zeros(keep.shape, dtype=x.dtype, device=x.device)
            hidden = hidden.masked_fill(~keep, torch.finfo(x.dtype).min)
            hidden = hidden[:, None, None, :]
            bias = hidden if bias is None else bias + hidden
        if bias is not None and causal:
            bias = bias + torch.full((length, length), -torch.inf, dtype=x.dtype, device=x.device).triu(1)
        for number, block in enumerate(self.blocks):
            x = block(x, self.positions.layer(number, x), causal=causal, bias=bias)
        return self.last(x)

    def penalized(self, nats: Any) -> Any:
        """Losses as they are, in training with what the positions add."""
        extra = self.positions.penalty() if self.training else None
        return nats if extra is None else nats + extra


class TiedHead(nn.Module):  # type: ignore[misc]
    """Logits by the rows of the input table: no parameters of its own."""

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        weight = getattr(embedding, "weight", None)
        if weight is None or weight.ndim != 2:
            raise InputError(
                f"{type(embedding).__name__} has no weight of shape (v, d) to tie", fix='give a head, or head="free"'
            )
        self._table = [embedding]  # in a list, so that the parameters are counted and saved once

    def forward(self, x: Any) -> Any:
        """``(..., d)`` to ``(..., v)``."""
        return F.linear(x, self._table[0].weight)


def make_head(head: Any, embedding: Any, vocabulary: int | None, dim: int) -> nn.Module:
    """``tied``, ``free``, or a module ``(..., d) -> (..., v)`` as it is."""
    if isinstance(head, nn.Module):
        return head
    if head == "tied":
        return TiedHead(embedding)
    if head != "free":
        raise InputError(f"there is no head called {head!r}", fix="use tied, free, or give a module")
    size = vocabulary or _symbols(embedding, None)
    if size is None:
        raise InputError("a free head needs to know how many symbols there are", fix="give vocabulary=")
    made = nn.Linear(dim, size, bias=False)
    nn.init.normal_(made.weight, std=0.02)
    return made


class SmallLM(nn.Module):  # type: ignore[misc]
    """A small causal transformer.

    The beginning of a context is a vector of its own, not a symbol, so that any input layer fits and the first symbol
    of a text is predicted like every other: the probabilities of a text's symbols multiply to that of the text.

    Parameters
    ----------
    embedding : nn.Module
        ``forward(ids (b, l)) -> (b, l, dim)``.
    head : nn.Module or {"tied", "free"}
        ``(..., dim) -> (..., v)`` logits. Tied uses ``embedding.weight``.
    shape : Shape
    vocabulary : int, optional
        Symbols a free head chooses from, where the embedding does not say.
    positions : Positions or str
        A module, or a name: "rotary", "learned", "none" or another of the catalogue's.
    """

    def __init__(
        self,
        embedding: nn.Module,
        head: nn.Module | str = "tied",
        *,
        shape: Shape | None = None,
        vocabulary: int | None = None,
        positions: Positions | str = "rotary",
    ) -> None:
        super().__init__()
        shape = shape or Shape()
        self.embedding = embedding
        self.trunk = Trunk(shape, positions)
        self.start = nn.Parameter(0.02 * torch.randn(shape.dim))
        self.head = make_head(head, embedding, vocabulary, shape.dim)
        self.vocabulary = vocabulary or _symbols(self.embedding, self.head)

    @property
    def context(self) -> int:
        """The most symbols scored together."""
        return self.trunk.shape.context

    def states(self, ids: Any) -> Any:
        """The last layer, ``(b, l + 1, d)``: place ``t`` has seen the first ``t`` symbols."""
        self.trunk.positions.read(ids, 1)
        start = self.start.expand(len(ids), 1, -1)
        x = torch.cat((start, self.embedding(ids)), dim=1) if ids.shape[1] else start
        return self.trunk(x, causal=True)

    def forward(self, ids: Any) -> Any:
        """Logits ``(b, l + 1, v)``: place ``t`` predicts symbol ``t``, the last one the symbol after ``ids``."""
        return self.head(self.states(ids))

    def nll(self, ids: Any) -> Any:
        """Negative natural log-probability of each symbol given those before it, ``(b, l)``."""
        logits = self.head(self.states(ids[:, :-1]))
        nats = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view(ids.shape)
        return self.trunk.penalized(nats)


class SmallEncoder(nn.Module):  # type: ignore[misc]
    """A small bidirectional transformer that learns by filling gaps.

    A gap is a vector of its own, put in place of what the input layer said, so that any input layer fits.

    Parameters
    ----------
    embedding, head, shape, vocabulary, positions
        As for `SmallLM`.
    share : float
        Share of symbols that become gaps.
    seed : int
        Of the gaps.
    """

    def __init__(
        self,
        embedding: nn.Module,
        head: nn.Module | str = "tied",
        *,
        shape: Shape | None = None,
        vocabulary: int | None = None,
        positions: Positions | str = "rotary",
        share: float = 0.15,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise InputError(f"share={share} of gaps is not possible", fix="give a number between 0 and 1")
        shape = shape or Shape()
        self.embedding = embedding
        self.trunk = Trunk(shape, positions)
        self.gap = nn.Parameter(0.02 * torch.randn(shape.dim))
        self.head = make_head(head, embedding, vocabulary, shape.dim)
        self.share = share
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def context(self) -> int:
        """The most symbols looked at together."""
        return self.trunk.shape.context

    def states(self, ids: Any, keep: Any = None, gaps: Any = None) -> Any:
        """The last layer, ``(b, l, d)``; ``keep`` and ``gaps`` are bool ``(b, l)``."""
        self.trunk.positions.read(ids)
        x = self.embedding(ids)
        if gaps is not None:
            x = torch.where(gaps[:, :, None], self.gap, x)
        return self.trunk(x, causal=False, keep=keep)

    def forward(self, ids: Any, keep: Any = None) -> Any:
        """Logits ``(b, l, v)`` with no gaps."""
        return self.head(self.states(ids, keep))

    def pooled(self, ids: Any, keep: Any = None) -> Any:
        """Mean of the last layer over the places kept, ``(b, d)``: a vector of the text."""
        states = self.states(ids, keep)
        if keep is None:
            return states.mean(dim=1)
        weight = keep[:, :, None].to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1).clamp_min(1)

    def nll(self, ids: Any) -> Any:
        """Negative natural log-probability of the symbols in freshly drawn gaps, ``(gaps,)``."""
        gaps = torch.rand(ids.shape, generator=self._generator) < self.share
        gaps[:, 0] |= ~gaps.any(dim=1)  # a row without a gap would teach nothing
        gaps = gaps.to(ids.device)
        logits = self.head(self.states(ids, gaps=gaps)[gaps])
        return self.trunk.penalized(F.cross_entropy(logits, ids[gaps], reduction="none"))


def _symbols(embedding: Any, head: Any) -> int | None:
    size = getattr(embedding, "num_embeddings", None) or getattr(head, "out_features", None)
    return None if size is None else int(size)


def count(module: nn.Module) -> int:
    """Parameters of a module, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())
