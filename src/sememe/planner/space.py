"""The recipes worth measuring: encoder x chunking x transform x width x quantizer x rescoring.

The list is ordered so that cheap and informative recipes come first; a planner that runs out of time stops anywhere
and still has a frontier.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sememe.planner.lexical import MODEL
from sememe.recipe import Recipe

DEFAULT_CHUNKERS = ("document", "sentences:4", "tokens:128,16", "tokens:256,32")
ADDITIVE_FROM = 20_000  # passages: with fewer, learning takes longer than all other measuring, and holds less well
_ADDITIVE = (16, 32)  # bytes at which sums of centres may beat product codes
LONG_DOCUMENT = 1500  # characters at the 75th percentile beyond which cutting documents is worth a look

_FULL = (
    "fp16", "bf16", "fp8", "int8", "int4", "power:4", "power:3", "ternary", "binary",
)  # fmt: skip
_NARROW = ("int8", "int4", "power:3")
_RESCORED = (
    ("binary", "int4"),
    ("binary", "int8"),
    ("binary", "int8,oversample=16"),
    ("ternary", "int8"),
    ("int4", "fp16"),
)


def _widths(dim: int) -> list[int]:
    """Three quarters, a half, three eighths, a quarter and an eighth of ``dim``, in multiples of eight."""
    return [w for w in (dim * 3 // 4, dim // 2, dim * 3 // 8, dim // 4, dim // 8) if w >= 16 and w % 8 == 0]


def codecs(dim: int, *, passages: int) -> list[str]:
    """Transform and quantizer parts of the sweep for vectors of width ``dim``, for example ``pca:128 | int8``."""
    found = [*_FULL]
    # Learned codebooks need enough vectors to learn from: 39 a centroid, as is usual.
    if passages >= 39 * 256 // 4:
        found += [f"pq:{m}" for m in (dim // 2, 3 * dim // 8, dim // 4, dim // 8)]
        found += [f"pq:{m},norm=score" for m in (3 * dim // 16 - 1, dim // 8 - 1, dim // 16 - 1) if m >= 4]
    found += [f"klt:{size}" for size in (3 * dim // 4, dim // 2, 3 * dim // 8, 3 * dim // 16, dim // 8) if size >= 4]
    found += [f"rabitq:{bits}" for bits in (1, 2)]  # with four bits int4 is a byte smaller, klt truer
    for width in _widths(dim):
        found += [f"pca:{width} | {quantizer}" for quantizer in _NARROW]
    for width in _widths(dim)[1::2]:
        found += [f"pca:{width} | fp16", f"pca:{width} | fp8"]
    for width in (dim // 2, dim // 4):
        if width >= 16:
            found += [f"truncate:{width} | int8", f"truncate:{width} | int4"]
    found += ["center | int4", "center | int8", "whiten | int4", f"pca:{dim // 2} | ternary"]
    # Last, since they take longest to learn: a planner whose time runs out has measured all others by then.
    if passages >= ADDITIVE_FROM:
        found += [f"additive:{size}" for size in _ADDITIVE if 8 * size <= dim]
    return found


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


def full_precision(chunker: str, encoder: str, fused: str = "") -> Recipe:
    """The exact float32 recipe of a view; ``fused`` is its hybrid stage, where it has one. Words need no vectors."""
    head = encoder if chunker == "document" else f"{chunker} | {encoder}"
    tail = "inverted" if encoder == MODEL else f"flat | {fused}" if fused else "flat"
    return Recipe.parse(f"{head} | {tail}")


def with_fusion(recipe: Recipe, fused: str) -> Recipe:
    """The same recipe with its ranking fused with that of BM25."""
    return Recipe.parse(f"{recipe} | {fused}")


def fused_stage(recipe: Recipe) -> str:
    """The hybrid stage of a recipe, empty where it has none."""
    return next((str(stage) for stage in recipe.rerankers if stage.name == "hybrid"), "")


def with_index(recipe: Recipe, index: str) -> Recipe:
    """The same recipe searched through a graph or sketches instead of a full scan of its codes."""
    parts = [str(stage) if stage.kind != "index" else index for stage in recipe.stages]
    return Recipe.parse(" | ".join(parts))


def chunkers_for(lengths: Sequence[int]) -> tuple[str, ...]:
    """Chunkings worth trying for documents of these lengths in characters."""
    ordered = sorted(lengths)
    long = bool(ordered) and ordered[len(ordered) * 3 // 4] > LONG_DOCUMENT
    return DEFAULT_CHUNKERS if long else ("document",)
