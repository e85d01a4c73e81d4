"""The evidence: one small honest experiment for each technique, rerun with ``sememe reproduce NAME``.

A file here is named after its technique and holds one function marked with ``@experiment``. A claim that does not hold
at this scale is reported as not holding, with the likely reason.
"""

from __future__ import annotations

from sememe.evidence.machinery import Result, reproduce, reproducible

__all__ = ["Result", "reproduce", "reproducible"]
