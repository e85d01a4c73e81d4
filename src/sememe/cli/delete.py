"""``sememe delete``."""

from __future__ import annotations

import argparse

from sememe.cli import shared
from sememe.errors import UsageError

EXAMPLE = "sememe delete my.index doc-17 doc-18"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("index", help="the index folder")
    verb.add_argument("ids", nargs="*", help="ids of records")
    verb.add_argument("--ids-from", help="a file with an id a line")


def run(given: argparse.Namespace) -> int:
    """Delete records; 1 where one of them is not in the index."""
    import sememe

    ids = [*given.ids, *(shared.read_lines(given.ids_from) if given.ids_from else [])]
    if not ids:
        raise UsageError("no ids are given", fix="name them, or give --ids-from FILE")
    deleted = sememe.open(given.index).delete(ids)
    missing = len(set(ids)) - deleted
    if given.json:
        shared.print_json({"index": given.index, "deleted": deleted, "missing": missing})
    else:
        shared.say(f"{given.index}: {deleted:,} records deleted" + (f", {missing:,} not found" if missing else ""))
    return 1 if missing else 0
