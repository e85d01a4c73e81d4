"""The frontier planner: what every byte buys on the user's own text, and the smallest index that still answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_LAZY = {"plan": "sememe.planner.planning", "Plan": "sememe.planner.result"}
__all__ = ["Plan", "plan"]

if TYPE_CHECKING:
    from sememe.planner.planning import plan
    from sememe.planner.result import Plan


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'sememe.planner' has no attribute {name!r}")
