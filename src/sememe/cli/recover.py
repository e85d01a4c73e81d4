"""``sememe recover``."""

from __future__ import annotations

import argparse

from sememe.cli import shared

EXAMPLE = "sememe recover my.index"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("index", help="the index folder")


def run(given: argparse.Namespace) -> int:
    """Set damaged manifests aside and go back to the last readable commit."""
    from sememe.index.storage.store import Store

    generation = Store.recover(given.index)
    if given.json:
        shared.print_json({"index": given.index, "generation": generation})
    else:
        shared.say(f"{given.index}: back at commit {generation}; damaged files, if any, were set aside, not deleted")
    return 0
