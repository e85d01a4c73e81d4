"""``sememe tokens clicks``."""

from __future__ import annotations

import argparse
from typing import Any

from sememe.cli import shared

EXAMPLE = """sememe tokens clicks LOG.csv --label click
  sememe tokens clicks LOG.parquet --label click --budgets 25%,10% --methods "hashing trick,quotient-remainder"
  --seeds 5 --plot tables.html"""


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the operation."""
    verb.add_argument("log", metavar="LOG", help="a click log: .csv, .tsv (also .gz) or .parquet, a row a shown item")
    verb.add_argument(
        "--label", metavar="COLUMN", help="what says whether there was a click (default: label, click, clicked, target)"
    )
    verb.add_argument(
        "--numeric",
        metavar="A,B",
        help="columns of numbers, which become 16 ranges (default: I1, I2 ..., and those with decimal points)",
    )
    verb.add_argument("--methods", metavar="A,B", help="ways of making a table small (default: all, see the table)")
    verb.add_argument(
        "--budgets",
        default="100%,25%,10%,1%",
        help="shares of the full table's bytes, or parameters (default %(default)s)",
    )
    verb.add_argument("--steps", type=shared.positive, default=400, help="batches to train for (default 400)")
    verb.add_argument("--seeds", type=shared.positive, default=3, help="runs of each (default 3)")
    verb.add_argument("--dim", type=shared.positive, default=32, help="width of the vectors (default 32)")
    verb.add_argument("--batch", type=shared.positive, default=512, help="rows of a batch (default 512)")
    verb.add_argument("--rate", type=shared.above_zero, default=0.02, help="highest learning rate (default 0.02)")
    verb.add_argument(
        "--model", choices=("deepfm", "dlrm", "mlp"), default="deepfm", help="behind the table (default deepfm)"
    )
    verb.add_argument("--rows", type=shared.positive, default=0, help="rows of the log to use, evenly spaced (all)")
    verb.add_argument("--plot", metavar="FILE", help="write a picture of log-loss against size here, .svg or .html")


def run(given: argparse.Namespace) -> int:
    """Compare, and show the table."""
    from sememe import drawing, tokens
    from sememe.tokens import plot
    from sememe.tokens.feature_comparison import pictured

    if given.plot:
        drawing.checked(given.plot)

    def parts(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    answer = tokens.compare_features(
        given.log,
        label=given.label,
        numeric=None if given.numeric is None else parts(given.numeric),
        methods=None if given.methods is None else _methods(parts(given.methods)),
        budgets=parts(given.budgets),
        steps=given.steps,
        seeds=given.seeds,
        dim=given.dim,
        batch=given.batch,
        rate=given.rate,
        kind=given.model,
        rows=given.rows,
        forecast=None if given.json or given.quiet else _forecast,
    )
    if given.plot:
        plot.save(pictured(answer), given.plot)
    if given.json:
        shared.print_json(answer)
        return 0
    show(answer)
    if given.plot:
        shared.say("", f"plot  {given.plot}")
    return 0


def _methods(parts: list[str]) -> list[str]:
    """Names of methods, one of which has a comma of its own."""
    from sememe.tokens.table_methods import METHODS

    out: list[str] = []
    for part in parts:
        whole = f"{out[-1]}, {part}" if out else part
        if whole in METHODS:
            out[-1:] = [whole]
        else:
            out.append(part)
    return out


def _forecast(models: int, steps: int) -> None:
    shared.note(f"up to {models:,} models to train, {steps:,} steps each")


def show(answer: dict[str, Any]) -> None:
    """The table for a person."""
    setting = answer["setting"]
    title = (
        f"Clicks of {setting['measured']:,} test rows ({setting['clicks']:.1%} clicked); {setting['values']:,} "
        f"values of {len(setting['fields'])} fields, {setting['dim']} dimensions, {setting['steps']:,} steps, "
        f"{setting['seeds']} seed{'s' * (setting['seeds'] > 1)}"
    )
    columns = ["method", "budget", "parameters", "bytes", "AUC", "95 %", "to full", "log-loss", "train s", "lookups/s"]
    rows = [
        [
            row["method"],
            row["budget"],
            f"{row['parameters']:,}",
            shared.human(row["bytes"]),
            f"{row['auc']['value']:.4f}",
            f"{row['auc']['low']:.3f}-{row['auc']['high']:.3f}",
            f"{row['auc_gap']['value']:+.4f}{' ' if row['auc_gap']['low'] <= 0 <= row['auc_gap']['high'] else '*'}",
            f"{row['log_loss']['value']:.4f}",
            f"{row['seconds']:.1f}",
            f"{row['lookups_per_second']:,.0f}",
        ]
        for row in answer["rows"]
    ]
    shared.say(shared.table(title, columns, rows, marks={0: "dim"}))
    for budget, method in answer["best"].items():
        shared.say(f"best at {budget}  {method}")
    for item in answer["skipped"]:
        shared.say(f"skipped  {item['method']} {item['budget']}: {item['reason']}")
    notes = {row["method"]: row["note"] for row in answer["rows"] if row["note"]}
    shared.say(
        "",
        "AUC      chance that a click scores above another row; its 95 % interval is over seeds and rows",
        "to full  minus the full table's, paired by seed and row; * where the interval leaves out 0",
        "bytes    of the table that is served, and so are parameters; codes have none",
        f"split    {setting['split']}",
        *(f"{method}: {note}" for method, note in notes.items()),
    )
