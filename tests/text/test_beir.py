"""Queries, judgements and the BEIR folder."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from sememe.errors import InputError
from sememe.text import beir_layout, read, read_qrels, read_queries

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
QUERIES = {"1": "first one?", "b": "second"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"_id": "1", "text": "first one?"}\n\n{"_id": "b", "text": " second "}\n', QUERIES),
        ('{"id": 1, "text": "first one?"}\n{"id": "b", "text": "second"}', QUERIES),
        ("1\tfirst one?\r\nb\tsecond\r\n", QUERIES),
        ("query-id\ttext\n1\tfirst one?\nb\tsecond\n", QUERIES),
        ("\ufefffirst one?\n\nsecond\n", {"q1": "first one?", "q2": "second"}),
    ],
    ids=["jsonl", "id", "tsv", "header", "lines"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_query_formats(tmp_path, content, expected, packed):
    path = tmp_path / "queries"
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    assert read_queries(path) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"_id": "1", "text": "x"}\n{"_id": "1", "text": "y"}', "f:2: the query id '1' came before"),
        (b'{"_id": "1", "text": "x"}\n{"_id": "2", "te', "f:2: malformed JSON"),
        (b'{"_id": "1", "text": ""}', "f:1: the query has no text"),
        (b'{"_id": "1"}', "f:1: the query has no text"),
        (b'{"text": "x"}', "f:1: the query has no id"),
        (b"1\tx\n2\n", "f:2: the query has no text"),
        (b"caf\xe9\n", "f:1: bytes that are not UTF-8"),
        (b"\n", "no queries"),
    ],
)
def test_bad_queries_are_refused_with_their_line(tmp_path, content, message):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_queries(tmp_path / "f")


QRELS = {"1": {"d 1": 2, "d2": 0}, "2": {"d2": -1}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("query-id\tcorpus-id\tscore\n1\td 1\t2\n1\td2\t0\n2\td2\t-1\n", QRELS),
        ("1\td 1\t2\n1\td2\t0\n\n2\td2\t-1\n", QRELS),
        ("1 0 d1 1\n2 Q0  d2 3\n", {"1": {"d1": 1}, "2": {"d2": 3}}),
        ("1\t0\td1\t1.0\n", {"1": {"d1": 1}}),
    ],
    ids=["beir", "no header", "trec", "trec tabs"],
)
def test_qrels_formats(tmp_path, content, expected):
    (tmp_path / "qrels.gz").write_bytes(gzip.compress(content.encode()))
    assert read_qrels(tmp_path / "qrels.gz") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\td1\t1\n1\td1\n", "f:2: expected 3 columns"),
        (b"1\td1\t0.5\n", "f:1: the score '0.5' is not a whole number"),
        (b"1\td1\tnan\n", "is not a whole number"),
        (b"1\td1\t1\n1\td1\t2\n", "f:2: '1' and 'd1' were judged 1 before, now 2"),
        (b"query-id\tcorpus-id\tscore\n", "no judgements"),
    ],
)
def test_bad_qrels_are_refused_with_their_line(tmp_path, content, message):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_qrels(tmp_path / "f")


def test_missing_files_are_refused(tmp_path):
    for function in (read_queries, read_qrels):
        with pytest.raises(InputError, match="no such file"):
            function(tmp_path / "none")


def test_layout_prefers_test_judgements(tmp_path):
    assert beir_layout(tmp_path) is None
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d", "title": "T", "text": "x", "metadata": {"year": 2020}}\n')
    assert beir_layout(tmp_path) == (tmp_path / "corpus.jsonl", None, None)
    (tmp_path / "queries.jsonl.gz").touch()
    (tmp_path / "qrels").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / "qrels" / f"{split}.tsv").touch()
        assert beir_layout(tmp_path).qrels == tmp_path / "qrels" / f"{split}.tsv"
    assert beir_layout(tmp_path).queries == tmp_path / "queries.jsonl.gz"
    (record,) = read(tmp_path)
    assert (record.id, record.content, record.metadata) == ("d", "T x", {"year": 2020})


@pytest.mark.parametrize(("name", "queries", "judgements"), [("scifact", 300, 339), ("cranfield", 225, 1836)])
def test_real_labels(name, queries, judgements):
    if not (DATA / name).is_dir():
        pytest.skip("the shared evaluation data is not here (set SEMEME_DATA)")
    layout = beir_layout(DATA / name)
    found, qrels = read_queries(layout.queries), read_qrels(layout.qrels)
    assert (len(found), sum(map(len, qrels.values()))) == (queries, judgements)
    ids = {record.id for record in read(DATA / name)}
    assert set(qrels) == set(found)
    assert all(document in ids for judged in qrels.values() for document in judged)
