"""Positions as distances: numbers or vectors that depend on how far two symbols are apart, learned or not."""

from __future__ import annotations

import math
from typing import Any, Literal

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.positions.base import Positions

try:
    import torch
    from torch import nn
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a position encoding") from None

_LEAST = 0.01  # of what must be positive
Method = Literal["shaw", "unsigned", "signed", "elementwise", "added"]


def slopes(heads: int) -> Any:
    """Slopes of linear biases, ``(heads,)``: a geometric series from ``2 ** (-8 / heads)`` to ``2 ** -8``.

    Where ``heads`` is no power of two, those of the next smaller power, and every other one of the next larger.
    """
    near = 2 ** int(math.log2(heads))
    found = 2.0 ** (-8.0 * torch.arange(1, near + 1) / near)
    if near < heads:
        between = 2.0 ** (-4.0 * torch.arange(1, 2 * near + 1, 2) / near)
        found = torch.cat((found, between[: heads - near]))
    return found


def square(by_distance: Any) -> Any:
    """Values by distance ``-(l - 1) .. l - 1``, ``(h, 2 l - 1)``, as ``(h, l, l)``: row i, column j holds ``i - j``."""
    length = (by_distance.shape[-1] + 1) // 2
    return by_distance.flip(-1).unfold(-1, length, 1).flip(-2)


@register(
    "symmetric-alibi",
    room="positions",
    kind="positions",
    summary="attention falls linearly with the distance to either side, with a slope for each head",
    paper=Paper("Jina Embeddings 2: 8192-Token General-Purpose Text Embeddings for Long Documents", 2023, "2310.19923"),
    claim="An encoder trained on short texts with symmetric linear biases reads far longer ones.",
)
class SymmetricAlibi(Positions):
    """Scores minus a slope times the distance, the same to both sides.

    Günther et al., "Jina Embeddings 2: 8192-Token General-Purpose Text Embeddings for Long Documents", 2023,
    arXiv 2310.19923, after ALiBi (Press et al., "Train Short, Test Long", 2021, arXiv 2108.12409), which it equals in
    a causal model. Nothing is learned. The numbers are worked out for the ``2 l - 1`` distances and copied.

    Parameters
    ----------
    heads : int
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        if heads < 1:
            raise InputError(f"{heads} heads are not possible", fix="give a positive number")
        self.register_buffer("slopes", slopes(heads), persistent=False)

    def bias(self, length: int) -> Any:
        """``-slope |i - j|``, ``(h, l, l)``."""
        return square(-self.slopes[:, None] * torch.arange(1 - length, length, device=self.slopes.device).abs())


class _Kernel(Positions):
    """Minus a conditionally positive definite kernel of the distance; ``r1``, ``r2`` are positive, one a head."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        if heads < 1:
            raise InputError(f"{heads} heads are not possible", fix="give a positive number")
        self.raw1 = nn.Parameter(torch.empty(heads))
        self.raw2 = nn.Parameter(torch.empty(heads))

    @property
    def r1(self) -> Any:
        """How strongly distance counts, ``(h,)``, positive."""
        return _at_least(self.raw1)

    @property
    def r2(self) -> Any:
        """The shape of the fall, ``(h,)``, positive."""
        return _at_least(self.raw2)

    def fall(self, distance: Any) -> Any:
        """What is added at distances ``(n,)`` of 0 and more, ``(h, n)``."""
        raise InputError(f"{type(self).__name__} gives no bias")

    def bias(self, length: int) -> Any:
        """The kernel of every pair, ``(h, l, l)``, with gradients."""
        half = self.fall(torch.arange(length, device=self.raw1.device, dtype=self.raw1.dtype))  # (h, l)
        return square(torch.cat((half[:, 1:].flip(-1), half), dim=-1))


def _at_least(raw: Any) -> Any:
    """The number itself, held at 0.01 and above; a gradient passes through as if it were not held."""
    return raw + (raw.clamp_min(_LEAST) - raw).detach()


@register(
    "kerple-log",
    room="positions",
    kind="positions",
    summary="attention falls with the logarithm of the distance, by two learned numbers for each head",
    paper=Paper("KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation", 2022, "2205.09921"),
    claim="Logarithmic kernel biases extrapolate to longer inputs better than linear ones.",
)
class KernelBias(_Kernel):
    """Scores minus ``r1 log(1 + r2 |i - j|)``.

    Chi et al., "KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation", 2022, arXiv 2205.09921.
    The kernel is conditionally positive definite; the constant that would make it positive definite is absorbed by
    the softmax. ``2 heads`` parameters, shared by all layers. They begin uniformly drawn, ``r1`` in (0, 2) and ``r2``
    in (0, 1), and are learned as they are, held at 0.01 and above, as in the authors' code: through a softplus or an
    exponential small ones would hardly move.

    Parameters
    ----------
    heads : int
    """

    def __init__(self, heads: int) -> None:
        super().__init__(heads)
        with torch.no_grad():
            self.raw1.copy_(2 * torch.rand(heads))
            self.raw2.copy_(torch.rand(heads))

    def fall(self, distance: Any) -> Any:
        """``-r1 log(1 + r2 d)``."""
        return -self.r1[:, None] * torch.log1p(self.r2[:, None] * distance)


@register(
    "kerple-power",
    room="positions",
    kind="positions",
    summary="attention falls with a power of the distance between 0 and 2, learned for each head",
    paper=Paper("KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation", 2022, "2205.09921"),
    claim="ALiBi is the case of power 1 of a family of kernels whose shape can be learned.",
)
class PowerKernelBias(_Kernel):
    """Scores minus ``r1 |i - j| ** r2``, with ``0 < r2 < 2``.

    The second kernel of KERPLE (arXiv 2205.09921). It begins as ALiBi, which is ``r2 = 1`` with the usual slopes.

    Parameters
    ----------
    heads : int
    learn : bool
        False keeps it at ALiBi.
    """

    def __init__(self, heads: int, learn: bool = True) -> None:
        super().__init__(heads)
        self.register_buffer("slopes", slopes(heads), persistent=False)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)  # exactly ALiBi: a factor of 1, and twice the half that a sigmoid of 0 is
            parameter.requires_grad_(learn)

    @property
    def r1(self) -> Any:
        """How strongly distance counts, ``(h,)``, positive."""
        return self.slopes * torch.exp(self.raw1)

    @property
    def r2(self) -> Any:
        """The power, ``(h,)``, between 0 and 2."""
        return 2 * torch.sigmoid(self.raw2)

    def fall(self, distance: Any) -> Any:
        """``-r1 d ** r2``; the logarithm of distance 0 is kept out of the gradient."""
        power = distance.clamp_min(1) ** self.r2[:, None]
        return -self.r1[:, None] * torch.where(distance > 0, power, 0.0)


@register(
    "relative",
    room="positions",
    kind="positions",
    summary="learned vectors for clipped distances that meet queries and keys in the attention scores",
    paper=Paper("Improve Transformer Models with Better Relative Position Embeddings", 2020, "2009.13658"),
    claim="Distance vectors that meet both the query and the key beat those that meet the query alone.",
)
class RelativeAttention(Positions):
    """Learned ``a`` for each distance in ``[-reach, reach]``, farther ones clipped, in the scores of every layer.

    Huang et al., "Improve Transformer Models with Better Relative Position Embeddings", 2020, arXiv 2009.13658. With
    ``a`` of the pair's distance (that of the key minus that of the query):

    =============  ===============================  ==========================
    method         score times ``sqrt(w)``          parameters
    =============  ===============================  ==========================
    unsigned       ``(q . k) a``, a number          ``reach + 1`` (method 1)
    signed         ``(q . k) a``, a number          ``2 reach + 1`` (method 2)
    elementwise    ``sum q k a``                    ``(2 reach + 1) w`` (3)
    added          ``q . k + q . a + k . a``        ``(2 reach + 1) w`` (4)
    shaw           ``q . k + q . a``                ``(2 reach + 1) w``
    =============  ===============================  ==========================

    The last is the baseline of Shaw et al., 2018, arXiv 1803.02155. One table serves all heads and layers, which the
    paper leaves open. ``added`` costs ``2 (2 reach + 1) w`` multiply-adds a symbol and head besides attention's own;
    ``elementwise`` needs memory for ``l^2 w`` numbers a head.

    Parameters
    ----------
    width : int
        Dimensions of a head.
    method : {"added", "elementwise", "signed", "unsigned", "shaw"}
    reach : int
        Distances told apart, to each side.
    """

    def __init__(self, width: int, method: Method = "added", reach: int = 64) -> None:
        super().__init__()
        if method not in ("shaw", "unsigned", "signed", "elementwise", "added"):
            raise InputError(f"there is no method {method!r}", fix="use added, elementwise, signed, unsigned or shaw")
        if reach < 1:
            raise InputError(f"reach={reach} tells no distances apart", fix="give a positive number")
        self.method, self.reach = method, reach
        if method in ("unsigned", "signed"):
            self.table = nn.Parameter(torch.ones(reach + 1 if method == "unsigned" else 2 * reach + 1))
        elif method == "elementwise":
            self.table = nn.Parameter(torch.ones(2 * reach + 1, width))
        else:
            self.table = nn.Parameter(0.02 * torch.randn(2 * reach + 1, width))

    def rows(self, length: int) -> Any:
        """Row of the table of each pair, ``(l, l)``."""
        at = torch.arange(length, device=self.table.device)
        apart = (at[None, :] - at[:, None]).clamp(-self.reach, self.reach)
        return apart.abs() if self.method == "unsigned" else apart + self.reach

    def scores(self, q: Any, k: Any) -> Any:
        """``(b, h, l, l)`` before the softmax, of queries and keys ``(b, h, l, w)``."""
        length, width = q.shape[-2:]
        rows = self.rows(length)
        if self.method == "elementwise":
            met = torch.einsum("bhid,bhjd,ijd->bhij", q, k, self.table[rows])
        else:
            met = q @ k.transpose(-1, -2)
            if self.method in ("unsigned", "signed"):
                met = met * self.table[rows]
            else:
                met = met + _picked(q @ self.table.T, rows)
                if self.method == "added":
                    met = met + _picked(k @ self.table.T, rows.T).transpose(-1, -2)
        return met / math.sqrt(width)

    def attend(self, q: Any, k: Any, v: Any, *, causal: bool, bias: Any) -> Any:
        """The usual softmax of these scores."""
        scores = self.scores(q, k)
        if bias is not None:
            scores = scores + bias
        elif causal:
            hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
            scores = scores.masked_fill(hidden, -torch.inf)
        return scores.softmax(dim=-1) @ v


def _picked(by_row: Any, rows: Any) -> Any:
    """Of scores with every row of the table, ``(b, h, l, rows)``, those that each pair needs, ``(b, h, l, l)``."""
    return by_row.gather(-1, rows.expand(*by_row.shape[:2], *rows.shape))
