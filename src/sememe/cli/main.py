"""Entry point of ``sememe``: the parser, the exit status, and where errors become one line.

Exit status: 0 done, 1 the answer is no, 2 the command line is wrong, 3 bad input.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from sememe import __version__
from sememe.errors import SememeError

VERBS = {
    "demo": "plan, build and search on the documentation that comes with Python",
    "plan": "measure what every byte buys on your text, and choose a recipe",
    "build": "build an index with the planned recipe or one of your own",
    "search": "search an index",
    "add": "add records to an index",
    "delete": "delete records from an index",
    "compact": "drop what was deleted and merge segments",
    "verify": "check every byte of an index",
    "recover": "go back to the last readable commit of a damaged index",
    "info": "what an index holds, and its bytes",
    "encode": "turn texts into vectors",
    "vocab": "look at the vocabulary of a model, and change it",
    "tokens": "compare ways to turn symbols into vectors, and put a smaller one into a model",
    "measure": "measures of a representation: retrieval, compression",
    "list": "the catalogue of techniques, each with its paper",
    "reproduce": "rerun the evidence for a technique",
    "bench": "speed and recall beside other libraries, here and now",
    "doctor": "what this installation can do, and what would make it faster",
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error; argparse would print the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The top-level parser; a verb's own arguments are added only when that verb is asked for."""
    verbs = "\n".join(f"  {name:10} {summary}" for name, summary in VERBS.items())
    top = Parser(
        prog="sememe",
        usage="sememe VERB [ARGUMENTS]   (sememe VERB --help for an example)",
        description="The embedding workbench: measure what every byte buys on your own text, and build the smallest "
        "index that still answers.",
        epilog=f"verbs:\n{verbs}\n\nexample:\n  sememe demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"sememe {__version__}")
    top.add_argument("verb", metavar="VERB", choices=list(VERBS), help=argparse.SUPPRESS)
    return top


def _common(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="machine-readable answer on standard output, nothing else")
    verb.add_argument("--quiet", action="store_true", help="no progress on standard error")
    verb.add_argument("--progress", choices=["auto", "json"], default="auto", help="how progress is shown")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0].startswith("-"):
        parser().parse_args(given or ["--help"])
        return 2
    name = given[0]
    if name not in VERBS:
        import difflib

        near = difflib.get_close_matches(name, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"verbs: {', '.join(VERBS)}"
        sys.stderr.write(f"sememe: there is no verb {name!r}; {hint}\n")
        return 2
    module = importlib.import_module(f"sememe.cli.{name}")
    verb = Parser(
        prog=f"sememe {name}",
        description=VERBS[name][0].upper() + VERBS[name][1:] + ".",
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.arguments(verb)
    _common(verb)
    options = verb.parse_args(given[1:])
    from sememe import progress

    progress.set_mode("quiet" if options.quiet else options.progress)
    try:
        return int(module.run(options) or 0)
    except SememeError as error:
        sys.stderr.write(f"sememe {name}: {error}\n")
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left; that is not an error of ours
        return 0
    except KeyboardInterrupt:
        command = shlex.join(["sememe", *given])
        sys.stderr.write(f"\nsememe {name}: interrupted; what was encoded or logged is kept, go on with: {command}\n")
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
