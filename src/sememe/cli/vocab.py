"""``sememe vocab inspect``, ``sememe vocab trim`` and the other operations on the vocabulary of a model."""

from __future__ import annotations

import argparse
import importlib
import textwrap
from typing import Any, NoReturn

from sememe.cli import shared
from sememe.errors import UsageError

# Each operation is a module with EXAMPLE, arguments(verb) and run(given), imported when it is asked for.
OPERATIONS = {
    "inspect": ("sememe.cli.vocab_inspect", "what the vocabulary costs, and what of it a text uses"),
    "trim": ("sememe.cli.vocab_trim", "keep the tokens that some languages need"),
    "expand": ("sememe.cli.vocab_expand", "add tokens for what a text writes often, also of several words"),
    "transplant": ("sememe.cli.vocab_transplant", "give a model another tokenizer, with rows for its tokens"),
    "compare": ("sememe.cli.vocab_compare", "every way of making rows in one table: loss, time and memory"),
    "bytes": ("sememe.cli.vocab_bytes", "what bytes may follow a text that ends anywhere, by one model or several"),
}
EXAMPLE = """sememe vocab inspect MODEL --text sample.txt
  sememe vocab trim MODEL --text sample.de.txt -o MODEL-de
  sememe vocab expand MODEL --text law.txt --add 2000 -o MODEL-law
  sememe vocab transplant MODEL --tokenizer DONOR -o MODEL-DONOR
  sememe vocab compare MODEL --tokenizer DONOR --text sample.txt
  sememe vocab OPERATION --help"""


def arguments(verb: argparse.ArgumentParser) -> None:
    """The operation; its own arguments are added when it is known."""
    width = max(map(len, OPERATIONS))
    lines = "\n".join(f"  {name:{width}}  {summary}" for name, (_, summary) in OPERATIONS.items())
    verb.usage = "sememe vocab OPERATION MODEL [ARGUMENTS]"
    verb.description = f"{verb.description}\n\noperations:\n{lines}"
    operations = verb.add_subparsers(dest="operation", metavar="OPERATION", parser_class=_Lazy, required=True)
    for name, (module, summary) in OPERATIONS.items():
        operations.add_parser(name, prog=f"sememe vocab {name}", module=module, summary=summary)


class _Lazy(argparse.ArgumentParser):
    """A parser of one operation that imports its module only when it has something to parse."""

    def __init__(self, *, module: str = "", summary: str = "", **settings: object) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)  # type: ignore[arg-type]
        self.module, self.summary = module, summary

    def parse_known_args(self, args: Any = None, namespace: Any = None, **others: Any) -> Any:
        """Add the operation's arguments, then parse."""
        if self.module:
            operation = importlib.import_module(self.module)
            self.description = textwrap.fill(self.summary[0].upper() + self.summary[1:] + ".", 100)
            self.epilog = f"example:\n  {operation.EXAMPLE}"
            operation.arguments(self)
            self.add_argument("--json", action="store_true", help="machine-readable answer on standard output")
            self.add_argument("--quiet", action="store_true", help="no progress on standard error")
            self.module = ""
        return super().parse_known_args(args, namespace, **others)

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")


def run(given: argparse.Namespace) -> int:
    """Do what was asked for."""
    if given.operation not in OPERATIONS:
        raise UsageError(f"there is no operation {given.operation!r}", fix=f"choose {', '.join(OPERATIONS)}")
    return int(importlib.import_module(OPERATIONS[given.operation][0]).run(given))


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
