"""``sememe vocab trim``."""

from __future__ import annotations

import argparse

from sememe.cli import shared
from sememe.cli.vocab import text_options, warn

EXAMPLE = "sememe vocab trim MODEL --text news.de.txt news.fr.txt --languages de,fr -o MODEL-de-fr"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the operation."""
    verb.add_argument("model", help="a Hugging Face or sentence-transformers folder with safetensors")
    text_options(verb, required=True)
    verb.add_argument("--languages", default="", help="use only texts marked with these, separated by commas (de,fr)")
    verb.add_argument("--keep", metavar="FILE", help="further tokens or texts to keep, one a line")
    verb.add_argument(
        "--size",
        type=vocabulary_size,
        help="tokens (20000) or share (60%%) to end at; what is least likely to be used again goes (default: "
        "nothing that is used goes, likely tokens fill up to 60%%)",
    )
    verb.add_argument("--multiple-of", type=shared.positive, default=1, help="a size that is a multiple of this")
    verb.add_argument("-o", "--output", required=True, help="the new folder; it must not exist")


def vocabulary_size(text: str) -> float:
    """A number of tokens, or a share of them (for argparse)."""
    percent = text.strip().endswith("%")
    try:
        value = float(text.rstrip("% ")) / (100 if percent else 1)
    except ValueError:
        value = 0.0
    if not value > 0 or (percent and value > 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write for example 20000, 60% or 0.6")
    return value


def run(given: argparse.Namespace) -> int:
    """Trim, and say what was kept."""
    from sememe import vocab

    keep = shared.read_lines(given.keep) if given.keep else []
    languages = [name.strip() for name in given.languages.split(",") if name.strip()]
    answer = vocab.trim(
        given.model,
        given.output,
        given.text,
        languages=languages,
        keep=keep,
        size=given.size,
        multiple_of=given.multiple_of,
    )
    if given.json:
        shared.print_json(answer)
        return 0
    tokens, table, model = answer["tokens"], answer["table"], answer["model_bytes"]
    kept = ", ".join(f"{count:,} {reason}" for reason, count in answer["kept"].items() if count)
    shared.say(
        f"tokens  {tokens['before']:,} -> {tokens['after']:,} ({table['rows']['share']:.1%} of the rows): {kept}",
        f"table   {shared.human(table['bytes']['before'])} -> {shared.human(table['bytes']['after'])}",
        f"model   {shared.human(model['before'])} -> {shared.human(model['after'])}",
        f"same    {answer['texts_checked']:,} texts of the sample give the same tokens as before",
        f"new     {answer['out']}",
    )
    dropped = answer["dropped_of_the_sample"]
    if dropped["tokens"]:
        shared.note(
            f"note: {dropped['tokens']:,} tokens that the sample uses, {dropped['times']:,} times in all "
            f"({dropped['share']:.2%} of its tokens), did not fit and are now spelled with smaller ones"
        )
    warn(answer["notices"])
    return 0
