"""``sememe vocab transplant``."""

from __future__ import annotations

import argparse

from sememe.cli import shared
from sememe.cli.vocab import text_options, warn
from sememe.cli.vocab_methods import method_options, parameters, sources

EXAMPLE = """sememe vocab transplant MODEL --tokenizer DONOR --init omp -o MODEL-DONOR
  sememe vocab transplant MODEL --tokenizer tokenizer.json --init subword-mean -o NEW
  sememe vocab transplant MODEL --tokenizer DE --init wechsel --word-vectors en.vec de.vec --dictionary en-de.tsv -o
  NEW"""


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the operation."""
    verb.add_argument("model", help="a Hugging Face folder with safetensors")
    verb.add_argument("--tokenizer", required=True, metavar="DONOR", help="a model folder, or a tokenizer.json")
    verb.add_argument(
        "--init",
        default="omp",
        metavar="METHOD",
        help="how rows of new tokens are made: zero, mean, subword-mean, gaussian, neighbours, focus, hybrid, "
        "convex-hull, wechsel, ofa, morph, hypernet (which trains on --text), or omp (default), which needs the "
        "donor's weights",
    )
    method_options(verb)
    text_options(verb, required=False)
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("-o", "--output", required=True, help="the new folder; it must not exist")


def run(given: argparse.Namespace) -> int:
    """Transplant, and say what became of the rows."""
    from sememe.vocab.transplant import transplant

    options = parameters(given)
    answer = transplant(
        given.model,
        given.tokenizer,
        given.output,
        init=given.init,
        options=options,
        text=given.text,
        seed=given.seed,
        **sources(given, [given.init], options),
    )
    if given.json:
        shared.print_json(answer)
        return 0
    tokens = answer["tokens"]
    shared.say(f"tokens  {tokens['before']:,} -> {tokens['after']:,}, rows by {answer['init']}")
    for name, table in answer["tables"].items():
        other = f", {table['fallback']:,} without a clue" if table["fallback"] else ""
        shared.say(f"{name:7} {table['copied']:,} copied, {table['made']:,} made{other} in {table['seconds']:.1f} s")
        if held := table["held_out"]:
            shared.say(
                f"        {held['tokens']:,} known rows, hidden and made in this way: {held['explained']:.0%} of what "
                f"sets them apart from the mean row comes back (cosine {held['cosine']:.2f})"
            )
    shared.say(f"new     {answer['out']}")
    warn(answer["notices"])
    return 0
