"""One table for all features beside a table for each, with equally many parameters, on a real log."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment

DIM = 32
SHARES = (0.25, 0.10, 0.05)
MAIN = 0.10


@experiment(
    "unified",
    paper=Paper(
        "Unified Embedding: Battle-Tested Feature Representations for Web-Scale ML Systems", 2023, "2305.12102"
    ),
    claim="One table that all features share gives better accuracy for the same number of parameters than a table for "
    "each feature.",
    needs=("frappe",),
)
def run(setting: Setting) -> Finding:
    """The Frappe log, a factorisation machine with a perceptron, tables of a quarter to a twentieth."""
    from sememe.tokens.click_logs import ClickLog
    from sememe.tokens.click_models import Contender, compare_clicks
    from sememe.tokens.features import FieldTables
    from sememe.tokens.unified import UnifiedEmbedding

    log = ClickLog.sample(setting.data, "frappe")
    fields, full = len(log.fields), log.num_ids * DIM
    details: dict[str, Any] = {}
    main: dict[str, Any] = {}
    for share in SHARES:
        rows = round(share * log.num_ids)
        builders = {
            "a hashed table each": partial(equal, FieldTables, log.sizes, rows),
            "tables sized by vocabulary": partial(proportional, FieldTables, log.sizes, rows),
            "unified, one chunk": partial(shared, UnifiedEmbedding, rows, 1, fields),
            "unified, two chunks": partial(shared, UnifiedEmbedding, rows, 2, fields),
        }
        found = {
            row.name: row
            for row in compare_clicks(
                log, {name: Contender(build) for name, build in builders.items()}, DIM, seeds=setting.seeds
            )
        }
        if share == MAIN:
            main = found
        details[f"{share:.0%} of {full:,} parameters"] = {
            name: {
                "auc": row.auc,
                "auc_minus_a_hashed_table_each": row.auc_gap,
                "log_loss": row.log_loss,
                "parameters": row.parameters,
            }
            for name, row in found.items()
        }
    ours, each = main["unified, two chunks"], main["a hashed table each"]
    sized = main["tables sized by vocabulary"]
    details["at the middle size"] = inside(log, setting.seeds[0], round(MAIN * log.num_ids))
    checks = {
        "its AUC is at least 0.002 above that of a hashed table for each field": ours.auc_gap[0] >= 0.002,
        "its AUC is not below that of tables sized by vocabulary": ours.auc[0] >= sized.auc[0],
        "one more feature changes nothing in the table": grows(),
    }
    return Finding(
        measured=ours.auc[0],
        baseline=each.auc[0],
        interval=(ours.auc_gap[1], ours.auc_gap[2]),
        unit=f"AUC of clicks with {MAIN:.0%} of the full table's parameters: one table of two chunks a value, and a "
        "hashed table for each field",
        interval_of="the difference, over seeds and test rows",
        checks=checks,
        details=details,
        conditions=f"Frappe (49,064 rows to learn from, 28,860 to test; ten fields, {log.num_ids:,} values), DeepFM "
        f"with vectors of {DIM} dimensions, 400 steps of 512 rows; separate tables share the rows equally, and give "
        "what small fields do not need to the others, or by the number of values.",
        reason=""
        if all(checks.values())
        else "likely, not tested: eight of the ten fields have at most 209 values and need no hashing in tables of "
        "their own, while in the shared table their frequent values collide with those of the large ones; the "
        "paper's systems have hundreds of large fields",
    )


def equal(kind: Any, sizes: Any, rows: int, seed: int) -> Any:
    """A hashed table for each field, equally many rows."""
    return kind(sizes, DIM, kind.equal_rows(sizes, rows), seed)


def proportional(kind: Any, sizes: Any, rows: int, seed: int) -> Any:
    """A hashed table for each field, rows by the number of its values."""
    return kind(sizes, DIM, kind.proportional_rows(sizes, rows), seed)


def shared(kind: Any, rows: int, chunks: int, fields: int, seed: int) -> Any:
    """One table of as many parameters."""
    return kind.for_budget(rows * DIM, DIM // chunks, [chunks] * fields, seed)


def inside(log: Any, seed: int, rows: int) -> dict[str, Any]:
    """Collisions of the shared table, and how orthogonal the features' weights behind it become in training."""
    import torch

    from sememe.tokens.click_models import ClickModel, Contender, fit_clicks
    from sememe.tokens.unified import UnifiedEmbedding, overlap

    def between(weight: Any, widths: Any) -> float:
        found = overlap(weight, widths)
        return float(found[~torch.eye(len(found), dtype=torch.bool)].mean())

    contender = Contender(partial(shared, UnifiedEmbedding, rows, 2, len(log.fields)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = ClickModel(contender.build(seed), len(log.fields), DIM)
    trained = fit_clicks(log, contender, DIM, seed).model
    return {
        "collisions": trained.table.collisions(torch.from_numpy(log.ids[log.train])),
        "overlap_between_features_before": between(fresh.top[0].weight, fresh.widths),
        "overlap_between_features_after": between(trained.top[0].weight, trained.widths),
    }


def grows() -> bool:
    """Whether a table is the same, number by number, and looks the old features up alike, with one more feature."""
    import torch

    from sememe.tokens.unified import UnifiedEmbedding

    table = UnifiedEmbedding(500, 8, [2, 1, 3])
    values = torch.from_numpy(np.random.default_rng(0).integers(-(2**62), 2**62, size=(100, 3)))
    weight, before = table.weight.detach().clone(), table(values).detach()
    table.add_feature(2)
    after = table(torch.cat((values, values[:, :1]), dim=1)).detach()
    return torch.equal(weight, table.weight.detach()) and torch.equal(before, after[:, : before.shape[1]])
