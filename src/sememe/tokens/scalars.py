"""Numbers of any size as vectors: one projection for each power of ten, mixed by how near the number is to it."""

from __future__ import annotations

import math
from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a number layer") from None


@register(
    "multi-scale",
    room="tokens",
    kind="number layer",
    summary="a real number of any magnitude: a normalised projection for each power of ten, the nearest weighs most",
    paper=Paper(
        "NuTime: Numerically Multi-Scaled Embedding for Large-Scale Time Series Pretraining", 2023, "2310.07402"
    ),
    claim="Series of any numerical scale can be learned together; state of the art after pretraining.",
)
class MultiScaleScalarEmbedding(nn.Module):  # type: ignore[misc]
    """``sum_k alpha_k(x) LayerNorm(w_k x / s_k + b_k)`` over scales ``s_k = 10^k``.

    A projection of ``x`` followed by a norm sees only the direction of ``w x + b``: far from ``|b / w|`` it is the same
    for all numbers of one sign. Each scale resolves numbers of its own size; ``alpha_k`` is a softmax of
    ``-(log10 |x| - k)^2 / sharpness``, so it peaks where ``|x|`` is near ``s_k``. Zero counts as of the smallest scale.

    The paper weighs by ``1 / |log(|x| / s_k) + eps|``, normalised; this has a pole at each power of ten, which the
    square does away with.

    Parameters
    ----------
    dim : int
        Width of the vectors.
    low, high : int
        Exponents of the smallest and the largest scale.
    sharpness : float
        Square of the distance, in powers of ten, at which a scale weighs ``1 / e`` of the nearest one.
    """

    def __init__(self, dim: int, low: int = -4, high: int = 4, sharpness: float = 0.5) -> None:
        super().__init__()
        if dim < 2 or low > high or sharpness <= 0:
            raise InputError(
                f"dim={dim}, scales 10^{low} to 10^{high}, sharpness={sharpness}",
                where="multi-scale",
                fix="dim at least 2, low at most high, a positive sharpness",
            )
        self.dim, self.low, self.high, self.sharpness = dim, low, high, sharpness
        exponents = torch.arange(low, high + 1, dtype=torch.float32)
        self.register_buffer("exponents", exponents, persistent=False)
        self.weight = nn.Parameter(torch.randn(len(exponents), dim))
        self.bias = nn.Parameter(torch.randn(len(exponents), dim))
        self.gain = nn.Parameter(torch.ones(len(exponents), dim))
        self.shift = nn.Parameter(torch.zeros(len(exponents), dim))

    def weights(self, x: Any) -> Any:
        """``alpha``, ``(..., scales)``, which sum to one."""
        size = x.abs().clamp_min(10.0 ** (self.low - 2)).log10()
        return torch.softmax(-(size[..., None] - self.exponents).square() / self.sharpness, dim=-1)

    def forward(self, x: Any) -> Any:
        """Vectors ``(..., d)`` of real numbers ``(...)``; NaN or infinity is an InputError."""
        if not x.is_floating_point():
            raise InputError(f"numbers of type {x.dtype}", where="multi-scale", fix="give floating-point numbers")
        if x.numel() and not torch.compiler.is_compiling() and not bool(torch.isfinite(x).all()):
            raise InputError("numbers that are not finite", where="multi-scale", fix="remove or replace them")
        scaled = x[..., None] / 10.0**self.exponents
        # beyond a million times a scale its direction no longer changes, and its square would overflow
        inner = scaled.clamp(-1e6, 1e6)[..., None] * self.weight + self.bias
        normed = F.layer_norm(inner, (self.dim,)) * self.gain + self.shift
        return (self.weights(x)[..., None] * normed).sum(-2)

    @property
    def num_parameters(self) -> int:
        """Numbers that are trained."""
        return sum(parameter.numel() for parameter in self.parameters())


@register(
    "window-token",
    room="tokens",
    kind="number layer",
    summary="a window of a series in one vector: its normalised shape, and its mean and spread at any scale",
    paper=Paper(
        "NuTime: Numerically Multi-Scaled Embedding for Large-Scale Time Series Pretraining", 2023, "2310.07402"
    ),
)
class WindowToken(nn.Module):  # type: ignore[misc]
    """Projection of ``(x - mean) / std``, plus `MultiScaleScalarEmbedding` of the mean and of the standard deviation.

    Parameters
    ----------
    length : int
        Values of a window.
    dim : int
    low, high : int
        Exponents of the scales of mean and standard deviation.
    """

    def __init__(self, length: int, dim: int, low: int = -4, high: int = 4) -> None:
        super().__init__()
        if length < 2:
            raise InputError(f"windows of {length} values", where="window-token", fix="give at least 2")
        self.length = length
        self.shape = nn.Linear(length, dim)
        self.mean, self.spread = (MultiScaleScalarEmbedding(dim, low, high) for _ in range(2))

    def forward(self, x: Any) -> Any:
        """Windows ``(..., length)`` to vectors ``(..., d)``; a constant window has shape zero and spread zero."""
        if x.shape[-1] != self.length:
            raise InputError(f"windows of {x.shape[-1]} values", where="window-token", fix=f"give {self.length}")
        mean, spread = x.mean(-1), x.std(-1, correction=0)
        # what is left of a constant by rounding is no shape
        flat = spread <= 1e-6 * mean.abs()
        shape = (x - mean[..., None]) / torch.where(flat, math.inf, spread)[..., None]
        return self.shape(shape) + self.mean(mean) + self.spread(torch.where(flat, 0.0, spread))


def windows(series: Any, length: int, stride: int | None = None) -> Any:
    """Windows ``(..., n, length)`` of series ``(..., time)``; a rest that is too short is left out."""
    return series.unfold(-1, length, stride or length)
