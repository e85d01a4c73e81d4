"""Declaring, finding and running experiments; the fixed shape; the page."""

import json
import pkgutil
import re

import numpy as np
import pytest

from sememe import catalog, evidence
from sememe.catalog import Paper
from sememe.errors import InputError, UsageError
from sememe.evidence import document, machinery, reproduce, reproducible
from sememe.evidence.data import DataFolder
from sememe.evidence.machinery import Finding, Setting, experiment

FIXED = ["technique", "paper", "claim", "measured", "baseline", "held", "interval", "seeds", "seconds"]
# Experiments on a further paper about a technique that has one already; its docstring names both.
SECOND = {"fasttext-zip": "pq", "m3-fusion": "hybrid", "multivector": "multivector"}
UNMEASURED = {"zero-shot-rec"}  # claims without an experiment yet
COMPARISONS = {"table-bench"}  # of many techniques: they belong to none


def finding(**changes):
    values = {
        "measured": np.float32(0.5),
        "baseline": 0.25,
        "interval": (0.1, 0.4),
        "unit": "score",
        "interval_of": "the difference",
        "checks": {"it is more": True},
        "details": {"by size": {3: np.float64(1.23456789)}, "seeds": (1, 2)},
    }
    return Finding(**{**values, **changes})


@pytest.fixture
def trial(monkeypatch):
    """Declare experiments that vanish after the test."""
    reproducible()
    monkeypatch.setattr(machinery, "_experiments", dict(machinery._experiments))

    def declare(name="trial", found=None, **options):
        seen = []

        @experiment(name, paper=Paper("A paper", 2024, "2401.00001"), claim="It works.", **options)
        def run(setting: Setting) -> Finding:
            seen.append(setting)
            return found or finding()

        return seen

    return declare


def test_every_file_that_is_no_helper_declares_an_experiment():
    found = {
        declared.run.__module__.rpartition(".")[2] for declared in (reproducible(), machinery._experiments)[1].values()
    }
    files = {module.name for module in pkgutil.iter_modules(evidence.__path__)}
    assert found == files - machinery._NOT_EXPERIMENTS
    assert files >= machinery._NOT_EXPERIMENTS


def test_all_experiments_are_named_after_catalogued_techniques():
    for name in set(reproducible()) - SECOND.keys() - COMPARISONS:
        technique, declared = catalog.find(name), machinery._experiments[name]
        assert technique.paper is not None, name
        assert (declared.paper.title, declared.paper.year) == (technique.paper.title, technique.paper.year)
        assert declared.claim.endswith("."), name
        assert declared.run.__doc__, name
    for name, technique in SECOND.items():
        assert machinery._experiments[name].paper.arxiv in (catalog.find(technique).make.__doc__ or "")


def test_every_claim_of_the_catalogue_is_measured():
    """By an experiment of its own, or by that of the neighbour that the entry names."""
    known = set(reproducible())
    claims = {technique.name for technique in catalog.techniques() if technique.claim}
    assert {name for name in claims if machinery.measured_in(name) not in known} <= UNMEASURED


def test_a_variant_is_measured_in_the_experiment_of_its_neighbour(trial, monkeypatch):
    monkeypatch.setitem(machinery._experiments, "binary-codes", machinery._experiments["binary-codes"])
    seen = trial("binary-codes")
    assert reproduce("affine-codes", seeds=1).technique == "binary-codes" and len(seen) == 1
    assert machinery.measured_in("no such name") == "no such name"


def test_result_has_the_fixed_shape(trial):
    seen = trial()
    result = reproduce("trial", seeds=2, seed=5)
    answer = result.as_json()
    assert list(answer)[: len(FIXED)] == FIXED
    assert answer["paper"] == {"title": "A paper", "year": 2024, "arxiv": "2401.00001"}
    assert answer["held"] is True and answer["interval"] == [0.1, 0.4] and answer["seeds"] == 2
    assert answer["details"] == {"by size": {"3": 1.23457}, "seeds": [1, 2]}
    assert json.loads(json.dumps(answer)) == answer
    assert seen[0].seeds == (5, 6)


def test_a_claim_holds_only_if_every_part_does(trial):
    trial(found=finding(checks={"a": True, "b": False}, reason="too small"))
    answer = reproduce("trial").as_json()
    assert answer["held"] is False and answer["reason"] == "too small"


def test_what_is_not_random_runs_once(trial):
    seen = trial(random=False)
    assert reproduce("trial", seeds=3).seeds == 1 and seen[0].seeds == (0,)


def test_unknown_names_and_missing_data_say_what_to_do(trial, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"no evidence for 'pover'.*power"):
        reproduce("pover")
    trial(needs=("scifact",))
    monkeypatch.delenv("SEMEME_DATA", raising=False)
    with pytest.raises(InputError, match="SEMEME_DATA or give --data"):
        reproduce("trial")
    with pytest.raises(InputError, match="no data set scifact"):
        reproduce("trial", str(tmp_path))
    (tmp_path / "scifact").mkdir()
    assert reproduce("trial", str(tmp_path)).held
    monkeypatch.setenv("SEMEME_DATA", str(tmp_path))
    assert reproduce("trial").held
    with pytest.raises(InputError, match="seeds"):
        reproduce("trial", seeds=0)


def test_tables_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "stsb").mkdir()
    with pytest.raises(InputError, match="cannot read"):
        DataFolder(str(tmp_path)).table("stsb", "absent.tsv.gz")
    (tmp_path / "stsb" / "plain.tsv.gz").write_text("not gzip")
    with pytest.raises(InputError, match="cannot read"):
        DataFolder(str(tmp_path)).table("stsb", "plain.tsv.gz")
    with pytest.raises(InputError, match="corpus"):
        DataFolder(str(tmp_path)).retrieval("stsb")


def test_page_says_what_the_results_say(trial, tmp_path):
    trial("one")
    trial("two", found=finding(checks={"a": True, "b": False}, reason="too small here", conditions="toy data"))
    results = tmp_path / "evidence"
    written = document.record(results, ["one", "two"], seeds=2)
    assert [path.name for path in written] == ["one.json", "two.json"]
    saved = json.loads(written[0].read_text())
    assert set(FIXED) <= saved.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", saved["environment"]["date"]) and "cores" in saved["environment"]["machine"]
    document.write(tmp_path / "evidence.md", results)
    page = (tmp_path / "evidence.md").read_text()
    assert "Of 2 experiments, 1 held" in page
    assert "| [one](#one) | 0.5 | 0.25 | 0.1 to 0.4 | yes | 2 |" in page
    assert "| [two](#two) | 0.5 | 0.25 | 0.1 to 0.4 | in part | 2 |" in page
    assert "- **did not hold**: b" in page and "**Likely reason.** Too small here." in page
    assert "https://arxiv.org/abs/2401.00001" in page and saved["environment"]["machine"] in page


def test_page_needs_results(tmp_path):
    with pytest.raises(InputError, match="no saved result"):
        document.write(tmp_path / "x.md", tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputError, match=r"bad.json: not a saved result"):
        document.write(tmp_path / "x.md", tmp_path)
