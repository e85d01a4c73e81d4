"""Half of the channels of every block see the past as averages over windows of different lengths."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="averages over the past") from None


@register(
    "wavelet",
    room="tokens",
    kind="context layer",
    summary="after each block, half of the channels become causal averages over windows of 2, 4, 8 ... symbols",
    paper=Paper("WaveletGPT: Wavelets Meet Large Language Models", 2024, "2409.12924"),
    claim="Averages over the past at several scales reach the same loss in half the steps, without parameters.",
)
class CausalWavelet(nn.Module):  # type: ignore[misc]
    """The Haar approximation of the past at a level of its own for each channel.

    The first half of the channels passes as it is. Channel ``i`` of the other half becomes the mean of its last ``2^j``
    values, where ``j`` grows evenly over the channels from 1 to ``levels``. At the beginning, where fewer values are
    there, it is the mean of those: zeros in their place would make the first places small. One running sum gives all
    windows, so the cost does not depend on their lengths.

    Parameters
    ----------
    dim : int
        Channels, at least 2.
    levels : int
        The longest window is ``2^levels`` symbols.
    learned : bool
        Give every window weights that are trained (they begin as the mean) instead of the mean: ``2^levels`` numbers a
        channel of the second half, those outside its window fixed at zero.
    """

    def __init__(self, dim: int, levels: int = 6, learned: bool = False) -> None:
        super().__init__()
        if dim < 2 or not 1 <= levels <= 16:
            raise InputError(f"dim={dim}, levels={levels}", where="wavelet", fix="give 2 channels and 1 to 16 levels")
        self.levels, self.learned, self.kept = levels, learned, dim // 2
        moved = dim - self.kept
        level = 1 + torch.arange(moved) * levels // moved
        self.register_buffer("windows", 2**level, persistent=False)
        if learned:
            inside = torch.arange(2**levels).flip(0) < self.windows[:, None]  # the last weight is the present's
            self.register_buffer("inside", inside, persistent=False)
            self.kernel = nn.Parameter(inside / self.windows[:, None])

    def forward(self, x: Any) -> Any:
        """``(b, l, d)`` to ``(b, l, d)``; place ``t`` depends on places up to ``t``."""
        length = x.shape[1]
        same, past = x[..., : self.kept], x[..., self.kept :]
        if not length:
            return x
        there = torch.minimum(torch.arange(1, length + 1, device=x.device)[:, None], self.windows)  # (l, moved)
        if self.learned:
            taps = (self.kernel * self.inside)[:, None]
            padded = F.pad(past.transpose(1, 2), (taps.shape[-1] - 1, 0))
            mean = F.conv1d(padded, taps, groups=taps.shape[0]).transpose(1, 2) * (self.windows / there).to(x.dtype)
        else:
            # sums of differences from the first value lose fewer digits than sums of the values
            first = past[:, :1]
            sums = F.pad((past - first).cumsum(1), (0, 0, 1, 0))
            before = torch.arange(1, length + 1, device=x.device)[:, None] - there
            early = sums.gather(1, before.expand(x.shape[0], -1, -1))
            mean = first + (sums[:, 1:] - early) / there.to(x.dtype)
        return torch.cat((same, mean), dim=-1)


class WaveletBlock(nn.Module):  # type: ignore[misc]
    """A block of `sememe.lab.model` with the averages behind it.

    Parameters
    ----------
    block : nn.Module
    wavelet : CausalWavelet
        One without parameters may be shared by all blocks.
    """

    def __init__(self, block: nn.Module, wavelet: CausalWavelet) -> None:
        super().__init__()
        self.block, self.wavelet = block, wavelet

    def forward(self, x: Any, positions: Any, *, causal: bool, bias: Any) -> Any:
        """``(b, l, d)`` to ``(b, l, d)``; a model that sees both sides is refused."""
        if not causal:
            raise InputError("averages over the past are for models that predict the next symbol", where="wavelet")
        return self.wavelet(self.block(x, positions, causal=causal, bias=bias))


def add_wavelets(model: Any, levels: int = 6, *, learned: bool = False) -> Any:
    """Put averages behind every block of a `SmallLM` (or another model with ``trunk.blocks``); the same model.

    Raises
    ------
    InputError
        A model that has them.
    """
    blocks, dim = model.trunk.blocks, model.trunk.shape.dim
    if any(isinstance(block, WaveletBlock) for block in blocks):
        raise InputError("this model has averages behind its blocks already")
    for place, block in enumerate(blocks):
        blocks[place] = WaveletBlock(block, CausalWavelet(dim, levels, learned))
    return model
