"""``sememe tokens compare``, ``sememe tokens compress`` and ``sememe tokens clicks``."""

from __future__ import annotations

import argparse

from sememe.cli import operations

OPERATIONS = {
    "compare": ("sememe.cli.tokens_compare", "every token layer in the same small model at matched budgets: one table"),
    "clicks": ("sememe.cli.tokens_clicks", "every way of making a feature table small, on a click log: one table"),
    "compress": ("sememe.cli.tokens_compress", "replace the input table of a model by a smaller layer fitted to it"),
}
EXAMPLE = """sememe tokens compare --tokenizer MODEL --text sample.txt --budgets 100%,25%,10%,1% --plot layers.html
  sememe tokens compress MODEL --layer codes --budget 10% --text sample.txt -o SMALLER
  sememe tokens clicks LOG.csv --label click --budgets 25%,10%
  sememe list tokens
  sememe tokens OPERATION --help"""


def arguments(verb: argparse.ArgumentParser) -> None:
    """The operations."""
    operations.add(verb, "tokens", OPERATIONS, "sememe tokens OPERATION [ARGUMENTS]")


def run(given: argparse.Namespace) -> int:
    """Do what was asked for."""
    return operations.run(given, OPERATIONS)
