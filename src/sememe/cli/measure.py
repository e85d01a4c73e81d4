"""``sememe measure retrieval``."""

from __future__ import annotations

import argparse
from typing import Any

from sememe.cli import shared
from sememe.errors import InputError, UsageError

EXAMPLE = """sememe measure retrieval my.index --queries queries.jsonl --qrels qrels.tsv
  sememe measure retrieval out.trec --qrels qrels.tsv"""
METRICS = ("ndcg@10", "recall@100", "mrr@10")


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("what", choices=["retrieval"], help="what to measure")
    verb.add_argument("target", help="an index folder, or a TREC run file")
    verb.add_argument("--queries", help="queries, where the target is an index")
    verb.add_argument("--qrels", required=True, help="judgements (BEIR TSV or TREC qrels)")
    verb.add_argument("--metrics", default=",".join(METRICS), help="names such as ndcg@10, separated by commas")
    verb.add_argument("--run", help="write the run here as TREC lines")
    verb.add_argument("--seed", type=int, default=0)


def run(given: argparse.Namespace) -> int:
    """Measures with 95 % intervals over queries."""
    from pathlib import Path

    from sememe.measure.retrieval import evaluate, summarize
    from sememe.measure.trec import read_run, write_run
    from sememe.text import read_qrels

    qrels = read_qrels(given.qrels)
    metrics = tuple(m.strip() for m in given.metrics.split(",") if m.strip())
    if not metrics:
        raise UsageError("no measure is named", fix=f"write for example --metrics {','.join(METRICS)}")
    if Path(given.target).is_dir():
        if not given.queries:
            raise UsageError("measuring an index needs --queries")
        ranked = search(given.target, given.queries, qrels)
    else:
        ranked = read_run(given.target)
        if not qrels.keys() & ranked.keys():
            raise InputError(
                "no query of the run has a judgement", where=given.target, fix="check that both files use the same ids"
            )
    if not any(ranked.get(query, {}).keys() & judged.keys() for query, judged in qrels.items()):
        shared.note("none of the judged documents was found; check that the judgements use the ids of the collection")
    if given.run:
        write_run(ranked, given.run)
    found = evaluate(ranked, qrels, metrics)
    answer: dict[str, Any] = {m: summarize(values, seed=given.seed).as_json() for m, values in found.items()}
    if given.json:
        shared.print_json(answer)
        return 0
    rows = [[m, f"{v['value']:.4f}", f"[{v['low']:.4f}, {v['high']:.4f}]"] for m, v in answer.items()]
    judged = len(next(iter(found.values()))) if found else 0
    shared.say(shared.table(f"{judged} judged queries", ["measure", "value", "95 % interval"], rows))
    return 0


def search(path: str, queries: str, qrels: dict[str, dict[str, int]]) -> dict[str, dict[str, float]]:
    """The best hundred records of each judged query."""
    import sememe
    from sememe.text import read_queries

    asked = {name: text for name, text in read_queries(queries).items() if name in qrels}
    if not asked:
        raise InputError("no query has a judgement", where=queries, fix="check that both files use the same ids")
    hits = sememe.open(path).search(list(asked.values()), 100)
    return shared.ranking(asked, hits)
