"""``sememe compact``."""

from __future__ import annotations

import argparse

from sememe.cli import shared

EXAMPLE = "sememe compact my.index"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("index", help="the index folder")


def run(given: argparse.Namespace) -> int:
    """Merge segments and drop what was deleted."""
    index = shared.open_any(given.index)
    before = index.info()
    index.compact()
    after = index.info()
    answer = {
        "index": given.index,
        "bytes_before": shared.disk_bytes(before),
        "bytes_after": shared.disk_bytes(after),
        "segments": after["segments"],
    }
    if given.json:
        shared.print_json(answer)
    else:
        sizes = f"{shared.human(answer['bytes_before'])} -> {shared.human(answer['bytes_after'])}"
        shared.say(f"{given.index}: {sizes}, {answer['segments']} segments")
    return 0
