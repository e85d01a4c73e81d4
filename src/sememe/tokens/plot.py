"""Loss against the size of the token layer, as one picture."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sememe import drawing
from sememe.drawing import written

_WIDTH, _LEAST, _LEFT, _TOP, _RIGHT, _BOTTOM = 860, 520, 70, 56, 190, 60
_LINE = 18  # of the legend
_GAP = 60  # for layers without parameters
_COLOURS = (
    "#3b6ea8",
    "#b3541e",
    "#3f8f5b",
    "#8a4fa3",
    "#b08a1a",
    "#2a8d97",
    "#a83b5c",
    "#6b7a2a",
    "#5b5fc7",
    "#7a5230",
)
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.head{font-size:16px;font-weight:600}.small{fill:#666}"
    ":root{--paper:#fff}.grid{stroke:#e4e7eb}.base{stroke:#888;stroke-dasharray:5 4}.paper{fill:var(--paper)}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.small{fill:#999}.grid{stroke:#333a42}:root{--paper:#15181c}}"
)


def draw(answer: Mapping[str, Any]) -> str:
    """The picture as SVG, of what `sememe.tokens.compare` returned, or of rows like those with their ``titles``.

    A line a layer. A bar is the 95 % interval of the difference to the plain table, which is paired by seed and
    document and so much narrower than that of the loss itself.
    """
    rows: Sequence[Mapping[str, Any]] = answer["rows"]
    base = rows[0]["loss"]["value"]
    frame = _Frame(rows, base)
    head, below, unit = answer["titles"] if "titles" in answer else _titles(answer["setting"])
    parts = [
        written(_LEFT, 24, head, "head"),
        written(_LEFT, 42, below, "small"),
        *frame.grid(),
        f'<path class="base" d="M{_LEFT} {frame.y(base):.1f}h{frame.width}"/>',
    ]
    for number, name in enumerate(dict.fromkeys(row["layer"] for row in rows)):
        parts += _series([row for row in rows if row["layer"] == name], number, frame, base, unit)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {frame.tall}" role="img" '
        f'aria-label="{drawing.escaped(head)}"><style>{_STYLE}</style>'
        f'<rect class="paper" width="{_WIDTH}" height="{frame.tall}"/>{"".join(parts)}</svg>'
    )


def _titles(setting: Mapping[str, Any]) -> tuple[str, str, str]:
    """Head, line below it and unit of the comparison of token layers."""
    runs = "1 seed" if setting["seeds"] == 1 else f"{setting['seeds']} seeds"
    return (
        "Loss against the size of the token layer",
        f"{setting['symbols']:,} symbols of {setting['dim']} dimensions, {setting['steps']:,} steps, "
        f"{runs}; bits a byte of {setting['held_out']['bytes']:,} held-out bytes",
        "bits a byte",
    )


class _Frame:
    """Where sizes and losses lie on the picture; layers without parameters stand at the left, off the scale."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], base: float) -> None:
        sizes = [row["bytes"] / 4 for row in rows]
        self.nothing = min(sizes) < 1
        self.left = _LEFT + (_GAP if self.nothing else 0)
        self.tall = max(_LEAST, _TOP + _LINE * (len({row["layer"] for row in rows}) + 1))
        self.width = _WIDTH - _LEFT - _RIGHT
        some = [math.log10(size) for size in sizes if size >= 1]
        self.low, self.high = min(some) - 0.1, max(some) + 0.1
        ends = [base + row["gap"][side] for row in rows for side in ("low", "high")]
        margin = 0.06 * max(max(ends) - min(ends), 1e-3)
        self.bottom, self.top = min(ends) - margin, max(ends) + margin

    def x(self, size: float) -> float:
        """Across, by the logarithm of a size in parameters."""
        if size < 1:
            return _LEFT + _GAP / 2
        return self.left + (math.log10(size) - self.low) / (self.high - self.low) * (_WIDTH - _RIGHT - self.left)

    def y(self, loss: float) -> float:
        """Down, by a loss."""
        return _TOP + (self.top - loss) / (self.top - self.bottom) * (self.tall - _TOP - _BOTTOM)

    def grid(self) -> list[str]:
        """Lines and numbers of both scales."""
        foot, parts = self.tall - _BOTTOM, []
        for tick in range(5):
            level = self.bottom + (self.top - self.bottom) * tick / 4
            parts.append(f'<path class="grid" d="M{_LEFT} {self.y(level):.1f}h{self.width}"/>')
            parts.append(written(_LEFT - 8, self.y(level) + 4, f"{level:.3f}", "small", "end"))
        for power in range(math.ceil(self.low), math.floor(self.high) + 1):
            parts.append(f'<path class="grid" d="M{self.x(10.0**power):.1f} {_TOP}V{foot}"/>')
            parts.append(written(self.x(10.0**power), foot + 18, f"{10**power:,}", "small", "middle"))
        if self.nothing:
            parts.append(written(self.x(0), foot + 18, "none", "small", "middle"))
        title = "size of the layer in float32 parameters"
        return [*parts, written(_LEFT + self.width / 2, self.tall - 16, title, "small", "middle")]


def _series(rows: Sequence[Mapping[str, Any]], number: int, frame: _Frame, base: float, unit: str) -> list[str]:
    """Points, bars and the legend of one layer; a small shift keeps layers of one budget apart."""
    colour = _COLOURS[number % len(_COLOURS)]
    again = number >= len(_COLOURS)  # colours come round a second time, with dashes and rings
    dash = ' stroke-dasharray="6 3"' if again else ""
    fill = f'fill="var(--paper)" stroke="{colour}" stroke-width="2"' if again else f'fill="{colour}"'
    shift = 3.0 * ((number * 3) % 7 - 3)
    name = rows[0]["layer"]
    own = sorted(rows, key=lambda row: row["bytes"])
    points = [(frame.x(row["bytes"] / 4) + shift, frame.y(row["loss"]["value"])) for row in own]
    parts = []
    if len(points) > 1:
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    for (a, b), row in zip(points, own):
        gap = row["gap"]
        title = (
            f"{name}, {row['budget']}: {row['loss']['value']:.4f} {unit}, {gap['value']:+.4f} to the table "
            f"({gap['low']:+.4f} to {gap['high']:+.4f}), {row['bytes'] / 4:,.0f} parameters"
        )
        parts.append(
            f'<path d="M{a:.1f} {frame.y(base + gap["low"]):.1f}V{frame.y(base + gap["high"]):.1f}" '
            f'stroke="{colour}"/><circle cx="{a:.1f}" cy="{b:.1f}" r="4" {fill}>'
            f"<title>{drawing.escaped(title)}</title></circle>"
        )
    down = _TOP + 8 + _LINE * number
    mark = f'<circle cx="{_WIDTH - _RIGHT + 20}" cy="{down}" r="4" {fill}/>'
    return [*parts, mark, written(_WIDTH - _RIGHT + 30, down + 4, name[:24])]


def save(answer: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write the picture: ``.svg`` as it is, ``.html`` with a page around it.

    Raises
    ------
    InputError
        Another ending, or a place that cannot be written.
    """
    return drawing.save(draw(answer), path, "Token layers")
