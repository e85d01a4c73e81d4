"""``sememe tokens compress``."""

from __future__ import annotations

import argparse
from typing import Any

from sememe.cli import shared
from sememe.cli.vocab import text_options, warn

EXAMPLE = """sememe tokens compress MODEL --layer codes --budget 10% --text sample.txt -o SMALLER
  sememe tokens compress MODEL --layer factorized --budget 25% --text sample.txt --plain -o SMALLER"""


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the operation."""
    verb.add_argument("model", help="a Hugging Face or sentence-transformers folder with safetensors")
    verb.add_argument("--layer", required=True, metavar="NAME", help="codes, or a layer that sememe list tokens names")
    verb.add_argument("--budget", required=True, help="its size: 10%% of the table, or parameters such as 1M")
    text_options(verb, required=True)
    verb.add_argument(
        "--plain", action="store_true", help="write the rebuilt table, as large as before, which opens everywhere"
    )
    verb.add_argument(
        "--even", action="store_true", help="take all rows and directions as equally important; no backward pass"
    )
    verb.add_argument("--seed", type=int, default=0, help="of what the layer draws (default 0)")
    verb.add_argument("-o", "--output", help="the new folder; it must not exist (only measured when left out)")


def run(given: argparse.Namespace) -> int:
    """Compress, and say what it cost."""
    from sememe import tokens

    answer = tokens.compress(
        given.model,
        given.output,
        given.layer,
        given.budget,
        given.text,
        plain=given.plain,
        even=given.even,
        seed=given.seed,
    )
    if given.json:
        shared.print_json(answer)
        return 0
    show(answer, plain=given.plain)
    return 0


def show(answer: dict[str, Any], *, plain: bool) -> None:
    """Lines for a person."""
    table, layer, fit, effect = (answer[name] for name in ("table", "layer", "fit", "effect"))
    share = layer["bytes"] / table["bytes"]
    shared.say(
        f"table    {table['rows']:,} x {table['dim']:,}, {shared.human(table['bytes'])}"
        + (", tied to the output" if answer["tied"] else ""),
        f"layer    {layer['name']}, {shared.human(layer['bytes'])} ({share:.1%} of the table)",
        f"rows     cosine to the original {fit['cosine']:.4f} on average, {fit['lowest']:.4f} at the 1st percentile; "
        f"{fit['error']:.2%} of the variance lost",
    )
    if effect["kind"] == "encoder":
        cosine = effect["cosine"]
        shared.say(
            f"vectors  cosine to the original {cosine['value']:.4f} (95 % {cosine['low']:.4f}-{cosine['high']:.4f}), "
            f"{effect['lowest']:.4f} at the 5th percentile, over {effect['texts']:,} texts",
            f"order    similarities between texts keep their order to a rank correlation of {effect['spearman']:.4f}",
            f"expect   on other text a cosine of at least {answer['elsewhere']['cosine']:.4f} on average",
        )
    else:
        gap = effect["gap"]
        shared.say(
            f"loss     {effect['loss_before']:.4f} -> {effect['loss_after']:.4f} {effect['unit']}, "
            f"{gap['value']:+.4f} (95 % {gap['low']:+.4f} to {gap['high']:+.4f}), over {effect['texts']:,} texts",
            f"expect   on other text up to {answer['elsewhere']['gap']:+.4f}",
        )
    if answer["out"]:
        before, after = answer["bytes"]["before"], answer["bytes"]["after"]
        shared.say(f"folder   {shared.human(before)} -> {shared.human(after)}", f"new      {answer['out']}")
        opener = "transformers" if plain else "sememe.tokens.open_model"
        shared.say(f"open it  with {opener}")
    warn(answer["notices"])
