"""``sememe measure compression``: what compressing ready vectors costs, at growing sizes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sememe.cli import shared
from sememe.errors import InputError, UsageError

if TYPE_CHECKING:
    from sememe.measure.compression_bench import BenchRow


def compressors(d: int) -> list[str]:
    """What is compared for vectors of width ``d``: each step down in bytes, in several ways."""
    found = ["fp16", "fp8", "int8", "rabitq:4", "int4", "power:4", "rabitq:2", "ternary", "rabitq:1", "binary"]
    found += [f"pca:{width} | int8" for width in (d // 2, d // 4) if width >= 16]
    found += [f"truncate:{width} | int8" for width in (d // 2,) if width >= 16]
    return found + [f"{name}:{size}" for size in (d // 2, d // 4, d // 8) if size >= 4 for name in ("klt", "pq")]


def run(given: argparse.Namespace) -> int:
    """The table, the JSON, and with ``-o`` the page with the frontier."""
    import numpy as np

    from sememe.measure.compression_bench import CompressionBench
    from sememe.measure.vector_files import read_vectors

    if not given.queries:
        raise UsageError("measuring compression needs --queries", fix="give a file of query vectors, as the corpus")
    corpus = read_vectors(given.target, column=given.column)
    queries = read_vectors(given.queries, column=given.column)
    if corpus.shape[1] != queries.shape[1]:
        raise InputError(
            f"queries have {queries.shape[1]} columns, the corpus has {corpus.shape[1]}", where=given.queries
        )
    if given.sizes:
        sizes = sorted({min(int(size), len(corpus)) for size in given.sizes})
    else:
        sizes = sorted({size for size in (len(corpus) // 100, len(corpus) // 10) if size >= 1000} | {len(corpus)})
    names = given.compressors.split(";") if given.compressors else compressors(corpus.shape[1])
    bench = CompressionBench([name.strip() for name in names], seed=given.seed)
    if given.qrels:
        from sememe.text import read_qrels

        documents, asked = ids(given.ids, len(corpus)), ids(given.query_ids, len(queries))
        rows = bench.run(corpus, queries, read_qrels(given.qrels), documents, asked, sizes)
    else:
        if given.query_ids or given.ids:
            raise UsageError("ids are only used with --qrels")
        rows = bench.run_alone(corpus, queries, sizes, k=min(10, int(np.min(sizes))))
    answer = as_json(rows)
    if given.out:
        save(answer, given.out)
    if given.json:
        shared.print_json(answer)
        return 0
    metric = answer["metric"]
    for size in answer["sizes"]:
        lines = [
            [
                row["compressor"],
                f"{row['bytes_per_vector']:g}",
                f"{row[metric]['value']:.4f}",
                f"{row['change']['value']:+.4f} [{row['change']['low']:+.4f}, {row['change']['high']:+.4f}]",
                f"{row['p_value']:.3f}",
                "*" if row["on_frontier"] else "",
            ]
            for row in answer["rows"]
            if row["size"] == size
        ]
        columns = ["compressor", "bytes", metric, "against float, 95 %", "p", "frontier"]
        shared.say(shared.table(f"{size:,} vectors", columns, lines))
    if given.out:
        shared.say(f"written: {given.out}/compression.json, {given.out}/compression.html")
    return 0


def ids(path: str | None, count: int) -> list[str]:
    """A line an id; row numbers where no file is given."""
    if path is None:
        return [str(row) for row in range(count)]
    found = shared.read_lines(path)
    if len(found) != count:
        raise InputError(f"{len(found)} ids for {count} vectors", where=path, fix="write one id a line, in row order")
    return found


def as_json(rows: Sequence[BenchRow]) -> dict[str, Any]:
    """Every row, and which are on the frontier of bytes and quality at their size."""
    metric = next(iter(rows[0].quality))
    out = []
    for row in rows:
        quality = {name: value.as_json() for name, value in row.quality.items()}
        better = any(
            other.size == row.size
            and other.bits <= row.bits
            and other.quality[metric].value >= row.quality[metric].value
            and (other.bits, -other.quality[metric].value) != (row.bits, -row.quality[metric].value)
            for other in rows
        )
        out.append(
            {
                "compressor": row.compressor,
                "size": row.size,
                "bytes_per_vector": row.bits / 8,
                **quality,
                "change": row.change[metric].as_json(),
                "p_value": row.p_value[metric],
                "relevant_in_10": row.relevant,
                "distractors_in_10": row.distractors,
                "on_frontier": not better,
            }
        )
    return {"metric": metric, "sizes": sorted({row.size for row in rows}), "rows": out}


def save(answer: dict[str, Any], folder: str) -> None:
    """``compression.json`` and a page with one frontier plot a size."""
    import json

    from sememe.planner.frontier_page import render

    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / "compression.json").write_text(json.dumps(answer, indent=1), encoding="utf-8")
    plots = []
    for size in answer["sizes"]:
        points = [
            {
                "recipe": row["compressor"],
                "bytes_per_vector": row["bytes_per_vector"],
                "quality": row[answer["metric"]],
            }
            for row in answer["rows"]
            if row["size"] == size
        ]
        frontier = [p for p, row in zip(points, (r for r in answer["rows"] if r["size"] == size)) if row["on_frontier"]]
        plots.append((f"{size:,} vectors", {"points": points, "frontier": frontier, "metric": answer["metric"]}))
    (place / "compression.html").write_text(render("Compression of vectors", plots), encoding="utf-8")
