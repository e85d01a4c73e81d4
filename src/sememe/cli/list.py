"""``sememe list``."""

from __future__ import annotations

import argparse

from sememe.cli import shared

EXAMPLE = "sememe list codec"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    from sememe import catalog

    verb.add_argument("room", nargs="?", choices=catalog.ROOMS, help="only this room")
    verb.add_argument("--kind", choices=[*catalog.STAGE_KINDS, "measure"], help="only this kind")


def run(given: argparse.Namespace) -> int:
    """Show the catalogue."""
    from sememe import catalog

    found = [t.as_json() for t in catalog.techniques(room=given.room, kind=given.kind)]
    if given.json:
        shared.print_json(found)
        return 0
    rows = []
    for technique in found:
        paper = technique["paper"]
        source = ""
        if paper:
            source = f"{paper['title']}, {paper['year']}" + (f" ({paper['arxiv']})" if paper["arxiv"] else "")
        rows.append([technique["name"], technique["room"], technique["kind"], technique["summary"], source])
    shared.say(shared.table("", ["name", "room", "kind", "what it does", "paper"], rows))
    return 0
