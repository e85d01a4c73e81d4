"""Rotary positions for texts longer than a model was trained on: near pairs meet as before, far ones by other angles.

Every class here replaces the plain rotary positions of a trained model, and costs nothing to set up. Where near and far
pairs meet by different angles, all scores are worked out twice and each pair takes the one that is its own, in blocks
of queries so that memory stays small.
"""

from __future__ import annotations

import math
from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.positions.base import Rotary, turn

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a position encoding") from None

_MOST_SCORES = 2**24  # numbers held at once


class Extended(Rotary):
    """Rotary positions that change where a text is longer than the trained window, and are the plain ones elsewhere.

    A subclass overrides `near` (angles of all pairs, or of near ones), and, where far pairs meet by other angles,
    `far`, `shift` and ``reach``.

    Parameters
    ----------
    width : int
        Dimensions of a head.
    context : int
        The trained window. A text that fits is read exactly as before.
    base : float
        As for `Rotary`.

    Attributes
    ----------
    reach : int or None
        Distance from which pairs are far; None where none are.
    temperature : float
        What scores are multiplied by where the change is in force.
    sizes : int64 tensor of shape (b,) or None
        Lengths of the texts of a padded batch; whoever pads sets it. None where every row is as long as the batch.
    """

    reach: int | None = None
    temperature: float = 1.0
    sizes: Any = None

    def __init__(self, width: int, context: int, base: float = 10_000.0) -> None:
        super().__init__(width, base)
        if context < 1:
            raise InputError(f"a trained window of {context} is not possible", fix="give a positive context")
        self.context = context

    def near(self, at: Any, factor: Any) -> Any:
        """Angles of positions ``at (l,)``, ``(..., l, w / 2)``; ``factor (b, 1, 1, 1)`` or 1-element says how many
        trained windows a text fills, at least 1."""
        return at[:, None] * self.rates

    def far(self, at: Any) -> Any:
        """Angles by which far pairs meet, ``(..., l, w / 2)``."""
        raise InputError(f"{type(self).__name__} has no far angles")

    def shift(self) -> Any:
        """Angles, ``(w / 2,)``, added to a query that looks far back (and taken from one that looks far ahead)."""
        return torch.zeros_like(self.rates)

    def in_force(self, length: int) -> Any:
        """Whether the change is made for a text of this length: a bool, or bool ``(b,)`` where ``sizes`` are set."""
        return length > self.context if self.sizes is None else self.sizes > self.context

    def attend(self, q: Any, k: Any, v: Any, *, causal: bool, bias: Any) -> Any:
        """The usual softmax of the changed scores; queries ``(b, h, m, w)`` are the last of the keys' places."""
        length, asked = k.shape[-2], q.shape[-2]
        force = self.in_force(length)
        some = bool(force.any()) if isinstance(force, torch.Tensor) else force
        at = torch.arange(length, device=k.device)
        if not some:
            angles = at[:, None] * self.rates
            q, k = _turned(q, angles[length - asked :]), _turned(k, angles)
            whole = causal and bias is None
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=whole and asked == length)
        if isinstance(force, torch.Tensor):
            force = force.to(k.device)[:, None, None, None]
        meet = self._meeting(k, at, force)
        size = max(1, _MOST_SCORES // (len(q) * q.shape[1] * length))
        out = []
        for start in range(0, asked, size):
            stop = min(start + size, asked)
            places = at[length - asked + start : length - asked + stop]
            scores = meet(q[..., start:stop, :], places, causal)
            if bias is not None:
                scores = scores + (bias if bias.shape[-2] == 1 else bias[..., start:stop, :])
            elif causal:
                scores = scores.masked_fill(at > places[:, None], -torch.inf)
            out.append(scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v)
        return torch.cat(out, dim=-2)

    def _meeting(self, k: Any, at: Any, force: Any) -> Any:
        """A function that gives the scores of some queries."""
        length = len(at)
        sizes = length if self.sizes is None else self.sizes.to(k.device)[:, None, None, None]
        factor = torch.as_tensor(sizes, device=k.device).clamp_min(self.context) / self.context
        angles = self.near(at, factor)
        near_k = _turned(k, angles).transpose(-1, -2)
        heat = torch.where(torch.as_tensor(force, device=k.device), self.temperature, 1.0) / math.sqrt(k.shape[-1])
        if self.reach is not None:
            apart, shift = self.far(at), self.shift()
            far_k = _turned(k, apart).transpose(-1, -2)

        def meet(q: Any, places: Any, causal: bool) -> Any:
            rows = slice(int(places[0]), int(places[-1]) + 1)
            scores = _turned(q, angles[..., rows, :]) @ near_k
            if self.reach is not None:
                distance = places[:, None] - at
                back = (distance >= self.reach) & force
                scores = torch.where(back, _turned(q, apart[..., rows, :] + shift) @ far_k, scores)
                if not causal:
                    ahead = (distance <= -self.reach) & force
                    scores = torch.where(ahead, _turned(q, apart[..., rows, :] - shift) @ far_k, scores)
            return scores * heat.to(scores.dtype)

        return meet


def _turned(x: Any, angles: Any) -> Any:
    """Heads ``(b, h, l, w)`` turned by angles ``(..., l, w / 2)``."""
    return turn(x, angles.cos().to(x.dtype), angles.sin().to(x.dtype))


@register(
    "string",
    room="positions",
    kind="positions",
    summary="far positions shifted inwards, over distances that training saw too rarely",
    paper=Paper("Why Does the Effective Context Length of LLMs Fall Short?", 2024, "2410.18745"),
    claim="Shifting well-trained distances over rarely seen ones makes the whole trained window usable, untrained.",
    extends="rotary",
)
class StringRope(Extended):
    """Distances from ``S`` on become ``d - S + W``: the largest ones, which training saw too rarely, are not used.

    An et al., "Why Does the Effective Context Length of LLMs Fall Short?", 2024, arXiv 2410.18745. It works within
    the trained window, so it is always in force; distances below ``S`` meet exactly as before.

    Parameters
    ----------
    width, context, base
        As for `Extended`.
    shift : int, optional
        ``S``; a third of the trained window when not given.
    window : int, optional
        ``W``, distances that stay apart from the shifted ones; the paper's 128 of a window of 8,192 or more, and a
        sixteenth of smaller ones.
    """

    def __init__(
        self, width: int, context: int, base: float = 10_000.0, shift: int | None = None, window: int | None = None
    ) -> None:
        super().__init__(width, context, base)
        self.reach = self.start = context // 3 if shift is None else shift
        self.window = min(128, context // 16) if window is None else window
        if not 0 < self.start <= context or not 0 <= self.window <= self.start:
            raise InputError(
                f"shift={self.start}, window={self.window} in a window of {context}", fix="window <= shift <= context"
            )

    def in_force(self, length: int) -> Any:
        """Always."""
        return length > self.start

    def far(self, at: Any) -> Any:
        """The usual angles; the shift does the rest."""
        return at[:, None] * self.rates

    def shift(self) -> Any:
        """``W - S`` places."""
        return (self.window - self.start) * self.rates


@register(
    "self-extend",
    room="positions",
    kind="positions",
    summary="near pairs meet by their distance, far ones by the distance of groups of positions",
    paper=Paper("LongEmbed: Extending Embedding Models for Long Context Retrieval", 2024, "2404.12096"),
    claim="Grouping far positions extends rotary models several times without training.",
    extends="rotary",
)
class SelfExtend(Extended):
    """Far pairs meet at ``floor(m / G) - floor(n / G)`` plus what the near window has used up.

    Jin et al., "LLM Maybe LongLM: Self-Extend LLM Context Window Without Tuning", 2024, arXiv 2401.01325; used on
    encoders by LongEmbed, arXiv 2404.12096. In an encoder both sides are grouped.

    Parameters
    ----------
    width, context, base
        As for `Extended`.
    factor : int
        ``G``, positions in a group: reads up to about ``(context - window) G`` places.
    window : int, optional
        Distances that stay exact; a quarter of the trained window when not given.
    """

    def __init__(
        self, width: int, context: int, base: float = 10_000.0, factor: int = 8, window: int | None = None
    ) -> None:
        super().__init__(width, context, base)
        self.reach = self.window = max(1, context // 4) if window is None else window
        if factor < 1 or not 0 < self.window <= context:
            raise InputError(f"factor={factor}, window={self.window} are not possible", fix="0 < window <= context")
        self.factor = factor

    def far(self, at: Any) -> Any:
        """Angles of the groups."""
        return (at // self.factor)[:, None] * self.rates

    def shift(self) -> Any:
        """The window, less the groups in it."""
        return (self.window - self.window // self.factor) * self.rates


@register(
    "dimension-wise",
    room="positions",
    kind="positions",
    summary="far distances divided by a factor of its own for each pair of dimensions that matters",
    paper=Paper(
        "Effective Length Extrapolation via Dimension-Wise Positional Embeddings Manipulation", 2025, "2504.18857"
    ),
    claim="Scaling only the dimensions that carry attention, each by what suits it, extends models untrained.",
    extends="rotary",
)
class DimensionWisePositions(Extended):
    """Beyond a local window, the distance in each pair of dimensions is divided by that pair's own factor.

    Lu et al., "Effective Length Extrapolation via Dimension-Wise Positional Embeddings Manipulation", 2025,
    arXiv 2504.18857. `sememe.positions.rope_search.detect` finds the factors: one for each group of neighbouring
    pairs, the one with which needles are found best, and only for the pairs that contribute most to attention; all
    others keep the factor 1.

    Parameters
    ----------
    width, context, base
        As for `Extended`.
    factors : array-like of shape (w / 2,), (h, w / 2) or (layers, h, w / 2), optional
        Of each pair, at least 1, in order of falling frequency, for all heads, for each, or for each of every layer.
        All 1 when not given: the plain positions.
    window : int, optional
        Distances that stay exact; an eighth of the trained window when not given (1,024 of 8,192 in the paper).
    """

    watched: list[tuple[int, Any]] | None = None
    number = 0  # of the layer that attends now

    def __init__(
        self,
        width: int,
        context: int,
        base: float = 10_000.0,
        factors: Any = None,
        window: int | None = None,
    ) -> None:
        super().__init__(width, context, base)
        self.reach = max(1, context // 8) if window is None else window
        if not 0 < self.reach <= context:
            raise InputError(f"window={self.reach} in a trained window of {context}", fix="0 < window <= context")
        self.register_buffer("factors", torch.ones(width // 2), persistent=False)
        if factors is not None:
            self.set(factors)

    def set(self, factors: Any) -> None:
        """Use these factors from now on."""
        found = torch.as_tensor(factors, dtype=torch.float32, device=self.rates.device)
        pairs = len(self.rates)
        if found.ndim not in (1, 2, 3) or found.shape[-1] != pairs or not (found >= 1).all():
            raise InputError(f"factors of shape {tuple(found.shape)}", fix=f"give {pairs} numbers of at least 1")
        self.factors = found

    def layer(self, number: int, x: Any) -> DimensionWisePositions:
        """Itself, with the factors of this layer."""
        if self.factors.ndim == 3 and number >= len(self.factors):
            raise InputError(f"factors of {len(self.factors)} layers", fix="give some for every layer of the model")
        self.number = number
        return self

    @property
    def own(self) -> Any:
        """Factors of the layer that attends now, ``(w / 2,)`` or ``(h, w / 2)``."""
        return self.factors[self.number] if self.factors.ndim == 3 else self.factors

    def attend(self, q: Any, k: Any, v: Any, *, causal: bool, bias: Any) -> Any:
        """As usual; while ``watched`` is a list, what each pair of dimensions contributes is noted there."""
        if self.watched is not None:
            norms = [x.detach().unflatten(-1, (2, -1)).norm(dim=-2).mean(dim=(0, 2)) for x in (q, k)]
            self.watched.append((self.number, norms[0] * norms[1]))
        return super().attend(q, k, v, causal=causal, bias=bias)

    def far(self, at: Any) -> Any:
        """Angles of whole steps of each pair's own size, as the model knows whole positions only."""
        return torch.floor(at[:, None] / self.own[..., None, :]) * self.rates

    def shift(self) -> Any:
        """The window, less the steps in it."""
        return ((self.reach - torch.floor(self.reach / self.own)) * self.rates)[..., None, :]
