"""What runs on the shortlist: rescoring from a finer code, and fusion with a lexical ranking.

These classes hold the settings that a recipe gives; ``search.py`` makes the rankings they work on.
"""

from __future__ import annotations

from typing import Any

from sememe import catalog
from sememe.catalog import Paper, register
from sememe.errors import InputError
from sememe.index.fusion import METHODS, Ranked, fuse

DENSE_FLOOR, LEXICAL_FLOOR = -1.0, 0.0  # the least cosine, the least bm25


@register(
    "rescore",
    room="index",
    kind="reranker",
    summary="Score the shortlist again from a finer code that lies beside the first one.",
    paper=Paper("Searching in one billion vectors: re-rank with source coding", 2011, "1102.3828"),
    claim="A coarse scan with a rescored shortlist ranks nearly as the finer code alone would.",
)
class Rescore:
    """``rescore:QUANTIZER[,oversample=4][,n=...][,full=true]``.

    Parameters
    ----------
    quantizer : str
        The finer code, for example ``fp16`` or ``int8``.
    arguments
        Positional arguments of that quantizer.
    oversample : int
        The shortlist holds this many times ``k``.
    n : int, optional
        The shortlist holds at least this many passages.
    full : bool
        Keep the vectors before the recipe's transforms instead of after them: larger, and it undoes what truncation
        or projection lost.
    """

    def __init__(self, quantizer: str, *arguments: Any, oversample: int = 4, n: int = 0, full: bool = False) -> None:
        if not isinstance(oversample, int) or not 1 <= oversample <= 1000:
            raise InputError(f"rescore oversample must be a whole number from 1 to 1000, got {oversample!r}")
        if not isinstance(n, int) or n < 0:
            raise InputError(f"rescore n must be a whole number of at least 0, got {n!r}")
        self.name, self.arguments = str(quantizer), arguments
        self.oversample, self.n, self.full = oversample, n, bool(full)
        catalog.find(self.name, kind="quantizer")

    def make(self) -> Any:
        """A new quantizer, not yet fitted."""
        return catalog.find(self.name, kind="quantizer").make(*self.arguments)

    def shortlist(self, k: int, oversample: int | None = None) -> int:
        """How many passages are scored again for ``k`` results."""
        return max(k * (oversample or self.oversample), self.n, k)


@register(
    "hybrid",
    room="index",
    kind="reranker",
    summary="Fuse the dense ranking with bm25 over the same passages.",
    paper=Paper("Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning Methods", 2009),
    claim="The fused ranking is better than either of its parts on average over collections.",
)
class Hybrid:
    """``hybrid:bm25[,fusion=rrf][,weight=0.5][,depth=100]``.

    ``index.fuse_hits`` fuses more than two rankings, as BGE M3-Embedding (2024, arXiv 2402.03216) does with dense,
    sparse and multi-vector ones.

    Parameters
    ----------
    model : str
        The lexical encoder; it must give terms, as ``bm25`` does.
    fusion : {"rrf", "score", "tmm", "zscore", "dbsf", "mnz"}
        By reciprocal rank, or by scores brought to one scale: see ``fusion.fuse``.
    weight : float
        The share of the lexical ranking, from 0 to 1; the dense one has the rest.
    depth : int
        How far down each ranking is read.
    """

    def __init__(self, model: str = "bm25", *, fusion: str = "rrf", weight: float = 0.5, depth: int = 100) -> None:
        if fusion not in METHODS:
            raise InputError(f"hybrid has no fusion {fusion!r}", fix=f"use one of {', '.join(METHODS)}")
        if not isinstance(weight, (int, float)) or not 0 <= weight <= 1:
            raise InputError(f"hybrid weight must lie between 0 and 1, got {weight!r}")
        if not isinstance(depth, int) or not 1 <= depth <= 100_000:
            raise InputError(f"hybrid depth must be a whole number from 1 to 100000, got {depth!r}")
        self.model, self.fusion, self.weight, self.depth = str(model), fusion, float(weight), depth

    def fuse(self, dense: Ranked, lexical: Ranked, k: int) -> Ranked:
        """The ``k`` best of both rankings together: scores and rows ``(q, k')``."""
        weights = [2 * (1 - self.weight), 2 * self.weight]  # equal shares give the classical sum
        return fuse(self.fusion, [dense, lexical], k, weights, [DENSE_FLOOR, LEXICAL_FLOOR])
