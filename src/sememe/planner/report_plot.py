"""The frontier plot: the data that the page's script draws from, and the same plot as a static SVG.

The static picture is what a reader without JavaScript, a printer or a mail preview sees; the script replaces it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from sememe.planner.report_format import entries, esc, families, interval, metric_name, number, plain, score, section

# Markers of radius about 1, one a group, so that colour is never the only difference.
SHAPES = (
    "M1 0A1 1 0 1 1-1 0A1 1 0 1 1 1 0Z",
    "M-.9-.9H.9V.9H-.9Z",
    "M0-1.3L1.3 0L0 1.3L-1.3 0Z",
    "M0-1.2L1.15 .85H-1.15Z",
    "M0 1.2L1.15-.85H-1.15Z",
    "M-.4-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2V-.4H-.4Z",
    "M-.6-1.1H.6L1.2 0L.6 1.1H-.6L-1.2 0Z",
    "M0-1.3L.4-.4L1.3 0L.4 .4L0 1.3L-.4 .4L-1.3 0L-.4-.4Z",
)
COLOURS = 8
_WIDTH, _HEIGHT = 760, 430
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 22, 52


def style_of(group: int) -> tuple[int, int]:
    """Colour and shape of the ``group``-th group; pairs repeat only after 64 groups."""
    return group % COLOURS, (group + 3 * (group // COLOURS)) % len(SHAPES)


def floor_of(plan: Mapping[str, Any]) -> float | None:
    """The lowest quality still within tolerance of the reference.

    ``tolerance`` is a share of the reference's quality, or a difference where ``tolerance_kind`` is ``"absolute"``.
    """
    value = number(section(section(plan, "reference"), "quality").get("value"))
    tolerance = number(plan.get("tolerance"))
    if value is None or tolerance is None:
        return None
    return value - tolerance if plan.get("tolerance_kind") == "absolute" else value * (1 - tolerance)


def all_points(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every measured point once, by recipe, in the plan's order; the chosen and the reference are always among them."""
    found: dict[str, dict[str, Any]] = {}
    for point in [*entries(plan, "points"), *entries(plan, "frontier"), section(plan, "reference")]:
        if point and point.get("recipe") is not None:
            found.setdefault(str(point["recipe"]), point)
    chosen = section(plan, "chosen")
    if chosen.get("recipe") is not None:
        found.setdefault(str(chosen["recipe"]), chosen)
    return list(found.values())


def _short(value: object) -> float | None:
    """Six significant digits: enough to draw, and the page stays small."""
    found = number(value)
    return None if found is None else float(f"{found:.6g}")


def plot_data(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What the script needs, as plain JSON: points with short keys, groups, and the lines of the plot."""
    points = all_points(plan)
    recipes = [str(point["recipe"]) for point in points]
    kinds: dict[str, list[str]] = {"encoder": [], "quantizer": [], "index": []}
    rows = []
    for point, recipe in zip(points, recipes, strict=True):
        quality, versus = section(point, "quality"), section(point, "versus_reference")
        latency = section(point, "latency_ms")
        row: dict[str, Any] = {
            "recipe": plain(recipe),
            "bytes": _short(point.get("bytes_per_vector")),
            "total": _short(point.get("total_bytes")),
            "p50": _short(latency.get("p50")),
            "p95": _short(latency.get("p95")),
            "build": _short(point.get("build_seconds")),
            "q": [_short(quality.get(key)) for key in ("value", "low", "high")],
            "d": [_short(versus.get(key)) for key in ("difference", "low", "high")],
            "kept": _short(versus.get("kept")),
            "r": [_short(section(point, "reported").get(key)) for key in ("value", "low", "high")],
            "verdict": plain(point.get("verdict") or point.get("status") or ""),
            "reason": plain(point.get("reason") or ""),
        }
        for kind, name in zip(kinds, families(plain(recipe)), strict=True):
            if name not in kinds[kind]:
                kinds[kind].append(name)
            row[kind] = kinds[kind].index(name)
        rows.append(row)
    place = {recipe: row for row, recipe in enumerate(recipes)}
    context = [
        {"recipe": plain(p.get("recipe", "")), "q": _short(section(p, "quality").get("value"))}
        for p in entries(plan, "context")
    ]
    return {
        "points": rows,
        "groups": kinds,
        "styles": [style_of(group) for group in range(max((len(names) for names in kinds.values()), default=0))],
        "shapes": SHAPES,
        "frontier": [place[str(p["recipe"])] for p in entries(plan, "frontier") if str(p.get("recipe")) in place],
        "reference": place.get(str(section(plan, "reference").get("recipe"))),
        "chosen": place.get(str(section(plan, "chosen").get("recipe"))),
        "context": [line for line in context if line["q"] is not None],
        "floor": _short(floor_of(plan)),
        "metric": plain(metric_name(plan.get("metric"))),
    }


def colour_kind(data: Mapping[str, Any]) -> str:
    """What the points are coloured by at first: encoders, where there are several."""
    groups = data["groups"]
    return next((kind for kind in ("encoder", "quantizer") if len(groups[kind]) > 1), "quantizer")


def linear_ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Round numbers between ``low`` and ``high``, about ``wanted`` of them."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [tick * step for tick in range(first, math.floor(high / step + 1e-9) + 1)]


def quality_range(data: Mapping[str, Any]) -> tuple[float, float]:
    """Lowest and highest quality to draw, with a margin: all values, and the intervals of the frontier."""
    points = data["points"]
    values = [p["q"][0] for p in points] + [line["q"] for line in data["context"]] + [data["floor"]]
    for row in {*data["frontier"], data["reference"], data["chosen"]} - {None}:
        values += points[row]["q"][1:]
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    margin = max((high - low) * 0.05, 0.005)
    return low - margin, high + margin


def static_svg(data: Mapping[str, Any]) -> str:
    """Quality over bytes per vector (log scale) as an SVG; an empty string where no point has both numbers."""
    drawn = [row for row, p in enumerate(data["points"]) if (p["bytes"] or 0) > 0 and p["q"][0] is not None]
    if not drawn:
        return ""
    points = data["points"]
    sizes = [points[row]["bytes"] for row in drawn]
    left, right = math.log2(min(sizes)) - 0.35, math.log2(max(sizes)) + 0.35
    low, high = quality_range(data)

    def across(value: float) -> float:
        return round(_LEFT + (math.log2(value) - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT), 1)

    def down(value: float) -> float:
        return round(_TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    parts = _axes(data["metric"], low, high, (left, right), across, down)
    parts += _lines(data, across, down)
    kind = colour_kind(data)
    special = {data["reference"], data["chosen"], *data["frontier"]}
    for row in sorted(drawn, key=lambda row: row in special):
        point = points[row]
        colour, shape = style_of(point[kind])
        x, y, (_, bottom, top) = across(point["bytes"]), down(point["q"][0]), point["q"]
        if row in special and bottom is not None and top is not None:
            parts.append(f'<path class="whisker c{colour}" d="M{x} {down(top)}V{down(bottom)}"/>')
        title = f"{point['recipe']}: {point['bytes']:g} bytes, {score(point['q'][0])}"
        parts.append(
            f'<path class="pt c{colour} v-{_token(point["verdict"])}" transform="translate({x} {y})scale(5)" '
            f'd="{SHAPES[shape]}"><title>{esc(title)}</title></path>'
        )
    for name in ("reference", "chosen"):
        if data[name] in drawn:
            parts.append(_mark(name, points[data[name]], across, down))
    label = f"{data['metric']} over bytes per vector for {len(drawn)} recipes. {_spoken(data)}"
    return (
        f'<svg class="plot static" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{esc(label)}">'
        + "".join(parts)
        + "</svg>"
    )


def _token(verdict: str) -> str:
    """A verdict as a class name."""
    return "".join(c for c in verdict.lower() if c.isascii() and c.isalnum()) or "none"


def _axes(
    metric: str, low: float, high: float, span: tuple[float, float], across: Callable, down: Callable
) -> list[str]:
    parts = []
    for tick in linear_ticks(low, high):
        y = down(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:.2f}</text>')
    for power in range(math.ceil(span[0]), math.floor(span[1]) + 1):
        x = across(2.0**power)
        parts.append(
            f'<text class="tick" x="{x}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{2**power:,g}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">bytes per vector (log scale)</text>'
        f'<text class="axis" x="{_LEFT}" y="12" text-anchor="middle">{esc(metric)}</text>'
    )
    return parts


def _lines(data: Mapping[str, Any], across: Callable, down: Callable) -> list[str]:
    """Tolerance band, context lines and the frontier."""
    parts: list[str] = []
    edge, points = _WIDTH - _RIGHT, data["points"]
    top = points[data["reference"]]["q"][0] if data["reference"] is not None else None
    if top is not None and data["floor"] is not None:
        height = max(down(data["floor"]) - down(top), 0.5)
        parts.append(f'<rect class="band" x="{_LEFT}" y="{down(top)}" width="{edge - _LEFT}" height="{height:.1f}"/>')
    for line in data["context"]:
        parts.append(f'<path class="context" d="M{_LEFT} {down(line["q"])}H{edge}"/>')
        name = f"{line['recipe']} {score(line['q'])}"
        parts.append(f'<text class="note context" x="{_LEFT + 6}" y="{down(line["q"]) - 5}">{esc(name)}</text>')
    steps = sorted((points[row]["bytes"], points[row]["q"][0]) for row in data["frontier"] if _plottable(points[row]))
    if len(steps) > 1:
        first, *rest = steps
        path = f"M{across(first[0])} {down(first[1])}" + "".join(f"H{across(x)}V{down(y)}" for x, y in rest)
        parts.append(f'<path class="frontier" d="{path}"/>')
    return parts


def _plottable(point: Mapping[str, Any]) -> bool:
    return (point["bytes"] or 0) > 0 and point["q"][0] is not None


def _mark(name: str, point: Mapping[str, Any], across: Callable, down: Callable) -> str:
    x, y = across(point["bytes"]), down(point["q"][0])
    anchor = "end" if x > _WIDTH * 0.75 else "start" if x < _WIDTH * 0.25 else "middle"
    below = 26 if name == "chosen" else -16
    return (
        f'<circle class="ring {name}" cx="{x}" cy="{y}" r="10"/>'
        f'<text class="mark {name}" x="{x}" y="{y + below}" text-anchor="{anchor}">{name}</text>'
    )


def _spoken(data: Mapping[str, Any]) -> str:
    """The two points that matter, in words, for a screen reader."""
    sentences = []
    for name in ("chosen", "reference"):
        if data[name] is not None and _plottable(point := data["points"][data[name]]):
            quality = interval(dict(zip(("value", "low", "high"), point["q"], strict=True)))
            sentences.append(f"{name.capitalize()}: {point['recipe']}, {point['bytes']:g} bytes, {quality}.")
    return " ".join(sentences)
