"""The catalogue: every technique registers itself once, with what it is, its paper and its claim.

A technique is a class or a function. ``@register`` stores it under a name; recipes, ``sememe list``, the generated
documentation and the test batteries read the catalogue. Other packages add techniques through the entry-point group
``sememe.techniques`` (a module to import, or a callable that registers).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sememe.errors import UsageError

ROOMS = ("codec", "text", "encode", "vocab", "measure", "index")
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
        known = _techniques.get(name)
        if known is not None and getattr(known.make, "__qualname__", "") != getattr(make, "__qualname__", None):
            raise UsageError(f"two techniques are called {name!r}", fix="give one of them another name")
        _techniques[name] = Technique(name, room, kind, summary, make, paper, claim, dict(traits))  # type: ignore[arg-type]
        return make

    return enter


def load(*rooms: str) -> None:
    """Import the modules of ``rooms`` (all when empty) so that their techniques are registered."""
    for room in rooms or ROOMS:
        if room in _loaded:
            continue
        package = importlib.import_module(f"sememe.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"sememe.{room}."):
            if not module.ispkg and not module.name.rpartition(".")[2].startswith("__"):
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
