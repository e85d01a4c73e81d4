"""The planner's report: one HTML file that stands alone.

The page needs no network and could not use one: its content security policy forbids every request and runs only the one
script whose digest it names, so text from a corpus can be neither markup nor code. It reads without JavaScript (all
tables and a static plot are in the HTML); the script adds the interactive plot, sorting, filtering and copying.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import sememe
from sememe.errors import InputError
from sememe.planner import report_answers as answers
from sememe.planner import report_format as show
from sememe.planner import report_plot as plot
from sememe.planner import report_sections as sections
from sememe.planner.report_format import esc, number, section

_SLOT = re.compile(r"\{\{(\w+)\}\}")
# Characters that could end a script element or a line of JavaScript; JSON may spell all of them as escapes.
_UNSAFE_JSON = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def render(plan: Mapping[str, Any]) -> str:
    """The report of a plan as one self-contained HTML document.

    Parameters
    ----------
    plan : dict
        The content of ``plan.json``. Optional keys may be missing; what they would show is left out.

    Returns
    -------
    str
        HTML without any reference to another file or host; the same plan gives the same text.
    """
    if not isinstance(plan, Mapping):
        raise InputError(f"a plan must be a dict, got {type(plan).__name__}", fix="pass the content of plan.json")
    data = plot.plot_data(plan)
    css = template("page.css")
    # The scripts share one scope and leave no name in the page.
    script = "(() => {\n" + "\n".join(template(name) for name in _SCRIPTS) + "})();"
    headline = verdict(plan)
    slots = {
        "policy": f"default-src 'none'; style-src '{digest(css)}'; script-src '{digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        "title": esc(f"Sememe plan: {headline}"),
        "css": css,
        "script": script,
        "data": embed(data),
        "eyebrow": _eyebrow(plan),
        "verdict": esc(headline),
        "chosen": _chosen(plan),
        "decision": f'<p class="decision">{esc(plan["decision"])}</p>' if plan.get("decision") else "",
        "judgement": answers.judgement(plan),
        "warnings": answers.warnings(plan),
        "cards": sections.cards(plan),
        "command": sections.command(plan),
        "frontier": _frontier(data),
        "steps": sections.steps(plan),
        "ledger": sections.ledger(plan),
        "scale": sections.scale(plan),
        "answers": answers.samples(plan),
        "points": sections.points(plan, plot.all_points(plan)),
        "method": answers.method(plan),
        "footer": _footer(plan),
    }
    slots["contents"] = _contents("".join(slots[name] for name in ("frontier", *_BODY)))
    # One pass, so that a slot's text is never searched for slots again.
    return _SLOT.sub(lambda match: slots[match[1]], template("page.html"))


def write(plan: Mapping[str, Any], path: str | Path) -> Path:
    """Write ``render(plan)`` to ``path`` as UTF-8; the path."""
    target = Path(path)
    text = render(plan)
    try:
        target.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(f"cannot write the report ({error.strerror})", where=str(target)) from None
    return target


def verdict(plan: Mapping[str, Any]) -> str:
    """The answer in one sentence: how much smaller (or faster), and what happened to quality."""
    chosen, reference = section(plan, "chosen"), section(plan, "reference")
    if not chosen:
        return "No recipe met the limits."
    if chosen.get("recipe") == reference.get("recipe"):
        return "Keep the reference: nothing cheaper was shown to hold its quality."
    held = {"passes": "within tolerance", "undecided": "not yet decided", "fails": "below tolerance"}
    kind = {"agreement": "agreement with the reference", "stand-in": "stand-in quality"}
    subject = kind.get(str(section(plan, "judgement").get("kind")), "quality")
    state = held.get(str(chosen.get("verdict")), "")
    now, before, _ = sections.shown_quality(plan)
    numbers = show.interval(now)
    if number(before.get("value")) is not None and numbers != show.DASH:
        numbers += f" vs {show.score(before['value'])}"
    told = f", {subject} {state}".rstrip() if state or numbers != show.DASH else ""
    return f"{_gain(plan)}{told}" + (f": {numbers}" if numbers != show.DASH else "")


def embed(data: object) -> str:
    """JSON that may stand inside a ``<script>`` element: ASCII, and no character that could end the element."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).translate(_UNSAFE_JSON)


_SCRIPTS = ("base.js", "plot.js", "table.js")
_BODY = ("steps", "ledger", "scale", "answers", "points", "method")
_HEADING = re.compile(r'<section id="(\w+)".*?<h2[^>]*>(.*?)</h2>', re.DOTALL)


def template(name: str) -> str:
    """A file of the page's template."""
    return resources.files("sememe.planner").joinpath("report_template", name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """What a content security policy calls an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _gain(plan: Mapping[str, Any]) -> str:
    chosen, reference = section(plan, "chosen"), section(plan, "reference")
    size = ("smaller", "larger", chosen.get("total_bytes"), reference.get("total_bytes"))
    if number(size[2]) is None or number(size[3]) is None:
        size = ("smaller", "larger", chosen.get("bytes_per_vector"), reference.get("bytes_per_vector"))
    latency = [section(point, "latency_ms").get("p95") for point in (chosen, reference)]
    speed = ("faster", "slower", latency[0], latency[1])
    for better, worse, now, before in (speed, size) if plan.get("prefer") == "fast" else (size, speed):
        a, b = number(now), number(before)
        if a and b:
            return f"{show.times(b, a)} {better}" if b >= a else f"{show.times(a, b)} {worse}"
    return f"Chosen: {chosen.get('recipe', show.DASH)}"


def _eyebrow(plan: Mapping[str, Any]) -> str:
    corpus = section(plan, "corpus")
    facts = [f"<bdi>{esc(show.clip(corpus['source'], 80))}</bdi>"] if corpus.get("source") else []
    if number(corpus.get("passages")) is not None:
        facts.append(f"{show.count(corpus['passages'])} passages")
    facts.append(esc(_day(plan.get("created"))))
    return " · ".join(fact for fact in facts if fact)


def _day(created: object) -> str:
    try:
        moment = datetime.datetime.fromisoformat(str(created))
    except ValueError:
        return str(created or "")
    return f"{moment.day} {moment:%B %Y}"


def _chosen(plan: Mapping[str, Any]) -> str:
    chosen = section(plan, "chosen")
    if not chosen.get("recipe"):
        return ""
    *_, held_out = sections.shown_quality(plan)
    queries = section(plan, "judgement").get("report")
    metric = esc(show.metric_name(plan.get("metric")))
    told = f"{metric} with 95 % interval"
    if held_out:
        many = f"{show.count(queries)} queries" if number(queries) else "queries"
        told += f", on {many} that took no part in the choice"
    return f'<p class="pick-line">{show.recipe_html(chosen["recipe"])}</p><p class="fine">{told}.</p>'


def _frontier(data: Mapping[str, Any]) -> str:
    picture = plot.static_svg(data)
    if not picture:
        return ""
    kind = plot.colour_kind(data)
    names = data["groups"][kind]
    keys = "".join(
        f'<li><svg viewBox="-2 -2 4 4" aria-hidden="true">{_marker(g)}</svg>{esc(n)}</li>' for g, n in enumerate(names)
    )
    body = (
        f'<div id="plot" class="plot-box"><figure>{picture}<figcaption><ul class="legend">{keys}</ul>'
        "Filled: within tolerance. Pale: undecided. Hollow: below tolerance or dropped. Shaded: tolerance. "
        "Line: the frontier.</figcaption></figure></div>"
    )
    lead = "Each mark is a recipe that was built and measured on this corpus."
    if any(point["r"][0] is not None for point in data["points"]):
        lead += " Quality here is on the queries used to choose; the headline is on queries kept apart."
    return sections.panel("frontier", "The frontier", body, lead)


def _marker(group: int) -> str:
    colour, shape = plot.style_of(group)
    return f'<path class="pt v-passes c{colour}" d="{plot.SHAPES[shape]}"/>'


def _contents(body: str) -> str:
    return "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title in _HEADING.findall(body))


def _footer(plan: Mapping[str, Any]) -> str:
    version = section(plan, "sememe").get("version") or sememe.__version__
    seed = f", seed {esc(plan['seed'])}" if "seed" in plan else ""
    took = f", in {show.seconds(plan['seconds'])}" if number(plan.get("seconds")) is not None else ""
    return f"Made by Sememe {esc(version)}{seed}{took}. The same numbers, complete, are in plan.json beside this page."
