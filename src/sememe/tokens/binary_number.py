"""Integers by their bits, and list routines that hide what they are done with."""

from __future__ import annotations

import math
from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a number layer") from None


@register(
    "binary-number",
    room="tokens",
    kind="number layer",
    summary="an integer as the sum of a vector for each bit that is set; decoded bit by bit",
    paper=Paper("Neural Execution Engines: Learning to Execute Subroutines", 2020, "2006.08084"),
    claim="Integers that were never seen in training are understood; with masks, far longer lists are sorted.",
)
class BinaryNumberEmbedding(nn.Module):  # type: ignore[misc]
    """``b + sum_i bit_i(n) w_i``: ``bits + 1`` vectors embed ``2^bits`` integers, those never seen in training too.

    Parameters
    ----------
    dim : int
        Width of the vectors.
    bits : int
        Of the largest number, at most 62.
    """

    def __init__(self, dim: int, bits: int = 8) -> None:
        super().__init__()
        if dim < 1 or not 1 <= bits <= 62:
            raise InputError(f"dim={dim}, bits={bits}", where="binary-number", fix="give a positive dim, 1 to 62 bits")
        self.dim, self.bits = dim, bits
        self.inward, self.outward = nn.Linear(bits, dim), nn.Linear(dim, bits)
        nn.init.normal_(self.inward.weight, std=bits**-0.5)
        self.register_buffer("places", torch.arange(bits), persistent=False)

    def spelled(self, numbers: Any) -> Any:
        """Bits ``(..., bits)`` of integers ``(...)``, lowest first, as 0 and 1 in the layer's own type."""
        if numbers.dtype not in (torch.int64, torch.int32):
            raise InputError(f"numbers of type {numbers.dtype}", where="numbers", fix="give int64 or int32")
        if numbers.numel() and not torch.compiler.is_compiling():
            low, high = (int(end) for end in torch.aminmax(numbers))
            if low < 0 or high >= 1 << self.bits:
                raise InputError(
                    f"{low if low < 0 else high} does not fit in {self.bits} bits",
                    where="numbers",
                    fix="give more bits",
                )
        return (numbers.long()[..., None] >> self.places & 1).to(self.inward.weight.dtype)

    def forward(self, numbers: Any) -> Any:
        """Vectors ``(..., d)`` of integers ``(...)``."""
        return self.inward(self.spelled(numbers))

    def loss(self, hidden: Any, numbers: Any) -> Any:
        """Cross-entropy of each bit of ``numbers (...)`` given a model's output ``(..., d)``: ``(..., bits)``."""
        return F.binary_cross_entropy_with_logits(self.outward(hidden), self.spelled(numbers), reduction="none")

    def decoded(self, hidden: Any) -> Any:
        """Integers ``(...)`` of a model's output ``(..., d)``."""
        return ((self.outward(hidden) > 0).long() << self.places).sum(-1)

    @property
    def num_parameters(self) -> int:
        """Numbers that are trained, both ways."""
        return sum(parameter.numel() for parameter in self.parameters())


@register(
    "conditional-mask",
    room="tokens",
    kind="number layer",
    summary="a routine over a list: each step attends to one item and hides it from the steps to come",
    paper=Paper("Neural Execution Engines: Learning to Execute Subroutines", 2020, "2006.08084"),
)
class ConditionalMasking(nn.Module):  # type: ignore[misc]
    """One step of a list routine: look at the items that remain, give one out, and take it from the mask.

    Items are scored each for itself by a small network, and attention over those that remain goes to the highest: with
    the mask as input and output of each step, how long the list was does not enter, and a step learned on short lists
    serves long ones. The paper predicts the next mask by a network; here it is the mask without the item that
    attention points at, of which training teaches the scores.

    Parameters
    ----------
    dim : int
        Width of the items' vectors.
    hidden : int
        Width inside the scoring network.
    """

    def __init__(self, dim: int, hidden: int = 64) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def step(self, items: Any, remaining: Any) -> tuple[Any, Any, Any]:
        """One step.

        Parameters
        ----------
        items : Tensor of shape (b, l, d)
        remaining : bool Tensor of shape (b, l)

        Returns
        -------
        chosen : Tensor of shape (b, d)
            Attention's mixture of the items; zeros where none remains.
        logits : Tensor of shape (b, l)
            Scores, ``-inf`` where hidden.
        remaining : bool Tensor of shape (b, l)
            Without the item of the highest score.
        """
        if items.shape[:2] != remaining.shape:
            raise InputError(
                f"items {tuple(items.shape)} and a mask {tuple(remaining.shape)}", where="conditional-mask"
            )
        logits = self.score(items)[..., 0].masked_fill(~remaining, -math.inf)
        some = remaining.any(1, keepdim=True)
        weights = torch.softmax(torch.where(some, logits, 0.0), dim=1) * remaining
        left = remaining.scatter(1, logits.argmax(1, keepdim=True), False)
        return (weights[..., None] * items).sum(1), logits, left

    def order(self, items: Any, remaining: Any | None = None) -> Any:
        """Places of the items in the order in which steps choose them, ``(b, l)``; those never there come last."""
        remaining = torch.ones(items.shape[:2], dtype=torch.bool) if remaining is None else remaining
        places = []
        for _ in range(items.shape[1]):
            _, logits, left = self.step(items, remaining)
            places.append(torch.where(remaining.any(1), logits.argmax(1), -1))
            remaining = left
        return torch.stack(places, dim=1)
