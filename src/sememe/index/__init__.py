"""Storage and search: segments on disk, flat scan and graph, inverted lists, filters, fusion, rescoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sememe.faces import lazy

_LAZY = {
    "BuildReport": "ledger",
    "Index": "engine",
    "KeyedVectors": "keyed",
    "Ledger": "ledger",
    "SemanticCache": "semantic_cache",
    "VectorIndex": "vectors",
    "build": "engine",
    "fuse_hits": "fusion",
    "open": "engine",
    "predict": "ledger",
    "topk": "scan",
}
__all__ = [
    "BuildReport",
    "Index",
    "KeyedVectors",
    "Ledger",
    "SemanticCache",
    "VectorIndex",
    "build",
    "fuse_hits",
    "open",
    "predict",
    "topk",
]

if TYPE_CHECKING:
    from sememe.index.engine import Index, build, open
    from sememe.index.fusion import fuse_hits
    from sememe.index.keyed import KeyedVectors
    from sememe.index.ledger import BuildReport, Ledger, predict
    from sememe.index.scan import topk
    from sememe.index.semantic_cache import SemanticCache
    from sememe.index.vectors import VectorIndex

__getattr__, __dir__ = lazy(__name__, _LAZY)
