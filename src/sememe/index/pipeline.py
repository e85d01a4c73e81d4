"""A recipe made real: chunker, encoders, fitted codec, index kind and rerankers, as one object."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sememe import catalog
from sememe.contracts import Kind, Ragged, Vectors, as_vectors
from sememe.errors import InputError, RecipeError
from sememe.index.arrays import ALIGN
from sememe.index.passages import PassageEncoder
from sememe.index.rerank import Hybrid, Rescore
from sememe.recipe import Recipe


class Pipeline:
    """What a recipe's stages do to text, and the codec once it is fitted.

    Parameters
    ----------
    recipe : Recipe or str
    encoder, query_encoder : Encoder, optional
        Instead of the ones the recipe names.
    cache : path or VectorCache, optional
        Keeps vectors of passages, so that no text is encoded twice and an interrupted build resumes.

    Attributes
    ----------
    chain : Chain or None
        The fitted transforms and quantizer; None before ``fit`` and for sparse recipes.
    fine : Quantizer or None
        The fitted quantizer of the rescoring tier.
    """

    def __init__(
        self, recipe: Recipe | str, *, encoder: Any = None, query_encoder: Any = None, cache: Any = None
    ) -> None:
        self.recipe = Recipe.parse(recipe)
        self._given, self._given_query, self._cache = encoder, query_encoder, cache
        self.kind: Any = kind_of(self.recipe)
        self.rescore: Rescore | None = None
        self.hybrid: Hybrid | None = None
        for stage in self.recipe.rerankers:
            self._take(stage.make(), str(stage))
        self._check()
        self.chain: Any = None
        self.fine: Any = None

    def again(self, recipe: Recipe | str) -> Pipeline:
        """Another recipe, not fitted, with the encoders and the cache that were given to this one."""
        return Pipeline(recipe, encoder=self._given, query_encoder=self._given_query, cache=self._cache)

    def _take(self, reranker: Any, shown: str) -> None:
        if isinstance(reranker, Rescore) and self.rescore is None and self.hybrid is None:
            self.rescore = reranker
        elif isinstance(reranker, Hybrid) and self.hybrid is None:
            self.hybrid = reranker
        else:
            raise RecipeError(
                f"{shown!r} has no place in {str(self.recipe)!r}",
                fix="at most one rescore, then at most one hybrid can follow the index",
            )

    def _check(self) -> None:
        recipe, sparse = self.recipe, bool(self.kind.sparse)
        for stage, given in ((recipe.encoder, self._given), (recipe.query_encoder, self._given_query or self._given)):
            if given is None and bool(catalog.find(stage.name).traits.get("sparse")) != sparse:
                wanted = "a sparse encoder such as bm25" if sparse else "an encoder of dense vectors"
                fix = "end it with | inverted" if not sparse else "end it with | flat"
                raise RecipeError(f"{str(recipe.index)!r} needs {wanted}, and {stage.name!r} is not one", fix=fix)
            words = hasattr(catalog.find(stage.name).make if given is None else given, "terms")
            if words and getattr(self.kind, "weights", "") == "impact":
                raise RecipeError(f"{str(recipe.index)!r} keeps learned weights, not words", fix="use | inverted")
        if self.multi and self.rescore is not None:
            raise RecipeError(f"{str(recipe)!r}: rescore works on one vector a passage", fix="leave it out")
        dense_only = [*recipe.transforms, *(s for s in recipe.stages if s.kind == "quantizer"), *recipe.rerankers]
        if sparse and dense_only:
            raise RecipeError(f"{str(dense_only[0])!r} works on dense vectors, which {str(recipe)!r} has not")

    @cached_property
    def chunker(self) -> Any:
        """Cuts texts into spans."""
        return self.recipe.chunker.make()

    @cached_property
    def encoder(self) -> Any:
        """Encodes passages."""
        return self._given if self._given is not None else _make_encoder(self.recipe.encoder)

    @cached_property
    def query_encoder(self) -> Any:
        """Encodes queries: the encoder of passages unless the recipe is asymmetric."""
        if self._given_query is not None:
            return self._given_query
        if self._given is not None or self.recipe.query_encoder == self.recipe.encoder:
            return self.encoder
        return _make_encoder(self.recipe.query_encoder)

    @cached_property
    def passage_encoder(self) -> PassageEncoder:
        """Encodes the passages of records, through the cache where there is one."""
        late = bool(catalog.find(self.recipe.chunker.name).traits.get("late") or getattr(self.chunker, "late", False))
        encoder = self.encoder
        if late and not hasattr(encoder, "encode_tokens"):
            raise RecipeError(
                f"{str(self.recipe.chunker)!r} pools token vectors, which {str(self.recipe.encoder)!r} does not give"
            )
        if self._cache is not None and not late:
            from sememe.encode.cache import Cached, VectorCache

            cache = VectorCache(Path(self._cache)) if isinstance(self._cache, (str, Path)) else self._cache
            encoder = Cached(encoder, cache)
        return PassageEncoder(encoder, late)

    @property
    def sparse(self) -> str:
        """``terms`` or ``weights`` for sparse encoders, empty for dense ones."""
        if not self.kind.sparse:
            return ""
        return "terms" if hasattr(self.encoder, "terms") else "weights"

    @cached_property
    def analyzer(self) -> Any:
        """What cuts text into the terms of bm25; None where the recipe has no lexical part."""
        if self.sparse == "terms":
            return self.encoder
        return catalog.find(self.hybrid.model, kind="encoder").make() if self.hybrid else None

    @property
    def multi(self) -> bool:
        """Whether a passage has several vectors, as late interaction needs."""
        return bool(getattr(self.kind, "multi", False))

    def identity(self) -> dict[str, Any]:
        """Which encoders made the vectors: what an index stores and later checks."""
        return {role: _identity(encoder) for role, encoder in self._encoders()}

    def _encoders(self) -> list[tuple[str, Any]]:
        lexical = [("lexical", self.analyzer)] if self.hybrid else []
        return [("encoder", self.encoder), ("query_encoder", self.query_encoder), *lexical]

    def check_identity(self, stored: dict[str, Any]) -> None:
        """Refuse encoders other than the ones the index was built with."""
        for role, encoder in self._encoders():
            known, here = stored[role], _identity(encoder)
            if known["digest"] != here["digest"]:
                raise InputError(
                    f"the index was built with the {role.replace('_', ' ')} {known['name']} ({known['digest']}), "
                    f"and this is {here['name']} ({here['digest']})",
                    fix="open it with the same weights, or build it again",
                )

    def fit(self, sample: Vectors) -> None:
        """Fit transforms, quantizer and rescoring quantizer on vectors ``(n, d)`` of passages."""
        from sememe.codec.chain import Chain

        self.chain = Chain.from_recipe(self.recipe).fit(sample)
        if self.rescore is not None:
            self.fine = self.rescore.make().fit(self.fine_input(sample))

    def fine_input(self, X: Vectors) -> Vectors:
        """What the rescoring tier encodes: vectors as they came, or after the transforms."""
        assert self.rescore is not None
        return X if self.rescore.full else self.chain.project(X)

    def project(self, queries: Vectors | Ragged) -> Vectors | Ragged:
        """Query vectors through the transforms."""
        if not self.chain.transforms:
            return queries
        if isinstance(queries, Ragged):
            return Ragged(self.chain.project(queries.values), queries.offsets)
        return np.asarray(self.chain.project(queries))

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Query vectors ``(q, d)``."""
        return as_vectors(self.query_encoder.encode(list(texts), kind="query"), name="query vectors")

    def encode_tokens(self, texts: Sequence[str], kind: Kind = "passage") -> Ragged:
        """Token vectors as the encoder gives them, a ragged row for each text."""
        stage, encoder = (
            (self.recipe.encoder, self.encoder)
            if kind == "passage"
            else (self.recipe.query_encoder, self.query_encoder)
        )
        if not hasattr(encoder, "encode_tokens"):
            fix = "use static or minilm"
            raise RecipeError(
                f"{str(self.recipe.index)!r} needs token vectors, which {str(stage)!r} does not give", fix=fix
            )
        tokens: Ragged = encoder.encode_tokens(list(texts), kind=kind)
        if len(tokens) != len(texts):
            raise InputError(
                f"the encoder gave token vectors for {len(tokens)} of {len(texts)} texts", where=str(stage)
            )
        return tokens


def kind_of(recipe: Recipe) -> Any:
    """The index kind of a recipe, told whose codes it will search where that makes a difference to it."""
    kind = recipe.index.make()
    if hasattr(kind, "over"):
        kind.over(recipe.quantizer.make())
    return kind


def _identity(encoder: Any) -> dict[str, str]:
    return {"name": str(getattr(encoder, "name", type(encoder).__name__)), "digest": str(encoder.digest)}


def _make_encoder(stage: Any) -> Any:
    from sememe import encode

    return encode.make(stage)


def state_bytes(recipe: Recipe, sample: Vectors) -> int:
    """Bytes of everything a recipe's codecs learn from vectors ``(n, d)``, padding included."""
    from sememe.codec.chain import Chain

    chain = Chain.from_recipe(recipe).fit(sample)
    states = [chain.state()]
    for stage in recipe.rerankers:
        reranker = stage.make()
        if isinstance(reranker, Rescore):
            states.append(reranker.make().fit(sample if reranker.full else chain.project(sample)).state())
    return sum(-(-np.asarray(array).nbytes // ALIGN) * ALIGN for state in states for array in state.values())
