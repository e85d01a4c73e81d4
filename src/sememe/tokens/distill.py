"""Fitting a layer to a table by gradient descent, for layers without a closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sememe import progress
from sememe.errors import InputError, MissingDependency

try:
    import torch
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None


def spread(table: Any) -> float:
    """Standard deviation of a table's entries; 1 where they are all equal."""
    return float(table.std()) or 1.0


def distill(
    layer: Any,
    table: Any,
    weights: Any = None,
    *,
    steps: int = 600,
    batch: int = 2_048,
    rate: float = 0.01,
    own: bool = False,
    criterion: Callable[[Any, Any], Any] | None = None,
) -> None:
    """Least squares over random rows, with Adam and a cosine; the state with the lowest running loss is not searched.

    Parameters
    ----------
    layer : TokenEmbedding
        Its parameters are changed in place; one without parameters is left as it is.
    table : Tensor of shape (v, d)
        The vectors wanted.
    weights : Tensor of shape (v,), optional
        Rows are drawn in proportion to them, mixed half and half with all rows alike.
    steps, batch : int
    rate : float
        Highest learning rate, for a table whose entries have unit spread; the loss is in those units.
    own : bool
        The rate is in the units of the layer's own numbers instead, whatever the table's spread: for networks, whose
        inner weights have their size for reasons of their own, and would hardly move for a table of short rows.
    criterion : function, optional
        Loss of rows found and rows wanted ``(n, d)``, in units of the table's spread; the mean squared error when not
        given.
    """
    chosen = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    if not chosen:
        return
    scale = spread(table)
    optimizer = torch.optim.Adam(chosen, lr=rate, betas=(0.9, 0.98))
    chance = None
    if weights is not None and float(weights.sum()) > 0:
        chance = 0.5 * weights / weights.sum() + 0.5 / len(weights)
    size = min(batch, len(table))
    with progress.task("fitting", total=steps, unit="steps") as step:
        for number in range(steps):
            share = (number + 1) / (steps + 1)
            for group in optimizer.param_groups:
                group["lr"] = (
                    rate * (1.0 if own else scale) * min(1.0, 20 * share) * 0.5 * (1 + math.cos(math.pi * share))
                )
            ids = torch.randint(len(table), (size,)) if chance is None else torch.multinomial(chance, size, True)
            found, wanted = layer.vectors(ids) / scale, table[ids] / scale
            loss = (found - wanted).square().mean() if criterion is None else criterion(found, wanted)
            if not torch.isfinite(loss):
                raise InputError(f"fitting {type(layer).__name__} diverged at step {number + 1}", fix="scale the table")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step()
