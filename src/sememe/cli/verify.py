"""``sememe verify``."""

from __future__ import annotations

import argparse
from typing import Any

from sememe.cli import shared
from sememe.errors import FormatError, StorageError

EXAMPLE = "sememe verify my.index"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("index", help="the index folder")


def run(given: argparse.Namespace) -> int:
    """Read every byte and check it; 1 where something is damaged."""
    from sememe.index.storage import check

    try:
        report = check.verify(given.index)
        answer: dict[str, Any] = {
            "ok": report.ok,
            "files": report.files,
            "bytes": report.bytes,
            "problems": list(report.problems),
        }
    except FormatError:
        raise  # not an index, or of another version: nothing can be said about damage
    except StorageError as error:
        answer = {"ok": False, "files": 0, "bytes": 0, "problems": [str(error)]}
    if given.json:
        shared.print_json(answer)
    elif answer["ok"]:
        shared.say(f"{given.index}: {answer['files']} files, {shared.human(answer['bytes'])}, all good")
    else:
        shared.say(f"{given.index}: damaged", *[f"  {problem}" for problem in answer["problems"]])
        shared.say(f"go back to the last good commit with: sememe recover {given.index}")
    return 0 if answer["ok"] else 1
