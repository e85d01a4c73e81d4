"""``sememe tokens compare``."""

from __future__ import annotations

import argparse
from typing import Any

from sememe.cli import shared
from sememe.cli.vocab import text_options, warn

EXAMPLE = """sememe tokens compare --tokenizer MODEL --text sample.txt
  sememe tokens compare --tokenizer MODEL --text sample.txt --layers kronecker,factorized --budgets 10% --steps 1000
  --log runs.jsonl --plot layers.html"""


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the operation."""
    verb.add_argument("--tokenizer", required=True, metavar="PATH", help="a model folder, or a tokenizer.json")
    text_options(verb, required=True)
    verb.add_argument("--layers", metavar="A,B,C", help="token layers, separated by commas (default: all)")
    verb.add_argument(
        "--budgets", default="100%,25%,10%,1%", help="shares of the plain table, or parameters (default %(default)s)"
    )
    verb.add_argument("--steps", type=shared.positive, default=300, help="batches to train for (default 300)")
    verb.add_argument("--seeds", type=shared.positive, default=3, help="runs of each (default 3)")
    verb.add_argument("--dim", type=shared.positive, default=64, help="width of the model (default 64)")
    verb.add_argument("--depth", type=shared.positive, default=2, help="its blocks (default 2)")
    verb.add_argument("--context", type=shared.positive, default=64, help="symbols read together (default 64)")
    verb.add_argument("--batch", type=shared.positive, default=8, help="rows of a batch (default 8)")
    verb.add_argument("--rate", type=shared.above_zero, default=3e-3, help="highest learning rate (default 3e-3)")
    verb.add_argument("--log", metavar="FILE", help="keep finished runs here; the same command goes on after a stop")
    verb.add_argument("--plot", metavar="FILE", help="write a picture of loss against size here, .svg or .html")


def run(given: argparse.Namespace) -> int:
    """Compare, and show the table."""
    from sememe import drawing, tokens
    from sememe.tokens import plot

    if given.plot:
        drawing.checked(given.plot)

    def parts(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    answer = tokens.compare(
        given.tokenizer,
        given.text,
        layers=None if given.layers is None else parts(given.layers),
        budgets=parts(given.budgets),
        steps=given.steps,
        seeds=given.seeds,
        dim=given.dim,
        depth=given.depth,
        context=given.context,
        batch=given.batch,
        rate=given.rate,
        log=given.log,
        forecast=None if given.json or given.quiet else _forecast,
    )
    if given.plot:
        plot.save(answer, given.plot)
    if given.json:
        shared.print_json(answer)
        return 0
    show(answer)
    if given.plot:
        shared.say("", f"plot  {given.plot}")
    return 0


def _forecast(models: int, steps: int) -> None:
    shared.note(f"{models:,} models to train, {steps:,} steps each")


def show(answer: dict[str, Any]) -> None:
    """The table for a person."""
    setting = answer["setting"]
    title = (
        f"Bits a byte of {setting['held_out']['bytes']:,} held-out bytes; {setting['symbols']:,} symbols of "
        f"{setting['dim']} dimensions, {setting['steps']:,} steps, "
        f"{setting['seeds']} seed{'s' * (setting['seeds'] > 1)}"
    )
    columns = ["layer", "budget", "parameters", "bytes", "loss", "95 %", "to table", "typos", "after rare", "tokens/s"]
    rows = [
        [
            row["layer"],
            row["budget"],
            f"{row['parameters']:,}",
            shared.human(row["bytes"]),
            f"{row['loss']['value']:.4f}",
            f"{row['loss']['low']:.3f}-{row['loss']['high']:.3f}",
            f"{row['gap']['value']:+.4f}{' ' if row['gap']['low'] <= 0 <= row['gap']['high'] else '*'}",
            f"{row['typos']:.3f}",
            "-" if row["after_rare"] is None else f"{row['after_rare']:.2f}",
            f"{row['tokens_per_second']:,.0f}",
        ]
        for row in answer["rows"]
    ]
    shared.say(shared.table(title, columns, rows, marks={0: "dim"}))
    for item in answer["skipped"]:
        shared.say(f"skipped  {item['layer']} {item['budget']}: {item['reason']}")
    shared.say(
        "",
        "loss        bits a byte of held-out text; its 95 % interval is over seeds and documents",
        "to table    minus the plain table's, paired by seed and document; * where the interval leaves out 0",
        "typos       the same where a tenth of the letters are dropped, doubled, swapped or replaced",
        "after rare  bits of a symbol that follows one seen at most 5 times in training",
    )
    warn(answer["notices"])
