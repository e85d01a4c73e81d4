"""The report: nothing leaves the machine, and no text of a plan becomes more than text."""

from __future__ import annotations

import copy
import html
import itertools
import json
import re

import pytest
from made_up_plan import make_plan
from pages import HOSTILE, embedded, outline, poison

from sememe.planner import report, report_format


def test_nothing_leaves_the_machine(page):
    found = outline(page)
    assert all(address.startswith("#") or address == "data:," for address in found.addresses), found.addresses
    assert not re.search(r"(?:src|href|url|import)\s*[=(]\s*[\"']?\s*(?:https?:)?//", page)
    assert "default-src 'none'" in page
    assert found.handlers == []  # the policy would forbid them
    assert len(found.ids) == len(set(found.ids))


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
