"""Text to vectors: the encoders, late chunking, and the cache of vectors. Encoders load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sememe.faces import lazy

_LAZY = {
    "BM25": "bm25",
    "BM25Scorer": "bm25",
    "Cached": "cache",
    "HuggingFace": "hf",
    "LateChunker": "late",
    "MiniLM": "minilm",
    "SentenceTransformers": "st",
    "Splade": "splade",
    "Static": "static",
    "UniversalSentenceEncoder": "use",
    "VectorCache": "cache",
    "as_mteb": "adapters",
    "as_sentence_transformer": "adapters",
    "encode_spans": "late",
    "from_object": "foreign",
    "make": "registry",
}
__all__ = [
    "BM25",
    "BM25Scorer",
    "Cached",
    "HuggingFace",
    "LateChunker",
    "MiniLM",
    "SentenceTransformers",
    "Splade",
    "Static",
    "UniversalSentenceEncoder",
    "VectorCache",
    "as_mteb",
    "as_sentence_transformer",
    "encode_spans",
    "from_object",
    "make",
]

if TYPE_CHECKING:
    from sememe.encode.adapters import as_mteb, as_sentence_transformer
    from sememe.encode.bm25 import BM25, BM25Scorer
    from sememe.encode.cache import Cached, VectorCache
    from sememe.encode.foreign import from_object
    from sememe.encode.hf import HuggingFace
    from sememe.encode.late import LateChunker, encode_spans
    from sememe.encode.minilm import MiniLM
    from sememe.encode.registry import make
    from sememe.encode.splade import Splade
    from sememe.encode.st import SentenceTransformers
    from sememe.encode.static import Static
    from sememe.encode.use import UniversalSentenceEncoder

__getattr__, __dir__ = lazy(__name__, _LAZY)
