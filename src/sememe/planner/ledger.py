"""The byte ledger of a recipe over the whole collection, before it is built.

Two sums matter. ``total`` is the index on disk, text and metadata included: what ``sememe build`` will report, and what
a budget is held against. ``search`` is what searching needs (codes, learned side data, ids, graph, postings, passage
map, rescoring tier): what recipes are compared by, since the text is the same under all of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.planner.corpus import Corpus
from sememe.planner.space import has_several, with_index
from sememe.recipe import Recipe

SEARCHED = ("codes", "side", "ids", "graph", "postings", "map", "rescore")


class Sizes:
    """Counts of the collection by chunking, and ledgers from them."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self._counts: dict[tuple[str, bool], object] = {}
        self._weights: dict[tuple[str, str], tuple[float, int]] = {}
        self._tokens: dict[tuple[str, str], NDArray[np.int64]] = {}

    def learn(self, chunker: str, encoder: str, postings: float, terms: int) -> None:
        """Keep what a learned sparse encoder gave the sample: weights a passage, and different terms."""
        self._weights[chunker, encoder] = postings, terms

    def learn_tokens(self, chunker: str, encoder: str, counts: NDArray[np.int64]) -> None:
        """Keep how many token vectors each passage of the sample has."""
        self._tokens[chunker, encoder] = counts

    def ledger(self, recipe: Recipe, dim: int, *, factor: float = 1.0) -> dict[str, float]:
        """Bytes of each part for ``factor`` times the collection, with ``search``, ``ram``, ``disk`` and ``total``;
        beside them the number of ``passages``.

        ``ram`` is what searches touch again and again; ``disk`` is the rest, read for hits, filters and the shortlist.
        """
        from sememe.index.ledger import predict
        from sememe.index.sizes import CorpusSizes

        lexical = any(stage.name == "hybrid" for stage in recipe.rerankers) or recipe.index.name == "inverted"
        key = (str(recipe.chunker), lexical)
        several = has_several(recipe)
        if key not in self._counts:
            # Token vectors have been counted already.
            self._counts[key] = CorpusSizes.of(self.corpus.records, with_index(recipe, "flat") if several else recipe)
        counts = self._counts[key].grown(self.corpus.scale * factor)  # type: ignore[attr-defined]
        if self.corpus.is_sample:  # what was counted beats what was estimated
            counts["records"] = round(self.corpus.total_records * factor)
            counts |= {name: round(size * factor) for name, size in self.corpus.text_bytes.items()}
            if not counts["spans"]:
                counts["passages"] = counts["records"]
        weights = self._weights.get((str(recipe.chunker), str(recipe.encoder)))
        if weights is not None:
            counts["postings"], counts["terms"] = round(weights[0] * counts["passages"]), weights[1]
        if several:
            tokens = self._tokens[str(recipe.chunker), str(recipe.encoder)]
            counts["vectors"] = round(recipe.index.make().vectors(tokens) / len(tokens) * counts["passages"])
        parts: dict[str, float] = dict(predict(recipe, dim=dim, **counts).as_json())
        parts["search"] = sum(parts[name] for name in SEARCHED)
        parts["disk"] = parts["total"] - parts["ram"]
        parts["passages"] = counts["passages"]
        return parts
