"""A small encoder-decoder whose norms, their place, tables and output can be exchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from sememe.errors import InputError, MissingDependency
from sememe.lab.model import Shape, make_head

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="training a small model") from None

Norm = Callable[[int], nn.Module]


class _Attention(nn.Module):  # type: ignore[misc]
    """Queries from one sequence, keys and values from another."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, d = shape.heads, shape.dim
        self.ask, self.tell, self.out = (nn.Linear(d, n * d, bias=False) for n in (1, 2, 1))

    def forward(self, x: Any, source: Any, keep: Any, causal: bool) -> Any:
        b, length, d = x.shape
        q = self.ask(x).view(b, length, self.heads, -1).transpose(1, 2)
        k, v = self.tell(source).view(b, source.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if keep is None else keep[:, None, None, :]
        met = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.out(met.transpose(1, 2).reshape(b, length, d))


class _Layer(nn.Module):  # type: ignore[misc]
    """Self-attention, cross-attention where ``crossed``, and a feed-forward, each with a residual and a norm."""

    def __init__(self, shape: Shape, norm: Norm, order: str, crossed: bool) -> None:
        super().__init__()
        self.order, self.crossed = order, crossed
        self.attend = _Attention(shape)
        self.cross = _Attention(shape) if crossed else None
        inner = shape.hidden or 4 * shape.dim
        self.feed = nn.Sequential(nn.Linear(shape.dim, inner), nn.ReLU(), nn.Linear(inner, shape.dim))
        self.norms = nn.ModuleList(norm(shape.dim) for _ in range(3 if crossed else 2))

    def _add(self, x: Any, place: int, work: Callable[[Any], Any]) -> Any:
        norm = self.norms[place]
        return x + work(norm(x)) if self.order == "pre" else norm(x + work(x))

    def forward(self, x: Any, keep: Any = None, source: Any = None, source_keep: Any = None) -> Any:
        causal = self.crossed
        x = self._add(x, 0, lambda y: self.attend(y, y, None if causal else keep, causal))
        if self.cross is not None:
            cross = self.cross
            x = self._add(x, 1, lambda y: cross(y, source, source_keep, False))
        return self._add(x, -1 if not self.crossed else 2, self.feed)


class SmallSeq2Seq(nn.Module):  # type: ignore[misc]
    """A transformer that reads one sequence and writes another.

    A row of ids is ``source`` symbols to read, then those to write; both sides are filled up with ``pad``, and what is
    written ends with its first ``pad``. So the batches and the training of `sememe.lab` serve it as they are.

    Parameters
    ----------
    embedding : nn.Module
        ``forward(ids) -> (..., dim)`` for both sides; what it says is multiplied by the root of ``dim``.
    head : nn.Module or {"tied", "free"}
    source : int
        Symbols of the first part of a row.
    shape : Shape
        ``layers`` of each side.
    vocabulary : int, optional
    norm : function
        ``norm(dim)`` makes a norm, by default ``nn.LayerNorm``.
    order : {"pre", "post"}
        Norms before each part with a clean residual, or after each sum as in the first transformers.
    fusion : nn.Module, optional
        ``fusion(states, source, surface, keep, head) -> log-probabilities``, given the decoder's last states, the
        encoder's, the source's embeddings without their positions, and which of its places are real.
    mix : nn.Module, optional
        ``mix(layers)`` makes of the list of all encoder layers (the embedding first) what the decoder's last layer
        reads.
    pad : int
    """

    def __init__(
        self,
        embedding: nn.Module,
        head: nn.Module | str = "tied",
        *,
        source: int,
        shape: Shape | None = None,
        vocabulary: int | None = None,
        norm: Norm = nn.LayerNorm,
        order: Literal["pre", "post"] = "pre",
        fusion: nn.Module | None = None,
        mix: nn.Module | None = None,
        pad: int = 0,
    ) -> None:
        super().__init__()
        shape = (shape or Shape()).checked()
        if order not in ("pre", "post") or not 1 <= source < shape.context:
            raise InputError(f"order={order!r}, source={source}", fix='use "pre" or "post", and less than the context')
        self.shape, self.source, self.pad = shape, source, pad
        self.embedding, self.fusion, self.mix = embedding, fusion, mix
        self.places = nn.Parameter(torch.randn(2, shape.context, shape.dim) * shape.dim**-0.5)
        self.start = nn.Parameter(torch.randn(shape.dim) * shape.dim**-0.5)
        self.encoder = nn.ModuleList(_Layer(shape, norm, order, False) for _ in range(shape.layers))
        self.decoder = nn.ModuleList(_Layer(shape, norm, order, True) for _ in range(shape.layers))
        ends = [norm(shape.dim) if order == "pre" else nn.Identity() for _ in range(2)]
        self.encoded, self.decoded = ends
        self.head = make_head(head, embedding, vocabulary, shape.dim)

    @property
    def context(self) -> int:
        """Symbols of a row, both parts."""
        return self.shape.context

    def _enter(self, ids: Any, side: int, shift: int = 0) -> Any:
        return self.embedding(ids) * self.shape.dim**0.5 + self.places[side, shift : shift + ids.shape[1]]

    def read(self, ids: Any) -> tuple[list[Any], Any]:
        """All layers of the encoder ``(b, source, d)``, the embeddings first, and which places are real."""
        keep = ids != self.pad
        keep[:, 0] = True  # attention needs something to look at
        x = self._enter(ids, 0)
        layers = [x]
        for layer in self.encoder:
            x = layer(x, keep)
            layers.append(x)
        layers[-1] = self.encoded(layers[-1])
        return layers, keep

    def write(self, read: tuple[list[Any], Any], ids: Any) -> Any:
        """Log-probabilities ``(b, t + 1, v)`` of each symbol after the first ``t`` that were written."""
        layers, keep = read
        x = self._enter(ids, 1, 1)
        start = (self.start * self.shape.dim**0.5 + self.places[1, 0]).expand(len(ids), 1, -1)
        x = torch.cat((start, x), dim=1)
        for place, layer in enumerate(self.decoder):
            last = place == len(self.decoder) - 1
            seen = self.mix(layers) if self.mix is not None and last else layers[-1]
            x = layer(x, None, seen, keep)
        x = self.decoded(x)
        if self.fusion is not None:
            surface = layers[0] - self.places[0, : keep.shape[1]]
            return self.fusion(x, layers[-1], surface, keep, self.head)
        return F.log_softmax(self.head(x), dim=-1)

    def nll(self, ids: Any) -> Any:
        """Negative natural log-probabilities of the symbols to write and their end, as one row ``(n,)``."""
        asked, wanted = ids[:, : self.source], ids[:, self.source :]
        found = self.write(self.read(asked), wanted[:, :-1])
        nats = -found.gather(-1, wanted[..., None])[..., 0]
        ended = F.pad((wanted == self.pad).cumsum(1), (1, -1))  # pads before each place
        return nats[ended == 0]

    def greedy(self, ids: Any, length: int) -> Any:
        """The likeliest symbols one after the other, ``(b, length)``; all after the first ``pad`` are ``pad``."""
        with torch.inference_mode():
            read = self.read(ids[:, : self.source])
            out = ids[:, :0]
            for _ in range(length):
                best = self.write(read, out)[:, -1].argmax(-1, keepdim=True)
                out = torch.cat((out, best), dim=1)
            return out.masked_fill((out == self.pad).cumsum(1) > 0, self.pad)
