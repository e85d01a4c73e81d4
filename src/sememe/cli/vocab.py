"""``sememe vocab inspect``, ``sememe vocab trim`` and the other operations on the vocabulary of a model."""

from __future__ import annotations

import argparse

from sememe.cli import operations, shared

# Each operation is a module with EXAMPLE, arguments(verb) and run(given), imported when it is asked for.
OPERATIONS = {
    "inspect": ("sememe.cli.vocab_inspect", "what the vocabulary costs, and what of it a text uses"),
    "trim": ("sememe.cli.vocab_trim", "keep the tokens that some languages need"),
    "expand": ("sememe.cli.vocab_expand", "add tokens for what a text writes often, also of several words"),
    "transplant": ("sememe.cli.vocab_transplant", "give a model another tokenizer, with rows for its tokens"),
    "compare": ("sememe.cli.vocab_compare", "every way of making rows in one table: loss, time and memory"),
    "mixed": ("sememe.cli.vocab_mixed", "teach a smaller encoder with a smaller vocabulary"),
    "bytes": ("sememe.cli.vocab_bytes", "what bytes may follow a text that ends anywhere, by one model or several"),
}
EXAMPLE = """sememe vocab inspect MODEL --text sample.txt
  sememe vocab trim MODEL --text sample.de.txt -o MODEL-de
  sememe vocab expand MODEL --text law.txt --add 2000 -o MODEL-law
  sememe vocab transplant MODEL --tokenizer DONOR -o MODEL-DONOR
  sememe vocab compare MODEL --tokenizer DONOR --text sample.txt
  sememe vocab mixed MODEL --text corpus.txt -o SMALL
  sememe vocab OPERATION --help"""


def arguments(verb: argparse.ArgumentParser) -> None:
    """The operations."""
    operations.add(verb, "vocab", OPERATIONS, "sememe vocab OPERATION MODEL [ARGUMENTS]")


def run(given: argparse.Namespace) -> int:
    """Do what was asked for."""
    return operations.run(given, OPERATIONS)


def text_options(verb: argparse.ArgumentParser, *, required: bool) -> None:
    """The option that names the sample."""
    verb.add_argument(
        "--text",
        nargs="+",
        metavar="FILE",
        required=required,
        default=[],
        help="text files (a text a line), JSONL with a field text and perhaps lang, folders of them, all also .gz; a "
        "file name like news.de.txt says its language",
    )


def warn(notices: list[str]) -> None:
    """Say on standard error what was changed while reading."""
    shared.note(*(f"note: {notice}" for notice in notices))
