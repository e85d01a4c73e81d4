"""Rotary positions by the structure of a text: its lines, functions or paragraphs (HiRoPE)."""

from __future__ import annotations

import ast
import math
from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.positions.rope_bands import Extended

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a position encoding") from None


@register(
    "hirope",
    room="positions",
    kind="positions",
    summary="far pairs meet by the distance of lines or functions in slow dimensions, of symbols in fast ones",
    paper=Paper("HiRoPE: Length Extrapolation for Code Models Using Hierarchical Position", 2024, "2403.19115"),
    claim="Counting sections in the slow dimensions lets models of code read far beyond their window, untrained.",
    extends="rotary",
)
class HierarchicalRope(Extended):
    """Fast pairs of dimensions count symbols; slow ones count sections where two symbols are far apart.

    Zhang et al., "HiRoPE: Length Extrapolation for Code Models Using Hierarchical Position", 2024, arXiv 2403.19115.
    Within ``window`` all pairs count symbols. Beyond it the slow ones stand at the window's end plus the number of
    section borders between the two symbols. Slow are those that did not complete a turn within the trained window: the
    angles of the others are all known to the model. A text of one section has no hierarchy and is read as before.

    Parameters
    ----------
    width, context, base
        As for `Extended`.
    borders : bool tensor of shape (v,), optional
        Which symbols begin a section (for bytes, the line break). None where none do.
    window : int, optional
        Half of the trained window when not given.

    Attributes
    ----------
    sections : int64 tensor of shape (b, l) or None
        Of the next pass; `read` counts them by ``borders``, and a parser of one's own may set them.
    """

    sections: Any = None

    def __init__(
        self, width: int, context: int, base: float = 10_000.0, borders: Any = None, window: int | None = None
    ) -> None:
        super().__init__(width, context, base)
        self.reach = max(1, context // 2) if window is None else window
        if not 0 < self.reach <= context:
            raise InputError(f"window={self.reach} in a trained window of {context}", fix="0 < window <= context")
        self.register_buffer("borders", None if borders is None else torch.as_tensor(borders).bool(), persistent=False)

    @property
    def slow(self) -> Any:
        """Pairs that do not turn once within the trained window, bool ``(w / 2,)``."""
        return self.rates * self.context < 2 * math.pi

    def read(self, ids: Any, start: int = 0) -> None:
        """Count the sections of these symbols."""
        if self.borders is not None:
            self.sections = F.pad(self.borders[ids].long().cumsum(1), (start, 0))

    def in_force(self, length: int) -> Any:
        """Where a text is too long, and has more than one section."""
        if self.sections is None:
            return False
        if self.sections.shape[1] < length:
            raise InputError(
                f"sections of {self.sections.shape[1]} symbols for {length}", fix="read without a cache of earlier keys"
            )
        found = self.sections[:, length - 1] > self.sections[:, 0]
        return found & super().in_force(length)

    def far(self, at: Any) -> Any:
        """Sections in the slow pairs, ``(b, 1, l, w / 2)``."""
        counted = self.sections[:, None, : len(at), None] * self.rates
        return torch.where(self.slow, counted, at[:, None] * self.rates)

    def shift(self) -> Any:
        """The window, in the slow pairs."""
        return torch.where(self.slow, self.reach * self.rates, 0.0)


def python_sections(source: str) -> list[int]:
    """Section of each line of Python code, counted from 0: every function, method and class begins one.

    A decorated definition begins with its decorators. Give each symbol the section of its line, and set
    `HierarchicalRope.sections`.

    Raises
    ------
    InputError
        A text that is no Python.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise InputError(f"this is no Python code ({error})", fix="use borders, for example line breaks") from None
    starts = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            starts.add(min([node.lineno, *(part.lineno for part in node.decorator_list)]))
    found, section = [], 0
    for line in range(1, len(source.splitlines()) + 1):
        section += line in starts
        found.append(section)
    return found
