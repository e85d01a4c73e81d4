"""``sememe measure retrieval`` and ``sememe measure compression``."""

from __future__ import annotations

import argparse
from typing import Any

from sememe.cli import shared
from sememe.errors import InputError, UsageError

EXAMPLE = """sememe measure retrieval my.index --queries queries.jsonl --qrels qrels.tsv
  sememe measure retrieval out.trec --qrels qrels.tsv
  sememe measure compression vectors.npy --queries queries.npy -o compression"""
METRICS = ("ndcg@10", "recall@100", "mrr@10")


def arguments(verb: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    verb.add_argument("what", choices=["retrieval", "compression"], help="what to measure")
    verb.add_argument("target", help="an index folder or a TREC run file; a file of vectors for compression")
    verb.add_argument("--queries", help="queries, where the target is an index; a file of vectors for compression")
    verb.add_argument("--qrels", help="judgements (BEIR TSV or TREC qrels)")
    verb.add_argument("--metrics", default=",".join(METRICS), help="names such as ndcg@10, separated by commas")
    verb.add_argument("--run", help="write the run here as TREC lines")
    verb.add_argument("--seed", type=int, default=0)
    group = verb.add_argument_group("compression")
    group.add_argument("--compressors", help='middle parts of recipes, separated by semicolons: "int8; pca:128 | int4"')
    group.add_argument("--sizes", type=shared.positive, nargs="+", help="corpus sizes, growing")
    group.add_argument("--column", help="column of a Parquet file, or data set of an HDF5 file")
    group.add_argument("--ids", help="ids of the vectors, one a line, as --qrels names them (default: row numbers)")
    group.add_argument("--query-ids", help="the same for queries")
    group.add_argument("-o", "--out", help="write compression.json and a page with the frontier into this folder")


def run(given: argparse.Namespace) -> int:
    """Measures with 95 % intervals over queries."""
    if given.what == "compression":
        from sememe.cli import measure_compression

        return measure_compression.run(given)
    if not given.qrels:
        raise UsageError("measuring retrieval needs --qrels")
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
