"""The report: complete, and honest about what it does not know."""

from __future__ import annotations

import copy
import math
import re

import pytest
from made_up_plan import QUERIES, make_plan
from pages import embedded, outline

from sememe.errors import InputError
from sememe.planner import report, report_plot


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


def test_a_page_of_300_points_stays_small(page):
    assert len(page.encode()) < 600_000


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


def test_write_gives_the_same_file_each_time(plan, tmp_path):
    one, two = report.write(plan, tmp_path / "a.html"), report.write(copy.deepcopy(plan), str(tmp_path / "b.html"))
    assert one.read_bytes() == two.read_bytes()
    with pytest.raises(InputError, match="cannot write the report"):
        report.write(plan, tmp_path / "missing" / "a.html")
    with pytest.raises(InputError, match="must be a dict"):
        report.render([])
