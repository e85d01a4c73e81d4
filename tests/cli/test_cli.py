"""What scripts rely on: the shapes of ``--json``, exit statuses, and what the verbs that change an index do."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[3] / "shared" / "data")).resolve()


def is_point(point):
    quality, latency = point["quality"], point["latency_ms"]
    return (
        isinstance(point["recipe"], str)
        and point["bytes_per_vector"] > 0
        and point["total_bytes"] > 0
        and point["build_seconds"] >= 0
        and isinstance(quality["metric"], str)
        and quality["low"] <= quality["value"] <= quality["high"]
        and 0 < latency["p50"] <= latency["p95"]
    )


# -- shapes -----------------------------------------------------------------------------------------------------------


def test_plan_then_build_the_plan(sememe):
    done = sememe("plan", "corpus.jsonl", "-o", "found", "--seconds", 3, "--json", "--quiet")
    assert done.status == 0 and done.err == ""
    plan = done.json
    assert plan["command"].startswith("sememe build ")
    assert plan["frontier"] and all(map(is_point, [plan["reference"], plan["chosen"], *plan["frontier"]]))
    assert json.loads(Path("found/plan.json").read_text())["chosen"] == plan["chosen"]
    assert "<html" in Path("found/report.html").read_text()
    built = sememe("build", "corpus.jsonl", "-o", "planned", "--plan", "found/plan.json", "--json")
    assert built.status == 0 and built.json["recipe"] == plan["chosen"]["recipe"]


def test_build(sememe):
    done = sememe("build", "corpus.jsonl", "-o", "new", "--recipe", "tokens:8 | static | int8 | hnsw:8", "--json")
    answer = done.json
    assert done.status == 0
    assert answer["index"] == "new" and answer["recipe"] == "tokens:8 | static | int8 | hnsw:8"
    assert answer["records"] == 150 and 150 < answer["passages"] <= 450 and answer["seconds"] > 0
    assert answer["bytes"]["codes"] == answer["passages"] * 256
    assert {"codes", "ids", "graph", "text", "total"} <= answer["bytes"].keys()
    assert answer["bytes"]["graph"] > 0 and answer["bytes"]["total"] <= sum(
        file.stat().st_size for file in Path("new").iterdir()
    )


def test_search(sememe):
    done = sememe(
        "search", "index", "bread in the oven", "--where", "year >= 2010 and tags has 'even'", "-k", 4, "--json"
    )
    answer = done.json
    assert done.status == 0 and answer["milliseconds"] > 0 and len(answer["hits"]) == 4
    for hit in answer["hits"]:
        assert hit["metadata"]["topic"] == "baking" and hit["metadata"]["year"] >= 2010
        assert isinstance(hit["id"], str) and math.isfinite(hit["score"]) and hit["text"]
    assert [h["score"] for h in answer["hits"]] == sorted((h["score"] for h in answer["hits"]), reverse=True)


def test_search_without_a_match_answers_nothing(sememe):
    done = sememe("search", "words", "zzyzx", "--json")
    assert done.status == 0 and done.json["hits"] == []
    none = sememe("search", "index", "bread", "--where", "year > 3000", "--json")
    assert none.status == 0 and none.json["hits"] == []


@pytest.mark.parametrize(("index", "found"), [("index", {"q1", "q2", "q3"}), ("words", {"q1", "q3"})])
def test_many_queries_become_a_trec_run_of_real_hits_only(sememe, index, found):
    done = sememe("search", index, "--queries", "queries.jsonl", "--run", "out.trec", "-k", 100, "--json")
    assert done.status == 0 and done.json["run"] == "out.trec" and done.json["queries"] == 3
    lines = [line.split() for line in Path("out.trec").read_text().splitlines()]
    assert {line[0] for line in lines} == found
    assert all(len(line) == 6 and line[2].startswith("doc-") and math.isfinite(float(line[4])) for line in lines)
    from_run = sememe("measure", "retrieval", "out.trec", "--qrels", "qrels.tsv", "--json")
    from_index = sememe("measure", "retrieval", index, "--queries", "queries.jsonl", "--qrels", "qrels.tsv", "--json")
    assert from_run.status == from_index.status == 0 and from_run.json == from_index.json


def test_a_run_of_passages_counts_a_record_once_at_its_best(sememe):
    sememe("build", "corpus.jsonl", "-o", "cut", "--recipe", "tokens:8 | static | flat")
    many = sememe("search", "cut", "--queries", "queries.jsonl", "--passages", "-k", 300, "--json").json["queries"]
    sememe("search", "cut", "--queries", "queries.jsonl", "--passages", "-k", 300, "--run", "out.trec")
    lines = [line.split() for line in Path("out.trec").read_text().splitlines()]
    assert len(lines) == len({(line[0], line[2]) for line in lines}) == 3 * 150
    for query, _, document, _, score, _ in lines:
        assert float(score) == max(hit["score"] for hit in many[query] if hit["id"] == document)


def test_measure_retrieval(sememe):
    done = sememe("measure", "retrieval", "index", "--queries", "queries.jsonl", "--qrels", "qrels.tsv", "--json")
    assert done.status == 0 and set(done.json) == {"ndcg@10", "recall@100", "mrr@10"}
    for value in done.json.values():
        assert 0 <= value["low"] <= value["value"] <= value["high"] <= 1
    assert done.json["mrr@10"]["value"] > 0.6  # two of three questions are easy


def test_judgements_of_another_collection_are_noticed(sememe):
    done = sememe("measure", "retrieval", "index", "--queries", "queries.jsonl", "--qrels", "strange.tsv", "--json")
    assert done.status == 0 and done.json["ndcg@10"]["value"] == 0
    assert "none of the judged documents was found" in done.err


def test_list(sememe):
    entries = sememe("list", "--json").json
    assert {"static", "int8", "flat", "power"} <= {entry["name"] for entry in entries}
    for entry in entries:
        assert entry["room"] and entry["kind"] and entry["summary"]
        assert entry["paper"] is None or {"title", "year", "arxiv"} <= entry["paper"].keys()
    codec = sememe("list", "codec", "--kind", "transform", "--json").json
    assert codec == [e for e in entries if e["room"] == "codec" and e["kind"] == "transform"]


def test_encode(sememe):
    import numpy as np

    done = sememe("encode", "corpus.jsonl", "-o", "v.npy", "--json")
    assert done.status == 0 and done.json["shape"] == [150, 256]
    vectors = np.load("v.npy")
    assert vectors.dtype == np.float32 and vectors.shape == (150, 256)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert Path("v.ids.txt").read_text().splitlines() == [f"doc-{row}" for row in range(150)]


@pytest.mark.skipif(not (DATA / "embeddings-minilm").is_dir(), reason=f"no real vectors at {DATA}; set SEMEME_DATA")
def test_reproduce(sememe):
    names = sememe("reproduce", "--json").json
    assert "power" in names
    done = sememe("reproduce", "power", "--data", DATA, "--json")
    answer = done.json
    assert done.status == (0 if answer["held"] else 1)
    assert answer["technique"] == "power" and {"title", "year", "arxiv"} <= answer["paper"].keys()
    assert {"claim", "measured", "baseline", "held", "interval", "seeds", "seconds"} <= answer.keys()
    assert answer["seeds"] >= 3 and answer["seconds"] > 0


# -- changing an index ------------------------------------------------------------------------------------------------


def test_add_delete_compact(sememe):
    Path("more.jsonl").write_text('{"id": "new", "text": "a kayak on the river", "year": 2024}\n')
    assert sememe("add", "index", "more.jsonl", "--json").json == {"index": "index", "added": 1}
    assert sememe("search", "index", "kayak", "-k", 1, "--json").json["hits"][0]["id"] == "new"
    Path("gone.txt").write_text("new\n\ndoc-0\n")
    assert sememe("delete", "index", "doc-1", "--ids-from", "gone.txt", "--json").json["deleted"] == 3
    again = sememe("delete", "index", "doc-1", "doc-2", "--json")
    assert again.status == 1 and again.json == {"index": "index", "deleted": 1, "missing": 1}
    found = sememe("search", "index", "kayak", "-k", 200, "--json").json["hits"]
    assert len(found) == 147 and not {"new", "doc-0", "doc-1", "doc-2"} & {hit["id"] for hit in found}
    done = sememe("compact", "index", "--json").json
    assert done["segments"] == 1 and done["bytes_after"] < done["bytes_before"]
    info = sememe("info", "index", "--json").json
    assert info["records"] == 147 and info["deleted"] == 0
    assert sememe("search", "index", "kayak", "-k", 200, "--json").json["hits"] == found


def test_verify_finds_damage_and_recover_goes_back(sememe):
    Path("more.jsonl").write_text('{"id": "new", "text": "a kayak on the river"}\n')
    sememe("add", "index", "more.jsonl")
    good = sememe("verify", "index", "--json")
    assert good.status == 0 and good.json["ok"] and good.json["problems"] == []
    assert good.json["files"] > 3 and good.json["bytes"] > 10_000
    newest = max(Path("index").glob("manifest.*"))
    newest.write_bytes(newest.read_bytes()[:40])
    bad = sememe("verify", "index", "--json")
    assert bad.status == 1 and not bad.json["ok"] and any(newest.name in problem for problem in bad.json["problems"])
    assert sememe("search", "index", "bread").status == 3
    back = sememe("recover", "index", "--json")
    assert back.status == 0 and back.json["generation"] < int(newest.suffix[1:])
    assert sememe("info", "index", "--json").json["records"] == 150
    assert len(sememe("search", "index", "bread", "--json").json["hits"]) == 10


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_verify_names_the_damaged_file(sememe, harm):
    file = next(Path("index").glob("codes-*"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if harm == "flip":
        file.write_bytes(data)
    elif harm == "cut":
        file.write_bytes(data[:-20])
    else:
        file.unlink()
    done = sememe("verify", "index", "--json")
    assert done.status == 1 and not done.json["ok"] and any(file.name in problem for problem in done.json["problems"])
    for_people = sememe("verify", "index")
    assert for_people.status == 1 and "sememe recover index" in for_people.out
    assert sememe("search", "index", "bread", "--verify", "full").status == 3


# -- the program itself -----------------------------------------------------------------------------------------------


def test_a_pipe_in_and_a_pipe_that_closes(sememe):
    program = [sys.executable, "-m", "sememe.cli.main"]
    lines = Path("corpus.jsonl").read_text()
    built = subprocess.run(
        [*program, "build", "-", "--format", "jsonl", "-o", "piped", "--recipe", "static | flat", "--json"],
        input=lines, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(built.stdout)["records"] == 150
    listing = " ".join(program) + " list --json"
    done = subprocess.run(["bash", "-c", f"{listing} | head -c 1"], capture_output=True, text=True, check=True)
    assert done.stdout == "[" and done.stderr == ""


def test_help_shows_an_example_for_every_verb(sememe):
    from sememe.cli.main import VERBS

    for verb in VERBS:
        done = sememe(verb, "--help")
        assert done.status == 0 and f"sememe {verb}" in done.out.partition("example:")[2]
    assert sememe("--version").out.startswith("sememe ")


def test_doctor_says_what_is_compiled_and_what_is_missing(sememe, monkeypatch):
    answer = sememe("doctor", "--json").json
    assert answer["native"]["levels"][0] == "numpy" and answer["parts"]["usearch"]
    assert answer["native"]["built"] == (answer["native"]["level"] != "numpy")
    monkeypatch.setenv("SEMEME_NATIVE", "0")
    from sememe.kernels import native

    native._load.cache_clear()
    try:
        assert "install a C++ compiler" in " ".join(sememe("doctor").out.split())
    finally:
        monkeypatch.undo()
        native._load.cache_clear()


def test_tables_show_brackets_as_they_are():
    from sememe.cli.shared import table

    assert "pip install 'sememe[onnx]'" in table("", ["how"], [["pip install 'sememe[onnx]'"]])
