"""Text and small pictures in one sequence of symbols, each seen with the square around it."""

from __future__ import annotations

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
    raise MissingDependency("torch", extra="torch", need="an embedding of pixels and bytes") from None

_BYTES = 256


class PixelBytes:
    """Symbols for bytes (0 to 255), for the colours of a palette (from 256 on), and for the end of a picture's line.

    Parameters
    ----------
    colours : int
    """

    def __init__(self, colours: int) -> None:
        if colours < 1:
            raise InputError(f"a palette of {colours} colours", fix="give a positive number")
        self.colours, self.line = colours, _BYTES + colours

    def __len__(self) -> int:
        return self.line + 1

    def encode(self, text: str, picture: Any = None) -> NDArray[np.int64]:
        """Symbols of a text and of a picture ``(rows, columns)`` of colours behind it, line by line."""
        ids = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)
        if picture is None:
            return ids
        pixels = np.asarray(picture, dtype=np.int64)
        if pixels.ndim != 2 or (pixels.size and (pixels.min() < 0 or pixels.max() >= self.colours)):
            raise InputError(
                f"a picture of shape {pixels.shape}", fix=f"two dimensions, colours 0 to {self.colours - 1}"
            )
        lines = np.concatenate((pixels + _BYTES, np.full((len(pixels), 1), self.line)), axis=1)
        return np.concatenate((ids, lines.ravel()))

    def decode(self, ids: Any) -> tuple[str, list[list[int]]]:
        """Text and lines of pixels of what `encode` gave."""
        found = np.asarray(ids, dtype=np.int64)
        text = bytes(found[found < _BYTES].astype(np.uint8)).decode("utf-8", "replace")
        lines: list[list[int]] = [[]]
        for symbol in found[found >= _BYTES].tolist():
            if symbol == self.line:
                lines.append([])
            else:
                lines[-1].append(symbol - _BYTES)
        return text, lines[:-1] if not lines[-1] else lines


@register(
    "pixelbytes",
    room="tokens",
    kind="context layer",
    summary="bytes and pixels in one vocabulary; a symbol's vector is mixed with those of its neighbours in the plane",
    paper=Paper("PixelBytes: Catching Unified Embedding for Multimodal Generation", 2024, "2409.15512"),
    claim="One embedding of bytes and pixels with their neighbourhood lets sequence models write text and pictures.",
)
class PixelByteEmbedding(nn.Module):  # type: ignore[misc]
    """The vector of a symbol, mixed by a gate with what a 3 x 3 convolution says of its neighbourhood.

    Of a pixel the neighbourhood is the square of three columns around its own and three lines that end with its own; of
    a text byte it is the last nine symbols. Nothing that comes later is ever looked at (the paper's square is centred
    and looks ahead, which a model that predicts the next symbol must not), and the square holds the pixel above the
    *next* one, which a plain sequence has a whole line back. What is missing counts as zeros.

    Parameters
    ----------
    symbols : PixelBytes
    dim : int
    narrow : int
        Width of the vectors that the convolution reads; ``len(symbols) * narrow + 9 * narrow * dim`` weights.
    """

    def __init__(self, symbols: PixelBytes, dim: int, narrow: int = 16) -> None:
        super().__init__()
        if min(dim, narrow) < 1:
            raise InputError(f"dim={dim}, narrow={narrow}", where="pixelbytes", fix="give positive numbers")
        self.line, self.num_embeddings, self.embedding_dim = symbols.line, len(symbols), dim
        self.weight = nn.Parameter(0.02 * torch.randn(len(symbols), dim))
        self.near = nn.Parameter(0.3 * torch.randn(len(symbols), narrow))
        self.mix = nn.Linear(9 * narrow, dim, bias=False)
        nn.init.normal_(self.mix.weight, std=0.02 / narrow**0.5)
        self.gate = nn.Linear(dim, dim)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def neighbours(self, ids: Any) -> Any:
        """Places ``(b, l, 9)`` of each symbol's neighbourhood, row by row, its own at the end of the middle; -1: none.

        For text, oldest first, its own last.
        """
        length = ids.shape[1]
        at = torch.arange(length, device=ids.device).expand_as(ids)
        pixel = ids >= _BYTES
        # the last place before this one that ends a line: a marker, or a byte of text
        ends = torch.where(ids == self.line, at, -1).maximum(torch.where(pixel, -1, at))
        before = F.pad(ends.cummax(dim=1).values[:, :-1], (1, 0), value=-1)
        column = at - before - 1
        squares, stop = [], before
        for back in range(3):  # this line, the one above, the one above that
            places = at[..., None] + torch.tensor([-1, 0, 1], device=ids.device)
            if back == 0:
                fits = (places > stop[..., None]) & (places <= at[..., None])
            else:
                above = torch.where(stop >= 0, ids.gather(1, stop.clamp_min(0)) == self.line, False)
                start = torch.where(above, before.gather(1, stop.clamp_min(0)), stop)
                places = (start + 1 + column)[..., None] + torch.tensor([-1, 0, 1], device=ids.device)
                fits = above[..., None] & (places > start[..., None]) & (places < stop[..., None])
                stop = torch.where(above, start, -1)
            squares.append(torch.where(fits, places, -1))
        square = torch.cat(squares[::-1], dim=-1)
        text = at[..., None] + torch.arange(-8, 1, device=ids.device)
        return torch.where(pixel[..., None], square, text.clamp_min(-1))

    def forward(self, ids: Any) -> Any:
        """``(b, l)`` to ``(b, l, dim)``; rows are sequences of their own."""
        if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= self.num_embeddings):
            raise InputError(f"ids outside of 0 to {self.num_embeddings - 1}", where="ids")
        own = F.embedding(ids, self.weight)
        if not ids.shape[1]:
            return own
        places = self.neighbours(ids)
        near = ids[:, None].expand(-1, ids.shape[1], -1).gather(2, places.clamp_min(0))
        rows = F.embedding(near, self.near) * (places >= 0)[..., None].to(self.near.dtype)
        gate = torch.sigmoid(self.gate(own))
        return 2 * (gate * own + (1 - gate) * self.mix(rows.flatten(2)))
