"""``sememe add``."""

from __future__ import annotations

import argparse

from sememe.cli import shared

EXAMPLE = "sememe add my.index more.jsonl"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("index", help="the index folder")
    verb.add_argument("source", help="a folder, a file, or - for standard input")
    shared.reader_options(verb)


def run(given: argparse.Namespace) -> int:
    """Add the records of a source to an index."""
    import sememe
    from sememe.text import read

    index = sememe.open(given.index)
    # The reader, too, meets ids that repeat.
    reading = shared.reader_arguments(given) | {"on_duplicate": index.info()["on_duplicate"]}
    reader = shared.Required(read(given.source, **reading), given.source)
    added = index.add(reader)
    if not given.quiet:
        shared.note(*reader.report.summary_lines())
    if given.json:
        shared.print_json({"index": given.index, "added": added})
    else:
        shared.say(f"{given.index}: {added:,} records added")
    return 0
