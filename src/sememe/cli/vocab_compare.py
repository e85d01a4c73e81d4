"""``sememe vocab compare``."""

from __future__ import annotations

import argparse
from typing import Any

from sememe.cli import shared
from sememe.cli.vocab import text_options, warn
from sememe.cli.vocab_methods import source_options, sources

EXAMPLE = """sememe vocab compare MODEL --tokenizer DONOR --text held-out.txt
  sememe vocab compare MODEL --tokenizer DONOR --text held-out.txt --train news.txt --steps 100 --methods
  mean,subword-mean,omp"""


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the operation."""
    verb.add_argument("model", help="a Hugging Face folder of a causal or a masked language model, with safetensors")
    verb.add_argument("--tokenizer", required=True, metavar="DONOR", help="a model folder, or a tokenizer.json")
    text_options(verb, required=True)
    verb.add_argument(
        "--train",
        nargs="+",
        default=[],
        metavar="FILE",
        help="text to train on and to learn from, not the held-out one",
    )
    verb.add_argument("--steps", type=_count, default=0, help="batches of 8 x 128 tokens to train for (default 0)")
    verb.add_argument("--rate", type=shared.above_zero, default=3e-4, help="highest learning rate (default 3e-4)")
    verb.add_argument(
        "--methods",
        metavar="A,B,C",
        help="ways of making rows, separated by commas (default all but the slow hypernet)",
    )
    verb.add_argument("--seeds", type=shared.positive, default=3, help="draws and orders of training (default 3)")
    verb.add_argument("--plot", metavar="FILE", help="write a picture here, .svg or .html")
    source_options(verb)


def _count(text: str) -> int:
    """A whole number from 0 (for argparse)."""
    return 0 if text.strip() == "0" else shared.positive(text)


def run(given: argparse.Namespace) -> int:
    """Compare, and show the table."""
    from sememe import drawing, vocab
    from sememe.vocab import plot
    from sememe.vocab.initialize import quick

    if given.plot:
        drawing.checked(given.plot)

    names = [name.strip() for name in given.methods.split(",") if name.strip()] if given.methods else None
    answer = vocab.compare(
        given.model,
        given.tokenizer,
        given.text,
        train=given.train,
        steps=given.steps,
        rate=given.rate,
        names=names,
        seeds=given.seeds,
        **sources(given, names or quick()),
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


def show(answer: dict[str, Any]) -> None:
    """The table for a person."""
    steps = answer["steps"]
    columns = ["rows by", "right after", "95 %"]
    columns += [f"after {steps:,} steps", "95 %", "training"] if steps else []
    columns += ["copied", "made", "seconds", "memory"]
    rows = []
    for row in (row for row in answer["rows"] if not row["skipped"]):
        cells = [row["method"], *_loss(row["loss"])]
        cells += [*_loss(row["trained"]), f"{row['train_seconds']:.1f} s"] if steps else []
        if "made" in row:
            memory = "-" if row["memory"] is None else shared.human(row["memory"])
            cells += [f"{row['copied']:,}", f"{row['made'] + row['fallback']:,}", f"{row['seconds']:.2f}", memory]
        else:
            cells += [""] * 4
        rows.append(cells)
    held = answer["held_out"]
    title = (
        f"{answer['unit'][0].upper()}{answer['unit'][1:]}, {held['texts']:,} held-out texts, {held['bytes']:,} bytes"
    )
    shared.say(shared.table(title, columns, rows, marks={0: "dim"}))
    for row in answer["rows"]:
        if row["skipped"]:
            shared.say(f"skipped  {row['method']}: {row['skipped']}")
    if answer["left_out"]:
        names = ", ".join(answer["left_out"])
        shared.say(f"left out {names}: it trains on the model's loss, which is slow; name it with --methods")
    warn(answer["notices"])


def _loss(loss: dict[str, Any]) -> list[str]:
    return [f"{loss['value']:.3f}", f"{loss['low']:.3f}-{loss['high']:.3f}"]
