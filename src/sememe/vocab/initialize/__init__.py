"""Rows for new tokens: one solver, in which a new row is a weighted sum of old rows, and many sources of weights.

    problem = Problem.of(old_tokenizer, new_tokenizer, donor=donor_table)
    new_table = make("omp").weights(problem, old_table).apply(old_table)

Input and output tables are problems of their own: only the donor's table differs.
"""

from __future__ import annotations

from typing import Any

from sememe import catalog
from sememe.errors import UsageError
from sememe.vocab.initialize.convex_hull import ConvexHull
from sememe.vocab.initialize.factorized import Factorized, Factors, factorize
from sememe.vocab.initialize.hybrid import Hybrid
from sememe.vocab.initialize.hypernet import TokenizerHypernet
from sememe.vocab.initialize.morph import Morph, MorphEmbeddingGenerator
from sememe.vocab.initialize.neighbours import Focus, Neighbours
from sememe.vocab.initialize.omp import OMP
from sememe.vocab.initialize.rows import Initializer, Problem, Rows, Vocabulary, shared_tokens
from sememe.vocab.initialize.simple import Gaussian, Mean, SubwordMean, Zero
from sememe.vocab.initialize.wechsel import Wechsel
from sememe.vocab.initialize.words import WordVectors, align, parallel_vectors

_SHORT = {"zero": "zero-init", "mean": "mean-init", "gaussian": "gaussian-init", "hybrid": "hybrid-init"}


def methods() -> list[str]:
    """Names that `make` knows, sorted."""
    long = {name: short for short, name in _SHORT.items()}
    return sorted(long.get(t.name, t.name) for t in catalog.techniques(room="vocab", kind="initializer"))


def quick() -> list[str]:
    """The methods that do not train on the model's loss: what is compared where nothing is named."""
    slow = {t.name for t in catalog.techniques(room="vocab", kind="initializer") if t.traits.get("slow")}
    return [name for name in methods() if _SHORT.get(name, name) not in slow]


def _options(technique: catalog.Technique) -> list[str]:
    """Names of an initializer's parameters."""
    import inspect

    return list(inspect.signature(technique.make).parameters)


def make(name: str, **options: Any) -> Initializer:
    """The initializer of a name (``omp``, ``mean``, ``subword-mean`` ...) with its options.

    ``hypernet:FOLDER`` is one that was learned before.

    Raises
    ------
    UsageError
        An unknown name or option.
    """
    name, colon, folder = name.partition(":")
    technique = catalog.find(_SHORT.get(name, name), kind="initializer")
    if colon:
        options["folder"] = folder
    try:
        made = technique.make(**options)
    except TypeError:
        known = ", ".join(_options(technique)) or "none"
        raise UsageError(f"{name} does not take {', '.join(options)}", fix=f"its options: {known}") from None
    assert isinstance(made, Initializer)
    return made


__all__ = [
    "OMP",
    "ConvexHull",
    "Factorized",
    "Factors",
    "Focus",
    "Gaussian",
    "Hybrid",
    "Initializer",
    "Mean",
    "Morph",
    "MorphEmbeddingGenerator",
    "Neighbours",
    "Problem",
    "Rows",
    "SubwordMean",
    "TokenizerHypernet",
    "Vocabulary",
    "Wechsel",
    "WordVectors",
    "Zero",
    "align",
    "factorize",
    "make",
    "methods",
    "parallel_vectors",
    "quick",
    "shared_tokens",
]
