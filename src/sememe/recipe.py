"""The recipe: how text becomes an index, written as a pipe.

    sentences:4 | minilm | pca:128 | int8 | hnsw:32 | rescore:fp16

    RECIPE = [chunker |] encoder [| transform]* [| quantizer] | index [| reranker]*
    STAGE  = name[:arg[,arg...][,key=value...]]

The catalogue knows what kind each name is, so a recipe needs no keywords. ``str(Recipe.parse(text))`` is canonical:
parsing it again gives an equal recipe. An encoder written ``a/b`` encodes passages with ``a`` and queries with ``b``.
An argument that holds a comma, a bar or a quote is written in double quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sememe import catalog
from sememe.errors import RecipeError, UsageError

ORDER = {kind: rank for rank, kind in enumerate(catalog.STAGE_KINDS)}
MANY = {"transform", "reranker"}
PATH_ENCODERS = {"hf", "st", "sparse"}  # everything after the colon is one path or model id
Argument = str | int | float | bool
VECTORS = "vectors"  # what stands for the encoder where vectors are given as they are

_ITEM = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^",])+')


@dataclass(frozen=True)
class Stage:
    """One step: ``name``, positional ``args`` and ``options`` in canonical (sorted) order."""

    name: str
    args: tuple[Argument, ...] = ()
    options: tuple[tuple[str, Argument], ...] = ()
    kind: str = field(default="", compare=False)

    def make(self, **extra: object) -> Any:
        """Build the object this stage names; ``extra`` keyword arguments are added."""
        technique = catalog.find(self.name)
        try:
            return technique.make(*self.args, **dict(self.options), **extra)
        except TypeError as error:
            raise RecipeError(f"stage {str(self)!r} does not accept these arguments ({error})") from None

    def __str__(self) -> str:
        path = self.name in PATH_ENCODERS
        parts = [_show(a, path=path) for a in self.args] + [f"{k}={_show(v, path=path)}" for k, v in self.options]
        return f"{self.name}:{','.join(parts)}" if parts else self.name


@dataclass(frozen=True)
class Recipe:
    """A parsed recipe. ``query_encoder`` equals ``encoder`` unless the recipe is asymmetric."""

    stages: tuple[Stage, ...]
    query_encoder: Stage

    @classmethod
    def parse(cls, text: str | Recipe, *, bare: bool = False) -> Recipe:
        """Read a recipe, or raise a RecipeError of one line that shows where it is wrong.

        A ``bare`` one is for vectors that are there already: it begins with a transform, quantizer or index.
        """
        if isinstance(text, Recipe):
            return text
        if not text.strip():
            raise RecipeError("the recipe is empty", fix="for example: static | int8 | flat")
        stages: list[Stage] = []
        query: Stage | None = None
        for part in _split(text):
            stage, asymmetric = _parse_part(part, text)
            if stage.kind == "encoder":
                query = asymmetric or stage
            _check_order(stages, stage, text)
            stages.append(stage)
        if bare:
            if stages[0].kind in ("chunker", "encoder"):
                raise RecipeError(
                    f"{str(stages[0])!r} in {text!r} works on text, and this is for vectors",
                    fix="begin with a transform, a quantizer or an index",
                )
            query = Stage(VECTORS, kind="encoder")
        if query is None:
            raise RecipeError(f"{text!r} has no encoder", fix="for example: static | int8 | flat")
        if not any(s.kind == "index" for s in stages):
            raise RecipeError(f"{text!r} has no index", fix="end it with | flat")
        return cls(tuple(stages), query)

    def _one(self, kind: str) -> Stage | None:
        return next((s for s in self.stages if s.kind == kind), None)

    @property
    def chunker(self) -> Stage:
        """The chunking stage; whole documents where the recipe names none."""
        return self._one("chunker") or Stage("document", kind="chunker")

    @property
    def encoder(self) -> Stage:
        """The encoder of passages; ``vectors`` where the recipe is a bare one."""
        return self._one("encoder") or Stage(VECTORS, kind="encoder")

    @property
    def transforms(self) -> tuple[Stage, ...]:
        """Transforms in the order they are applied."""
        return tuple(s for s in self.stages if s.kind == "transform")

    @property
    def quantizer(self) -> Stage:
        """The quantizer; plain float32 where the recipe names none."""
        return self._one("quantizer") or Stage("fp32", kind="quantizer")

    @property
    def index(self) -> Stage:
        """The search structure."""
        stage = self._one("index")
        assert stage is not None
        return stage

    @property
    def rerankers(self) -> tuple[Stage, ...]:
        """What runs on the shortlist, in order."""
        return tuple(s for s in self.stages if s.kind == "reranker")

    def __str__(self) -> str:
        shown = []
        for stage in self.stages:
            asymmetric = stage.kind == "encoder" and stage != self.query_encoder
            shown.append(f"{stage}/{self.query_encoder}" if asymmetric else str(stage))
        return " | ".join(shown)


def _split(text: str) -> list[str]:
    parts, depth_quote, start = [], False, 0
    for position, character in enumerate(text):
        if character == '"' and (position == 0 or text[position - 1] != "\\"):
            depth_quote = not depth_quote
        elif character == "|" and not depth_quote:
            parts.append(text[start:position])
            start = position + 1
    if depth_quote:
        raise RecipeError(f"a quote in {text!r} is not closed")
    return [*parts, text[start:]]


def _parse_part(part: str, whole: str) -> tuple[Stage, Stage | None]:
    part = part.strip()
    if not part:
        raise RecipeError(f"there is an empty stage in {whole!r}", fix="write one name between two bars")
    left, slash, right = _split_asymmetric(part)
    stage = _parse_stage(left, whole)
    if not slash:
        return stage, None
    other = _parse_stage(right, whole)
    if stage.kind != "encoder" or other.kind != "encoder":
        raise RecipeError(f"{part!r} in {whole!r}: only encoders can be written a/b")
    return stage, other


def _split_asymmetric(part: str) -> tuple[str, str, str]:
    """Split ``a/b``; slashes in quotes stay, and those of an unquoted path, so a path on the left must be quoted."""
    if part.partition(":")[0] in PATH_ENCODERS:
        match = re.fullmatch(r'(\w+:"(?:[^"\\]|\\.)*")/(.+)', part)
        return (match[1], "/", match[2]) if match else (part, "", "")
    left, slash, right = part.partition("/")
    return (part, "", "") if '"' in left else (left, slash, right)


def _parse_stage(text: str, whole: str) -> Stage:
    name, colon, rest = text.strip().partition(":")
    if not re.fullmatch(r"[A-Za-z][\w-]*", name):
        raise RecipeError(f"{name!r} in {whole!r} is not a stage name")
    try:
        kind = catalog.find(name).kind
    except UsageError as error:
        raise RecipeError(f"in {whole!r}, {error.what}", fix=error.fix) from None
    if kind not in ORDER:
        raise RecipeError(f"{name!r} in {whole!r} is a {kind}, which has no place in a recipe")
    if colon and not rest:
        raise RecipeError(f"{text!r} in {whole!r} ends in a colon", fix="give an argument or drop the colon")
    if name in PATH_ENCODERS and not rest.startswith('"'):
        return Stage(name, (rest,) if rest else (), (), kind)
    args: list[Argument] = []
    options: dict[str, Argument] = {}
    items = [m[0].strip() for m in _ITEM.finditer(rest)]
    if rest and (",," in rest or rest.startswith(",") or rest.endswith(",")):
        raise RecipeError(f"there is an empty argument in {text!r}")
    for item in items:
        key, equals, value = item.partition("=")
        if equals and re.fullmatch(r"[A-Za-z_]\w*", key.strip()):
            if key.strip() in options:
                raise RecipeError(f"{key.strip()!r} is given twice in {text!r}")
            options[key.strip()] = _read(value.strip())
        elif options:
            raise RecipeError(f"{item!r} in {text!r} must come before the named arguments")
        else:
            args.append(_read(item))
    return Stage(name, tuple(args), tuple(sorted(options.items())), kind)


def _check_order(before: list[Stage], stage: Stage, whole: str) -> None:
    if not before:
        return
    last = before[-1]
    if ORDER[stage.kind] < ORDER[last.kind]:
        raise RecipeError(
            f"in {whole!r}, {str(stage)!r} ({stage.kind}) cannot follow {str(last)!r} ({last.kind})",
            fix=f"the order is {', '.join(catalog.STAGE_KINDS)}",
        )
    if stage.kind == last.kind and stage.kind not in MANY:
        raise RecipeError(f"{whole!r} has two stages of kind {stage.kind}: {str(last)!r} and {str(stage)!r}")


def _read(text: str) -> Argument:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?", text):
        return float(text)
    return text


def _show(value: Argument, *, path: bool = False) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    special = r'[\s",|=\\]' if path else r'[\s",|=\\/]'  # a slash would read as a second encoder
    plain = value and not re.search(special, value) and _read(value) == value
    return value if plain else '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
