"""Storage and search: segments on disk, flat scan and graph, inverted lists, filters, fusion, rescoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f"sememe.index.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'sememe.index' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
