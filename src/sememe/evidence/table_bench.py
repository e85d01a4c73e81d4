"""Compressed feature tables side by side: fourteen methods, four budgets, one trainer, a real log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment

if TYPE_CHECKING:
    from sememe.tokens.table_compare import TableRow

STEPS = 200
DIM = 32
MEASURED = 10_000


@experiment(
    "table-bench",
    paper=Paper("Experimental Analysis of Large-scale Learnable Vector Storage Compression", 2023, "2311.15578"),
    claim="Which way of compressing an embedding table is best depends on the memory there is.",
    needs=("frappe",),
)
def run(setting: Setting) -> Finding:
    """Every method at half, a quarter, a tenth and a twentieth of the full table's bytes."""
    from sememe.tokens.click_logs import ClickLog
    from sememe.tokens.click_models import ClickRecipe
    from sememe.tokens.table_compare import BUDGETS, best, compare_tables

    log, recipe = ClickLog.sample(setting.data, "frappe"), ClickRecipe(steps=STEPS)
    table = compare_tables(log, seeds=setting.seeds, dim=DIM, recipe=recipe, most=MEASURED)
    again = compare_tables(
        log, None, (BUDGETS[2],), ("quotient-remainder",), setting.seeds[:1], dim=DIM, recipe=recipe, most=MEASURED
    )
    winners = best(table)
    rows = {(row.method, row.budget): row.result for row in table}
    small, once = rows[winners[BUDGETS[2]], BUDGETS[2]], rows["quotient-remainder", BUDGETS[2]]
    repeated = again[1].result
    hashed = rows["hashing trick", BUDGETS[2]]
    assert small and once and repeated and hashed
    counts = {budget: sum(row.result is not None for row in table if row.budget == budget) for budget in BUDGETS}
    change = set(winners.values())
    return Finding(
        measured=small.auc[0],
        baseline=hashed.auc[0],
        interval=(small.auc[1], small.auc[2]),
        unit=f"AUC of clicks at {BUDGETS[2]} of the full table's bytes: the best method "
        f"({winners[BUDGETS[2]]}), and the hashing trick",
        interval_of="the best method's AUC, over seeds and test rows",
        checks={
            "at least ten methods have a size within 5 % of each of four budgets": min(counts.values()) >= 10,
            "the best method is not the same at all budgets": len(change) > 1,
            "the same seed gives the same table again": repeated.by_seed[0] == once.by_seed[0],
        },
        details={
            "best": winners,
            "methods_by_budget": counts,
            "table": [_line(row) for row in table],
        },
        conditions=f"Frappe (49,064 rows to learn from, {MEASURED:,} of the 28,860 to test drawn once; ten fields, "
        f"{log.num_ids:,} values), DeepFM with vectors of {DIM} dimensions, {STEPS} steps of 512 rows for every "
        "method, and what the notes of the table say; bytes are of what is served, trained parameters beside them. "
        "Language models are not part of this experiment.",
        reason=""
        if len(change) > 1
        else f"{winners[BUDGETS[0]]} was best at all four budgets; differences of a few thousandths of AUC between the "
        "best are within their intervals",
    )


def _line(row: TableRow) -> dict[str, Any]:
    """A row of the printed table."""
    line: dict[str, Any] = {"method": row.method, "budget": row.budget, "note": row.note}
    if row.result is not None:
        line |= {
            "auc": row.result.auc,
            "auc_minus_full": row.result.auc_gap,
            "log_loss": row.result.log_loss[0],
            "bytes": row.result.bytes,
            "trained_parameters": row.result.trained_parameters,
            "training_seconds": row.result.seconds,
            "lookups_per_second": row.result.lookups_per_second,
        }
    return line
