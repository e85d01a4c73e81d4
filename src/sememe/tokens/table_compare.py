"""The comparison of compressed feature tables: methods, budgets and seeds in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sememe.errors import BudgetError, InputError
from sememe.tokens.click_logs import ClickLog
from sememe.tokens.click_models import ClickRecipe, ClickRow, Contender, Kind, compare_clicks
from sememe.tokens.factory import WITHIN, build, parameters_of
from sememe.tokens.table_methods import METHODS

BUDGETS = ("50%", "25%", "10%", "5%")
FULL = "full table"


@dataclass(frozen=True, slots=True)
class TableRow:
    """One method at one budget.

    Attributes
    ----------
    method, budget : str
    wanted : int
        Bytes that the budget allows.
    result : ClickRow or None
        None where the method has no size within 5 % of the budget; ``note`` says why.
    note : str
    """

    method: str
    budget: str
    wanted: int
    result: ClickRow | None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)


def compare_tables(
    rows: ClickLog | Sequence[Sequence[str]],
    fields: Sequence[str] | None = None,
    budgets: Sequence[str | int] = BUDGETS,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    dim: int = 32,
    recipe: ClickRecipe | None = None,
    kind: Kind = "deepfm",
    most: int = 0,
) -> list[TableRow]:
    """Train every method at every budget, with every seed, and measure it on the rows to test.

    Parameters
    ----------
    rows : ClickLog, or sequence of rows of text
    fields : sequence of str, optional
        Names of the columns, where ``rows`` are rows of text (see `ClickLog.of`).
    budgets : sequence of str or int
        As for `sememe.tokens.build`: ``"10%"`` of the full table's bytes, or float32 parameters.
    methods : sequence of str, optional
        Of `METHODS`; all when not given.
    seeds : sequence of int
    dim : int
        Width of the vectors.
    recipe, kind, most
        As for `compare_clicks`.

    Returns
    -------
    list of TableRow
        The full table first; then budget by budget in the order given.
    """
    log = rows if isinstance(rows, ClickLog) else ClickLog.of(rows, fields or ())
    chosen = list(METHODS) if methods is None else list(methods)
    unknown = [name for name in chosen if name not in METHODS]
    if unknown:
        raise InputError(f"there is no method {unknown[0]!r}", fix=f"known: {', '.join(METHODS)}")
    whole = log.num_ids * dim
    contenders = {FULL: Contender(lambda seed: build("table", log.vocabulary, dim, seed=seed))}
    refused: dict[tuple[str, str], str] = {}
    wanted = {str(budget): parameters_of(budget, whole) for budget in budgets}
    for budget, allowed in wanted.items():
        for name in chosen:
            try:
                contenders[f"{name}\t{budget}"] = METHODS[name](log, dim, allowed)
            except (BudgetError, InputError) as error:
                refused[name, budget] = str(error)
    run = compare_clicks(log, contenders, dim, seeds=seeds, recipe=recipe, kind=kind, most=most)
    found = {row.name: row for row in run}
    table = [TableRow(FULL, "100%", 4 * whole, found[FULL])]
    for budget, allowed in wanted.items():
        for name in chosen:
            row = found.get(f"{name}\t{budget}")
            note = refused.get((name, budget), "") if row is None else row.note
            if row is not None and abs(row.bytes - 4 * allowed) > WITHIN * 4 * allowed:
                note, row = f"the nearest size has {row.bytes:,} bytes", None
            table.append(TableRow(name, budget, 4 * allowed, row, note))
    return table


def best(table: Sequence[TableRow]) -> dict[str, str]:
    """The method with the highest AUC at each budget."""
    budgets = dict.fromkeys(row.budget for row in table[1:])
    return {
        budget: max(
            (row for row in table if row.budget == budget and row.result is not None),
            key=lambda row: row.result.auc[0] if row.result else -np.inf,
        ).method
        for budget in budgets
    }
