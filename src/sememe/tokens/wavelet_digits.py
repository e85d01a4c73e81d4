"""Digits as points of wavelets: a fixed codebook in which near digits are near, at several scales."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a number layer") from None

WAVELETS = ("haar", "db4", "mexican-hat")
_LEVELS = 10


@register(
    "wavelet-digits",
    room="tokens",
    kind="number layer",
    summary="a fixed vector for each digit 0 to 9: wavelets at its place on the unit interval, at several scales",
    paper=Paper("Speaking Numbers to LLMs: Multi-Wavelet Number Embeddings for Time Series Forecasting", 2026),
    claim="Better forecasts than learned digit tables and other interfaces for numbers.",
)
class WaveletDigitEmbedding(nn.Module):  # type: ignore[misc]
    """Digit ``k`` sits at ``t = k / 9`` and is ``psi(t / s) / sqrt(s)`` for every wavelet and scale, brought to ``d``.

    Nothing is trained. Haar is +1 below one half and -1 above; db4 is Daubechies' wavelet with four vanishing moments,
    on ``[0, 7]`` (the unit interval is stretched to it, so that all of it is seen at scale 1); the Mexican hat
    has its middle at ``t = 1/2`` and a width of 1/4. `override` writes the vectors into the digit rows of any table.

    A codebook in which two digits coincide, before or after a LayerNorm, is refused: Haar alone is one.

    Parameters
    ----------
    dim : int
        Width of the vectors.
    wavelets : sequence of str
        Of ``haar``, ``db4``, ``mexican-hat``.
    scales : sequence of float
    combine : {"project", "pad"}
        A fixed Gaussian projection, or zeros behind the features.
    seed : int
        Of the projection.
    """

    def __init__(
        self,
        dim: int,
        wavelets: Sequence[str] = WAVELETS,
        scales: Sequence[float] = (1.0, 2.0, 4.0),
        combine: str = "project",
        seed: int = 0,
    ) -> None:
        super().__init__()
        unknown = [name for name in wavelets if name not in WAVELETS]
        if unknown or not wavelets or not scales or min(scales) <= 0 or combine not in ("project", "pad"):
            raise InputError(
                f"wavelets={list(wavelets)}, scales={list(scales)}, combine={combine!r}",
                where="wavelet-digits",
                fix=f"give some of {', '.join(WAVELETS)}, positive scales, and project or pad",
            )
        self.dim, self.wavelets, self.scales, self.combine, self.seed = (
            dim,
            tuple(wavelets),
            tuple(scales),
            combine,
            seed,
        )
        features = torch.from_numpy(digit_features(self.wavelets, self.scales))
        width = features.shape[1]
        if dim < 1 or (combine == "pad" and dim < width):
            raise InputError(f"{dim} dimensions do not hold {width} features", fix="give more, or combine='project'")
        if combine == "pad":
            table = F.pad(features, (0, dim - width))
        else:
            drawn = np.random.default_rng(seed).standard_normal((width, dim)) / np.sqrt(width)
            table = features @ torch.from_numpy(drawn)
        self.register_buffer("codebook", table.float(), persistent=False)
        near = self.separation()
        if near <= 1e-3:
            raise InputError(
                f"two digits are {near:.1g} apart after a LayerNorm",
                where="wavelet-digits",
                fix="add wavelets or scales",
            )

    def separation(self) -> float:
        """The least distance of two digits' vectors, after a LayerNorm."""
        normed = F.layer_norm(self.codebook.double(), (self.dim,))
        return float(torch.pdist(normed).min())

    def forward(self, digits: Any) -> Any:
        """Vectors ``(..., d)`` of digits ``(...)``, 0 to 9."""
        if digits.numel() and not torch.compiler.is_compiling() and bool(((digits < 0) | (digits > 9)).any()):
            raise InputError("a digit that is not 0 to 9", where="wavelet-digits")
        return F.embedding(digits, self.codebook)

    def override(self, table: Any, ids: Sequence[int], *, scale: float | None = None) -> None:
        """Write the vectors of the digits 0 to 9 into rows ``ids`` of an embedding's weight, in place.

        Parameters
        ----------
        table : nn.Embedding or Tensor of shape (v, d)
        ids : sequence of int
            Rows of the digits 0 to 9.
        scale : float, optional
            Root mean square of what is written; that of the whole table when not given.
        """
        weight = getattr(table, "weight", table)
        if weight.shape[-1] != self.dim or len(ids) != 10:
            raise InputError(
                f"a table of width {weight.shape[-1]} and {len(ids)} ids", fix=f"width {self.dim}, and ten ids"
            )
        with torch.no_grad():
            wanted = weight.square().mean().sqrt() if scale is None else scale
            own = self.codebook / self.codebook.square().mean().sqrt()
            weight[torch.as_tensor(list(ids))] = (own * wanted).to(weight.dtype)


def digit_features(wavelets: Sequence[str], scales: Sequence[float]) -> NDArray[np.float64]:
    """``psi(t / s) / sqrt(s)`` of ``t = k / 9``, ``(10, wavelets x scales)``."""
    t = np.arange(10) / 9
    return np.stack([wavelet(name, t / s) / np.sqrt(s) for name in wavelets for s in scales], axis=1)


def wavelet(name: str, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """A wavelet on the unit interval, at places ``t``."""
    if name == "haar":
        return np.where((t >= 0) & (t < 0.5), 1.0, np.where((t >= 0.5) & (t <= 1), -1.0, 0.0))
    if name == "mexican-hat":
        x = (t - 0.5) * 4
        return np.asarray(2 / (np.sqrt(3) * np.pi**0.25) * (1 - x**2) * np.exp(-(x**2) / 2))
    places, values = _daubechies()
    return np.interp(7 * t, places, values, left=0.0, right=0.0)


@cache
def _daubechies() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """db4 at multiples of ``2^-_LEVELS``: the scaling function by the cascade algorithm, then the wavelet of it."""
    low = _daubechies_filter()
    high = low[::-1] * (-1) ** np.arange(8)
    # values at whole numbers: the eigenvector of the two-scale relation, which sums to one
    place = np.arange(8)
    inside = 2 * place[:, None] - place[None, :]
    relation = np.sqrt(2) * np.where((inside >= 0) & (inside < 8), low[np.clip(inside, 0, 7)], 0.0)
    roots, vectors = np.linalg.eig(relation)
    phi = np.real(vectors[:, np.argmin(np.abs(roots - 1))])
    phi = phi / phi.sum()
    for level in range(_LEVELS):
        half = 2**level  # samples to a unit of what there is
        finer = np.zeros(7 * 2 * half + 1)
        for k in range(8):
            at = np.arange(len(finer)) - k * half  # 2 t - k in samples of the coarser grid
            there = (at >= 0) & (at < len(phi))
            finer[there] += np.sqrt(2) * low[k] * phi[at[there]]
        phi = finer
    grid = 2**_LEVELS
    psi = np.zeros(7 * grid + 1)
    for k in range(8):
        at = 2 * np.arange(len(psi)) - k * grid
        there = (at >= 0) & (at < len(phi))
        psi[there] += np.sqrt(2) * high[k] * phi[at[there]]
    return np.arange(len(psi)) / grid, psi


def _daubechies_filter() -> NDArray[np.float64]:
    """The low-pass filter with four vanishing moments, by spectral factorisation: eight taps that sum to sqrt(2)."""
    # |H|^2 = 2 cos^8 P(sin^2), P(y) = 1 + 4 y + 10 y^2 + 20 y^3; the roots within the circle make the filter
    taps = np.array([1.0])
    for _ in range(4):
        taps = np.convolve(taps, [0.5, 0.5])
    for y in np.roots([20, 10, 4, 1]):
        both = np.roots([1, 4 * y - 2, 1])
        taps = np.convolve(taps, [1, -both[np.argmin(np.abs(both))]])
    real = np.real(taps)
    return np.asarray(real / real.sum() * np.sqrt(2))
