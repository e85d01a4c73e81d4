"""``sememe reproduce``."""

from __future__ import annotations

import argparse

from sememe.cli import shared

EXAMPLE = "sememe reproduce power --data DIR --seed 0"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("name", nargs="?", help="the technique; all that have evidence are listed without it")
    verb.add_argument("--data", help="folder of evaluation data (default: $SEMEME_DATA)")
    verb.add_argument("--seed", type=int, default=0, help="first of three seeds, where there is randomness")


def run(given: argparse.Namespace) -> int:
    """Rerun the evidence for one technique; 1 where the claim does not hold here."""
    from sememe import evidence

    if given.name is None:
        names = evidence.reproducible()
        if given.json:
            shared.print_json(names)
        else:
            shared.say(*names)
        return 0
    result = evidence.reproduce(given.name, data=given.data, seed=given.seed)
    answer = result.as_json()
    if given.json:
        shared.print_json(answer)
        return 0 if result.held else 1
    paper = answer["paper"]
    shared.say(
        f"{answer['technique']}: {paper['title']} ({paper['year']}, arXiv {paper['arxiv']})",
        f"claim     {answer['claim']}",
        f"baseline  {answer['baseline']}",
        f"measured  {answer['measured']}",
        f"interval  {answer['interval']}",
        f"held      {'yes' if answer['held'] else 'no'}" + (f": {answer['reason']}" if answer.get("reason") else ""),
        f"seeds     {answer['seeds']}, {answer['seconds']:.0f} s",
    )
    return 0 if result.held else 1
