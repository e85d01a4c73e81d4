"""Bad input: each kind follows its stated rule, with file and line, and is counted."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sememe.errors import InputError, SememeError
from sememe.text import read

GOOD = b'{"_id": "a", "text": "first text"}\n'


def run(path, **options):
    reader = read(path, **options)
    return list(reader), reader.report


# (name, bytes of the file, ids that come in, (action, part of the reason, line) of the only notice or None)
TABLE = [
    ("good", GOOD, ["a"], None),
    ("blank lines", b"\n" + GOOD + b"\r\n  \n", ["a"], None),
    ("utf-8 mark", b"\xef\xbb\xbf" + GOOD, ["a"], None),
    ("utf-16 mark", GOOD.decode().encode("utf-16"), ["a"], None),
    ("gzip without the extension", gzip.compress(GOOD, mtime=0), ["a"], None),
    ("no line end", GOOD + b'{"_id": "b", "text": "x"}', ["a", "b"], None),
    ("not utf-8", GOOD + b'{"_id": "b", "text": "caf\xe9"}\n', ["a", "b"], ("changed", "not UTF-8", 2)),
    ("cut short", GOOD + b'{"_id": "b", "te', ["a"], ("skipped", "malformed JSON", 2)),
    ("no object", GOOD + b"[1, 2]\n", ["a"], ("skipped", "malformed JSON", 2)),
    ("nested too deeply", GOOD + b"[" * 100_000 + b"\n", ["a"], ("skipped", "malformed JSON", 2)),
    ("NUL byte", GOOD + b"\x00\x00\x00\n", ["a"], ("skipped", "malformed JSON", 2)),
    ("empty text", GOOD + b'{"_id": "b", "text": " \\n"}\n', ["a"], ("skipped", "empty text", 2)),
    ("null text", GOOD + b'{"_id": "b", "text": null}\n', ["a"], ("skipped", "empty text", 2)),
    ("title only", GOOD + b'{"_id": "b", "title": "T", "text": ""}\n', ["a", "b"], None),
    ("no text field", GOOD + b'{"_id": "b", "words": "x"}\n', ["a"], ("skipped", "no text field", 2)),
    ("text is a number", GOOD + b'{"_id": "b", "text": 5}\n', ["a"], ("skipped", "is not text", 2)),
    ("id is a list", GOOD + b'{"_id": [1], "text": "x"}\n', ["a"], ("skipped", "the id is not", 2)),
    ("id is a number", GOOD + b'{"_id": 7, "text": "x"}\n', ["a", "7"], None),
    ("no id", GOOD + b'{"text": "x"}\n', ["a", "bad.jsonl:2"], None),
    ("long id", GOOD + b'{"_id": "%s", "text": "x"}\n' % (b"i" * 513), ["a"], ("skipped", "id of more than", 2)),
    ("control", GOOD + b'{"_id": "b", "text": "x\\u0000y"}\n', ["a", "b"], ("changed", "control characters", 2)),
    ("surrogate", GOOD + b'{"_id": "b", "text": "x\\ud83d y"}\n', ["a", "b"], ("changed", "surrogates", 2)),
    ("surrogate in tag", GOOD + b'{"_id":"b","text":"x","t":["\\ud83d"]}\n', ["a", "b"], ("changed", "surrogates", 2)),
    ("NaN", GOOD + b'{"_id": "b", "text": "x", "n": NaN}\n', ["a", "b"], ("changed", "not finite", 2)),
    ("nested list", GOOD + b'{"_id": "b", "text": "x", "n": [[1]]}\n', ["a", "b"], ("changed", "lists", 2)),
    ("enormous", GOOD + b'{"_id": "b", "text": "%s"}\n' % (b"x " * 40_000), ["a"], ("skipped", "enormous", 2)),
    (
        "endless line",
        GOOD + b"{" * 2_000_000 + b"\n" + GOOD.replace(b'"a"', b'"c"'),
        ["a", "c"],
        ("skipped", "line of", 2),
    ),
]


@pytest.mark.parametrize(("data", "ids", "notice"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_jsonl_rules(tmp_path, data, ids, notice):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(data)
    records, report = run(path, max_chars=50_000)
    assert [r.id for r in records] == ids
    assert report.records == len(ids)
    for record in records:
        assert f"{record.title}{record.text}".encode()  # no lone surrogate is left
        assert "\0" not in record.text
    if notice is None:
        assert report.counts == {}
        return
    action, reason, line = notice
    ((key, count),) = report.counts.items()
    assert (key[0], count) == (action, 1)
    assert reason in key[1]
    assert report.notices[0].source == f"{path}:{line}"
    assert any(f"{path}:{line}" in text and action in text for text in report.summary_lines())
    with pytest.raises(InputError, match=f"bad.jsonl:{line}: ") as raised:
        run(path, max_chars=50_000, strict=True)
    assert "\n" not in str(raised.value)


# (name, file name, bytes, options, part of the message)
REFUSED = [
    ("no text field", "a.jsonl", b'{"_id": "a", "words": "x"}\n', {}, "a.jsonl:1: .*'_id', 'words'"),
    (
        "chosen field",
        "a.jsonl",
        GOOD,
        {"text_field": "abstract"},
        "no text field 'abstract'; the fields are '_id', 'text'",
    ),
    ("chosen id", "a.jsonl", GOOD, {"id_field": "key"}, "no field 'key'"),
    ("duplicate", "a.jsonl", GOOD + b"\n" + GOOD, {}, r"a.jsonl:3: the id 'a' came before, at .*a.jsonl:1"),
    ("array", "a.json", b'[{"text": "x"}]', {}, "JSON array.*one object a line"),
    ("binary", "a.bin", b"\x7fELF\0\0\0", {}, "binary file"),
    ("no text column", "a.csv", b"id,words\n1,x\n", {}, "'id', 'words'"),
    (
        "open quote",
        "a.csv",
        b'id,text\n1,ok\n2,"open' + b" x\n" * 30_000,
        {"max_chars": 50_000},
        "a.csv:3: a quote is opened",
    ),
    ("huge cell", "a.csv", b'id,text\n2,"open' + b" x\n" * 90_000, {"max_chars": 50_000}, "a.csv:2: a quote is opened"),
    ("not parquet", "a.parquet", b"PAR1 nothing", {}, "not a readable Parquet"),
    ("not pdf", "a.pdf", b"%PDF-1.4 nothing", {}, "not a readable PDF"),
    (
        "cut gzip",
        "a.jsonl.gz",
        gzip.compress(GOOD * 9, mtime=0)[:-12],
        {"on_duplicate": "first"},
        "gzip stream is damaged",
    ),
    ("format", "a.jsonl", GOOD, {"format": "docx"}, "no format 'docx'; known: csv"),
    ("duplicate rule", "a.jsonl", GOOD, {"on_duplicate": "last"}, "on_duplicate cannot be 'last'"),
    ("max_chars", "a.jsonl", GOOD, {"max_chars": 0}, "max_chars"),
]


@pytest.mark.parametrize(("name", "data", "options", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refusals_name_the_place(tmp_path, name, data, options, message):
    if name.endswith((".parquet", ".pdf")):
        pytest.importorskip("pyarrow" if name.endswith(".parquet") else "pypdf")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message) as raised:
        run(tmp_path / name, **options)
    assert "\n" not in str(raised.value)


def test_missing_paths_are_refused_at_once(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        read(tmp_path / "nothing")
    with pytest.raises(InputError):
        read("a\0b")
    with pytest.raises(InputError, match="source is an empty name; give a file or a folder"):
        read("")
    with pytest.raises(InputError, match="no single format"):
        read(tmp_path, format="jsonl")


@pytest.mark.parametrize(
    ("rule", "ids", "count"),
    [("first", ["a", "b"], 2), ("rename", ["a", "a#2", "b", "a#3"], 2), ("replace", ["a", "a", "b", "a"], 2)],
    ids=str,
)
def test_duplicates_kept_first_passed_on_or_renamed_are_counted(tmp_path, rule, ids, count):
    path = tmp_path / "d.jsonl"
    path.write_bytes(GOOD + GOOD + GOOD.replace(b'"a"', b'"b"') + GOOD)
    records, report = run(path, on_duplicate=rule)
    assert [r.id for r in records] == ids
    assert list(report.counts.values()) == [count]


def test_renaming_never_takes_an_id_that_is_there(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(GOOD.replace(b'"a"', b'"a#2"') + GOOD + GOOD)
    assert [r.id for r in run(path, on_duplicate="rename")[0]] == ["a#2", "a", "a#3"]


def test_a_line_of_one_megabyte_comes_in_whole(tmp_path):
    path = tmp_path / "wide.jsonl"
    text = "word " * 200_000 + "end"
    path.write_text(json.dumps({"id": "wide", "text": text}))
    records, report = run(path)
    assert records[0].text == text
    assert report.characters == report.bytes == len(text)


def test_an_empty_source_says_why(tmp_path):
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    records, report = run(tmp_path)
    assert records == []
    with pytest.raises(InputError, match=r"no record could be read: ignored 1: not a format that is read: \.xlsx"):
        report.require_records(str(tmp_path))


SEEDS = [
    ("m.jsonl", b'{"_id": "a", "title": "T", "text": "hello \\u00e9 world", "n": [1, "x"], "d": "2024-01-02"}\n' * 3),
    ("m.csv", b'id,text,n\n1,"quoted, ""text""\nover lines",5\n2,plain,2024-01-02\n'),
    ("m.tsv", b"id\ttext\tn\n1\tsome text\t5\n"),
    ("m.md", b"---\ntitle: T\ntags: [a, b]\n---\n# Head\n\n```\n# code\n```\ntext\n"),
    (
        "m.html",
        b"<html lang=en><head><title>T</title></head><body><h1>H</h1><p>x &amp; y<pre> a\n b</pre><![CDATA[z]]></body>",
    ),
    ("m.rst", b"=====\nTitle\n=====\n\nText\n----\n\n.. note:: x\n"),
    ("m.jsonl.gz", gzip.compress(b'{"_id": "a", "text": "hello"}\n' * 20, mtime=0)),
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.sampled_from(SEEDS), data=st.data())
def test_mutated_bytes_give_records_notices_or_a_clear_error(tmp_path, seed, data):
    name, content = seed
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(changed)))
        cut = data.draw(st.integers(0, 4))
        changed[at : at + cut] = data.draw(
            st.one_of(st.binary(max_size=4), st.sampled_from([b"<![", b"]]>", b'"', b"\n---\n"]))
        )
    path = tmp_path / name
    path.write_bytes(changed)
    reader = read(path, on_duplicate="rename")
    try:
        records = list(reader)
    except SememeError as error:
        assert "\n" not in str(error)
        return
    report = reader.report
    assert report.records == len(records) == len({r.id for r in records})
    lines = bytes(changed).replace(b"\r", b"").split(b"\n")
    if name == "m.jsonl" and not bytes(changed).startswith((b"\xff\xfe", b"\xfe\xff")):
        candidates = sum(1 for line in lines if line.decode("utf-8", "replace").strip())
        assert len(records) + report.total("skipped") == candidates  # nothing is dropped without being counted
    for record in records:
        record.text.encode()
        record.id.encode()
