"""The catalogue: every technique registers itself once, with what it is, its paper and its claim.

A technique is a class or a function. ``@register`` stores it under a name; recipes, ``sememe list``, the generated
documentation and the test batteries read the catalogue. Other packages add techniques through the entry-point group
``sememe.techniques`` (a module to import, or a callable that registers).
"""

from __future__ import annotations

import ast
import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sememe.errors import UsageError

ROOMS = ("codec", "positions", "text", "encode", "vocab", "measure", "index", "tokens")
TORCH_ROOMS = ("positions", "tokens")  # whose classes are PyTorch modules: their entries are read, not imported
STAGE_KINDS = ("chunker", "encoder", "transform", "quantizer", "index", "reranker")


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a technique comes from."""

    title: str
    year: int
    arxiv: str = ""


@dataclass(frozen=True, slots=True)
class Technique:
    """One entry: ``make`` builds it (a class or factory), ``kind`` says what it is to a recipe."""

    name: str
    room: str
    kind: str
    summary: str
    make: Callable[..., Any]
    paper: Paper | None = None
    claim: str = ""
    traits: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The shape ``sememe list --json`` prints."""
        paper = self.paper and {"title": self.paper.title, "year": self.paper.year, "arxiv": self.paper.arxiv}
        return {"name": self.name, "room": self.room, "kind": self.kind, "summary": self.summary, "paper": paper}


_techniques: dict[str, Technique] = {}
_loaded: set[str] = set()
T = TypeVar("T")


def register(
    name: str, *, room: str, kind: str, summary: str, paper: Paper | None = None, claim: str = "", **traits: object
) -> Callable[[T], T]:
    """Class or function decorator that enters a technique into the catalogue.

    ``traits`` are facts that planners read (for example ``sparse=True``). A second technique of the same name is
    refused, so that a name always means one thing.
    """

    def enter(make: T) -> T:
        _enter(Technique(name, room, kind, summary, make, paper, claim, dict(traits)))  # type: ignore[arg-type]
        return make

    return enter


def _enter(technique: Technique) -> None:
    known = _techniques.get(technique.name)
    if known is not None and getattr(known.make, "__qualname__", "") != getattr(technique.make, "__qualname__", None):
        raise UsageError(f"two techniques are called {technique.name!r}", fix="give one of them another name")
    _techniques[technique.name] = technique


class _Later:
    """A class of a module that is imported when it is first made."""

    def __init__(self, module: str, name: str) -> None:
        self.__module__, self.__qualname__, self.__name__ = module, name, name

    def resolve(self) -> Any:
        """The class itself."""
        return getattr(importlib.import_module(self.__module__), self.__name__)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.resolve()(*args, **options)


def _read(module: str, source: str) -> Iterator[Technique]:
    """Entries of a module by its source: the arguments of its ``@register`` decorators, which are literals."""
    for node in ast.parse(source).body:
        for call in getattr(node, "decorator_list", ()):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "register":
                given = {word.arg: word.value for word in call.keywords if word.arg}
                paper = given.pop("paper", None)
                facts = {name: ast.literal_eval(value) for name, value in given.items()}
                written = isinstance(paper, ast.Call) and Paper(*map(ast.literal_eval, paper.args))
                make = _Later(module, node.name)  # type: ignore[attr-defined]
                named = {name: facts.pop(name) for name in ("room", "kind", "summary")}
                claim = facts.pop("claim", "")
                yield Technique(
                    ast.literal_eval(call.args[0]), **named, make=make, paper=written or None, claim=claim, traits=facts
                )


def load(*rooms: str) -> None:
    """Enter the techniques of ``rooms`` (all when empty): their modules are imported, those of `TORCH_ROOMS` read."""
    for room in rooms or ROOMS:
        if room in _loaded:
            continue
        package = importlib.import_module(f"sememe.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"sememe.{room}."):
            short = module.name.rpartition(".")[2]
            if module.ispkg or short.startswith("__"):
                continue
            source = Path(getattr(module.module_finder, "path", ""), f"{short}.py").read_text(encoding="utf-8")
            if "@register(" not in source:
                continue  # nothing to enter, so nothing is imported
            if room in TORCH_ROOMS:
                for technique in _read(module.name, source):
                    if technique.name not in _techniques:
                        _enter(technique)
            else:
                importlib.import_module(module.name)
        _loaded.add(room)
    if "plugins" not in _loaded:
        _loaded.add("plugins")
        from importlib.metadata import entry_points

        for entry in entry_points(group="sememe.techniques"):
            plugin = entry.load()
            if callable(plugin):
                plugin()


def find(name: str, *, kind: str | None = None) -> Technique:
    """The technique of that name (and kind), or a UsageError that suggests the nearest names."""
    if name not in _techniques:
        load()
    technique = _techniques.get(name)
    if technique is None or (kind is not None and technique.kind != kind):
        names = sorted(t.name for t in _techniques.values() if kind is None or t.kind == kind)
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
        raise UsageError(f"there is no {kind or 'technique'} called {name!r}", fix=hint)
    return technique


def techniques(*, room: str | None = None, kind: str | None = None) -> list[Technique]:
    """All techniques, sorted by room and name, optionally of one room or kind."""
    load()
    chosen = [t for t in _techniques.values() if (room is None or t.room == room) and (kind is None or t.kind == kind)]
    return sorted(chosen, key=lambda t: (t.room, t.name))
