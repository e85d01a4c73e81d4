"""A residual stream wider than the blocks that work on it, joined to them by small matrices."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.lab.model import Shape, Trunk
from sememe.positions.base import Positions
from sememe.tokens.base import checked_ids

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a wider embedding") from None


@register(
    "virtual-width",
    room="tokens",
    kind="context layer",
    summary="an embedding several times wider than the model; small matrices join it to every block",
    paper=Paper("Virtual Width Networks", 2025, "2511.11238"),
    claim="A residual stream eight times wider than the blocks learns twice as fast at nearly the same cost.",
)
class VirtualWidthEmbedding(nn.Module):  # type: ignore[misc]
    """Rows of ``expansion * dim`` numbers.

    Parameters
    ----------
    vocabulary, dim : int
    expansion : int
        How many times wider than the model, ``r``.
    """

    def __init__(self, vocabulary: int, dim: int, expansion: int = 4) -> None:
        super().__init__()
        if min(vocabulary, dim, expansion) < 1:
            raise InputError(f"vocabulary={vocabulary}, dim={dim}, expansion={expansion}", fix="positive numbers")
        self.num_embeddings, self.embedding_dim, self.expansion = vocabulary, expansion * dim, expansion
        self.weight = nn.Parameter(0.02 * torch.randn(vocabulary, expansion * dim))

    def forward(self, ids: Any) -> Any:
        """``(...)`` to ``(..., expansion * dim)``."""
        return F.embedding(checked_ids(ids, len(self.weight)), self.weight)


class HyperConnection(nn.Module):  # type: ignore[misc]
    """How one block is joined to a wider stream: a generalised hyper-connection.

    The stream of ``r d`` numbers is cut into ``n = r m`` segments of ``d / m``, a block's input and output into ``m``.
    A matrix ``(m, n)`` reads the input from the segments, one ``(n, m)`` writes the block's output to them, and one
    ``(n, n)`` carries the stream on. Each is a learned part plus one that depends on the place: ``scale * tanh(W x)``
    of the normalised input ``x``, with ``W`` zero at first and ``scale`` small. At the beginning block ``k`` reads the
    ``k``-th ``d`` numbers (from the first again after the last), all are carried on unchanged, and what the block says
    is added to every one of them.

    The place-dependent part looks at the ``d`` numbers that the learned part reads, not at the whole stream, so that
    its cost hardly grows with the width; that is our choice.

    Parameters
    ----------
    dim, expansion, parts : int
        ``d``, ``r`` and ``m``.
    place : int
        Number ``k`` of the block.
    dynamic : bool
        Whether there is a part that depends on the place.
    """

    def __init__(self, dim: int, expansion: int, parts: int = 1, place: int = 0, dynamic: bool = True) -> None:
        super().__init__()
        if dim % parts:
            raise InputError(f"{dim} dimensions cannot be cut into {parts} parts", fix="give a divisor")
        m, n = parts, parts * expansion
        self.m, self.n, self.dynamic = m, n, dynamic
        self.read = nn.Parameter(torch.eye(m, n).roll(place % expansion * m, dims=1))
        self.write = nn.Parameter(torch.eye(m).repeat(expansion, 1))
        self.carry = nn.Parameter(torch.eye(n))
        if dynamic:
            self.norm = nn.RMSNorm(dim)
            self.mixer = nn.Linear(dim, 2 * n * m + n * n, bias=False)
            nn.init.zeros_(self.mixer.weight)
            self.scale = nn.Parameter(torch.tensor(0.1))

    def forward(self, stream: Any) -> tuple[Any, Any, Any]:
        """Of a stream ``(b, l, n, d / m)``: a block's input ``(b, l, d)``, how it is written, the stream carried."""
        n, m = self.n, self.m
        first = torch.matmul(self.read, stream)
        if not self.dynamic:
            return first.flatten(2), self.write, torch.matmul(self.carry, stream)
        found = self.scale * torch.tanh(self.mixer(self.norm(first.flatten(2))))
        read, write, carry = found.split((m * n, n * m, n * n), dim=-1)
        read = read.unflatten(-1, (m, n))
        write = self.write + write.unflatten(-1, (n, m))
        both = torch.cat((read, self.carry + carry.unflatten(-1, (n, n))), dim=-2)
        mixed = torch.matmul(both, stream)  # (b, l, m + n, d / m): one product for reading and carrying
        return (first + mixed[:, :, :m]).flatten(2), write, mixed[:, :, m:]


class VirtualWidthTrunk(Trunk):
    """A trunk whose blocks of width ``d`` work on a stream of ``expansion * d``.

    With ``expansion=1`` there are no connections, and it is the ordinary trunk.

    Parameters
    ----------
    shape : Shape
    positions : Positions or str
    expansion, parts : int
        As for `HyperConnection`.
    dynamic : bool
    """

    def __init__(
        self,
        shape: Shape,
        positions: Positions | str = "rotary",
        expansion: int = 4,
        parts: int = 1,
        dynamic: bool = True,
    ) -> None:
        super().__init__(shape, positions)
        self.expansion, self.parts = expansion, parts
        if expansion > 1:
            self.first = nn.RMSNorm(expansion * shape.dim)
            self.joints = nn.ModuleList(
                HyperConnection(shape.dim, expansion, parts, place, dynamic) for place in range(shape.layers)
            )
            self.reduce = nn.Linear(expansion * shape.dim, shape.dim, bias=False)
            with torch.no_grad():
                self.reduce.weight.copy_(torch.eye(shape.dim).repeat(1, expansion) * expansion**-0.5)

    def forward(self, x: Any, *, causal: bool, keep: Any = None) -> Any:
        """``(b, l, expansion * d)`` to ``(b, l, d)``."""
        if self.expansion == 1:
            return super().forward(x, causal=causal, keep=keep)
        if keep is not None:
            raise InputError("a wider stream takes no mask of places", fix="use it in models of the next symbol")
        b, length, wide = x.shape
        width = self.shape.dim // self.parts
        stream = self.first(x).view(b, length, self.expansion * self.parts, width)
        placed = self.positions.place(stream[:, :, : self.parts].flatten(2)).view(b, length, self.parts, width)
        stream = torch.cat((placed, stream[:, :, self.parts :]), dim=2)
        bias = self.positions.bias(length)
        if bias is not None and causal:
            bias = bias + torch.full((length, length), -torch.inf, dtype=x.dtype, device=x.device).triu(1)
        for block, joint in zip(self.blocks, self.joints):
            inner, write, carried = joint(stream)
            done = block(inner, self.positions, causal=causal, bias=bias) - inner  # what the block adds
            stream = carried + torch.matmul(write, done.view(b, length, self.parts, width))
        return self.last(self.reduce(stream.reshape(b, length, wide)))


def virtual_width_lm(
    vocabulary: int, shape: Shape, expansion: int = 4, *, parts: int = 1, dynamic: bool = True, head: Any = "free"
) -> Any:
    """A `SmallLM` with a stream ``expansion`` times as wide as its blocks.

    With ``expansion=1`` it is, number by number, the ordinary model that the same seed gives.

    Parameters
    ----------
    vocabulary : int
    shape : Shape
    expansion, parts : int
    dynamic : bool
    head
        As for `SmallLM`; a wide table cannot be tied.
    """
    from sememe.lab.model import SmallLM

    model = SmallLM(VirtualWidthEmbedding(vocabulary, shape.dim, expansion), head, shape=shape, vocabulary=vocabulary)
    if expansion > 1:
        if head == "tied":
            raise InputError(f"a table of {expansion} times the width cannot be tied", fix='use head="free"')
        model.trunk = VirtualWidthTrunk(shape, "rotary", expansion, parts, dynamic)
        model.start = nn.Parameter(0.02 * torch.randn(expansion * shape.dim))
    return model
