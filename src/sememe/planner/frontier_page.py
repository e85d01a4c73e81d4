"""A page of frontier plots without a plan behind it: quality over bytes, and the table of its points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sememe
from sememe.planner import report_plot as plot
from sememe.planner.report import digest, template
from sememe.planner.report_format import esc, interval

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src '{policy}'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{css}</style>
</head>
<body>
<header><p class="eyebrow"><b>Sememe</b></p><h1>{title}</h1></header>
<main>{sections}</main>
<footer>Sememe {version}</footer>
</body>
</html>
"""


def render(title: str, plots: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """One self-contained HTML document: for each ``(heading, plan-like dict)`` a plot and a table.

    The dict holds ``points`` and ``frontier`` as a plan does (``recipe``, ``bytes_per_vector``, ``quality``) and
    ``metric``.
    """
    css = template("page.css")
    parts = []
    for heading, plan in plots:
        best = {str(point["recipe"]) for point in plan["frontier"]}
        lines = "".join(
            f"<tr><td><code>{esc(point['recipe'])}</code></td><td>{point['bytes_per_vector']:g}</td>"
            f"<td>{esc(interval(point['quality']))}</td><td>{'frontier' if point['recipe'] in best else ''}</td></tr>"
            for point in sorted(plan["points"], key=lambda p: (-p["bytes_per_vector"], -p["quality"]["value"]))
        )
        parts.append(
            f"<section><h2>{esc(heading)}</h2>{plot.static_svg(plot.plot_data(plan))}"
            f'<div class="scroll"><table><thead><tr><th>code</th><th>bytes a vector</th><th>{esc(plan["metric"])}, 95 %'
            f"</th><th></th></tr></thead><tbody>{lines}</tbody></table></div></section>"
        )
    return _PAGE.format(
        policy=digest(css), title=esc(title), css=css, sections="".join(parts), version=esc(sememe.__version__)
    )
