"""Loss against the parameters of the token layer, as one picture."""

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
    ".grid{stroke:#e4e7eb}.base{stroke:#888;stroke-dasharray:5 4}.paper{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.small{fill:#999}.grid{stroke:#333a42}.paper{fill:#15181c}}"
)


def draw(answer: Mapping[str, Any]) -> str:
    """The picture as SVG, of what `sememe.tokens.compare` returned: a line a layer, a bar for its 95 % interval."""
    rows: Sequence[Mapping[str, Any]] = answer["rows"]
    sizes = [max(row["bytes"] / 4, 1.0) for row in rows]
    ends = [row["loss"]["low"] for row in rows] + [row["loss"]["high"] for row in rows]
    low_x, high_x = math.log10(min(sizes)), math.log10(max(sizes))
    low_y, high_y = min(ends), max(ends)
    margin = 0.05 * max(high_y - low_y, 1e-3)
    low_y, high_y = low_y - margin, high_y + margin
    tall = max(_LEAST, _TOP + _LINE * (len({row["layer"] for row in rows}) + 1))
    width, height = _WIDTH - _LEFT - _RIGHT, tall - _TOP - _BOTTOM

    def x(size: float) -> float:
        return _LEFT + (math.log10(max(size, 1.0)) - low_x) / max(high_x - low_x, 1e-9) * width

    def y(loss: float) -> float:
        return _TOP + (high_y - loss) / (high_y - low_y) * height

    parts = [written(_LEFT, 24, "Loss against the size of the token layer", "head")]
    setting = answer["setting"]
    parts.append(
        written(
            _LEFT,
            42,
            f"{setting['symbols']:,} symbols of {setting['dim']} dimensions, {setting['steps']:,} steps, "
            f"{setting['seeds']} seeds; bits a byte of {setting['held_out']['bytes']:,} held-out bytes",
            "small",
        )
    )
    for tick in range(5):
        level = low_y + (high_y - low_y) * tick / 4
        parts.append(f'<path class="grid" d="M{_LEFT} {y(level):.1f}h{width}"/>')
        parts.append(written(_LEFT - 8, y(level) + 4, f"{level:.3f}", "small", "end"))
    for power in range(math.floor(low_x), math.ceil(high_x) + 1):
        if low_x - 1e-9 <= power <= high_x + 1e-9:
            parts.append(f'<path class="grid" d="M{x(10.0**power):.1f} {_TOP}v{height}"/>')
            parts.append(written(x(10.0**power), tall - _BOTTOM + 18, f"{10**power:,}", "small", "middle"))
    parts.append(written(_LEFT + width / 2, tall - 16, "size of the layer in float32 parameters", "small", "middle"))
    base = rows[0]["loss"]["value"]
    parts.append(f'<path class="base" d="M{_LEFT} {y(base):.1f}h{width}"/>')
    parts += _series(rows, x, y)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {tall}" role="img" '
        f'aria-label="Loss against the size of the token layer"><style>{_STYLE}</style>'
        f'<rect class="paper" width="{_WIDTH}" height="{tall}"/>{"".join(parts)}</svg>'
    )


def _series(rows: Sequence[Mapping[str, Any]], x: Any, y: Any) -> list[str]:
    parts = []
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    for number, name in enumerate(layers):
        colour = _COLOURS[number % len(_COLOURS)]
        dash = ' stroke-dasharray="6 3"' if number >= len(_COLOURS) else ""
        own = sorted((row for row in rows if row["layer"] == name), key=lambda row: row["bytes"])
        points = [(x(max(row["bytes"] / 4, 1.0)), y(row["loss"]["value"])) for row in own]
        if len(points) > 1:
            path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        for (a, b), row in zip(points, own):
            title = (
                f"{name}, {row['budget']}: {row['loss']['value']:.4f} bits a byte "
                f"({row['loss']['low']:.4f} to {row['loss']['high']:.4f}), {row['bytes'] / 4:,.0f} parameters"
            )
            parts.append(
                f'<path d="M{a:.1f} {y(row["loss"]["low"]):.1f}V{y(row["loss"]["high"]):.1f}" stroke="{colour}"/>'
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{colour}">'
                f"<title>{drawing.escaped(title)}</title></circle>"
            )
        row_y = _TOP + 8 + _LINE * number
        parts.append(f'<circle cx="{_WIDTH - _RIGHT + 20}" cy="{row_y}" r="4" fill="{colour}"/>')
        parts.append(written(_WIDTH - _RIGHT + 30, row_y + 4, name[:24]))
    return parts


def save(answer: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write the picture: ``.svg`` as it is, ``.html`` with a page around it.

    Raises
    ------
    InputError
        Another ending, or a place that cannot be written.
    """
    return drawing.save(draw(answer), path, "Token layers")
