"""A small byte model that does most of its work once a patch (a Byte Latent Transformer in miniature).

Pagnoni et al., "Byte Latent Transformer: Patches Scale Better Than Tokens", 2024, arXiv 2412.09871.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from sememe.errors import InputError, MissingDependency
from sememe.lab.model import Shape, Trunk, table
from sememe.positions.base import Rotary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="training a small model") from None

_PRIME = 1_000_003


class Windowed(Rotary):
    """Rotary positions, and nobody looks back further than ``window`` places.

    Parameters
    ----------
    width : int
        Dimensions of a head.
    window : int
        Places looked at, one's own among them.
    """

    def __init__(self, width: int, window: int) -> None:
        super().__init__(width)
        self.window = window

    def bias(self, length: int) -> Any:
        """Minus infinity beyond the window, ``(1, l, l)``."""
        place = torch.arange(length, device=self.rates.device)
        far = place[:, None] - place[None, :] >= self.window
        return torch.zeros(1, length, length, device=self.rates.device).masked_fill(far, -torch.inf)


class HashedNgrams(nn.Module):  # type: ignore[misc]
    """Vectors of bytes, plus one hashed vector for each of the byte n-grams that end there.

    Parameters
    ----------
    dim : int
    buckets : int
        Rows of the table of each n.
    sizes : tuple of int
        The n.
    """

    def __init__(self, dim: int, buckets: int = 2_048, sizes: tuple[int, ...] = (3, 4, 5, 6, 7, 8)) -> None:
        super().__init__()
        self.sizes, self.buckets = sizes, buckets
        self.bytes = table(256, dim)
        self.grams = table(len(sizes) * buckets, dim)

    def rows(self, ids: Any) -> Any:
        """Row of each n-gram in the joint table, ``(b, l, sizes)``; -1 where a text has not begun that early.

        A rolling polynomial hash: ``sum_i (byte_(t - i) + 1) p**i`` in 64 bits that wrap around, then mixed.
        """
        hashes = torch.zeros_like(ids)
        found: list[Any] = []
        power = 1
        for back in range(max(self.sizes)):
            hashes = hashes + (F.pad(ids, (back, 0))[:, : ids.shape[1]] + 1) * power
            power = (power * _PRIME + 2**63) % 2**64 - 2**63
            if back + 1 in self.sizes:
                mixed = (hashes ^ (hashes >> 29)) * -7046029254386353131
                row = ((mixed >> 32) & 0x7FFFFFFF) % self.buckets + len(found) * self.buckets
                row[:, :back] = -1
                found.append(row)
        return torch.stack(found, dim=-1)

    def forward(self, ids: Any) -> Any:
        """``(b, l)`` bytes to ``(b, l, dim)``."""
        rows = self.rows(ids)
        grams = self.grams(rows.clamp_min(0)) * (rows >= 0)[..., None]
        return self.bytes(ids) + grams.sum(-2)


class PatchPooling(nn.Module):  # type: ignore[misc]
    """One vector a patch: its mean asks, its bytes answer (cross-attention within the patch)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def forward(self, x: Any, patch: Any, patches: int) -> Any:
        """Bytes ``(b, l, d)`` and the patch of each ``(b, l)`` to ``(b, patches, d)``; rows of no patch are zero."""
        b, length, d = x.shape
        wide = patch[..., None].expand(-1, -1, d)
        sums = x.new_zeros(b, patches, d).scatter_add(1, wide, x)
        sizes = x.new_zeros(b, patches).scatter_add(1, patch, torch.ones_like(patch, dtype=x.dtype)).clamp_min(1)
        mean = sums / sizes[..., None]
        asked = self.query(mean).gather(1, wide).view(b, length, self.heads, -1)
        scores = (asked * self.key(x).view(b, length, self.heads, -1)).sum(-1) / math.sqrt(d / self.heads)
        by_head = patch[..., None].expand(-1, -1, self.heads)
        top = scores.new_full((b, patches, self.heads), -torch.inf).scatter_reduce(1, by_head, scores.detach(), "amax")
        weight = (scores - top.gather(1, by_head)).exp()
        total = weight.new_zeros(b, patches, self.heads).scatter_add(1, by_head, weight)
        weight = weight / total.gather(1, by_head)
        answered = (self.value(x).view(b, length, self.heads, -1) * weight[..., None]).reshape(b, length, d)
        return mean + self.out(x.new_zeros(b, patches, d).scatter_add(1, wide, answered))


class PatchLM(nn.Module):  # type: ignore[misc]
    """Bytes, patches, bytes: a light encoder, a causal transformer over patch vectors, and a light decoder.

    It is fed bytes with 256 added where a patch begins (`sememe.vocab.patching.marked`) and predicts the bytes. The
    prediction of a byte sees the bytes before it and the patches before its own; whether it begins a patch follows from
    the bytes before it.

    Parameters
    ----------
    shape : Shape
        Of the transformer over patches; ``context`` counts bytes.
    window : int
        Bytes that encoder and decoder look at.
    buckets : int
        Rows of each table of hashed n-grams.
    """

    vocabulary = 512

    def __init__(self, shape: Shape | None = None, *, window: int = 16, buckets: int = 2_048) -> None:
        super().__init__()
        shape = (shape or Shape()).checked()
        if window < 1 or buckets < 1:
            raise InputError(f"window={window}, buckets={buckets} are not possible", fix="give positive numbers")
        light = replace(shape, layers=1)
        d = shape.dim
        self.shape = shape
        self.embedding = HashedNgrams(d, buckets)
        self.encoder = Trunk(light, Windowed(shape.width, window))
        self.pooling = PatchPooling(d, shape.heads)
        self.trunk = Trunk(shape, "rotary")
        self.decoder = Trunk(light, Windowed(shape.width, window))
        self.start = nn.Parameter(0.02 * torch.randn(d))  # before the first byte
        self.first = nn.Parameter(0.02 * torch.randn(d))  # before the first patch
        self.head = nn.Linear(d, 256, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    @property
    def context(self) -> int:
        """The most bytes scored together."""
        return self.shape.context

    def forward(self, ids: Any) -> Any:
        """Logits ``(b, l, 256)``: place ``t`` predicts byte ``t``."""
        b = len(ids)
        begins = ids >= 256
        begins[:, 0] = True
        patch = begins.long().cumsum(1) - 1  # (b, l)
        count = int(patch.max()) + 1
        seen = self.encoder(self.embedding(ids % 256), causal=True)
        pooled = self.pooling(seen, patch, count)
        # The transformer's place j has read the patches before j, so it is what the bytes of patch j may know.
        over = self.trunk(torch.cat((self.first.expand(b, 1, -1), pooled[:, :-1]), dim=1), causal=True)
        known = over.gather(1, patch[..., None].expand(-1, -1, over.shape[-1]))
        before = torch.cat((self.start.expand(b, 1, -1), seen[:, :-1]), dim=1)
        return self.head(self.decoder(before + known, causal=True))

    def nll(self, ids: Any) -> Any:
        """Negative natural log-probability of each byte given those before it, ``(b, l)``."""
        logits = self(ids)
        return F.cross_entropy(logits.flatten(0, 1), (ids % 256).flatten(), reduction="none").view(ids.shape)
