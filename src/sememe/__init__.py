"""Sememe: the embedding workbench. The heavy rooms are imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sememe.faces import lazy

__version__ = "0.1.0"

_LAZY = {
    "Index": "sememe.index.engine",
    "Recipe": "sememe.recipe",
    "Record": "sememe.contracts",
    "SememeError": "sememe.errors",
    "build": "sememe.index.engine",
    "open": "sememe.index.engine",
    "plan": "sememe.planner",
    "read": "sememe.text",
}
__all__ = ["Index", "Recipe", "Record", "SememeError", "__version__", "build", "open", "plan", "read"]

if TYPE_CHECKING:
    from sememe.contracts import Record
    from sememe.errors import SememeError
    from sememe.index.engine import Index, build, open
    from sememe.planner import plan
    from sememe.recipe import Recipe
    from sememe.text import read

__getattr__, __dir__ = lazy(__name__, _LAZY)
