"""Ways to make a feature table small, each as a contender of the click-model harness within a budget of bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from sememe import catalog
from sememe.codec.integer import Int4, Int8
from sememe.errors import BudgetError, MissingDependency
from sememe.tokens import build
from sememe.tokens.base import largest
from sememe.tokens.click_logs import ClickLog
from sememe.tokens.click_measures import auc
from sememe.tokens.click_models import ClickModel, Contender, fit_clicks, predict
from sememe.tokens.factory import sized_layer
from sememe.tokens.opt_embed import OptEmbed, PrunedTable
from sememe.tokens.unified import UnifiedEmbedding

try:
    import torch
    from torch import nn
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a click model") from None

Method = Callable[[ClickLog, int, int], Contender]  # of a log, a width and a number of float32 parameters


class IntegerTable(nn.Module):  # type: ignore[misc]
    """Rows as integer codes of the codec room, and the projection of the narrow table they were made of.

    Parameters
    ----------
    rows : Tensor of shape (v, r)
    projection : Tensor of shape (r, d)
    bits : int
        8 or 4.
    """

    def __init__(self, rows: Any, projection: Any, bits: int) -> None:
        super().__init__()
        table = np.ascontiguousarray(rows.detach().numpy())
        self.codec = (Int8() if bits == 8 else Int4()).fit(table)
        self.register_buffer("codes", torch.from_numpy(self.codec.encode(table)))
        self.register_buffer("projection", projection.detach().clone())

    @property
    def num_bytes(self) -> int:
        """Codes, the codec's offsets and steps, and the projection."""
        side = sum(np.asarray(value).nbytes for name, value in vars(self.codec).items() if name in ("offset_", "step_"))
        return int(self.codes.numel() + side + 4 * self.projection.numel())

    def forward(self, ids: Any) -> Any:
        """Vectors ``(b, f, d)``."""
        rows = self.codec.decode(self.codes[ids.flatten()].numpy())
        return (torch.from_numpy(rows) @ self.projection).view(*ids.shape, -1)


def layer(name: str, log: ClickLog, dim: int, budget: int, **options: Any) -> Contender:
    """A token layer over the joint ids."""
    build(name, log.vocabulary, dim, budget, **options)  # refuses what cannot be met before anything is trained
    return Contender(partial(_built, name, log, dim, budget, options))


def unified(log: ClickLog, dim: int, budget: int) -> Contender:
    """One table of two chunks a value."""
    return Contender(
        lambda seed: UnifiedEmbedding.for_budget(budget, dim // 2, [2] * len(log.fields), seed),
    )


def frequent(log: ClickLog, dim: int, budget: int) -> Contender:
    """Rows for the most frequent values, zeros for the rest."""
    kept = np.zeros(log.num_ids, dtype=bool)
    kept[log.vocabulary.by_frequency[: _rows_for(log, dim, budget)]] = True
    return Contender(lambda seed: PrunedTable(log.sizes.tolist(), dim, [dim] * len(log.fields), kept))


def pruned(log: ClickLog, dim: int, budget: int) -> Contender:
    """The full table for half of the steps; then the rows with the largest norms go on, the others are zeros."""
    rows = _rows_for(log, dim, budget)

    def finish(table: Any, model: ClickModel) -> nn.Module:
        norms = table.weight.detach().norm(dim=1)
        kept = torch.zeros(log.num_ids, dtype=torch.bool)
        kept[norms.topk(rows).indices] = True
        made = PrunedTable(log.sizes.tolist(), dim, [dim] * len(log.fields), kept)
        with torch.no_grad():
            for weight, own, there in zip(
                made.weights, table.weight.split(log.sizes.tolist()), kept.split(log.sizes.tolist())
            ):
                weight.copy_(own[there])
        return made

    return Contender(partial(_built, "table", log, dim, None, {}), finish, at=0.5, note="trains the full table first")


def optembed(log: ClickLog, dim: int, budget: int) -> Contender:
    """A supernet for as many steps again; then searched widths and the rows farthest above their thresholds."""
    spare = budget - -(-log.num_ids // 32)  # a bit a value says which have rows
    if spare < dim:
        raise BudgetError(f"{budget:,} parameters are too few for rows and a bit a value")
    some = log.valid[:4_000]

    def made(seed: int) -> nn.Module:
        supernet = Contender(lambda s: OptEmbed(log.sizes.tolist(), dim, strength=1e-4, seed=s))
        model = fit_clicks(log, supernet, dim, seed, rows=some).model
        table: Any = model.table

        def score(widths: Any) -> float:
            table.kept_widths = list(widths)
            return float(auc(log.labels[some], predict(model, log, some))[0])

        kept = table.kept()
        if int(kept.sum()) * 4 > spare:  # rows of fewer than four dimensions on average help nobody: fewer rows
            kept = torch.zeros_like(kept)
            kept[table.margins().topk(max(1, spare // 8)).indices] = True
        with torch.no_grad():
            table.thresholds[:] = -1.0
            table.weight[~kept] = 0.0
        widths = table.search(score, spare, seed=seed, rows=kept)
        return _topped_up(table.pruned(widths, kept), log, spare)

    return Contender(made, note="a supernet trained and searched before, for as many steps again")


def integers(bits: int, log: ClickLog, dim: int, budget: int) -> Contender:
    """A narrow table trained with its projection, whose rows become integers of so many bits at the end."""

    def size(rank: int) -> float:
        return (log.num_ids * -(-rank * bits // 8) + 8 * rank) / 4 + rank * dim

    rank = largest(size, budget, 1, dim)

    def finish(table: Any, model: ClickModel) -> nn.Module:
        return IntegerTable(table.table_weight, table.projection, bits)

    return Contender(
        partial(_built, "factorized", log, dim, None, {"rank": rank}), finish, note="trains float32, codes at the end"
    )


def transform_codes(log: ClickLog, dim: int, budget: int) -> Contender:
    """The full table, in transform codes at the end."""
    _empty("codes", log, dim, budget)
    return Contender(
        partial(_built, "table", log, dim, None, {}),
        partial(_coded, "codes", log, dim, budget),
        note="trains the full table, codes at the end",
    )


def product_codes(log: ClickLog, dim: int, budget: int) -> Contender:
    """The full table for half of the steps; then its slices in clusters, whose centres go on."""
    _empty("subspace", log, dim, budget)
    return Contender(
        partial(_built, "table", log, dim, None, {}),
        partial(_coded, "subspace", log, dim, budget),
        at=0.5,
        note="trains the full table first",
    )


def _built(name: str, log: ClickLog, dim: int, budget: int | None, options: dict[str, Any], seed: int) -> Any:
    return build(name, log.vocabulary, dim, budget, seed=seed, **options)


def _empty(name: str, log: ClickLog, dim: int, budget: int) -> Any:
    """A layer to be fitted, or a BudgetError."""
    made = catalog.find(name).make
    kind = made.resolve() if hasattr(made, "resolve") else made
    return sized_layer(kind, log.vocabulary, dim, budget, 0, {})


def _coded(name: str, log: ClickLog, dim: int, budget: int, table: Any, model: ClickModel) -> Any:
    return _empty(name, log, dim, budget).fit(table.table(), weights=log.counts)


def _rows_for(log: ClickLog, dim: int, budget: int) -> int:
    """Rows that a budget pays for beside a bit a value."""
    rows = (budget - -(-log.num_ids // 32)) // dim
    if rows < 1:
        raise BudgetError(f"{budget:,} parameters are too few for rows and a bit a value")
    return min(rows, log.num_ids)


def _topped_up(table: PrunedTable, log: ClickLog, spare: int) -> PrunedTable:
    """The same rows, with the widest fields that the budget still has room for."""
    widths, rows = list(table.stored), [len(weight) for weight in table.weights]
    left = spare - sum(count * width for count, width in zip(rows, widths))
    for field in sorted(range(len(rows)), key=lambda field: -rows[field]):
        more = min(table.dim - widths[field], left // rows[field]) if rows[field] else 0
        widths[field], left = widths[field] + more, left - more * rows[field]
    return PrunedTable(table.sizes, table.dim, widths, table.kept)


METHODS: dict[str, Method] = {
    "hashing trick": partial(layer, "hash-bucket", hashes=1, rank=0),
    "two hashes, added": partial(layer, "hash-bucket", hashes=2, rank=0),
    "quotient-remainder": partial(layer, "quotient-remainder"),
    "k partitions": partial(layer, "quotient-remainder", scheme="remainders", combine="sum"),
    "mixed dimensions": partial(layer, "mixed-dim"),
    "low rank": partial(layer, "factorized"),
    "unified": unified,
    "frequent values only": frequent,
    "rows pruned by norm": pruned,
    "optembed": optembed,
    "int8 of low rank": partial(integers, 8),
    "int4 of low rank": partial(integers, 4),
    "transform codes": transform_codes,
    "product codes": product_codes,
}
