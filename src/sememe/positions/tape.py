"""Positions that are carried along and changed by what the text says (TAPE)."""

from __future__ import annotations

import math
from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.positions.base import Positions, Rotary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a position encoding") from None


@register(
    "tape",
    room="positions",
    kind="positions",
    summary="rotations that every layer mixes among symbols and changes by their content, equivariantly",
    paper=Paper(
        "Rethinking Addressing in Language Models via Contextualized Equivariant Positional Encoding",
        2025,
        "2501.00712",
    ),
    claim="Positions that depend on the content address better, for example the digits of an addition.",
)
class TAPE(Rotary):
    """A 2 x 2 matrix for each symbol, head and pair of dimensions, which begins as the rotary one and then changes.

    Zhu et al., "Rethinking Addressing in Language Models via Contextualized Equivariant Positional Encoding", 2025,
    arXiv 2501.00712. With matrices ``E``, queries and keys meet as ``sum_j q_j' E_mj E_nj' k_j``. After each layer
    ``E_m`` gains ``W2 (psi(x_m) * W1 (E_m + sum_n a_mn E_n))``: the layer's attention weights ``a`` mix matrices among
    symbols, and a network whose gates ``psi`` read the symbol's state mixes them among blocks (pairs of all heads),
    never within a matrix. So turning all matrices by one orthogonal 2 x 2 matrix changes nothing, and permuting
    symbols permutes the result. ``W2`` begins at zero: put into a model trained with rotary positions, TAPE leaves its
    logits as they are. How the mixing is gated the paper leaves open; here it lies behind ``W2``.

    Each layer but the last has ``dim inner + 2 inner heads w / 2`` parameters of its own; attention weights are worked
    out in full, and carry ``2 w`` more numbers a symbol and head.

    Parameters
    ----------
    width, heads, layers, dim : int
        Of the model.
    base : float
        As for `Rotary`.
    inner : int, optional
        Width between ``W1`` and ``W2``; the number of blocks when not given.
    """

    def __init__(
        self, width: int, heads: int, layers: int, dim: int, base: float = 10_000.0, inner: int | None = None
    ) -> None:
        super().__init__(width, base)
        blocks = heads * width // 2
        inner = blocks if inner is None else inner
        if min(heads, layers, dim, inner) < 1:
            raise InputError(f"heads={heads}, layers={layers}, dim={dim} are not possible", fix="positive numbers")
        self.heads = heads
        self.gates = nn.ModuleList(nn.Linear(dim, inner) for _ in range(layers - 1))
        self.down = nn.ParameterList(nn.Parameter(torch.randn(inner, blocks) / blocks**0.5) for _ in range(layers - 1))
        self.up = nn.ParameterList(nn.Parameter(torch.zeros(blocks, inner)) for _ in range(layers - 1))
        self._carried: Any = None  # matrices (b, l, blocks, 4) of the layer at hand
        self._mixed: Any = None

    def begin(self, x: Any) -> Any:
        """Rotations ``(b, l, blocks, 4)`` of the places of ``x (b, l, d)``; a matrix's rows stand side by side."""
        length = x.shape[1]
        angles = self.angles(length) if self.at is None else self.at[:, :length, None] * self.rates
        cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        turned = torch.stack((cosine, sine, -sine, cosine), dim=-1)  # so that q' E is q turned by its angle
        return turned.repeat(*(1,) * (turned.ndim - 2), self.heads, 1).expand(len(x), length, -1, 4)

    def layer(self, number: int, x: Any) -> Positions:
        """Begin before the first layer; before the others, change the matrices by the states that come in."""
        if not number:
            self._carried, self._mixed = self.begin(x), None
        else:
            met = self._carried + self._mixed
            gate = F.silu(self.gates[number - 1](x))[..., None]
            inner = gate * torch.einsum("ib,nlbe->nlie", self.down[number - 1], met)
            self._carried = self._carried + torch.einsum("bi,nlie->nlbe", self.up[number - 1], inner)
        self._last = number == len(self.gates)
        return self

    def attend(self, q: Any, k: Any, v: Any, *, causal: bool, bias: Any) -> Any:
        """The usual softmax, whose weights also mix the matrices."""
        b, heads, length, width = q.shape
        e = self._carried.view(b, length, heads, width // 2, 2, 2).transpose(1, 2)  # (b, h, l, w / 2, 2, 2)
        q, k = _through(q, e), _through(k, e)
        if self._last:
            whole = causal and bias is None
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=whole)
        scores = q @ k.transpose(-1, -2) / math.sqrt(width)
        if bias is not None:
            scores = scores + bias
        elif causal:
            scores = scores.masked_fill(torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1), -torch.inf)
        weights = scores.softmax(dim=-1)
        out = weights @ torch.cat((v, e.flatten(3)), dim=-1)
        v, mixed = out[..., :width], out[..., width:]
        self._mixed = mixed.transpose(1, 2).reshape(b, length, heads * width // 2, 4)
        return v


def _through(x: Any, e: Any) -> Any:
    """Pairs of ``x (b, h, l, w)``, whose halves are the coordinates, as rows times matrices: ``x_j' E_j``."""
    pairs = x.unflatten(-1, (2, -1)).transpose(-1, -2)  # (b, h, l, w / 2, 2)
    return (pairs[..., None, :] @ e)[..., 0, :].transpose(-1, -2).flatten(-2)
