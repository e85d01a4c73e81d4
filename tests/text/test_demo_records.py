"""The documentation that every Python carries."""

from __future__ import annotations

import sys

import pytest

from sememe.text import demo_questions, demo_records, read


@pytest.fixture(scope="module")
def records():
    return demo_records()


def test_thousands_of_records_of_every_kind(records):
    assert 5_000 < len(records) < 15_000
    kinds = {record.metadata["kind"] for record in records}
    assert kinds == {"module", "class", "function", "method", "topic"}
    assert len({record.id for record in records}) == len(records)
    assert all(len(record.text) >= 25 and record.text == record.text.strip("\n") for record in records)


@pytest.mark.parametrize(
    ("name", "word", "kind"),
    [
        ("json.loads", "Deserialize", "function"),
        ("textwrap", "wrap", "module"),
        ("pathlib.Path", "path", "class"),
        ("concurrent.futures.Future", "asynchronous", "class"),
        ("argparse.ArgumentParser", "parsing", "class"),
        ("shutil.copytree", "Recursively copy", "function"),
        ("str.split", "list", "method"),
        ("os.listdir", "list", "function"),
        ("math.sqrt", "square root", "function"),
        ("itertools.chain", "iterable", "class"),
        ("collections.deque.append", "right side", "method"),
        ("topic:lambda", "anonymous", "topic"),
    ],
)
def test_well_known_names_are_there(records, name, word, kind):
    found = {record.id: record for record in records}[name]
    assert word in found.text
    assert found.metadata["kind"] == kind
    assert found.title == name.removeprefix("topic:")


def test_the_order_is_fixed_and_nothing_with_side_effects_was_imported(records):
    assert [r.id for r in demo_records()] == [r.id for r in records]
    assert not {"antigravity", "this", "tkinter", "turtle"} & set(sys.modules)


def test_short_texts_and_names_defined_twice_are_counted(records):
    reader = read("demo:")
    assert sum(1 for _ in reader) == len(records)
    assert any("fewer than 25 characters" in line for line in reader.report.summary_lines())
    assert any("a second time" in line for line in reader.report.summary_lines())


def test_missing_sources_leave_topics_and_live_documentation(monkeypatch, tmp_path):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "gone"))
    ids = {record.id for record in demo_records()}
    assert {"topic:lambda", "str.split", "math.sqrt"} <= ids
    assert "textwrap.wrap" not in ids


def test_questions_are_questions():
    assert 5 <= len(demo_questions()) == len(set(demo_questions()))
