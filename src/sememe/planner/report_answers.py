"""The parts of the report that are mostly words: sample answers, warnings, and how everything was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sememe.planner import report_format as show
from sememe.planner.report_format import DASH, entries, esc, number, recipe_html, section
from sememe.planner.report_sections import panel

Plan = Mapping[str, Any]
_OPEN = 3  # samples shown unfolded
_TEXT = 320  # characters of an answer
_JUDGED = {
    "labels": ("Judged relevance", "Quality is measured against relevance judgements that came with the corpus."),
    "stand-in": (
        "Stand-in judgements, not human ones",
        "No judgements were given. Queries were made from the corpus itself, each with the passage it was taken from "
        "as its one known answer. Read quality as a comparison between recipes, not as how well real users are served.",
    ),
    "agreement": (
        "Agreement with the reference, not relevance",
        "No judgements were given. Quality is how far a recipe's results agree with the full-precision ranking; "
        "it says nothing about whether that ranking is good.",
    ),
}


def judgement(plan: Plan) -> str:
    """How quality was judged: a quiet line for labels, a prominent box for anything weaker."""
    kind = str(section(plan, "judgement").get("kind", ""))
    if kind not in _JUDGED or kind == "labels":
        return ""
    title, text = _JUDGED[kind]
    return f'<aside class="notice strong"><h3>{title}</h3><p>{text}</p></aside>'


def warnings(plan: Plan) -> str:
    """What the reader must know before believing the numbers."""
    found = entries(plan, "warnings")
    if not found:
        return ""
    items = "".join(f"<li>{esc(text)}</li>" for text in found)
    return f'<aside class="notice"><h3>Before you rely on this</h3><ul>{items}</ul></aside>'


def samples(plan: Plan) -> str:
    """Answers of the reference and of the choice side by side, with moved ranks and relevant answers marked."""
    found = [sample for sample in entries(plan, "samples") if isinstance(sample, Mapping)]
    made = [_sample(sample, unfolded=row < _OPEN) for row, sample in enumerate(found)]
    body = "".join(made)
    return panel("answers", "The same questions, both ways", body, "Top answers of the reference and of the choice.")


def _sample(sample: Mapping[str, Any], *, unfolded: bool) -> str:
    before, after = entries(sample, "reference"), entries(sample, "chosen")
    old = {str(hit.get("id")): rank for rank, hit in enumerate(before)}
    new = {str(hit.get("id")): rank for rank, hit in enumerate(after)}
    shared = sum(key in old for key in new)
    moved = sum(key in old and old[key] != rank for key, rank in new.items())
    summary = f"{shared} of {len(after)} shared" + (f", {moved} moved" if moved else "")
    if before and list(old) == list(new):
        summary = "same answers, same order"
    left = _column("Reference", before, lambda key, rank: "" if key in new else '<b class="move out">not in choice</b>')
    right = _column("Choice", after, lambda key, rank: _moved(old.get(key), rank))
    return (
        f'<details class="sample"{" open" if unfolded else ""}><summary><bdi class="query">'
        f'{esc(show.clip(sample.get("query", ""), 240))}</bdi> <span class="shared">{summary}</span></summary>'
        f'<div class="pair">{left}{right}</div></details>'
    )


def _moved(before: int | None, now: int) -> str:
    if before is None:
        return '<b class="move new">new</b>'
    if before == now:
        return ""
    arrow, word, css = ("▲", "up", "up") if before > now else ("▼", "down", "down")
    steps = abs(before - now)
    return (
        f'<b class="move {css}"><span aria-hidden="true">{arrow}</span><span class="unseen">{word}</span> {steps}</b>'
    )


def _column(title: str, hits: Sequence[Mapping[str, Any]], note: Any) -> str:
    items = []
    for rank, hit in enumerate(hits):
        key, relevant = str(hit.get("id")), hit.get("relevant")
        mark = '<b class="relevant"><span aria-hidden="true">✓</span> relevant</b>' if relevant is True else ""
        tags = f"{mark}{note(key, rank)}"
        points = number(hit.get("score"))
        name = esc(show.clip(key, 80))
        items.append(
            f'<li{" class=yes" if relevant is True else ""}><p class="hit"><bdi class="id">{name}</bdi>'
            f'<span class="value">{DASH if points is None else f"{points:.3f}"}</span>{tags}</p>'
            f'<p class="text" dir="auto">{esc(show.clip(hit.get("text", ""), _TEXT))}</p></li>'
        )
    body = f"<ol>{''.join(items)}</ol>" if items else "<p>No answers.</p>"
    return f'<div class="side"><h3>{title}</h3>{body}</div>'


def method(plan: Plan) -> str:
    """Corpus, splits, judgements, rule of choice, machine and versions."""
    judged, corpus = section(plan, "judgement"), section(plan, "corpus")
    tolerance = number(plan.get("tolerance"))
    rule = [f"prefer {esc(plan['prefer'])}"] if plan.get("prefer") else []
    if tolerance is not None:
        allowed = show.score(tolerance) if plan.get("tolerance_kind") == "absolute" else show.percent(tolerance)
        rule.append(f"quality not more than {allowed} below the reference, at 95 % confidence")
    rule += _limits(section(plan, "limits"))
    title, _ = _JUDGED.get(str(judged.get("kind")), (esc(judged.get("kind", "")), ""))
    versions = ", ".join(f"{esc(k)} {esc(v)}" for k, v in section(plan, "versions").items())
    machine = section(plan, "machine")
    cores = f", {show.count(machine['cores'])} cores" if machine.get("cores") else ""
    rows = [
        ("Corpus", _corpus(corpus)),
        ("Notices", "<br>".join(esc(text) for text in entries(corpus, "notices"))),
        ("Judged by", ". ".join(text for text in (title, esc(judged.get("explanation", ""))) if text)),
        ("Queries", _splits(judged)),
        ("Metric", esc(show.metric_name(plan.get("metric")))),
        ("Rule of choice", "; ".join(rule)),
        ("Reference", recipe_html(section(plan, "reference")["recipe"]) if section(plan, "reference") else ""),
        ("Recipes", _tally(entries(plan, "points"), len(entries(plan, "screened")))),
        ("Intervals", "95 %, paired bootstrap over queries"),
        ("Seed", esc(plan.get("seed", ""))),
        ("Machine", esc(machine.get("cpu", "")) + cores),
        ("Versions", versions),
        ("Time taken", show.seconds(plan["seconds"]) if number(plan.get("seconds")) is not None else ""),
    ]
    items = "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in rows if text)
    return panel("method", "How it was measured", f'<dl class="facts">{items}</dl>')


def _corpus(corpus: Mapping[str, Any]) -> str:
    facts = [f"<bdi>{esc(corpus['source'])}</bdi>"] if corpus.get("source") else []
    facts += [
        f"{show.count(corpus[key])} {key}" for key in ("records", "passages") if number(corpus.get(key)) is not None
    ]
    characters = number(corpus.get("characters"))
    if characters is not None:
        facts.append(
            f"{characters / 1e6:.1f} million characters" if characters >= 1e6 else f"{characters:,.0f} characters"
        )
    return ", ".join(facts)


def _splits(judged: Mapping[str, Any]) -> str:
    uses = {
        "fit": "to fit",
        "choose": "to choose",
        "report": "to report, never used for choosing",
        "unlabelled": "without judgements, for agreement",
    }
    return "<br>".join(f"{show.count(judged[key])} {use}" for key, use in uses.items() if number(judged.get(key)))


def _limits(limits: Mapping[str, Any]) -> list[str]:
    forms = {
        "budget_bytes": ("index at most", show.size),
        "bytes_per_vector": ("a vector at most", show.vector_bytes),
        "latency_ms": ("p95 latency at most", show.milliseconds),
        "ram_bytes": ("memory at most", show.size),
        "build_seconds": ("build time at most", show.seconds),
    }
    return [f"{text} {form(limits[key])}" for key, (text, form) in forms.items() if number(limits.get(key)) is not None]


def _tally(points: Sequence[Mapping[str, Any]], screened: int) -> str:
    dropped = sum(point.get("status") == "dropped" for point in points)
    if not points:
        return ""
    told = f"{len(points) - dropped:,} measured in full, {dropped:,} dropped early as hopeless"
    return told + (f", {screened:,} left out by the first round" if screened else "")
