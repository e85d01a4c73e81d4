"""Points for orientation: lexical search, and lexical beside dense, where the user has not allowed them.

They are measured, but not chosen. A user who sees that BM25 alone answers better than a dense recipe, or that the two
together do, should know it, and can allow them with ``--encoders static,bm25``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sememe.planner.choose import Point
from sememe.planner.lexical import lexical_benches

if TYPE_CHECKING:
    from sememe.planner.bench import Benches
    from sememe.planner.sweep import Sweep


def lexical_points(sweep: Sweep, makers: Benches) -> list[Point]:
    """BM25 alone, and fused by reciprocal ranks with the reference; empty where nothing is judged.

    Where the reference is not a scan of one vector a passage, the first such bench of its chunking is fused instead.
    """
    bench = sweep.reference_bench
    if bench is None or bench.choose is None:
        return []
    if not bench.dense:
        bench = next(other for other in sweep.benches if other.dense and other.chunker == bench.chunker)
    points = [sweep.beside(other) for other in lexical_benches([bench], makers)]
    for point in points:
        point.verdict = "context"
    return points
