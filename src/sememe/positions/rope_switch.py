"""Rotary positions that notice where a text switches its language."""

from __future__ import annotations

from typing import Any, Literal

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.positions.base import Rotary, turn

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a position encoding") from None


@register(
    "switch-rope",
    room="positions",
    kind="positions",
    summary="rotary positions that turn a little further, or begin anew, wherever a text switches its language",
    paper=Paper(
        "CONFLATOR: Incorporating Switching Point based Rotatory Positional Encodings for Code-Mixed Language Modeling",
        2023,
        "2309.05270",
    ),
    claim="Positions that mark switches between languages model mixed text better than plain rotary ones.",
)
class SwitchPointRope(Rotary):
    """Some heads turn as usual, the others count from the last switch and turn by a learned angle at each.

    Ali et al., "CONFLATOR", 2023, arXiv 2309.05270, gives special turns to switching points and leaves the exact
    combination open. Here, in ``switching`` of the heads, a symbol's angle is that of its place within its segment
    plus one learned angle a pair for every switch before it; the rest are plain, and so keep the distances. A text
    of one language has one segment, and equals the plain positions exactly.

    Parameters
    ----------
    width, heads : int
        Dimensions of a head, and heads.
    base : float
        As for `Rotary`.
    languages : int tensor of shape (v,), optional
        Language of each symbol; negative where it belongs to any (digits, spaces). All the same when not given.
    level : {"unigram", "bigram"}
        A switch is where a symbol's language differs from that of the one before; with bigrams, where the next one
        keeps it, too, so that single borrowed symbols do not count. (The last symbol of a text has no next.)
    switching : int, optional
        Heads that restart; half when not given.

    Attributes
    ----------
    switches : bool tensor of shape (b, l) or None
        Of the next pass; `read` finds them by ``languages``, and a tagger of one's own may set them.
    """

    switches: Any = None

    def __init__(
        self,
        width: int,
        heads: int,
        base: float = 10_000.0,
        languages: Any = None,
        level: Literal["unigram", "bigram"] = "unigram",
        switching: int | None = None,
    ) -> None:
        super().__init__(width, base)
        self.switching = heads // 2 if switching is None else switching
        if level not in ("unigram", "bigram") or not 0 <= self.switching <= heads:
            raise InputError(f"level={level!r}, switching={self.switching} of {heads} heads", fix="see the docstring")
        self.level = level
        self.heads = heads
        found = None if languages is None else torch.as_tensor(languages).long()
        self.register_buffer("languages", found, persistent=False)
        self.turns = nn.Parameter(torch.zeros(width // 2))

    def read(self, ids: Any, start: int = 0) -> None:
        """Find the switches between these symbols."""
        if self.languages is None:
            return
        spoken = self.languages[ids]
        length = ids.shape[1]
        # a symbol of no language takes that of the last one before it that has one
        known = torch.where(spoken >= 0, torch.arange(length, device=ids.device), -1).cummax(dim=1).values
        filled = torch.where(known >= 0, spoken.gather(1, known.clamp_min(0)), -1)
        before = F.pad(filled[:, :-1], (1, 0), value=-1)
        switched = (filled != before) & (before >= 0)
        if self.level == "bigram":
            after = F.pad(filled[:, 1:], (0, 1), value=-1)
            switched &= after == filled
        self.switches = F.pad(switched, (start, 0))

    def rotate(self, q: Any, k: Any) -> tuple[Any, Any]:
        """Plain heads first, then those that restart."""
        plain = super().rotate(q, k)
        if self.switches is None or not self.switching or not bool(self.switches.any()):
            return plain
        length = q.shape[-2]
        switches = self.switches[:, :length]
        at = torch.arange(length, device=q.device)
        began = torch.where(switches, at, 0).cummax(dim=1).values
        angles = (at - began)[..., None] * self.rates + switches.cumsum(1)[..., None] * self.turns  # (b, l, w / 2)
        cosine, sine = angles.cos()[:, None].to(q.dtype), angles.sin()[:, None].to(q.dtype)
        keep = self.heads - self.switching
        return tuple(  # type: ignore[return-value]
            torch.cat((usual[:, :keep], turn(x[:, keep:], cosine, sine)), dim=1) for usual, x in zip(plain, (q, k))
        )
