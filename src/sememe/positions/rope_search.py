"""Which dimensions of rotary positions to scale, and by how much: found by looking for needles with a trained model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sememe.errors import InputError, MissingDependency
from sememe.positions.rope_bands import DimensionWisePositions

try:
    import torch
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a position encoding") from None


def contributions(positions: DimensionWisePositions, run: Callable[[], Any]) -> Any:
    """What each pair of dimensions contributes in each head, ``(layers, h, w / 2)``: norms of queries times norms of
    keys, means over symbols. Without the first axis where there is one layer.

    Parameters
    ----------
    positions : DimensionWisePositions
        In force in a model.
    run : function
        Reads some text with that model.
    """
    positions.watched = []
    try:
        run()
        noted = positions.watched
    finally:
        positions.watched = None
    if not noted:
        raise InputError("the model did not use these positions", fix="run a model that they are in force in")
    by_layer = [
        torch.stack([norms for number, norms in noted if number == layer]).mean(dim=0)
        for layer in sorted({number for number, _ in noted})
    ]
    return torch.stack(by_layer) if len(by_layer) > 1 else by_layer[0]


def detect(
    positions: DimensionWisePositions,
    evaluate: Callable[[], float],
    *,
    start: float,
    scales: Sequence[float] = (1, 2, 4, 8, 16),
    groups: int = 8,
    keep: float = 0.75,
) -> Any:
    """Set the factors of every pair of every head, and return them, in the shape that `contributions` has.

    First the share ``keep`` of the pairs of each head of each layer that contributes most is found; the others keep
    the factor 1. Neighbouring pairs share a factor. All begin with ``start``; then each group in turn takes the factor
    with which ``evaluate`` is best, the others standing still. That each group begins where those before it ended is
    ours: the authors try each by itself.

    Parameters
    ----------
    positions : DimensionWisePositions
        In force in a model.
    evaluate : function
        How well the model finds needles in texts of the wanted length; larger is better.
    start : float
        Twice the wanted length in trained windows is what the authors' code begins with: distances near the end of
        the trained window are seldom seen in training, too.
    scales : sequence of float
    groups : int
        The paper's 8.
    keep : float
        The paper keeps 48 of 64 pairs.
    """
    pairs = len(positions.rates)
    if not 0 < groups <= pairs or not 0 < keep <= 1 or not start >= 1:
        raise InputError(f"groups={groups}, keep={keep}, start={start} of {pairs} pairs", fix="see the docstring")
    positions.set(torch.ones(pairs))
    weight = contributions(positions, evaluate).cpu()
    kept = torch.zeros(weight.shape, dtype=torch.bool)
    kept.scatter_(-1, weight.topk(max(1, round(keep * pairs)), dim=-1).indices, True)
    factors = torch.where(kept, float(start), 1.0)
    positions.set(factors)
    best = evaluate()
    for group in torch.arange(pairs).tensor_split(groups):
        chosen = factors
        for scale in scales:
            tried = factors.clone()
            tried[..., group] = torch.where(kept[..., group], float(scale), 1.0)
            if torch.equal(tried, factors):
                continue
            positions.set(tried)
            found = evaluate()
            if found > best:
                best, chosen = found, tried
        factors = chosen
    positions.set(factors)
    return factors
