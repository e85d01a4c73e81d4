"""Where a symbol stands: position encodings, and ways to read longer texts than a model was trained on.

A class here fills the hooks of `sememe.positions.base.Positions`, so that it goes into the small models of
`sememe.lab` by name or as it is. `apply` lets a loaded model read longer texts, and its handle undoes that; `methods`
lists what it knows. Names are imported when first used; what needs PyTorch says so when it is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sememe.faces import lazy

_LAZY = {
    "Handle": "extend",
    "Positions": "base",
    "Rotary": "base",
    "SegmentedTrainer": "segmented",
    "apply": "extend",
    "methods": "extend",
    "named": "base",
}
__all__ = ["Handle", "Positions", "Rotary", "SegmentedTrainer", "apply", "methods", "named"]

if TYPE_CHECKING:
    from sememe.positions.base import Positions, Rotary, named
    from sememe.positions.extend import Handle, apply, methods
    from sememe.positions.segmented import SegmentedTrainer

__getattr__, __dir__ = lazy(__name__, _LAZY)
