"""Readers: what each format becomes, metadata types, folders, pipes, streaming."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import os
import threading
import tracemalloc
from pathlib import Path

import pytest

import sememe
from sememe.contracts import Record
from sememe.errors import InputError
from sememe.text import read

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def one(path, **options):
    (record,) = read(path, **options)
    return record


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


DOCUMENTS = [
    ("a.txt", "line one\r\nline two", "", "line one\nline two", {}),
    ("a.md", "# The *Title* #\n\nBody\n", "The *Title*", "Body\n", {}),
    ("b.md", "Body first\n\n## Later\nmore", "Later", "Body first\n\n## Later\nmore", {}),
    ("c.md", "```\n# code\n```\n# Real\nx", "Real", "```\n# code\n```\n# Real\nx", {}),
    ("d.md", "Setext\n======\n\ntext", "Setext", "text", {}),
    ("e.md", "# Only a title", "Only a title", "", {}),
    (
        "f.md",
        '---\ntitle: "Front"\ntags: [a, \'b\']\ndate: 2024-05-01\nyear: 2024\nversion: "1.0"\n---\n# Front\n\nBody',
        "Front",
        "Body",
        {"tags": ["a", "b"], "date": datetime.date(2024, 5, 1), "year": 2024, "version": "1.0"},
    ),
    ("g.md", "---\nnested:\n  deep: 1\n---\ntext", "", "---\nnested:\n  deep: 1\n---\ntext", {}),
    ("a.rst", "=====\nTitle\n=====\n\nText", "Title", "Text", {}),
    ("b.rst", ".. _label:\n\nTitle\n-----\nText\n\nNext\n----\n", "Title", ".. _label:\n\nText\n\nNext\n----", {}),
    ("pkg/mod.py", '"""Doc."""\nx = 1\n', "pkg.mod", '"""Doc."""\nx = 1\n', {}),
    ("pkg/__init__.py", "x = 1\n", "pkg", "x = 1\n", {}),
    (
        "a.html",
        "<!doctype html><html lang='en'><head><title>A &amp; B</title><style>p{}</style></head><body><script>no()"
        "</script><h1>Head</h1><p>One\n two<p>Three<br>four<ul><li>x<li>y</ul><pre>a\n  b</pre></body></html>",
        "A & B",
        "Head\n\nOne two\n\nThree\nfour\n\nx\ny\n\na\nb",
        {"lang": "en"},
    ),
    ("b.html", "<h1>Big <b>title</b></h1><p>text</p>", "Big title", "text", {}),
    ("d.html", "a<!-- x --><style>b{</style>c &lt;d <A HREF='x>y'>e</A> f < 5 <p title=\"x", "", "ac <d e f < 5", {}),
    ("c.html", b"<meta charset='latin-1'><p>caf\xe9</p>", "", "café", {}),
    ("a.txt.gz", gzip.compress(b"packed", mtime=0), "", "packed", {}),
]


@pytest.mark.parametrize(("name", "content", "title", "text", "stated"), DOCUMENTS, ids=[row[0] for row in DOCUMENTS])
def test_document_formats(tmp_path, name, content, title, text, stated):
    path = write(tmp_path, name, content)
    reader = read(tmp_path)
    (record,) = reader
    assert (record.id, record.title, record.source) == (name, title, f"{path}:1")
    assert record.text == text
    facts = {"path": name, "size": path.stat().st_size}
    assert {**record.metadata, **facts, **stated} == record.metadata
    assert isinstance(record.metadata["modified"], datetime.date)
    assert record.metadata["kind"] == name.removesuffix(".gz").rpartition(".")[2]
    assert reader.report.counts == {}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece", ["<", "<!--", "<![CDATA[", "<a ", "<a x='", "<a x=\"'", "</", "<?", "<script>", "<p>&amp"]
)
def test_damaged_pages_take_linear_time(tmp_path, piece):
    assert len(list(read(write(tmp_path, "a.html", "<p>text" + piece * 200_000)))) == 1


def pdf_bytes(lines):
    """A minimal valid PDF, one page a line of text."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(lines)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(lines)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for i, line in enumerate(lines):
        stream = f"BT /F1 12 Tf 72 720 Td ({line}) Tj ET".encode()
        font = f"/Resources << /Font << /F1 3 0 R >> >> /MediaBox [0 0 612 792] /Contents {5 + 2 * i} 0 R"
        objects.append(f"<< /Type /Page /Parent 2 0 R {font} >>".encode())
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    return out + head + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))


def test_pdf_pages_become_text(tmp_path):
    pytest.importorskip("pypdf")
    record = one(write(tmp_path, "a.pdf", pdf_bytes(["Hello page one", "And page two"])))
    assert record.text == "Hello page one\n\nAnd page two"
    assert (record.metadata["pages"], record.metadata["kind"]) == (2, "pdf")


JSON_VALUES = [
    ("text", "text"),
    ("007", "007"),
    ("12", "12"),
    (12, 12),
    (1.5, 1.5),
    (2**70, str(2**70)),
    (True, "true"),
    (None, None),
    ("2024-05-01", datetime.date(2024, 5, 1)),
    ("2024-05-01T10:00:00Z", datetime.date(2024, 5, 1)),
    ("2024-13-01", "2024-13-01"),
    ("2024-05", "2024-05"),
    (["a", 1, None, True], ["a", "1", "true"]),
    ([], None),
]


@pytest.mark.parametrize(("value", "expected"), JSON_VALUES, ids=repr)
def test_json_metadata_types(tmp_path, value, expected):
    record = one(write(tmp_path, "a.jsonl", json.dumps({"id": "a", "text": "t", "v": value})))
    found = record.metadata.get("v")
    assert found == expected
    assert type(found) is type(expected)


def test_nested_metadata_gets_dotted_names_and_the_field_metadata_none(tmp_path):
    line = {"_id": "a", "text": "t", "author": {"name": "N", "age": 3}, "metadata": {"year": 2020}, "id": "other"}
    record = one(write(tmp_path, "a.jsonl", json.dumps(line)))
    assert record.metadata == {"author.name": "N", "author.age": 3, "year": 2020, "id": "other"}


CELLS = [
    ("12", 12),
    ("-3", -3),
    ("0", 0),
    ("2.50", 2.5),
    ("1e-3", 0.001),
    ("007", "007"),
    ("+5", "+5"),
    ("1 000", "1 000"),
    ("nan", "nan"),
    ("1e999", "1e999"),
    ("9" * 30, "9" * 30),
    ("2024-05-01", datetime.date(2024, 5, 1)),
    ("", None),
    ("x", "x"),
]


@pytest.mark.parametrize(("cell", "expected"), CELLS, ids=repr)
def test_cell_types(tmp_path, cell, expected):
    record = one(write(tmp_path, "a.tsv", f"id\ttext\tv\n01\t5\t{cell}\n"))
    found = record.metadata.get("v")
    assert found == expected
    assert type(found) is type(expected)
    assert (record.id, record.text) == ("01", "5")  # never typed


def test_csv_rows_keep_their_first_line_and_quoted_line_ends(tmp_path):
    rows = ['1;"two\nlines; and ""quotes""";x', "2;short", "3;too;many;cells", "4;fine;y;", '5;"shut"open;z', "6;last"]
    content = "\nId;Text;note\n" + "\n".join(rows) + "\n"
    path = write(tmp_path, "a.csv", content)
    reader = read(path)
    records = list(reader)
    assert [(r.id, r.source) for r in records] == [
        ("1", f"{path}:3"),
        ("2", f"{path}:5"),
        ("4", f"{path}:7"),
        ("6", f"{path}:9"),
    ]
    assert records[0].text == 'two\nlines; and "quotes"'
    assert records[0].metadata == {"note": "x"}
    assert [(n.source, n.what) for n in reader.report.notices] == [
        (f"{path}:6", "row with more cells than the header"),
        (f"{path}:8", "row cannot be parsed"),
    ]


def test_tsv_takes_quotes_as_they_are(tmp_path):
    assert one(write(tmp_path, "a.tsv", 'id\ttext\n1\t"open quote\n')).text == '"open quote'


def test_parquet_types_and_rows(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = 1000
    columns = {
        "_id": [f"r{i}" for i in range(rows)],
        "text": [f"text {i}" for i in range(rows)],
        "when": [datetime.datetime(2024, 1, 2, 3, 4)] * rows,
        "day": [datetime.date(2024, 1, 2)] * rows,
        "tags": [["a", "b"]] * rows,
        "deep": [{"x": 1}] * rows,
        "score": [float(i) for i in range(rows)],
        "none": [None] * rows,
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=300)
    records = list(read(tmp_path / "a.parquet"))
    assert [r.id for r in records] == columns["_id"]
    assert records[5].source == f"{tmp_path / 'a.parquet'}:6"
    day = datetime.date(2024, 1, 2)
    assert records[5].metadata == {"when": day, "day": day, "tags": ["a", "b"], "deep.x": 1, "score": 5.0}
    with pytest.raises(InputError, match="'abstract'"):
        list(read(tmp_path / "a.parquet", text_field="abstract"))


def test_damaged_parquet_is_an_input_error(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": [f"some text {i}" for i in range(500)]}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    for at in range(0, len(whole), 97):
        (tmp_path / "a.parquet").write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            list(read(tmp_path / "a.parquet"))
        except InputError as error:
            assert "\n" not in str(error)


def test_folder_order_ids_and_what_is_left_out(tmp_path):
    write(tmp_path, "b.md", "# B\nb")
    write(tmp_path, "a/z.txt", "z")
    write(tmp_path, "a/rows.jsonl", '{"text": "row"}\n')
    write(tmp_path, "a/labels.csv", "x,y\n1,2\n")
    write(tmp_path, "pic.PNG", b"\x89PNG")
    write(tmp_path, "Makefile", "all:")
    write(tmp_path, ".git/notes.md", "# no")
    write(tmp_path, "node_modules/x/readme.md", "# no")
    write(tmp_path, ".hidden.md", "# no")
    os.symlink(tmp_path, tmp_path / "a" / "loop")
    os.symlink(tmp_path / "nowhere.md", tmp_path / "broken.md")
    os.symlink(tmp_path / "b.md", tmp_path / "link.md")
    os.mkfifo(tmp_path / "pipe.txt")
    reader = read(tmp_path)
    assert [r.id for r in reader] == ["b.md", "link.md", "a/rows.jsonl:1", "a/z.txt"]
    found = {what: count for (_, what), count in reader.report.counts.items()}
    assert found == {
        "hidden folder, not entered": 1,
        "hidden file": 1,
        "not a format that is read: no extension": 1,
        "not a format that is read: .png": 1,
        "broken link": 1,
        "folder of generated or installed files, not entered": 1,
        "neither a file nor a folder": 1,
        "link to a folder, not followed": 1,
        "file cannot be read further": 1,
    }
    assert reader.report.total("skipped") == 1
    with pytest.raises(InputError, match=r"labels\.csv"):
        list(read(tmp_path, strict=True))


def test_a_file_name_that_is_not_utf8_comes_in_with_a_replaced_id(tmp_path):
    try:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))).write_text("text")
    except OSError:
        pytest.skip("this file system refuses such names")
    reader = read(tmp_path)
    assert [r.id for r in reader] == ["caf\ufffd.txt"]
    assert reader.report.total("changed") == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('\n{"id": "x", "text": "t"}\nbroken\n', [("x", "t")]),
        ("first text\n\n second \n", [("stdin:1", "first text"), ("stdin:3", "second")]),
        ("", []),
    ],
    ids=["json", "lines", "empty"],
)
def test_standard_input_rule(monkeypatch, content, expected):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content.encode()))))
    reader = read("-")
    assert [(r.id, r.text) for r in reader] == expected
    with pytest.raises(InputError, match="only once"):
        list(reader)


def test_a_named_pipe_is_read_like_standard_input(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("one\ntwo\n"))
    writer.start()
    assert [r.text for r in read(tmp_path / "pipe")] == ["one", "two"]
    writer.join()


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("dump", '{"id": "x", "text": "t"}\n', ["x"]),
        ("LICENSE", "Some licence text\n", ["LICENSE"]),
        ("curly.log", "{not json\n", ["curly.log"]),
    ],
)
def test_a_file_without_a_known_extension_is_told_by_its_content(tmp_path, name, content, ids):
    assert [r.id for r in read(write(tmp_path, name, content))] == ids


def test_an_explicit_format_beats_the_extension(tmp_path):
    path = write(tmp_path, "a.txt", "one\ntwo\n")
    assert [r.text for r in read(path, format="lines")] == ["one", "two"]


def test_records_pass_the_same_rules_and_reading_again_starts_anew():
    given = [Record("a", "x\0y"), Record("b", " ")]
    reader = sememe.read(given)
    for _ in range(2):
        assert [(r.id, r.text) for r in reader] == [("a", "x y")]
        assert (reader.report.total("changed"), reader.report.total("skipped")) == (1, 1)
    assert read(reader) is reader


def test_reading_holds_one_record_at_a_time(tmp_path):
    path = tmp_path / "large.jsonl.gz"
    rows = 8_000
    with gzip.open(path, "wt", compresslevel=1) as out:
        for i in range(rows):
            out.write(json.dumps({"id": i, "text": f"{i} " + "some words " * 150}) + "\n")
    size = rows * 1650
    tracemalloc.start()
    try:
        count = sum(1 for _ in read(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == rows
    assert peak < size / 5  # the ids seen, and little else


def test_scifact_comes_in_whole():
    if not (DATA / "scifact").is_dir():
        pytest.skip("the shared evaluation data is not here (set SEMEME_DATA)")
    reader = read(DATA / "scifact")
    records = list(reader)
    with gzip.open(DATA / "scifact" / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        expected = [json.loads(line) for line in lines]
    assert [(r.id, r.title, r.text) for r in records] == [(e["_id"], e["title"], e["text"]) for e in expected]
    assert len(records) == reader.report.records == 5183
    assert reader.report.bytes == sum(len(e["text"].encode()) for e in expected)
    assert reader.report.counts == {}
