"""Long inputs learned at the cost of short ones: segments of long texts, at the places where they stood."""

from __future__ import annotations

from typing import Any, Literal

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.positions.base import Learned, Rotary
from sememe.positions.tables import stretched

try:
    import torch
    from torch import nn
except ImportError:
    raise MissingDependency("torch", extra="torch", need="training on segments") from None


@register(
    "segmented",
    room="positions",
    kind="extension",
    summary="training on segments of long texts that keep their positions, at the memory of short ones",
    paper=Paper(
        "Extending Input Contexts of Language Models through Training on Segmented Sequences", 2023, "2310.14633"
    ),
    claim="Training on segments extends a model's context several times without more memory.",
)
class SegmentedTrainer(nn.Module):  # type: ignore[misc]
    """A model as training sees it: ``nll`` of a long text costs what one of the trained length does.

    Karypis et al., "Extending Input Contexts of Language Models through Training on Segmented Sequences", 2023,
    arXiv 2310.14633. Each pass draws segments of a long text that hold ``length`` symbols together, and gives them to
    the model with the places where they stood. A learned table is first stretched to the longer context by linear
    interpolation; rotary positions need nothing. The first symbol of a segment, whose neighbour is missing, is not
    paid for, except at the beginning of the text.

    Parameters
    ----------
    model : SmallLM
        With learned or rotary positions, which the trainer may exchange. It is trained in place.
    length : int
        Symbols a pass, the context the model was trained on.
    context : int
        The context wanted.
    ways : {"chunks", "prefix"}
        ``segments`` equal pieces drawn from as many equal parts of the text; or the beginning of the text, and one
        piece from anywhere behind it, each of half the symbols.
    segments : int
        Pieces with ``chunks``.
    """

    def __init__(
        self,
        model: Any,
        length: int,
        context: int,
        ways: Literal["chunks", "prefix"] = "chunks",
        segments: int = 4,
    ) -> None:
        super().__init__()
        positions = getattr(getattr(model, "trunk", None), "positions", None)
        if type(positions) not in (Rotary, Learned):
            kind = type(model if positions is None else positions).__name__
            raise InputError(f"{kind} takes no places of symbols", fix="give a SmallLM with rotary or learned ones")
        if ways not in ("chunks", "prefix"):
            raise InputError(f"there are no ways called {ways!r}", fix="use chunks or prefix")
        pieces = segments if ways == "chunks" else 2
        if not 0 < pieces <= length <= context or length % pieces:
            raise InputError(
                f"{pieces} segments of {length} symbols in {context}", fix="length divisible by segments, <= context"
            )
        self.model, self.length, self.context, self.ways, self.pieces = model, length, context, ways, pieces
        if type(positions) is Learned:
            table = positions.table
            longer = Learned(2, table.shape[1])
            longer.table = nn.Parameter(stretched(table.detach(), max(len(table), context + 1)))
            model.trunk.positions = longer

    def places(self, count: int, device: Any = None) -> Any:
        """Places ``(count, length)`` of what is read of each text, ascending."""
        size = self.length // self.pieces
        if self.ways == "prefix":
            starts = torch.zeros(count, 2, dtype=torch.long)
            starts[:, 1] = torch.randint(size, self.context - size + 1, (count,))
        else:
            edges = torch.arange(self.pieces + 1) * self.context // self.pieces
            room = edges.diff() - size + 1
            starts = edges[:-1] + (torch.rand(count, self.pieces) * room).long()
        return (starts[:, :, None] + torch.arange(size)).flatten(1).to(device)

    def nll(self, ids: Any) -> Any:
        """Negative natural log-probabilities, ``(paid,)``, of a part of each long text ``(b, context)``."""
        if ids.shape[1] != self.context:
            raise InputError(f"texts of {ids.shape[1]} symbols", fix=f"give {self.context}")
        at = self.places(len(ids), ids.device)
        positions = self.model.trunk.positions
        positions.at = torch.cat((torch.zeros_like(at[:, :1]), at + 1), dim=1)  # the start stands at 0
        try:
            nats = self.model.nll(ids.gather(1, at))
        finally:
            positions.at = None
        follows = torch.cat((at[:, :1] == 0, at.diff(dim=1) == 1), dim=1)
        return nats[follows]
