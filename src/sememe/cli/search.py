"""``sememe search``."""

from __future__ import annotations

import argparse
import time
from typing import Any, Literal

from sememe.cli import shared
from sememe.errors import UsageError

EXAMPLE = """sememe search my.index "who may approve it?" --where "year >= 2024 and lang = 'en'"
  sememe search my.index --queries queries.jsonl --run out.trec -k 100"""


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("index", help="the index folder")
    verb.add_argument("query", nargs="?", help="what to look for")
    verb.add_argument("-k", type=shared.positive, default=None, help="results a query (10; 100 with --run)")
    verb.add_argument("--where", help="a condition on metadata: year >= 2024 and lang in ('en', 'de')")
    verb.add_argument("--passages", action="store_true", help="every passage, not the best one of each record")
    verb.add_argument("--queries", help="many queries: JSONL, TSV or one a line")
    verb.add_argument("--run", help="write the results of --queries here as TREC run lines")
    verb.add_argument("--verify", choices=["lazy", "full", "off"], default="lazy", help="when checksums are checked")


def run(given: argparse.Namespace) -> int:
    """Answer one query, or many into a TREC run."""
    import sememe

    if (given.query is None) == (given.queries is None):
        raise UsageError("give either one query or --queries FILE")
    if given.run and not given.queries:
        raise UsageError("--run needs --queries")
    index = sememe.open(given.index, verify=given.verify)
    unit: Literal["record", "passage"] = "passage" if given.passages else "record"
    if given.queries:
        return _many(index, given, unit)
    index.search([given.query], 1)  # loads the encoder, so that the time shown is that of a search
    started = time.perf_counter()
    hits = index.search([given.query], given.k or 10, where=given.where, unit=unit)
    milliseconds = (time.perf_counter() - started) * 1e3
    found = index.results(hits)[0]
    if given.json:
        shared.print_json({"hits": found, "milliseconds": round(milliseconds, 3)})
        return 0
    show(found)
    shared.note(f"{len(found)} hits in {milliseconds:.1f} ms")
    return 0


def show(found: list[dict[str, Any]]) -> None:
    """Hits for a person: score, id, and the beginning of the text."""
    for place, hit in enumerate(found, 1):
        text = " ".join(str(hit["text"]).split())
        text = text[:200] + ("…" if len(text) > 200 else "")
        shared.say(f"{place:>3}. {hit['score']:.3f}  {hit['id']}", f"       {text}")


def _many(index: Any, given: argparse.Namespace, unit: Literal["record", "passage"]) -> int:
    from sememe.text import read_queries

    queries = read_queries(given.queries)
    k = given.k or (100 if given.run else 10)
    started = time.perf_counter()
    hits = index.search(list(queries.values()), k, where=given.where, unit=unit)
    milliseconds = (time.perf_counter() - started) * 1e3
    if given.run:
        from sememe.measure.trec import write_run

        write_run(shared.ranking(queries, hits), given.run)
        answer: dict[str, Any] = {"run": given.run, "queries": len(queries), "milliseconds": round(milliseconds, 3)}
        if given.json:
            shared.print_json(answer)
        else:
            shared.say(f"{given.run}: {len(queries):,} queries, {milliseconds / max(len(queries), 1):.2f} ms each")
        return 0
    found = dict(zip(queries, index.results(hits), strict=True))
    if given.json:
        shared.print_json({"queries": found, "milliseconds": round(milliseconds, 3)})
        return 0
    for name, text in queries.items():
        shared.say("", f"{name}: {text}")
        show(found[name])
    return 0
