"""The frontier planner: what every byte buys on the user's own text, and the smallest index that still answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sememe.faces import lazy

_LAZY = {"plan": "sememe.planner.planning", "Plan": "sememe.planner.result"}
__all__ = ["Plan", "plan"]

if TYPE_CHECKING:
    from sememe.planner.planning import plan
    from sememe.planner.result import Plan

__getattr__, __dir__ = lazy(__name__, _LAZY)
