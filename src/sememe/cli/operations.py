"""A verb with operations of its own, such as ``sememe vocab trim``; each is imported when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import textwrap
from collections.abc import Mapping
from typing import Any, NoReturn

from sememe.errors import UsageError

# Name of the operation -> (module with EXAMPLE, arguments(verb) and run(given), what it does).
Operations = Mapping[str, tuple[str, str]]


def add(verb: argparse.ArgumentParser, name: str, operations: Operations, usage: str) -> None:
    """Add the operations to a verb; an operation's own arguments are added when it is known."""
    width = max(map(len, operations))
    lines = "\n".join(f"  {key:{width}}  {summary}" for key, (_, summary) in operations.items())
    verb.usage = usage
    verb.description = f"{verb.description}\n\noperations:\n{lines}"
    parsers = verb.add_subparsers(dest="operation", metavar="OPERATION", parser_class=_Lazy, required=True)
    for key, (module, summary) in operations.items():
        parsers.add_parser(key, prog=f"sememe {name} {key}", module=module, summary=summary)


def run(given: argparse.Namespace, operations: Operations) -> int:
    """Do what was asked for."""
    if given.operation not in operations:
        raise UsageError(f"there is no operation {given.operation!r}", fix=f"choose {', '.join(operations)}")
    return int(importlib.import_module(operations[given.operation][0]).run(given))


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
