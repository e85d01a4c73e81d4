"""Learned tables of positions for texts longer than the table: every place gets a row, or a mixture of two."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.positions.base import Learned

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a position encoding") from None


class StretchedTable(Learned):
    """A vector for each position, added once; a text that is too long shares them by a rule, one that fits does not.

    Parameters
    ----------
    context, dim : int
        Positions that there are, and their width.
    factor : float, optional
        How many tables a longer text is taken to fill; what it fills when not given.
    """

    def __init__(self, context: int, dim: int, factor: float | None = None) -> None:
        super().__init__(context, dim)
        if factor is not None and not factor >= 1:
            raise InputError(f"factor={factor} extends nothing", fix="give at least 1")
        self.context, self.factor = context, factor

    def rows(self, at: Any, factor: Any) -> Any:
        """Rows, whole or between two, of places ``at`` of texts that fill ``factor`` tables (more than 1)."""
        raise InputError(f"{type(self).__name__} has no rule")

    def vectors(self, table: Any, at: Any, sizes: Any) -> Any:
        """Vectors ``(..., l, d)`` of places ``at (..., l)`` in texts of ``sizes (..., 1)``, from rows ``(r, d)``."""
        long = sizes > self.context
        if self.factor is None:
            factor = sizes.clamp_min(self.context) / self.context
        else:
            factor = torch.where(long, float(self.factor), 1.0)
            if bool((long & (sizes > self.factor * self.context)).any()):
                raise InputError(
                    f"{int(sizes.max())} positions in {self.factor:g} tables of {self.context}", fix="raise factor"
                )
        places = torch.where(long, self.rows(at, factor), at.float()).clamp(0, self.context - 1)
        low = places.floor().long()
        share = (places - low)[..., None].to(table.dtype)
        below, above = F.embedding(low, table), F.embedding((low + 1).clamp_max(self.context - 1), table)
        return torch.where(share > 0, torch.lerp(below, above, share), below)  # a whole row stays bit for bit

    def place(self, x: Any) -> Any:
        """Add the vector of each place; no text is too long."""
        at = torch.arange(x.shape[1], device=x.device)
        return x + self.vectors(self.table, at, torch.tensor([x.shape[1]], device=x.device))


@register(
    "grouped",
    room="positions",
    kind="positions",
    summary="neighbours share a row of a learned table in texts that are too long for it",
    paper=Paper("LongEmbed: Extending Embedding Models for Long Context Retrieval", 2024, "2404.12096"),
    claim="Training-free rules for positions let encoders read texts several times longer.",
    extends="table",
)
class GroupedPositions(StretchedTable):
    """Place ``i`` takes row ``floor(i / G)``, with the least whole ``G`` that a text needs (or the factor given).

    Zhu et al., "LongEmbed: Extending Embedding Models for Long Context Retrieval", 2024, arXiv 2404.12096.
    """

    def rows(self, at: Any, factor: Any) -> Any:
        """``floor(i / G)``."""
        return torch.floor(at / torch.ceil(factor))


@register(
    "recurrent",
    room="positions",
    kind="positions",
    summary="a learned table of positions begins anew where it ends",
    paper=Paper("LongEmbed: Extending Embedding Models for Long Context Retrieval", 2024, "2404.12096"),
    extends="table",
)
class RecurrentPositions(StretchedTable):
    """Place ``i`` takes row ``i mod L``; the factor does not matter. LongEmbed, 2024, arXiv 2404.12096."""

    def rows(self, at: Any, factor: Any) -> Any:
        """``i mod L``."""
        return (at % self.context).float()


@register(
    "interpolate-table",
    room="positions",
    kind="positions",
    summary="a learned table of positions stretched linearly over a longer text",
    paper=Paper("LongEmbed: Extending Embedding Models for Long Context Retrieval", 2024, "2404.12096"),
    extends="table",
)
class InterpolateTable(StretchedTable):
    """Place ``i`` takes the mixture of the two rows around ``i / s``. LongEmbed, 2024, arXiv 2404.12096."""

    def rows(self, at: Any, factor: Any) -> Any:
        """``i / s``."""
        return at / factor


@register(
    "tuned",
    room="positions",
    kind="positions",
    summary="new rows between those of a learned table, trained for longer texts while the old ones stay",
    paper=Paper("LongEmbed: Extending Embedding Models for Long Context Retrieval", 2024, "2404.12096"),
    claim="Tuning only new rows extends an encoder further and leaves short texts as they were.",
    extends="table",
)
class TunedTable(StretchedTable):
    """In a text that is too long, place ``i G`` takes row ``i`` as it is, and the places between take new rows.

    Zhu et al., LongEmbed, 2024, arXiv 2404.12096. The new rows begin as interpolations and can be trained; no gradient
    reaches the old ones through a long text, and a text that fits uses the old ones alone. In a loaded model, train
    the ``parameters()`` of the handle's positions.

    Parameters
    ----------
    context, dim : int
    factor : int
        ``G``.
    """

    def __init__(self, context: int, dim: int, factor: int = 4) -> None:
        if factor < 2 or factor != int(factor):
            raise InputError(f"factor={factor} leaves no rows between", fix="give a whole number from 2")
        super().__init__(context, dim, factor)
        self.step = int(factor)
        self.between = nn.Parameter(torch.zeros(context * (self.step - 1), dim))
        self.begin(self.table.detach())

    def begin(self, table: Any) -> None:
        """Let the new rows begin between those of a table ``(context, d)``; behind the last one they repeat it."""
        share = torch.arange(1, self.step, device=table.device) / self.step
        places = (torch.arange(self.context, device=table.device)[:, None] + share).flatten()
        low = places.floor().long()
        above = table[(low + 1).clamp_max(self.context - 1)]
        self.between = nn.Parameter(torch.lerp(table[low], above, (places - low)[:, None].to(table.dtype)).detach())

    def vectors(self, table: Any, at: Any, sizes: Any) -> Any:
        """Old and new rows of places ``at (..., l)``."""
        if int(sizes.max()) > self.step * self.context:
            raise InputError(
                f"{int(sizes.max())} positions in {self.step} tables of {self.context}", fix="raise factor"
            )
        row, rest = at // self.step, at % self.step
        old = F.embedding(row.clamp_max(self.context - 1), table.detach())
        new = F.embedding((row * (self.step - 1) + rest - 1).clamp(0, len(self.between) - 1), self.between)
        short = F.embedding(at.clamp_max(self.context - 1), table)
        return torch.where((sizes > self.context)[..., None], torch.where((rest > 0)[..., None], new, old), short)


def stretched(table: Any, length: int) -> Any:
    """A table ``(n, d)`` as one of ``(length, d)`` by linear interpolation; its first and last rows stay."""
    if length < 2 or len(table) < 2:
        raise InputError(f"a table of {len(table)} rows cannot have {length}", fix="both need at least 2")
    places = torch.linspace(0, len(table) - 1, length, device=table.device)
    low = places.floor().long().clamp_max(len(table) - 2)
    return torch.lerp(table[low], table[low + 1], (places - low)[:, None].to(table.dtype))
