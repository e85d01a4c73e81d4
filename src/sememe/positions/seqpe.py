"""Positions read as written numbers by a small network (SeqPE)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.positions.base import Positions

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a position encoding") from None

_DRAWN = 32  # positions drawn for each of the two losses
_REACH = 8  # trained sizes that positions are drawn from, where the digits suffice
_SHIFTED = 0.1  # share of passes of training that stand elsewhere than at the beginning


@register(
    "seqpe",
    room="positions",
    kind="positions",
    summary="a position's digits, read by a small causal network whose last state is the position's vector",
    paper=Paper("SeqPE: Transformer with Sequential Position Encoding", 2025, "2506.13277"),
    claim="Positions read as digit strings, with two losses that order them, extrapolate to longer inputs.",
)
class SeqPE(Positions):
    """The vector of a position is what a two-layer causal encoder makes of its digits; scores gain ``p_m . p_n``.

    Li et al., "SeqPE: Transformer with Sequential Position Encoding", 2025, arXiv 2506.13277. A position of several
    axes is the digits of one axis after those of the other, so an image needs nothing new. While training, `penalty`
    adds two losses: of several candidates the nearest in index shall be the most similar (contrast; candidates come
    from up to eight trained sizes, or from one trained size somewhere in them, as in the authors' code, so that
    distances that no text had are ordered, too), and positions out of the trained range shall be as similar to each
    other as those within it that are shifted to them (distillation). One pass of ten is trained at shifted positions.

    How vectors enter the model the paper's text leaves to the reader; here, as their losses suggest, the inner products
    of the vectors are added to the scores of every head, split among heads: what distillation keeps is exactly that.
    The network costs ``digits axes`` small tokens a position, once a pass for all texts and layers.

    Parameters
    ----------
    width, heads : int
        Dimensions of a head, and heads; the vectors have ``width heads`` dimensions.
    context : int
        Positions trained on, along the first axis.
    digits : int
        Written for each axis, with zeros in front.
    grid : sequence of int, optional
        Sizes of the axes where a text is a grid, read row by row; one axis without end when not given.
    contrast, distil : float
        Weights of the losses, in nats a symbol.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        context: int,
        digits: int = 4,
        grid: Sequence[int] | None = None,
        contrast: float = 0.1,
        distil: float = 0.3,
    ) -> None:
        super().__init__()
        if min(width, heads, context, digits) < 1 or context > 10**digits or contrast < 0 or distil < 0:
            raise InputError(f"context={context} in {digits} digits is not possible", fix="give more digits")
        self.width, self.heads, self.context, self.digits = width, heads, context, digits
        self.grid = None if grid is None else tuple(grid)
        self.contrast, self.distil = contrast, distil
        dim, axes = width * heads, 1 if self.grid is None else len(self.grid)
        self.symbols = nn.Embedding(10, dim)
        self.slots = nn.Parameter(0.1 * torch.randn(axes * digits, dim))
        nn.init.normal_(self.symbols.weight, std=0.1)
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, 2, 2 * dim, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.last = nn.LayerNorm(dim)
        self._vectors: Any = None

    def vectors(self, places: Any) -> Any:
        """Vectors ``(n, width heads)`` of positions ``(n, axes)``."""
        if int(places.max()) >= 10**self.digits:
            raise InputError(f"position {int(places.max())} has more than {self.digits} digits", fix="give more digits")
        powers = 10 ** torch.arange(self.digits - 1, -1, -1, device=places.device)
        written = (places[..., None] // powers % 10).flatten(1)  # (n, axes digits)
        x = self.symbols(written) + self.slots
        mask = torch.full((x.shape[1], x.shape[1]), -torch.inf, device=x.device).triu(1)
        for layer in self.encoder:
            x = layer(x, src_mask=mask, is_causal=True)
        return self.last(x[:, -1])

    def places(self, length: int) -> Any:
        """Positions ``(length, axes)`` of a text or of a grid read row by row."""
        at = torch.arange(length, device=self.slots.device)
        if self.grid is None:
            return at[:, None]
        if length > math.prod(self.grid):
            raise InputError(f"{length} symbols in a grid of {self.grid}", fix="give a larger grid")
        return torch.stack(torch.unravel_index(at, self.grid), dim=1)

    def read(self, ids: Any, start: int = 0) -> None:
        """Work out the vectors of the next pass, once for all layers."""
        places = self.places(ids.shape[1] + start)
        if self.training and float(torch.rand(())) < _SHIFTED:
            room = 10**self.digits - 1 - places.max(dim=0).values
            places = places + torch.minimum(self._shift(), room.clamp_min(0))
        found = self.vectors(places)
        self._vectors = found.view(-1, self.heads, self.width).transpose(0, 1)

    def attend(self, q: Any, k: Any, v: Any, *, causal: bool, bias: Any) -> Any:
        """Scores ``(q . k + p . p) / sqrt(w)``: vectors are put behind queries and keys."""
        p = self._vectors[:, : q.shape[-2]].expand(len(q), -1, -1, -1)
        q, k = torch.cat((q, p), dim=-1), torch.cat((k, p), dim=-1)
        whole = causal and bias is None
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=whole, scale=self.width**-0.5)

    def penalty(self) -> Any:
        """The two losses of freshly drawn positions, weighted, in nats."""
        sizes, reach = self._sizes()
        inside = self._drawn(sizes)
        # half of the time the candidates come from anywhere, half of the time from a stretch of the trained size
        some = self._drawn(reach) if float(torch.rand(())) < 0.5 else self._drawn(sizes) + self._shift()
        found = self.vectors(torch.cat((inside, inside + self._shift(), some)))
        home, away, other = found.split(_DRAWN)
        return self.contrast * self._order(other, some) + self.distil * self._alike(home, away)

    def _sizes(self) -> tuple[Any, Any]:
        """Trained size of each axis, and how far positions are drawn, both ``(axes,)``."""
        sizes = torch.tensor((self.context,) if self.grid is None else self.grid, device=self.slots.device)
        return sizes, (_REACH * sizes).clamp_max(10**self.digits)

    def _shift(self) -> Any:
        """A drawn distance ``(1, axes)`` by which trained positions are moved, within reach."""
        sizes, reach = self._sizes()
        return (torch.rand(1, len(sizes), device=sizes.device) * (reach - sizes + 1)).long()

    @staticmethod
    def _drawn(below: Any) -> Any:
        """Positions ``(drawn, axes)``, each axis below its limit."""
        return (torch.rand(_DRAWN, len(below), device=below.device) * below).long()

    def _similar(self, x: Any) -> Any:
        """What positions ``(n, d)`` add to the scores of each other, ``(h, n, n)``."""
        x = x.view(-1, self.heads, self.width).transpose(0, 1)
        return x @ x.transpose(-1, -2) / math.sqrt(self.width)

    def _order(self, found: Any, places: Any) -> Any:
        """For each head the nearest of all others shall be the most similar (the first of equally near ones)."""
        apart = torch.cdist(places.float(), places.float(), p=1).fill_diagonal_(torch.inf)
        itself = torch.eye(len(places), dtype=torch.bool, device=found.device)
        scores = self._similar(found).masked_fill(itself, -torch.inf)
        return F.cross_entropy(scores.flatten(0, 1), apart.argmin(dim=1).repeat(self.heads))

    def _alike(self, home: Any, away: Any) -> Any:
        """Kullback-Leibler divergence of similarities away from those at home, for each head and position."""
        taught = self._similar(home).log_softmax(dim=-1).detach()
        return (taught.exp() * (taught - self._similar(away).log_softmax(dim=-1))).sum(-1).mean()
