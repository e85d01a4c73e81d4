"""``sememe plan``."""

from __future__ import annotations

import argparse
from typing import Any

from sememe.cli import shared

EXAMPLE = "sememe plan corpus.jsonl --queries queries.jsonl --qrels qrels.tsv --tolerance 2% -o my.plan"


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("source", help="a folder, a file, a BEIR folder, or - for standard input")
    verb.add_argument("--queries", help="queries (JSONL with _id and text, TSV, or a query a line)")
    verb.add_argument("--qrels", help="judgements (BEIR TSV or TREC qrels)")
    options(verb)
    verb.add_argument("-o", "--output", default="sememe-plan", help="folder for plan.json and report.html")
    shared.duplicate_option(verb)
    shared.reader_options(verb)


def options(verb: argparse.ArgumentParser) -> None:
    """Options that steer the planner, shared with build and demo."""
    verb.add_argument(
        "--encoders",
        default="static",
        help="encoders that may be used, separated by commas (static,bm25 or static,splade); multivector "
        "among them adds token vectors (minilm,multivector)",
    )
    verb.add_argument("--chunkers", help="chunkings to try, separated by semicolons (document;sentences:4)")
    verb.add_argument("--tolerance", type=shared.share, default=0.02, help="largest acceptable loss (default 2%%)")
    verb.add_argument("--prefer", choices=["small", "fast", "quality"], default="small", help="what to optimise")
    verb.add_argument("--budget", type=shared.size, help="largest index, for example 20MB")
    verb.add_argument("--bytes-per-vector", type=shared.above_zero, help="most bytes a passage may take")
    verb.add_argument("--latency", type=shared.above_zero, help="most milliseconds a query may take at p95")
    verb.add_argument("--ram", type=shared.size, help="most memory that searches may keep in use, for example 50MB")
    verb.add_argument("--build-seconds", type=shared.above_zero, help="most seconds that building may take")
    verb.add_argument("--sample", type=shared.positive, default=20_000, help="records to measure on")
    verb.add_argument("--seconds", type=shared.above_zero, default=150.0, help="when to stop adding recipes")
    verb.add_argument("--seed", type=int, default=0)


def keywords(given: argparse.Namespace) -> dict[str, Any]:
    """The planner's keyword arguments from parsed options."""
    return {
        "encoders": [e.strip() for e in given.encoders.split(",") if e.strip()],
        "chunkers": [c.strip() for c in given.chunkers.split(";") if c.strip()] if given.chunkers else None,
        "tolerance": given.tolerance,
        "prefer": given.prefer,
        "budget": given.budget,
        "bytes_per_vector": given.bytes_per_vector,
        "latency": given.latency,
        "ram": given.ram,
        "build_seconds": given.build_seconds,
        "sample": given.sample,
        "seconds": given.seconds,
        "seed": given.seed,
    }


def run(given: argparse.Namespace) -> int:
    """Plan, write plan.json and report.html, and show the frontier."""
    from sememe import planner

    found = planner.plan(
        given.source,
        queries=given.queries,
        qrels=given.qrels,
        tell=None if given.quiet else shared.note,
        **keywords(given),
        on_duplicate=given.on_duplicate,
        **shared.reader_arguments(given),
    )
    document, page = found.save(given.output)
    if given.json:
        shared.print_json(found.document)
        return 0
    show(found)
    shared.say("", f"plan    {document}", f"report  {page}", "build   " + found.command)
    return 0


def show(found: Any) -> None:
    """The frontier as a table, the decision, and the warnings."""
    document = found.document
    rows, marks = [], {}
    listed = {p["recipe"]: p for p in [*found.frontier, found.chosen, found.reference]}
    for place, point in enumerate(sorted(listed.values(), key=lambda p: p["total_bytes"])):
        quality, latency = point["quality"], point["latency_ms"]
        mark = {found.reference["recipe"]: "reference", found.chosen["recipe"]: "chosen"}.get(point["recipe"], "")
        if mark:
            marks[place] = "bold green" if mark == "chosen" else "bold"
        rows.append(
            [
                point["recipe"],
                f"{round(point['bytes_per_vector'], 1):g}",
                shared.human(point["total_bytes"]),
                f"{quality['value']:.3f} [{quality['low']:.3f}, {quality['high']:.3f}]",
                f"{latency['p50']:.2g} / {latency['p95']:.2g}",
                mark or point["verdict"],
            ]
        )
    columns = ["recipe", "bytes", "index", document["metric"], "ms p50 / p95", ""]
    shared.say("", shared.table("What every byte buys", columns, rows, marks=marks))
    for point in document["context"]:
        quality = point["quality"]
        shared.say(
            f"  beside it: {point['recipe']}  {shared.human(point['total_bytes'])}  {quality['value']:.3f} "
            f"[{quality['low']:.3f}, {quality['high']:.3f}]"
        )
    shared.say("", document["decision"])
    reported = found.chosen.get("reported")
    if reported:
        shared.say(
            f"On {document['judgement']['report']} queries that took no part in the choice: "
            f"{reported['value']:.3f} [{reported['low']:.3f}, {reported['high']:.3f}], "
            f"the reference {found.reference.get('reported', reported)['value']:.3f}."
        )
    for warning in document["warnings"]:
        shared.say(f"note: {warning}")
