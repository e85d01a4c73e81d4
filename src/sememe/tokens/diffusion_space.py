"""Token vectors as targets of diffusion: of one length, kept apart, and under noise that is strong enough."""

from __future__ import annotations

import math
from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.lab.model import Shape, Trunk
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None


@register(
    "diffusion-ready",
    room="tokens",
    kind="layer",
    summary="normalised token vectors with noise, rounding and an anchor loss, as targets of a diffusion model",
    paper=Paper(
        "Difformer: Empowering Diffusion Models on the Embedding Space for Text Generation", 2022, "2212.09412"
    ),
    claim="An anchor loss, normalised vectors and stronger noise keep a text diffusion model's space from collapse.",
)
class DiffusionReadyEmbedding(TokenEmbedding):
    """Layer-normalised rows (mean zero, length ``gain * sqrt(d)``), and what diffusion needs of them.

    Vectors that are trained together with the model that denoises them have an easy way out: all alike, they are
    predicted perfectly. The anchor loss bars it, since tokens must be told apart by the model's estimate. Equal lengths
    make the same noise hurt rare and frequent tokens alike, and a noise factor above one keeps the nearest vector from
    being found at once.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
        At least 2.
    factor : float
        By how much the noise is stronger than usual, ``F``.
    normalize : bool
        Without, rows are as they are trained; what the technique is compared with.
    """

    distinct = True

    def __init__(self, vocabulary: Vocabulary, dim: int, factor: float = 2.0, normalize: bool = True) -> None:
        super().__init__(vocabulary, dim)
        if dim < 2 or factor <= 0:
            raise InputError(f"dim={dim}, factor={factor}", where="diffusion-ready", fix="give dim of 2 or more")
        self.factor, self.normalize = factor, normalize
        self.rows = nn.Parameter(torch.randn(len(vocabulary), dim))
        self.register_buffer("gain", torch.ones(()))

    def vectors(self, ids: Any) -> Any:
        """Normalised rows."""
        found = F.embedding(ids, self.rows)
        return self.gain * (F.layer_norm(found, (self.embedding_dim,)) if self.normalize else found)

    @property
    def weight(self) -> Any:
        """All vectors ``(v, d)``, with gradient."""
        return self.gain * (F.layer_norm(self.rows, (self.embedding_dim,)) if self.normalize else self.rows)

    @property
    def multiply_adds(self) -> int:
        """Mean, length and division."""
        return 3 * self.embedding_dim if self.normalize else self.embedding_dim

    def noised(self, x: Any, time: Any, noise: Any) -> Any:
        """``cos(pi t / 2) x + F sin(pi t / 2) noise`` at times ``(b,)`` from 0 (clean) to 1."""
        angle = (0.5 * math.pi * time).view(-1, *(1,) * (x.ndim - 1))
        return angle.cos() * x + self.factor * self.gain * angle.sin() * noise

    def anchor(self, estimate: Any, ids: Any) -> Any:
        """Cross-entropy ``(...)`` of telling tokens by a model's estimate ``(..., d)`` of their clean vectors."""
        logits = estimate @ self.weight.T / self.gain
        return F.cross_entropy(logits.flatten(0, -2), ids.flatten(), reduction="none").view(ids.shape)

    def rounded(self, x: Any) -> Any:
        """Id of the nearest vector, ``(..., d)`` to ``(...)``; the lowest of equals."""
        table = self.table()
        return (x @ table.T - 0.5 * table.square().sum(1)).argmax(-1)

    def _learn(self, table: Any, weights: Any) -> None:
        with torch.no_grad():
            self.rows.copy_(table)
            if self.normalize:
                plain = F.layer_norm(table, (self.embedding_dim,))
                weight = torch.ones(len(table)) if weights is None or not float(weights.sum()) else weights
                fitted = (weight * (plain * table).sum(1)).sum() / (weight * plain.square().sum(1)).sum().clamp_min(
                    1e-12
                )
                self.gain.copy_(fitted.clamp_min(1e-6))


class Denoiser(nn.Module):  # type: ignore[misc]
    """A small bidirectional transformer that estimates clean vectors from noised ones.

    Parameters
    ----------
    embedding : DiffusionReadyEmbedding
    shape : Shape
    anchored : bool
        Whether the anchor loss is part of the loss.
    seed : int
        Of times and noise in training.
    """

    def __init__(
        self, embedding: DiffusionReadyEmbedding, shape: Shape, *, anchored: bool = True, seed: int = 0
    ) -> None:
        super().__init__()
        self.embedding, self.anchored = embedding, anchored
        self.trunk = Trunk(shape, "learned")
        self.time = nn.Sequential(nn.Linear(2, shape.dim), nn.SiLU(), nn.Linear(shape.dim, shape.dim))
        self.out = nn.Linear(shape.dim, shape.dim)
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def context(self) -> int:
        """The most symbols denoised together."""
        return self.trunk.shape.context

    def estimate(self, noised: Any, time: Any) -> Any:
        """Clean vectors ``(b, l, d)`` from noised ones at times ``(b,)``."""
        angle = 0.5 * math.pi * time
        told = self.time(torch.stack((angle.cos(), angle.sin()), dim=-1))
        scale = noised.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-6)
        return self.out(self.trunk(noised / scale + told[:, None], causal=False))

    def nll(self, ids: Any) -> Any:
        """The training loss of each symbol ``(b, l)``: squared error of the estimate, and the anchor's share."""
        clean = self.embedding(ids)
        time = torch.rand(len(ids), generator=self._generator).to(clean.device)
        noise = torch.randn(clean.shape, generator=self._generator).to(clean)
        found = self.estimate(self.embedding.noised(clean, time, noise), time)
        loss = (found - clean).square().mean(-1)
        return loss + self.embedding.anchor(found, ids) if self.anchored else loss
