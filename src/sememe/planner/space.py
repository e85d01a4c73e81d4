"""The recipes worth measuring: encoder x chunking x transform x width x quantizer x rescoring.

The list is ordered so that cheap and informative recipes come first; a planner that runs out of time stops anywhere
and still has a frontier.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sememe import catalog
from sememe.codec.base import Swept
from sememe.index.structure import structures
from sememe.recipe import Recipe

DEFAULT_CHUNKERS = ("document", "sentences:4", "tokens:128,16", "tokens:256,32")
LONG_DOCUMENT = 1500  # characters at the 75th percentile beyond which cutting documents is worth a look

_RESCORED = (
    ("binary", "int4"),
    ("binary", "int8"),
    ("binary", "int8,oversample=16"),
    ("ternary", "int8"),
    ("int4", "fp16"),
)


def codecs(dim: int, *, passages: int) -> list[str]:
    """Transform and quantizer parts of the sweep for vectors of width ``dim``, for example ``pca:128 | int8``.

    Every codec of the catalogue takes part and says itself what of it is worth measuring
    (`sememe.codec.base.Swept`); the screen (`sememe.planner.screen`) sees to it that this costs little. One that says
    nothing is measured as it is made without arguments.
    """
    swept = [t for kind in ("transform", "quantizer") for t in catalog.techniques(room="codec", kind=kind)]
    swept.sort(key=lambda technique: (getattr(technique.make, "rank", Swept.rank), technique.name))
    return [stage for technique in swept for stage in _swept(technique, dim, passages)]


def _swept(technique: catalog.Technique, dim: int, passages: int) -> list[str]:
    if "sweep" in vars(technique.make):  # not inherited
        return list(technique.make.sweep(dim, passages))  # type: ignore[attr-defined]
    return [technique.name if technique.kind == "quantizer" else f"{technique.name} | int8"]


def rescored(dim: int) -> list[tuple[str, str]]:
    """Pairs of a coarse code and the finer code that rescores its shortlist, with how much of it."""
    return list(_RESCORED)


def recipes(chunker: str, encoder: str, dim: int, *, passages: int, user: Iterable[str] = ()) -> list[Recipe]:
    """Every flat recipe of the sweep for one view, the full-precision one first."""
    head = encoder if chunker == "document" else f"{chunker} | {encoder}"
    tails = ["flat"]
    tails += [f"{codec} | flat" for codec in codecs(dim, passages=passages)]
    tails += [f"{coarse} | flat | rescore:{fine}" for coarse, fine in rescored(dim)]
    tails += list(user)
    return [Recipe.parse(f"{head} | {tail}") for tail in tails]


def lists_of(encoder: str) -> str:
    """The index of a sparse encoder: lists of words, or of learned weights; empty for a dense encoder."""
    technique = catalog.find(Recipe.parse(f"{encoder} | flat").encoder.name)
    if not technique.traits.get("sparse"):
        return ""
    return "inverted" if hasattr(technique.make, "terms") else "impact"


def full_precision(chunker: str, encoder: str, fused: str = "", *, several: bool = False) -> Recipe:
    """The exact float32 recipe of a view; ``fused`` is its hybrid stage, where it has one. Lists have one recipe.

    ``several`` asks for a vector a token.
    """
    head = encoder if chunker == "document" else f"{chunker} | {encoder}"
    tail = "multivector" if several else lists_of(encoder) or (f"flat | {fused}" if fused else "flat")
    return Recipe.parse(f"{head} | {tail}")


def has_several(recipe: Recipe) -> bool:
    """Whether an index of this recipe keeps several vectors a passage."""
    return bool(getattr(catalog.find(recipe.index.name).make, "multi", False))


def token_tails(dim: int, *, vectors: int, count: float) -> list[str]:
    """Codes and budgets worth measuring for token vectors, such as ``residual:2 | multivector:32``.

    Codecs and index kinds say themselves what (`sememe.codec.base.Swept.sweep_tokens`,
    `sememe.index.multivector.MultiVector.sweep_tokens`). The shortest lists come first, which are searched fastest.

    Parameters
    ----------
    dim : int
        Width of the vectors.
    vectors : int
        Of all measured passages together.
    count : float
        Of one passage, the median.
    """
    coders = [t for kind in ("transform", "quantizer") for t in catalog.techniques(room="codec", kind=kind)]
    coders.sort(key=lambda technique: (getattr(technique.make, "rank", Swept.rank), technique.name))
    stages = [stage for t in coders if "sweep_tokens" in vars(t.make) for stage in t.make.sweep_tokens(dim, vectors)]  # type: ignore[attr-defined]
    kinds = [t.make for t in catalog.techniques(room="index", kind="index") if getattr(t.make, "multi", False)]
    budgets = [budget for kind in kinds for budget in kind.sweep_tokens(count)]  # type: ignore[attr-defined]
    return [f"{stage} | {budget}" for budget in budgets for stage in stages]


def with_fusion(recipe: Recipe, fused: str) -> Recipe:
    """The same recipe with its ranking fused with that of BM25."""
    return Recipe.parse(f"{recipe} | {fused}")


def fused_stage(recipe: Recipe) -> str:
    """The hybrid stage of a recipe, empty where it has none."""
    return next((str(stage) for stage in recipe.rerankers if stage.name == "hybrid"), "")


def with_index(recipe: Recipe, index: str) -> Recipe:
    """The same recipe searched through a graph, lists or sketches instead of a full scan of its codes."""
    parts = [str(stage) if stage.kind != "index" else index for stage in recipe.stages]
    return Recipe.parse(" | ".join(parts))


def behind(recipe: Recipe, dim: int, *, passages: int, measured: int) -> list[str]:
    """Index stages worth measuring in the place of the scan of a recipe over vectors of width ``dim``.

    Every index kind of the catalogue says itself where (`sememe.index.structure.Structure`).
    """
    from sememe.codec.chain import Chain

    chain, projected = Chain.from_recipe(recipe), dim
    for transform in chain.transforms:
        projected = transform.dim_out(projected)
    return structures(passages, measured, projected, chain.bytes_per_vector(dim))


def chunkers_for(lengths: Sequence[int]) -> tuple[str, ...]:
    """Chunkings worth trying for documents of these lengths in characters."""
    ordered = sorted(lengths)
    long = bool(ordered) and ordered[len(ordered) * 3 // 4] > LONG_DOCUMENT
    return DEFAULT_CHUNKERS if long else ("document",)
