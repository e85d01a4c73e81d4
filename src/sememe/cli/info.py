"""``sememe info``."""

from __future__ import annotations

import argparse

from sememe.cli import shared

EXAMPLE = "sememe info my.index"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("index", help="the index folder")


def run(given: argparse.Namespace) -> int:
    """Show what an index holds."""
    import sememe

    answer = sememe.open(given.index).info()
    if given.json:
        shared.print_json(answer)
        return 0
    for key, value in answer.items():
        if isinstance(value, dict):
            inside = ", ".join(
                f"{k} {shared.human(v) if key == 'bytes' else v}" for k, v in value.items() if v not in (0, None)
            )
            shared.say(f"{key:14} {inside}")
        else:
            shared.say(f"{key:14} {f'{value:,}' if isinstance(value, int) else value}")
    return 0
