"""The report, alive in a real browser."""

from __future__ import annotations

import copy
import html
import itertools
import json
import re
import shutil
import subprocess

import pytest
from made_up_plan import make_plan
from pages import HOSTILE, poison

from sememe.planner import report, report_plot

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
