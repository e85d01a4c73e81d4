"""What a representation is worth: retrieval measures with intervals, limits, geometry, chunk size, compression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sememe.faces import lazy

_LAZY = {
    "ChunkSizeSweep": "sememe.measure.chunk_size",
    "CompressionBench": "sememe.measure.compression_bench",
    "Estimate": "sememe.measure.stats",
    "Judged": "sememe.measure.retrieval",
    "LimitBenchmark": "sememe.measure.limits",
    "RedundancyReport": "sememe.measure.geometry",
    "ZeroShotRecEval": "sememe.measure.zero_shot_rec",
    "bootstrap_mean": "sememe.measure.stats",
    "evaluate": "sememe.measure.retrieval",
    "free_embedding_capacity": "sememe.measure.limits",
    "max_margin": "sememe.measure.limits",
    "paired_bootstrap": "sememe.measure.stats",
    "read_run": "sememe.measure.trec",
    "required_queries": "sememe.measure.stats",
    "summarize": "sememe.measure.retrieval",
    "write_run": "sememe.measure.trec",
}
__all__ = [
    "ChunkSizeSweep",
    "CompressionBench",
    "Estimate",
    "Judged",
    "LimitBenchmark",
    "RedundancyReport",
    "ZeroShotRecEval",
    "bootstrap_mean",
    "evaluate",
    "free_embedding_capacity",
    "max_margin",
    "paired_bootstrap",
    "read_run",
    "required_queries",
    "summarize",
    "write_run",
]

if TYPE_CHECKING:
    from sememe.measure.chunk_size import ChunkSizeSweep
    from sememe.measure.compression_bench import CompressionBench
    from sememe.measure.geometry import RedundancyReport
    from sememe.measure.limits import LimitBenchmark, free_embedding_capacity, max_margin
    from sememe.measure.retrieval import Judged, evaluate, summarize
    from sememe.measure.stats import Estimate, bootstrap_mean, paired_bootstrap, required_queries
    from sememe.measure.trec import read_run, write_run
    from sememe.measure.zero_shot_rec import ZeroShotRecEval

__getattr__, __dir__ = lazy(__name__, _LAZY)
