"""Rows pruned and widths searched, on a real log: beside the full table, and the same table shrunk evenly."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment

if TYPE_CHECKING:
    from sememe.tokens.click_logs import ClickLog

DIM = 32
SHARE = 0.39
STRENGTHS = (1e-4, 5e-4)
SCORED = 4_000


@experiment(
    "optembed",
    paper=Paper("OptEmbed: Learning Optimal Embedding Table for Click-through Rate Prediction", 2022, "2208.04482"),
    claim="Pruning rows and dimensions together gives smaller tables with better AUC in click-through models.",
    needs=("frappe",),
)
def run(setting: Setting) -> Finding:
    """The Frappe log, a factorisation machine with a perceptron, tables of at most 39 % of the parameters."""
    from sememe.tokens.click_logs import ClickLog
    from sememe.tokens.click_measures import interval, measure
    from sememe.tokens.click_models import Contender, fit_clicks

    log = ClickLog.sample(setting.data, "frappe")
    full = log.num_ids * DIM
    logits: dict[str, list[Any]] = {"full": [], "optembed": [], "even": []}
    found = []
    for seed in setting.seeds:
        table, made = searched(log, seed, round(SHARE * full))
        even = max(1, round(table.num_parameters / log.num_ids))
        every = np.ones(log.num_ids, dtype=bool)
        contenders = {
            "full": Contender(partial(stored, log, [DIM] * len(log.fields), every)),
            "optembed": Contender(partial(stored, log, made["widths"], made["kept"])),
            "even": Contender(partial(stored, log, [even] * len(log.fields), every)),
        }
        for name, contender in contenders.items():
            logits[name].append(fit_clicks(log, contender, DIM, seed).logits)
        found.append(
            {
                "share_of_parameters": table.num_parameters / full,
                "rows_kept": int(made["kept"].sum()),
                "rows": log.num_ids,
                "widths": dict(zip(log.fields, made["widths"])),
                "even_width": even,
                "strength": made["strength"],
            }
        )
    labels = log.labels[log.test]
    measured = {name: measure(labels, runs) for name, runs in logits.items()}
    areas = {name: interval(*pair[0]) for name, pair in measured.items()}
    (own, own_draws), (base, base_draws) = measured["optembed"][0], measured["full"][0]
    shrunk, shrunk_draws = measured["even"][0]
    below, beside = interval(own - base, own_draws - base_draws), interval(own - shrunk, own_draws - shrunk_draws)
    checks = {
        "its table has at most 40 % of the full one's parameters": all(f["share_of_parameters"] <= 0.4 for f in found),
        "its AUC is at most 0.001 below the full table's": below[0] >= -0.001,
        "its AUC is above that of the same table shrunk evenly, to as many parameters": beside[0] > 0,
    }
    return Finding(
        measured=areas["optembed"][0],
        baseline=areas["full"][0],
        interval=(below[1], below[2]),
        unit="AUC of clicks: pruned rows and searched widths, and the full table",
        interval_of="the difference, over seeds and test rows",
        checks=checks,
        details={
            "auc": areas,
            "log_loss": {name: interval(*pair[1]) for name, pair in measured.items()},
            "optembed_minus_even": beside,
            "by_seed": found,
        },
        conditions="Frappe (49,064 rows to learn from, 28,860 to test), DeepFM with vectors of "
        f"{DIM} dimensions, 400 steps of 512 rows for every table; OptEmbed's supernets and searches come on top of "
        f"that: one supernet for each strength in {STRENGTHS}, the better by the AUC of rows that validate.",
        reason=""
        if all(checks.values())
        else "likely, not tested: with ten fields and 5,176 values most rows are needed, and a log of 49,064 rows "
        "seen four times rewards wide vectors, which learn interactions sooner; the paper's logs have a thousand times "
        "as many rows and values, most of them rare",
    )


def stored(log: ClickLog, widths: Any, kept: Any, seed: int) -> Any:
    """A new table of these rows and widths."""
    from sememe.tokens.opt_embed import PrunedTable

    return PrunedTable(log.sizes.tolist(), DIM, widths, kept)


def supernet_of(log: ClickLog, strength: float, seed: int) -> Any:
    """A table that learns which rows it needs, at all widths."""
    from sememe.tokens.opt_embed import OptEmbed

    return OptEmbed(log.sizes.tolist(), DIM, strength=strength, seed=seed)


def searched(log: ClickLog, seed: int, parameters: int) -> tuple[Any, dict[str, Any]]:
    """An untrained pruned table of at most so many parameters, and how it was found: by the rows that validate."""
    from sememe.tokens.click_measures import auc
    from sememe.tokens.click_models import Contender, fit_clicks, predict

    some = np.random.default_rng(seed).permutation(log.valid)[:SCORED]
    labels = log.labels[some]
    best: list[tuple[float, Any, dict[str, Any]]] = []
    for strength in STRENGTHS:
        model = fit_clicks(log, Contender(partial(supernet_of, log, strength)), DIM, seed, rows=some).model
        supernet: Any = model.table

        def score(widths: Any, model: Any = model, supernet: Any = supernet) -> float:
            supernet.kept_widths = list(widths)
            return float(auc(labels, predict(model, log, some))[0])

        widths = supernet.search(score, parameters, seed=seed)
        value = score(widths)
        made = {"widths": widths, "kept": supernet.kept(), "strength": strength}
        best.append((value, supernet.pruned(widths), made))
    return max(best, key=lambda one: one[0])[1:]
