"""Bad command lines and bad input: the right exit status, one line that says what to do, nothing on standard output."""

from __future__ import annotations

from pathlib import Path

import pytest

BUILD = ("build", "corpus.jsonl", "-o", "new", "--recipe")
FROM = ("-o", "new", "--recipe", "static | flat")
MEASURE = ("measure", "retrieval")
ASKED = ("--queries", "queries.jsonl")

WRONG_COMMAND_LINES = {
    "wrong verb": (("bulid", "corpus.jsonl"), "did you mean build"),
    "no such verb": (("frobnicate",), "verbs: demo"),
    "no source": (("plan",), "required: source"),
    "unknown option": (("search", "index", "x", "--fast"), "--fast"),
    "k is zero": (("search", "index", "x", "-k", "0"), "at least 1"),
    "k is a word": (("search", "index", "x", "-k", "ten"), "at least 1"),
    "no query": (("search", "index"), "--queries"),
    "two kinds of query": (("search", "index", "x", *ASKED), "--queries"),
    "run without queries": (("search", "index", "x", "--run", "out.trec"), "--queries"),
    "unknown field": (("search", "index", "x", "--where", "nope = 3"), "year"),
    "half a condition": (("search", "index", "x", "--where", "year >"), "expected a value"),
    "text for a number": (("search", "index", "x", "--where", "year = 'old'"), "year = 2024"),
    "stages in the wrong order": ((*BUILD, "pca:64 | static | flat"), "order"),
    "unknown stage": ((*BUILD, "statik | flat"), "statik"),
    "empty recipe": ((*BUILD, ""), "empty"),
    "recipe without an index": ((*BUILD, "static"), "flat"),
    "argument of a stage": ((*BUILD, "static | flat:9"), "flat:9"),
    "recipe and plan": ((*BUILD, "static | flat", "--plan", "p.json"), "not allowed"),
    "planning on a pipe": (("build", "-", "-o", "new"), "--recipe"),
    "unknown encoder to plan": (("plan", "corpus.jsonl", "--encoders", "nope", "--quiet"), "nope"),
    "unknown encoder to encode": (("encode", "corpus.jsonl", "--encoder", "nope"), "nope"),
    "size": (("plan", "corpus.jsonl", "--budget", "lots"), "20MB"),
    "size with two points": (("plan", "corpus.jsonl", "--budget", "1.2.3"), "20MB"),
    "share": (("plan", "corpus.jsonl", "--tolerance", "7"), "2%"),
    "seconds": (("plan", "corpus.jsonl", "--seconds", "nan"), "above 0"),
    "no ids": (("delete", "index"), "--ids-from"),
    "index without queries": ((*MEASURE, "index", "--qrels", "qrels.tsv"), "--queries"),
    "unknown measure": ((*MEASURE, "index", *ASKED, "--qrels", "qrels.tsv", "--metrics", "f1"), "ndcg@k"),
    "no measure": ((*MEASURE, "index", *ASKED, "--qrels", "qrels.tsv", "--metrics", ","), "ndcg@10"),
    "unknown room": (("list", "attic"), "attic"),
    "unknown kind": (("list", "--kind", "attic"), "attic"),
    "unknown evidence": (("reproduce", "nope"), "known: "),
}
BAD_INPUT = {
    "missing source": (("build", "missing.jsonl", *FROM), "missing.jsonl"),
    "empty folder": (("build", "empty", *FROM), "empty"),
    "zero bytes": (("build", "zero.jsonl", *FROM), "zero.jsonl"),
    "garbage lines": (("build", "garbage.jsonl", *FROM), "garbage.jsonl:1"),
    "garbage table": (("build", "garbage.parquet", *FROM), "garbage.parquet"),
    "garbage": (("build", "garbage", *FROM), "garbage"),
    "strict": (("build", "cut.jsonl", *FROM, "--strict"), "cut.jsonl:2"),
    "an id twice": (("build", "twice.jsonl", *FROM), "twice.jsonl:2"),
    "no text field": (("build", "fields.jsonl", *FROM), "words"),
    "unknown format": (("build", "corpus.jsonl", *FROM, "--format", "nope"), "parquet"),
    "index there already": (("build", "corpus.jsonl", "-o", "index", "--recipe", "static | flat"), "index"),
    "index is a file": (("build", "corpus.jsonl", "-o", "corpus.jsonl", "--recipe", "static | flat"), "corpus.jsonl"),
    "too many components": ((*BUILD, "static | pca:9999 | flat"), "256"),
    "missing model": ((*BUILD, "hf:/nowhere/model | flat"), "/nowhere/model"),
    "missing plan": (("build", "corpus.jsonl", "-o", "new", "--plan", "none.json"), "none.json"),
    "not a plan": (("build", "corpus.jsonl", "-o", "new", "--plan", "corpus.jsonl"), "corpus.jsonl"),
    "plan on nothing": (("plan", "empty", "--quiet"), "empty"),
    "plan on a missing file": (("plan", "missing", "--quiet"), "missing"),
    "plan with strange queries": (("plan", "corpus.jsonl", *ASKED, "--qrels", "other.tsv", "--quiet"), "ids"),
    "plan with strange documents": (("plan", "corpus.jsonl", *ASKED, "--qrels", "strange.tsv", "--quiet"), "ids"),
    "judgements without queries": (("plan", "corpus.jsonl", "--qrels", "qrels.tsv", "--quiet"), "--queries"),
    "empty query": (("search", "index", ""), "blank"),
    "blank query": (("search", "index", " \t"), "blank"),
    "missing queries": (("search", "index", "--queries", "none"), "none"),
    "garbage queries": (("search", "index", "--queries", "garbage"), "garbage:1"),
    "run cannot be written": (("search", "index", *ASKED, "--run", "no/out.trec"), "no/out.trec"),
    "queries of other judgements": ((*MEASURE, "index", *ASKED, "--qrels", "other.tsv"), "ids"),
    "run of other judgements": ((*MEASURE, "old.trec", "--qrels", "other.tsv"), "ids"),
    "garbage judgements": ((*MEASURE, "old.trec", "--qrels", "garbage"), "garbage:1"),
    "a run that is no run": ((*MEASURE, "corpus.jsonl", "--qrels", "qrels.tsv"), "corpus.jsonl:1"),
    "vectors cannot be written": (("encode", "corpus.jsonl", "-o", "no/v.npy", "--quiet"), "no/v.npy"),
    "nothing to encode": (("encode", "zero.jsonl"), "zero.jsonl"),
    "nothing to add": (("add", "index", "zero.jsonl"), "zero.jsonl"),
    "an id that is there": (("add", "index", "corpus.jsonl"), "doc-0"),
    "no list of ids": (("delete", "index", "--ids-from", "none"), "none"),
    "data is elsewhere": (("reproduce", "power", "--data", "empty"), "SEMEME_DATA"),
}
NO_INDEX = {
    "search": ("search", "PLACE", "x"),
    "add": ("add", "PLACE", "corpus.jsonl"),
    "delete": ("delete", "PLACE", "doc-1"),
    "compact": ("compact", "PLACE"),
    "verify": ("verify", "PLACE"),
    "recover": ("recover", "PLACE"),
    "info": ("info", "PLACE"),
    "measure": (*MEASURE, "PLACE", *ASKED, "--qrels", "qrels.tsv"),
}


def refused(done, status, hint):
    """One line on standard error that holds the hint; nothing on standard output."""
    assert done.status == status, done.err
    assert done.out == ""
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("sememe") and hint in lines[0]


@pytest.mark.parametrize("case", WRONG_COMMAND_LINES)
def test_a_wrong_command_line_is_refused_with_2(sememe, case):
    arguments, hint = WRONG_COMMAND_LINES[case]
    refused(sememe(*arguments), 2, hint)


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_with_3(sememe, case):
    arguments, hint = BAD_INPUT[case]
    refused(sememe(*arguments), 3, hint)


@pytest.mark.parametrize("place", ["missing", "empty", "corpus.jsonl"])
@pytest.mark.parametrize("verb", NO_INDEX)
def test_what_is_not_an_index_is_refused_with_3(sememe, verb, place):
    refused(sememe(*(place if word == "PLACE" else word for word in NO_INDEX[verb])), 3, place)


@pytest.mark.parametrize("limit", [("--budget", "10B"), ("--bytes-per-vector", "0.01"), ("--latency", "1e-9")])
def test_a_limit_that_cannot_be_met_answers_1(sememe, limit):
    done = sememe("plan", "corpus.jsonl", "--seconds", 1, "-o", "found", *limit, "--quiet")
    refused(done, 1, "the nearest is")
    assert not Path("found").exists()


def test_a_malformed_line_is_counted_and_named_where_the_rest_can_be_read(sememe):
    done = sememe("build", "cut.jsonl", *FROM, "--json")
    assert done.status == 0 and done.json["records"] == 1 and done.json["input"]["skipped"] == 1
    assert "malformed JSON line" in done.err and "cut.jsonl:2" in done.err


def test_json_keeps_errors_off_standard_output(sememe):
    refused(sememe("search", "missing", "x", "--json"), 3, "missing")
    refused(sememe("build", "missing", *FROM, "--json"), 3, "missing")


def test_an_index_is_replaced_only_when_asked(sememe):
    assert sememe("build", "corpus.jsonl", "-o", "index", "--recipe", "static | flat", "--overwrite").status == 0
    assert sememe("info", "index", "--json").json["recipe"] == "static | flat"
    assert sememe("verify", "index").status == 0


@pytest.mark.parametrize("source", ["zero.jsonl", "twice.jsonl"])
def test_a_failed_build_leaves_what_was_there(sememe, source):
    assert sememe("build", source, *FROM).status == 3
    assert sememe("build", "corpus.jsonl", *FROM).status == 0
    assert sememe("build", source, *FROM, "--overwrite").status == 3
    assert sememe("info", "new", "--json").json["records"] == 150


def test_ids_that_repeat_may_be_skipped(sememe):
    done = sememe("build", "twice.jsonl", *FROM, "--on-duplicate", "first", "--json")
    assert done.status == 0 and done.json["records"] == 1 and done.json["input"]["skipped"] == 1
    assert sememe("search", "new", "hello", "--json").json["hits"][0]["text"] == "hello"
    Path("more.jsonl").write_text('{"id": "a", "text": "once more"}\n{"id": "b", "text": "new"}\n' * 2)
    assert sememe("add", "new", "more.jsonl", "--json").json["added"] == 1


def test_ids_that_repeat_may_replace(sememe):
    Path("two.jsonl").write_text('{"id": "a", "text": "hello"}\n{"id": "a", "text": "hello again"}\n')
    done = sememe("build", "two.jsonl", *FROM, "--on-duplicate", "replace", "--json")
    assert done.status == 0 and done.json["records"] == 1 and done.json["duplicates"] == 1
    assert sememe("search", "new", "hello", "--json").json["hits"][0]["text"] == "hello again"
    Path("more.jsonl").write_text('{"id": "a", "text": "once"}\n{"id": "a", "text": "once more"}\n')
    assert sememe("add", "new", "more.jsonl", "--json").json["added"] == 1
    assert sememe("search", "new", "hello", "--json").json["hits"][0]["text"] == "once more"


def test_an_error_about_a_repeated_id_names_what_the_command_line_offers(sememe):
    for verb in (("build", "twice.jsonl", *FROM), ("plan", "twice.jsonl")):
        done = sememe(*verb)
        assert done.status == 3 and "choose on_duplicate 'first' or 'replace'" in done.err
        assert "--on-duplicate {error,first,replace}" in sememe(verb[0], "--help").out


def test_an_empty_source_is_refused_in_one_line(sememe):
    for verb in (("build", "", *FROM), ("plan", ""), ("add", "index", "")):
        done = sememe(*verb)
        assert done.status == 3 and "the source is an empty name" in done.err and done.err.count("\n") == 1
