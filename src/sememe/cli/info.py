"""``sememe info``."""

from __future__ import annotations

import argparse

from sememe.cli import shared

SIZES = ("bytes", "ram", "disk")
EXAMPLE = "sememe info my.index"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("index", help="the index folder")


def run(given: argparse.Namespace) -> int:
    """Show what an index holds."""
    answer = shared.open_any(given.index).info()
    if given.json:
        shared.print_json(answer)
        return 0
    for key, value in answer.items():
        if isinstance(value, dict):
            inside = ", ".join(
                f"{k} {shared.human(v) if key in SIZES else v}" for k, v in value.items() if v not in (0, None)
            )
            shared.say(f"{key:14} {inside}")
        else:
            shared.say(f"{key:14} {_shown(value)}")
    return 0


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
