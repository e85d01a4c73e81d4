"""Compressed feature tables on a click log of one's own: every method at every budget, in one answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sememe.errors import InputError, UsageError
from sememe.tokens.click_logs import ClickLog
from sememe.tokens.click_models import ClickRecipe, ClickRow, Kind
from sememe.tokens.factory import parameters_of
from sememe.tokens.table_compare import best, compare_tables
from sememe.tokens.table_methods import METHODS

BUDGETS = ("100%", "25%", "10%", "1%")


def compare_features(
    log: str | os.PathLike[str] | ClickLog,
    *,
    label: str | None = None,
    numeric: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    budgets: Sequence[str] = BUDGETS,
    steps: int = 400,
    seeds: int = 3,
    dim: int = 32,
    batch: int = 512,
    rate: float = 0.02,
    decay: float = 0.5,
    kind: Kind = "deepfm",
    rows: int = 0,
    most: int = 20_000,
    forecast: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train a small click model over every way of storing its table, and measure what each is worth.

    All models see the same rows in the same order for as many steps; only the table differs, and only the table counts
    against the budget. What a method does beyond that (a supernet, a table that is made small at the end) is in its
    note.

    Parameters
    ----------
    log : path or ClickLog
        A table of rows, one a shown item: CSV, TSV (both also .gz) or Parquet, with a column that says whether there
        was a click. Each column is a field of categories.
    label, numeric
        As for `ClickLog.of`.
    methods : sequence of str, optional
        Of `METHODS`; all when not given. The full table is always measured, as what the others are compared with.
    budgets : sequence of str
        Shares of the full table's bytes (``"10%"``), or float32 parameters (``"250k"``).
    steps, seeds, batch : int
        Batches of so many rows, and runs of each.
    dim : int
        Width of the vectors.
    rate, decay : float
        Highest learning rate, and weight decay, the same for all.
    kind : {"deepfm", "dlrm", "mlp"}
        What stands behind the table.
    rows, most : int
        Rows of the log that are used, evenly spaced, and rows of its test part that are measured; 0 takes all.
    forecast : function, optional
        Told before training how many models there are, and how many steps each takes.

    Returns
    -------
    dict
        ``setting``, ``rows`` (the full table first), ``skipped`` (``method``, ``budget``, ``reason``) and ``best``
        (the method with the highest AUC of each budget). A row has ``method``, ``budget``, ``auc``, ``auc_gap``,
        ``log_loss`` and ``log_loss_gap`` (``value``, ``low``, ``high``; 95 % over seeds and rows; gaps to the full
        table are paired), ``parameters`` and ``bytes`` of the table that is served, ``trained_parameters`` of the one
        that was trained, ``seconds`` of CPU time for training a model, ``lookups_per_second`` and ``note``.

    Raises
    ------
    UsageError, InputError
        Unknown methods or budgets, or a log that cannot be read or compared.
    """
    if min(steps, seeds, dim, batch) < 1 or min(rows, most) < 0:
        raise UsageError("steps, seeds and sizes must be positive")
    if not budgets or (methods is not None and not methods):
        raise UsageError("no method or no budget to compare", fix='name some, as in "hashing trick" and "10%"')
    chosen = list(dict.fromkeys(methods)) if methods is not None else list(METHODS)
    unknown = [name for name in chosen if name not in METHODS]
    if unknown:
        raise UsageError(f"there is no method {unknown[0]!r}", fix=f"known: {', '.join(METHODS)}")
    for budget in budgets:
        if parameters_of(budget, 1_000_000) < 1:
            raise InputError(f"budget={budget!r}", fix='give a share above nothing, as in "10%"')
    read = log if isinstance(log, ClickLog) else ClickLog.read(log, label=label, numeric=numeric, most=rows)
    if forecast is not None:
        forecast(seeds * (1 + len(chosen) * len(budgets)), steps)
    recipe = ClickRecipe(steps=steps, batch=batch, rate=rate, decay=decay)
    table = compare_tables(
        read, None, list(dict.fromkeys(budgets)), chosen, range(seeds), dim=dim, recipe=recipe, kind=kind, most=most
    )
    measured = [row for row in table if row.result is not None]
    return {
        "log": None if isinstance(log, ClickLog) else str(log),
        "setting": {
            "fields": {name: int(size) for name, size in zip(read.fields, read.sizes)},
            "values": read.num_ids,
            "rows": {"train": len(read.train), "validate": len(read.valid), "test": len(read.test)},
            "measured": min(most or len(read.test), len(read.test)),
            "clicks": float(read.labels.mean()),
            "split": read.split,
            "kind": kind,
            "dim": dim,
            "steps": steps,
            "seeds": seeds,
            "batch": batch,
            "rate": rate,
            "decay": decay,
        },
        "rows": [_row(row.method, row.budget, row.wanted, row.result, row.note) for row in measured if row.result],
        "skipped": [
            {"method": row.method, "budget": row.budget, "reason": row.note} for row in table if row.result is None
        ],
        "best": best(measured) if len(measured) > 1 else {},
    }


def _row(method: str, budget: str, wanted: int, result: ClickRow, note: str) -> dict[str, Any]:
    def triple(values: tuple[float, float, float]) -> dict[str, float]:
        return dict(zip(("value", "low", "high"), values))

    return {
        "method": method,
        "budget": budget,
        "wanted_bytes": wanted,
        "auc": triple(result.auc),
        "auc_gap": triple(result.auc_gap),
        "log_loss": triple(result.log_loss),
        "log_loss_gap": triple(result.log_loss_gap),
        "by_seed": result.by_seed,
        "parameters": result.parameters,
        "bytes": result.bytes,
        "trained_parameters": result.trained_parameters,
        "seconds": result.seconds,
        "lookups_per_second": result.lookups_per_second,
        "note": note,
    }


def pictured(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer as `sememe.tokens.plot` takes it: log-loss against size, a line a method."""
    setting = answer["setting"]
    runs = "1 seed" if setting["seeds"] == 1 else f"{setting['seeds']} seeds"
    return {
        "titles": (
            "Log-loss of clicks against the size of the feature table",
            f"{setting['values']:,} values of {len(setting['fields'])} fields, {setting['dim']} dimensions, "
            f"{setting['steps']:,} steps, {runs}; nats a row of {setting['measured']:,} test rows",
            "nats a row",
        ),
        "rows": [
            {
                "layer": row["method"],
                "budget": row["budget"],
                "bytes": row["bytes"],
                "loss": row["log_loss"],
                "gap": row["log_loss_gap"],
            }
            for row in answer["rows"]
        ],
    }
