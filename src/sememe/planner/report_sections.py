"""The sections of the report, each a function from the plan to HTML; an empty string where the plan has nothing to say.

All text that comes from the plan goes through ``esc`` (or a formatter that calls it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sememe.planner import report_format as show
from sememe.planner.report_format import DASH, entries, esc, number, recipe_html, section

Plan = Mapping[str, Any]
_PARTS = {
    "codes": "Codes",
    "side": "Side data (codebooks, projections)",
    "ids": "Ids",
    "graph": "Graph",
    "postings": "Postings",
    "rescore": "Rescoring tier",
}
_VERDICTS = {
    "passes": ("✓", "within tolerance"),
    "undecided": ("?", "undecided"),
    "fails": ("✗", "below tolerance"),
    "dropped": ("–", "dropped early"),
    "reference": ("◆", "reference"),
}


def panel(key: str, title: str, body: str, lead: str = "") -> str:
    """A titled section with an optional sentence of introduction (already HTML)."""
    if not body:
        return ""
    intro = f'<p class="lead">{lead}</p>' if lead else ""
    return f'<section id="{key}" aria-labelledby="{key}-h"><h2 id="{key}-h">{title}</h2>{intro}{body}</section>'


def table(head: Sequence[str], rows: Iterable[str], *, caption: str, css: str = "", key: str = "") -> str:
    """A table in a box that scrolls sideways by itself; the first column is text, the others numbers."""
    cells = "".join(f'<th scope="col">{name}</th>' for name in head)
    name = f' id="{key}"' if key else ""
    return (
        f'<div class="scroll {css}" role="region" tabindex="0" aria-label="{caption}"><table{name}>'
        f'<caption class="unseen">{caption}</caption><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def bar(share: float, css: str = "") -> str:
    """A horizontal bar filled to ``share`` (0 to 1); the number stands beside it in text."""
    width = max(0.0, min(share, 1.0)) * 100
    return (
        '<svg class="bar" aria-hidden="true"><rect class="track" width="100%" height="100%"/>'
        f'<rect class="fill {css}" width="{width:.2f}%" height="100%"/></svg>'
    )


def badge(verdict: object) -> str:
    """A verdict as sign and word, so that it does not depend on colour."""
    sign, word = _VERDICTS.get(str(verdict), ("·", str(verdict or "not judged")))
    known = str(verdict) if str(verdict) in _VERDICTS else "none"
    return f'<span class="badge v-{known}"><b aria-hidden="true">{sign}</b> {esc(word)}</span>'


def shown_quality(plan: Plan) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Quality of chosen and reference on the queries kept for reporting, and True; else on the choosing ones."""
    chosen, reference = section(plan, "chosen"), section(plan, "reference")
    now, before = section(chosen, "reported"), section(reference, "reported")
    if number(now.get("value")) is not None and number(before.get("value")) is not None:
        return now, before, True
    return section(chosen, "quality"), section(reference, "quality"), False


def cards(plan: Plan) -> str:
    """The four numbers that people ask for, chosen against reference."""
    chosen, reference = section(plan, "chosen"), section(plan, "reference")
    if not chosen:
        return ""
    quality, before, held_out = shown_quality(plan)
    now, then = number(quality.get("value")), number(before.get("value"))
    kept = number(section(chosen, "versus_reference").get("kept"))
    if held_out and now is not None and then:
        kept = now / then
    speed, speed_before = (section(point, "latency_ms").get("p95") for point in (chosen, reference))
    rows = [
        ("Bytes per vector", "bytes_per_vector", show.vector_bytes, "smaller"),
        ("Whole index", "total_bytes", show.size, "smaller"),
    ]
    made = [
        _card(title, form(chosen.get(key)), form(reference.get(key)), reference.get(key), chosen.get(key), word)
        for title, key, form, word in rows
    ]
    made.append(
        '<div class="card"><h3>Quality kept</h3>'
        f'<p class="big">{show.percent(kept) if kept is not None else show.score(quality.get("value"))}</p>'
        f'<p>{esc(show.metric_name(plan.get("metric")))} <span class="whole">{show.interval(quality)}</span></p>'
        f'<p>reference <span class="whole">{show.interval(before)}</span></p></div>'
    )
    milli = show.milliseconds
    made.append(_card("Latency, p95", milli(speed), milli(speed_before), speed_before, speed, "faster"))
    return f'<div class="cards">{"".join(made)}</div>'


def _card(title: str, now: str, before: str, big: object, small: object, word: str) -> str:
    above, below = number(big), number(small)
    change = ""
    if above and below:
        opposite = {"smaller": "larger", "faster": "slower"}[word]
        text = f"{show.times(above, below)} {word}" if above >= below else f"{show.times(below, above)} {opposite}"
        change = "same" if above == below else text
    filled = bar(below / above, "chosen") if above and below and below <= above else ""
    return (
        f'<div class="card"><h3>{title}</h3><p class="big">{now}</p>'
        f'<p><strong class="{"gain" if (above or 0) > (below or 0) else ""}">{change}</strong></p>{filled}'
        f"<p>reference {before}</p></div>"
    )


def command(plan: Plan) -> str:
    """The exact command to build the choice; the script adds a copy button."""
    text = plan.get("command")
    if not text:
        return ""
    return (
        '<div class="command" id="command"><h3>Build it</h3>'
        f'<pre tabindex="0"><code dir="ltr">{esc(text)}</code></pre></div>'
    )


def steps(plan: Plan) -> str:
    """What each byte bought: the walk along the frontier, a row a recipe, each against the one above it."""
    found = [step for step in entries(plan, "steps") if isinstance(step, Mapping)]
    if not found:
        return ""
    known = {str(p.get("recipe")): p for p in [*entries(plan, "points"), *entries(plan, "frontier")]}
    costs = [abs(number(step.get("quality_cost")) or 0.0) for step in found]
    walked = {str(step.get(end, "")) for step in found for end in ("from", "to")}
    largest = max((number(known.get(name, {}).get("bytes_per_vector")) or 0.0 for name in walked), default=0.0)
    chosen = str(section(plan, "chosen").get("recipe"))
    rows, here = [], None
    for step in found:
        before, after = str(step.get("from", "")), str(step.get("to", ""))
        if before != here:
            rows.append(_step_row(before, "", known.get(before, {}), largest, chosen, f"<td>{DASH}</td>" * 3))
        less, cost = number(step.get("bytes_saved")) or 0.0, number(step.get("quality_cost")) or 0.0
        price = -cost / less * 100 if less else None
        change = bar(abs(cost) / (max(costs) or 1.0), "cost" if cost > 0 else "saved")
        cells = f"<td>{show.vector_bytes(less)}</td><td>{show.signed(-cost)}{change}</td><td>{_price(price)}</td>"
        rows.append(_step_row(after, before, known.get(after, {}), largest, chosen, cells))
        here = after
    metric = esc(show.metric_name(plan.get("metric")))
    head = ("Recipe", "Bytes per vector", metric, "Bytes saved", "Quality change", "Change per 100 bytes")
    body = table(head, rows, caption="What each step along the frontier saved and cost", css="steps")
    lead = "Down the frontier, from its largest recipe to its smallest. What changed from the row above is underlined."
    return panel("bytes", "What each byte bought", body, lead)


def _step_row(recipe: str, before: str, point: Mapping[str, Any], largest: float, chosen: str, cells: str) -> str:
    here = recipe == chosen
    tag = ' <span class="badge pick"><b aria-hidden="true">★</b> chosen</span>' if here else ""
    amount = number(point.get("bytes_per_vector"))
    filled = bar(amount / largest, "chosen" if here else "") if amount is not None and largest else ""
    quality = show.score(section(point, "quality").get("value"))
    return (
        f"<tr{' class=chosen' if here else ''}><td>{recipe_html(recipe, before)}{tag}</td>"
        f"<td>{show.vector_bytes(amount)}{filled}</td><td>{quality}</td>{cells}</tr>"
    )


def _price(change: float | None) -> str:
    if change is None:
        return DASH
    text = f"{change:+.3f}" if abs(change) >= 0.01 else f"{change:+.4f}"
    return text.replace("-", "−")


def ledger(plan: Plan) -> str:
    """Where the bytes go: the parts of the index, and RAM apart from disk."""
    named = [(name, section(plan, name)) for name in ("chosen", "reference") if section(plan, name)]
    books = [(name, section(point, "ledger")) for name, point in named]
    books = [(name, book) for name, book in books if book]
    if not books:
        return ""
    sums = [sum(number(book.get(part)) or 0.0 for part in _PARTS) for _, book in books]
    largest = max(sums) or 1.0
    bars = [_stack(name.capitalize(), book, largest) for name, book in books]
    if len(books) == 2 and 0 < sums[0] < largest / 2:
        bars.insert(1, _stack(f"Chosen, enlarged {show.times(largest, sums[0])}", books[0][1], sums[0]))
    used = [part for part in _PARTS if any(number(book.get(part)) for _, book in books)]
    rows = [_part_row(_PARTS[part], part, books, list(_PARTS).index(part)) for part in used]
    for key, label in (("ram", "Held in RAM at search"), ("disk", "Read from disk")):
        if any(number(book.get(key)) is not None for _, book in books):
            rows.append(_part_row(label, key, books, None))
    head = ("Part", *(name.capitalize() for name, _ in books), *(["Chosen takes"] if len(books) == 2 else []))
    body = f'<div class="stacks">{"".join(bars)}</div>' + table(head, rows, caption="Bytes of each part of the index")
    return panel("ledger", "Where the bytes go", body, "Every part of the index counts; RAM and disk are told apart.")


def _stack(label: str, book: Mapping[str, Any], whole: float) -> str:
    left, shapes = 0.0, []
    for index, (part, name) in enumerate(_PARTS.items()):
        amount = number(book.get(part)) or 0.0
        width = amount / whole * 100
        if amount <= 0:
            continue
        title = f"{name}: {show.size(amount)}"
        shapes.append(
            f'<rect class="part c{index}" x="{left:.3f}%" width="{width:.3f}%" height="100%">'
            f"<title>{title}</title></rect>"
        )
        if width > 12:
            shapes.append(f'<text x="{left + width / 2:.2f}%" y="50%" dy=".35em" text-anchor="middle">{part}</text>')
        left += width
    return f'<p class="stack-name">{label}</p><svg class="stack" aria-hidden="true">{"".join(shapes)}</svg>'


def _part_row(label: str, key: str, books: Sequence[tuple[str, Mapping[str, Any]]], colour: int | None) -> str:
    cells = "".join(f"<td>{show.size(book.get(key))}</td>" for _, book in books)
    ratio = f"<td>{_change(books[0][1].get(key), books[1][1].get(key))}</td>" if len(books) == 2 else ""
    swatch = "" if colour is None else f'<i class="swatch c{colour}" aria-hidden="true"></i> '
    css = ' class="sum"' if colour is None else ""
    return f'<tr{css}><th scope="row">{swatch}{label}</th>{cells}{ratio}</tr>'


def _change(now: object, before: object) -> str:
    a, b = number(now) or 0.0, number(before) or 0.0
    if a == b or not a or not b:
        return "the same" if a == b else "new" if a else "none"
    return f"{show.times(b, a)} less" if b > a else f"{show.times(a, b)} more"


def scale(plan: Plan) -> str:
    """Bytes, memory and time predicted for larger corpora."""
    found = section(plan, "extrapolation")
    chosen, reference = entries(found, "chosen"), entries(found, "reference")
    if not chosen:
        return ""
    kinds = (
        ("total_bytes", show.size, "Index"),
        ("ram_bytes", show.size, "RAM"),
        ("latency_ms", show.milliseconds, "Latency"),
        ("build_seconds", show.seconds, "Build"),
    )
    rows = []
    for place, row in enumerate(chosen):
        other = reference[place] if place < len(reference) else {}
        cells = "".join(
            f'<td><strong>{form(row.get(key))}</strong><small><span class="unseen">reference </span>'
            f"{form(other.get(key))}</small></td>"
            for key, form, _ in kinds
        )
        rows.append(
            f'<tr><th scope="row">{esc(row.get("label", ""))}</th>'
            f"<td>{show.count(row.get('passages'))}</td>{cells}</tr>"
        )
    head = ("Corpus", "Passages", *(name for _, _, name in kinds))
    lead = "Predicted from what was measured here: <strong>the choice</strong>, and below it the reference."
    body = table(head, rows, caption="Predicted size, memory and time at larger scale", css="scale")
    return panel("scale", "As the corpus grows", body, lead)


def points(plan: Plan, found: Sequence[Mapping[str, Any]]) -> str:
    """Every measured recipe as a table; the script makes it sortable and filterable by ``data-i``."""
    marks = {str(section(plan, name).get("recipe")): name for name in ("reference", "chosen")}
    frontier = {str(point.get("recipe")) for point in entries(plan, "frontier")}
    rows = [_point_row(str(row), point, marks, frontier) for row, point in enumerate(found)]
    rows += [_point_row("", point, {}, set(), "context") for point in entries(plan, "context")]
    metric = esc(show.metric_name(plan.get("metric")))
    head = ("Recipe", "Bytes per vector", "Index", metric, "Against reference", "p50", "p95", "Build", "Verdict")
    body = table(head, rows, caption="All measured recipes", css="tall", key="points-table") if rows else ""
    lead = (
        f"{len(found):,} recipes, intervals at 95 %. Those dropped early were measured on a part of the queries only."
    )
    return panel("points", "Every recipe that was measured", body + _screened(plan), lead)


def _screened(plan: Plan) -> str:
    """Recipes that were left out before they were measured, each with its reason, folded away."""
    left = [(recipe_html(str(each.get("recipe", ""))), each.get("reason", "")) for each in entries(plan, "screened")]
    rows = [f"<tr><td>{recipe}</td><td>{esc(show.clip(reason, 240))}</td></tr>" for recipe, reason in left]
    if not rows:
        return ""
    body = table(("Recipe", "Why"), rows, caption="Recipes left out by the screen", css="tall")
    return (
        f"<details><summary>{len(rows):,} more were left out by a cheap first round, and why</summary>{body}</details>"
    )


def _point_row(
    place: str, point: Mapping[str, Any], marks: Mapping[str, str], frontier: set[str], kind: str = ""
) -> str:
    recipe = str(point.get("recipe", ""))
    latency = section(point, "latency_ms")
    mark = marks.get(recipe, "")
    tag = ' <span class="badge pick"><b aria-hidden="true">★</b> chosen</span>' if mark == "chosen" else ""
    if recipe in frontier and not tag:
        tag = ' <span class="badge"><b aria-hidden="true">⌐</b> frontier</span>'
    if kind:
        tag = ' <span class="badge"><b aria-hidden="true">·</b> for orientation</span>'
    reason = f"<small>{esc(show.clip(point['reason'], 160))}</small>" if point.get("reason") else ""
    versus = show.interval_html(section(point, "versus_reference"), sign=True, key="difference")
    cells = (
        show.vector_bytes(point.get("bytes_per_vector")),
        show.size(point.get("total_bytes")),
        show.interval_html(section(point, "quality")),
        DASH if mark == "reference" else versus,
        show.milliseconds(latency.get("p50")),
        show.milliseconds(latency.get("p95")),
        show.seconds(point.get("build_seconds")),
    )
    shown = "" if kind else badge(point.get("verdict") or point.get("status"))
    attributes = (f' data-i="{place}"' if place else "") + (f' class="{mark}"' if mark else "")
    numbers = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr{attributes}><td>{recipe_html(recipe)}{tag}</td>{numbers}<td>{shown}{reason}</td></tr>"
