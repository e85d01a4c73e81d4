"""The report: complete, safe, small, self-contained, and alive in a real browser."""

from __future__ import annotations

import copy
import html
import html.parser
import itertools
import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.planner import report, report_format, report_plot

HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<img src=https://evil.example/x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "a\u2028b\u2029c",
    "<!-- <script> ]]> {{script}} {{data}}",
    "nul \x00 bell \x07 lone \ud800 bidi \u202e end",
    "\\u003c/script\\u003e `${alert(1)}` '",
]
ENCODERS = {"static": (256, 0.412, 0.05), "minilm": (384, 0.648, 9.0), "use": (512, 0.505, 0.7)}
QUANTIZERS = {
    "fp32": (32, 0.0),
    "fp16": (16, 0.0),
    "int8": (8, 0.001),
    "int4": (4, 0.011),
    "ternary": (1.6, 0.04),
    "binary": (1, 0.07),
}
PASSAGES = 5183


def make_point(recipe, encoder, width, bits, value, generator, scale):
    """One point as the planner measures it, quality given."""
    codes = math.ceil(width * bits / 8)
    side = 4 * width * ENCODERS[encoder][0] if width < ENCODERS[encoder][0] else 4 * width
    graph = 260 * PASSAGES if "hnsw" in recipe else 0
    ids = 8 * PASSAGES
    book = {"codes": codes * PASSAGES, "side": side, "ids": ids, "graph": graph, "postings": 0, "rescore": 0}
    total = sum(book.values())
    half = 0.028 + 0.004 * generator.random()
    fast = 0.12 + codes * PASSAGES / 9e6 * (0.1 if graph else 1) + ENCODERS[encoder][2]
    return {
        "recipe": recipe,
        "bytes_per_vector": float(codes),
        "total_bytes": total,
        "ledger": {**book, "ram": total, "disk": total + 1900 * PASSAGES},
        "quality": {"metric": "ndcg@10", "value": value, "low": value - half, "high": value + half},
        "versus_reference": {
            "difference": value - scale,
            "low": value - scale - 0.008,
            "high": value - scale + 0.007,
            "kept": value / scale,
        },
        "reported": None,
        "latency_ms": {"p50": fast, "p95": fast * 1.45},
        "build_seconds": 0.2 + codes / 400,
        "status": "measured",
        "verdict": "passes",
        "reason": "",
    }


def make_plan(limit=300, seed=0, kind="labels"):
    """A plan with the shape and the magnitudes of one over a few thousand abstracts."""
    generator = np.random.default_rng(seed)
    best = ENCODERS["minilm"][1]
    points = []
    shapes = itertools.product(
        ENCODERS,
        (1.0, 0.75, 0.5, 0.25, 0.125),
        QUANTIZERS,
        ("flat", "hnsw:32"),
        ("", "sentences:4 | ", "tokens:128 | "),
    )
    for encoder, share, quantizer, index, chunks in shapes:
        full, top, _ = ENCODERS[encoder]
        width, (bits, cost) = int(full * share), QUANTIZERS[quantizer]
        reduce = "" if share == 1 else f"pca:{width} | "
        value = (
            top
            - cost * (1 + 0.4 * (1 - share))
            - 0.09 * (1 - share) ** 3
            - 0.01 * bool(chunks)
            - 0.002 * ("h" in index)
        )
        value += 0.003 * generator.standard_normal()
        recipe = f"{chunks}{encoder} | {reduce}{quantizer} | {index}"
        point = make_point(recipe, encoder, width, bits, round(value, 4), generator, best)
        low = point["versus_reference"]["low"] / best
        high = point["versus_reference"]["high"] / best
        point["verdict"] = "passes" if low >= -0.02 else "undecided" if high >= -0.02 else "fails"
        if value < best * 0.72 and generator.random() < 0.6:
            point |= {"status": "dropped", "verdict": "dropped", "reason": "27 % below the reference after 60 queries"}
        points.append(point)
    reference = next(p for p in points if p["recipe"] == "minilm | fp32 | flat")
    reference |= {"verdict": "reference", "reason": "the best exact full-precision recipe"}
    reference["quality"]["value"] = best
    passing = [p for p in points if p["verdict"] == "passes" and p["recipe"].startswith("minilm")]
    chosen = min(passing, key=lambda p: (p["total_bytes"], p["recipe"]))
    chosen |= {"reason": "the smallest recipe whose interval stays above the tolerance"}
    others = [p for p in points if p is not reference and p is not chosen]
    keep = sorted(generator.permutation(len(others))[: limit - 2])
    points = [reference, chosen, *(others[row] for row in keep)]
    frontier, top = [], -1.0
    for point in sorted((p for p in points if p["status"] == "measured"), key=lambda p: p["bytes_per_vector"]):
        if point["quality"]["value"] > top:
            top = point["quality"]["value"]
            frontier.append(point)
    for point, value in ((reference, 0.6412), (chosen, 0.6367)):
        point["reported"] = {"metric": "ndcg@10", "value": value, "low": value - 0.041, "high": value + 0.039}
    if chosen not in frontier:
        frontier = sorted([*frontier, chosen], key=lambda p: p["bytes_per_vector"])
    walk = frontier[::-1]
    steps = [
        {
            "from": a["recipe"],
            "to": b["recipe"],
            "bytes_saved": a["bytes_per_vector"] - b["bytes_per_vector"],
            "quality_cost": a["quality"]["value"] - b["quality"]["value"],
        }
        for a, b in itertools.pairwise(walk)
    ]
    context = copy.deepcopy(chosen) | {
        "recipe": "bm25 | inverted",
        "bytes_per_vector": None,
        "verdict": "",
        "reason": "",
    }
    context["quality"] = {"metric": "ndcg@10", "value": 0.552, "low": 0.52, "high": 0.584}
    context["versus_reference"] = {}
    return {
        "sememe": {"version": "0.1.0"},
        "created": "2026-03-14T10:20:30+00:00",
        "seed": 0,
        "versions": {"numpy": "2.2.1", "usearch": "2.26.0"},
        "machine": {"cpu": "Intel Xeon (Sapphire Rapids)", "cores": 2},
        "corpus": {
            "source": "docs/",
            "records": PASSAGES,
            "passages": PASSAGES,
            "characters": 7.8e6,
            "notices": ["12 empty records skipped", "3 records repeat an id; the first was kept"],
        },
        "judgement": {
            "kind": kind,
            "explanation": "300 queries with judgements from qrels.tsv",
            "fit": 40,
            "choose": 160,
            "report": 100,
            "unlabelled": 1000,
        },
        "metric": "ndcg@10",
        "tolerance": 0.02,
        "prefer": "small",
        "limits": {"budget_bytes": 5_000_000, "bytes_per_vector": None, "latency_ms": None},
        "reference": reference,
        "chosen": chosen,
        "frontier": frontier,
        "points": points,
        "context": [context],
        "steps": steps,
        "extrapolation": {name: _grow(point) for name, point in (("chosen", chosen), ("reference", reference))},
        "samples": [_sample(query) for query in QUERIES],
        "warnings": [
            "the interval on the report split is wide: 113 more judged queries would narrow it below the tolerance"
        ],
        "decision": f"{chosen['recipe']} keeps the quality of full precision within 2 %. "
        "The next smaller recipe on the frontier would save more, but then the interval reaches below the tolerance.",
        "command": f"sememe build docs/ --recipe '{chosen['recipe']}' -o my.index",
        "seconds": 84.2,
    }


def _grow(point):
    return [
        {
            "label": label,
            "passages": PASSAGES * factor,
            "total_bytes": point["total_bytes"] * factor,
            "ram_bytes": point["ledger"]["ram"] * factor,
            "latency_ms": point["latency_ms"]["p95"] * factor**0.9,
            "build_seconds": point["build_seconds"] * factor,
        }
        for label, factor in (("this corpus", 1), ("10x", 10), ("100x", 100))
    ]


QUERIES = (
    "Does vitamin D deficiency raise the risk of respiratory infection?",
    "Gut bacteria change how cancer drugs work",
    "Sleep loss and the clearance of amyloid",
    "Aspirin after a first stroke",
)
ABSTRACT = (
    "Serum concentrations were measured in 25 trials of daily supplementation. Participants who were deficient "
    "at baseline had the largest reduction in infection, while those with ample stores showed no measurable change "
    "over the winter. Heterogeneity between trials was explained by the dosing interval rather than by age or latitude."
)


def _sample(query):
    def hits(order):
        return [
            {
                "id": f"MED-{1000 + n}",
                "score": 0.82 - 0.03 * rank,
                "text": f"Trial {n}. {ABSTRACT}",
                "relevant": n in (1, 4) if n < 6 else None,
            }
            for rank, n in enumerate(order)
        ]

    return {"query": query, "reference": hits([1, 2, 3, 4, 5]), "chosen": hits([1, 4, 2, 3, 7])}


@pytest.fixture(scope="module")
def plan():
    return make_plan()


@pytest.fixture(scope="module")
def page(plan):
    return report.render(plan)


class Outline(html.parser.HTMLParser):
    """Tags that are open, every address, ids and the visible words: enough to judge a page by."""

    VOID = frozenset(["meta", "link", "br", "input", "img"])

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.ids, self.handlers, self.tags, self.words = [], [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "action", "srcset", "data", "poster"}:
                self.addresses.append(value)
            if name == "id":
                self.ids.append(value)
            if name.startswith("on") or name == "style":
                self.handlers.append((tag, name))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in {"script", "style"}:
            self.words.append(data)


def outline(page):
    found = Outline()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


def embedded(page):
    return json.loads(re.search(r'<script type="application/json" id="plan-data">(.*?)</script>', page, re.DOTALL)[1])


def poison(value, texts):
    """Every string of a plan replaced by a hostile one, so that no path to the page is forgotten."""
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, dict):
        return {key: poison(inner, texts) for key, inner in value.items()}
    return [poison(inner, texts) for inner in value] if isinstance(value, list) else value


def test_the_page_answers_at_a_glance(plan, page):
    words = " ".join(" ".join(outline(page).words).split())
    ratio = plan["reference"]["total_bytes"] / plan["chosen"]["total_bytes"]
    assert f"{ratio:.1f}× smaller, quality within tolerance: 0.637 [0.596, 0.676] vs 0.641" in words
    assert plan["command"] in words
    assert plan["warnings"][0] in words
    assert "Intel Xeon (Sapphire Rapids), 2 cores" in words
    for query in QUERIES:
        assert query in words


def test_every_measured_point_is_in_the_table_and_in_the_data(plan, page):
    data = embedded(page)
    assert [point["recipe"] for point in data["points"]] == [point["recipe"] for point in plan["points"]]
    assert page.count("<tr data-i=") == len(plan["points"])
    chosen = data["points"][data["chosen"]]
    assert chosen["recipe"] == plan["chosen"]["recipe"]
    assert chosen["q"] == pytest.approx([plan["chosen"]["quality"][key] for key in ("value", "low", "high")], rel=1e-5)
    assert data["floor"] == pytest.approx(plan["reference"]["quality"]["value"] * 0.98, rel=1e-5)
    assert len(data["frontier"]) == len(plan["frontier"])


def test_nothing_leaves_the_machine(page):
    found = outline(page)
    assert all(address.startswith("#") or address == "data:," for address in found.addresses), found.addresses
    assert not re.search(r"(?:src|href|url|import)\s*[=(]\s*[\"']?\s*(?:https?:)?//", page)
    assert "default-src 'none'" in page
    assert found.handlers == []  # the policy would forbid them
    assert len(found.ids) == len(set(found.ids))


def test_a_page_of_300_points_stays_small(page):
    assert len(page.encode()) < 600_000


def test_hostile_text_stays_text(plan):
    texts = itertools.cycle(HOSTILE)
    bad = poison(copy.deepcopy(plan), texts)
    page = report.render(bad)
    page.encode("utf-8")  # no lone surrogate is left
    found, clean = outline(page), outline(report.render(make_plan(20)))
    assert set(found.tags) <= set(clean.tags)
    assert found.tags.count("script") == 2
    assert found.handlers == []
    assert "\x00" not in page and "\x07" not in page
    script = page[page.index('id="plan-data"') :].partition("</script>")[0]
    assert "\u2028" not in script and "<" not in script.partition(">")[2]
    assert embedded(page)["points"][0]["recipe"] in map(report_format.plain, HOSTILE)
    assert "{{data}}" in html.unescape(page)  # shown as written, not filled in


@pytest.mark.parametrize("text", HOSTILE)
def test_embedded_json_comes_back_unchanged(text):
    assert json.loads(report.embed({"t": text})) == {"t": text}


def test_missing_keys_leave_their_part_out(plan):
    for key in plan:
        outline(report.render({name: value for name, value in plan.items() if name != key}))
    words = " ".join(outline(report.render({})).words)
    assert "No recipe met the limits." in words
    bare = {"recipe": "static | int8 | flat"}
    page = report.render({"reference": bare | {"recipe": "static | flat"}, "chosen": bare, "points": [bare]})
    shown = "".join(outline(page).words)
    assert "Chosen: static | int8 | flat\n" in shown  # nothing to compare by
    assert not re.search(r"\b(nan|None|inf)\b", shown)


def test_numbers_that_are_none_or_not_finite_become_dashes(plan):
    bad = copy.deepcopy(plan)
    for point in bad["points"][2:8]:
        point |= {"bytes_per_vector": None, "total_bytes": math.nan, "latency_ms": None, "build_seconds": math.inf}
        point["quality"] = {"metric": "ndcg@10", "value": math.nan, "low": None, "high": None}
    rows = [point for point in embedded(report.render(bad))["points"] if point["total"] is None]
    assert len(rows) == 6 and all(row["q"] == [None, None, None] and row["build"] is None for row in rows)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("stand-in", "Stand-in judgements, not human ones"), ("agreement", "Agreement with the reference, not relevance")],
)
def test_weak_judgements_are_said_before_the_numbers(kind, words):
    page = report.render(make_plan(20, kind=kind))
    assert page.index(words) < page.index('class="cards"')
    assert words not in report.render(make_plan(20)).partition('id="method"')[0]


def test_verdict_follows_the_outcome(plan):
    assert report.verdict(plan | {"chosen": plan["reference"]}).startswith("Keep the reference")
    assert report.verdict(plan | {"chosen": None}) == "No recipe met the limits."
    undecided = plan | {"chosen": plan["chosen"] | {"verdict": "undecided"}}
    assert "quality not yet decided" in report.verdict(undecided)
    fast = report.verdict(plan | {"prefer": "fast"})
    speed = plan["reference"]["latency_ms"]["p95"] / plan["chosen"]["latency_ms"]["p95"]
    assert fast.startswith(f"{speed:.1f}× faster")
    larger = plan["chosen"] | {"total_bytes": plan["reference"]["total_bytes"] * 2}
    assert report.verdict(plan | {"chosen": larger}).startswith("2.0× larger")


def test_held_out_numbers_are_used_only_when_both_sides_have_them(plan):
    alone = plan | {"reference": plan["reference"] | {"reported": None}}
    assert f"{plan['reference']['quality']['value']:.3f}" in report.verdict(alone)
    assert "took no part" not in report.render(alone)


def test_moved_new_and_lost_answers_are_marked(page):
    words = " ".join(outline(page).words)
    assert "4 of 5 shared, 3 moved" in words
    assert page.count("not in choice") == page.count('class="move new"') == len(QUERIES)
    assert page.count('class="move up"') == len(QUERIES)


def test_static_plot_draws_every_point_and_the_two_marks(plan):
    picture = report_plot.static_svg(report_plot.plot_data(plan))
    assert picture.count('<path class="pt ') == len(plan["points"])
    assert ">chosen</text>" in picture and ">reference</text>" in picture and "bm25" in picture
    numbers = [float(n) for n in re.findall(r"translate\(([\d.-]+) ", picture)]
    assert min(numbers) >= 56 and max(numbers) <= 760


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (report_format.size(999), "999 B"),
        (report_format.size(812_345), "812 KB"),
        (report_format.size(999_700), "1.00 MB"),
        (report_format.size(4.2e13), "42.0 TB"),
        (report_format.size(-1500), "−1.50 KB"),
        (report_format.size(math.nan), "–"),
        (report_format.vector_bytes(1024), "1,024 B"),
        (report_format.vector_bytes(12.5), "12.5 B"),
        (report_format.milliseconds(0.04), "40 µs"),
        (report_format.milliseconds(0.6), "0.60 ms"),
        (report_format.milliseconds(1200), "1.20 s"),
        (report_format.seconds(125), "2 min 5 s"),
        (report_format.seconds(11_520), "3.2 h"),
        (report_format.signed(-0.0001), "0.000"),
        (report_format.signed(-0.0034), "−0.003"),
        (report_format.percent(0.02), "2 %"),
        (report_format.times(12.4, 1), "12.4×"),
        (report_format.times(1, 0), "–"),
        (report_format.metric_name("ndcg@10"), "nDCG@10"),
        (report_format.clip("one two three", 9), "one two…"),
    ],
)
def test_numbers_are_written_for_people(shown, text):
    assert shown == text


def test_write_gives_the_same_file_each_time(plan, tmp_path):
    one, two = report.write(plan, tmp_path / "a.html"), report.write(copy.deepcopy(plan), str(tmp_path / "b.html"))
    assert one.read_bytes() == two.read_bytes()
    with pytest.raises(InputError, match="cannot write the report"):
        report.write(plan, tmp_path / "missing" / "a.html")
    with pytest.raises(InputError, match="must be a dict"):
        report.render([])


# ---- in a real browser -------------------------------------------------------------------------------------------

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
SWITCHES = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--virtual-time-budget=4000", "--enable-logging=stderr", "--dump-dom"),
]


def visit(path, profile, *switches):
    """The page's final DOM, and what it wrote to the console (errors and policy violations included)."""
    command = [BROWSER, *SWITCHES, *switches, f"--user-data-dir={profile}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@browser
def test_scripts_run_without_a_word_on_the_console(plan, tmp_path):
    hostile = poison(copy.deepcopy(make_plan(40)), itertools.cycle(HOSTILE))
    for name, content in (("good", plan), ("hostile", hostile), ("empty", {})):
        dom, console = visit(report.write(content, tmp_path / f"{name}.html"), tmp_path / "profile")
        assert 'data-ready="yes"' in dom
        assert console == []
        assert "<title>owned" not in dom
    assert 'class="inspector"' in visit(tmp_path / "good.html", tmp_path / "profile")[0]


ACTIONS = """
const told = {}, all = (s) => [...document.querySelectorAll(s)], one = (s) => document.querySelector(s);
const dots = () => all("#plot path.pt:not(#hot *):not(.legend *)").length;
const recipe = () => one(".inspector .recipe").textContent;
const key = (name) => one("svg.plot").dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
told.start = [dots(), recipe()];
one("[data-key=p95]").click(); told.latency = one("svg.plot").textContent.includes("latency, p95");
one("[data-key=bytes]").click();
one(".legend button").click(); told.hidden = dots(); one(".legend button").click(); told.back = dots();
key("Home"); told.home = recipe(); key("ArrowRight"); told.next = recipe();
key("Enter"); told.pinned = one(".inspector h3").textContent;
key("Escape"); told.free = one(".inspector h3").textContent;
const ring = one("circle.ring.reference").getBoundingClientRect();
const at = {clientX: ring.x + ring.width / 2, clientY: ring.y + ring.height / 2, bubbles: true};
one("svg.plot").dispatchEvent(new PointerEvent("pointermove", at)); told.hover = recipe();
one("svg.plot").dispatchEvent(new PointerEvent("click", at)); told.clicked = one(".inspector h3").textContent;
one("#points-table thead th:nth-child(2) button").click();
told.sorted = all("#points-table tbody tr").map((row) => row.cells[1].textContent);
const box = one("#points input[type=search]"); box.value = "static int8"; box.dispatchEvent(new Event("input"));
const kept = all("#points-table tbody tr").filter((row) => !row.hidden);
told.filtered = kept.map((row) => row.cells[0].textContent);
one(".tools input[type=checkbox]").click(); told.close = dots();
told.wide = document.documentElement.scrollWidth > innerWidth;
const note = document.createElement("script");
Object.assign(note, {type: "text/plain", id: "told", textContent: JSON.stringify(told)});
document.body.append(note);
"""


@browser
def test_plot_legend_keyboard_sort_and_filter(tmp_path):
    plan = make_plan(60)
    page = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", report.render(plan))
    target = tmp_path / "page.html"
    target.write_text(page.replace("</body>", f"<script>{ACTIONS}</script></body>"), encoding="utf-8")
    dom, console = visit(target, tmp_path / "profile", "--window-size=500,900")
    assert console == []
    told = json.loads(html.unescape(re.search(r'id="told">(.*?)</script>', dom, re.DOTALL)[1]))
    data = report_plot.plot_data(plan)
    first = sum(point["encoder"] == 0 for point in data["points"])
    assert told["start"] == [60, plan["chosen"]["recipe"]]
    assert told["latency"] and told["hidden"] == 60 - first and told["back"] == 60
    least = min(point["bytes_per_vector"] for point in plan["points"])
    by_recipe = {point["recipe"]: point["bytes_per_vector"] for point in plan["points"]}
    assert by_recipe[told["home"]] == least and told["next"] != told["home"]
    assert told["pinned"] == "Pinned recipe" != told["free"]
    assert told["hover"] == plan["reference"]["recipe"] and told["clicked"] == "Pinned recipe"
    sizes = [float(text.removesuffix(" B").replace(",", "")) for text in told["sorted"] if text != "–"]
    assert len(sizes) == 60 and sizes == sorted(sizes)
    assert told["filtered"] and all("static" in text and "int8" in text for text in told["filtered"])
    top, floor = plan["reference"]["quality"]["value"], data["floor"]
    values = [point["quality"]["value"] for point in plan["points"]]
    assert sum(value >= floor for value in values) <= told["close"] < 60 and abs(max(values) - top) < top - floor
    assert not told["wide"]
