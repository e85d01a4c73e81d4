"""``sememe vocab expand``."""

from __future__ import annotations

import argparse

from sememe.cli import shared
from sememe.cli.vocab import text_options, warn
from sememe.cli.vocab_methods import method_options, parameters, sources

EXAMPLE = """sememe vocab expand MODEL --text law.txt --add 2000 -o MODEL-law
  sememe vocab expand MODEL --text law.txt --add 4000 --supertokens --init hybrid -o MODEL-law"""


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the operation."""
    verb.add_argument("model", help="a Hugging Face or sentence-transformers folder with safetensors")
    text_options(verb, required=True)
    verb.add_argument("--add", type=shared.positive, default=2000, help="most tokens to add (default 2000)")
    verb.add_argument("--supertokens", action="store_true", help="also tokens of several words")
    verb.add_argument(
        "--init",
        default="subword-mean",
        metavar="METHOD",
        help="how rows of new tokens are made: zero, mean, subword-mean (default), gaussian, neighbours, hybrid, ...",
    )
    method_options(verb)
    verb.add_argument(
        "--held-out", type=shared.share, default=0.1, help="share of the text to measure on (default 10%%)"
    )
    verb.add_argument("--least", type=shared.positive, default=2, help="how often a new token must stand in the text")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--plot", metavar="FILE", help="write a picture here, .svg or .html")
    verb.add_argument("-o", "--output", required=True, help="the new folder; it must not exist")


def run(given: argparse.Namespace) -> int:
    """Expand, and say what the new tokens do."""
    from sememe import drawing, vocab
    from sememe.vocab import plot

    if given.plot:
        drawing.checked(given.plot)
    options = parameters(given)
    answer = vocab.expand(
        given.model,
        given.output,
        given.text,
        add=given.add,
        init=given.init,
        options=options,
        supertokens=given.supertokens,
        held_out=given.held_out,
        least=given.least,
        seed=given.seed,
        **sources(given, [given.init], options),
    )
    if given.plot:
        plot.save(answer, given.plot)
    if given.json:
        shared.print_json(answer)
        return 0
    tokens, added, rate = answer["tokens"], answer["added"], answer["tokens_per_byte"]
    produced = added["produced"]
    new = tokens["after"] - tokens["before"]
    shared.say(
        f"tokens    {tokens['before']:,} -> {tokens['after']:,}: {added['words']:,} inside words, "
        f"{added['supertokens']:,} of several words",
        f"produced  {produced['in_learned']:,} of {new:,} on the text learned from, {produced['in_measured']:,} on the "
        f"{shared.human(answer['measured_bytes'])} measured on",
        f"bytes     {1 / rate['before']:.3f} -> {1 / rate['after']:.3f} a token ({rate['saved']:.1%} fewer tokens)",
    )
    for name, table in answer["tables"].items():
        other = f", {table['fallback']:,} without a clue" if table["fallback"] else ""
        shared.say(f"{name:9} {table['copied']:,} copied, {table['made']:,} made{other} in {table['seconds']:.1f} s")
    shared.say(f"new       {answer['out']}")
    if given.plot:
        shared.say(f"plot      {given.plot}")
    warn(answer["notices"])
    if answer["before_a_longer_word"]:
        warn([f"{answer['before_a_longer_word']:.1%} of the supertokens stand where their last word goes on"])
    if answer["decoded_otherwise"]:
        warn([f"{answer['decoded_otherwise']:,} texts come back from their tokens in another way than before"])
    return 0
