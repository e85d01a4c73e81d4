"""Bytes, memory and time at ten and a hundred times the size, from what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sememe.index.pipeline import kind_of
from sememe.index.structure import growth
from sememe.planner.choose import Point
from sememe.recipe import Recipe

if TYPE_CHECKING:
    from sememe.planner.bench import Benches
    from sememe.planner.sweep import Sweep

SIZES = ((1, "this corpus"), (10, "10x"), (100, "100x"))


def extrapolate(point: Point, sweep: Sweep, makers: Benches) -> list[dict[str, Any]]:
    """One row a size. Codes, ids, graph, postings and rescoring grow with the collection, learned side data does not.

    A flat scan takes time in proportion to its codes, BM25 to its lists; other structures say themselves how theirs
    grows. Encoding the query takes the same at every size.
    """
    recipe = Recipe.parse(point.recipe)
    kind = kind_of(recipe)
    bench = sweep.bench_of(recipe)
    rows = []
    for factor, label in SIZES:
        ledger = makers.sizes.ledger(recipe, bench.real.passages.shape[1], factor=factor)
        words = bench.words_ms * sweep.scale
        scan = max(point.latency_ms["p50"] - bench.encode_ms - words, 0.0)
        rows.append(
            {
                "label": label,
                "passages": int(ledger["passages"]),
                "total_bytes": int(ledger["total"]),
                "search_bytes": int(ledger["search"]),
                "ram_bytes": int(ledger["ram"]),
                "disk_bytes": int(ledger["disk"]),
                "latency_ms": bench.encode_ms + scan * growth(kind, point.passages, factor) + words * factor,
                "build_seconds": point.build_seconds * factor,
            }
        )
    return rows
