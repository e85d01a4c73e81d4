"""Add, delete, compact: the index against a dict, writers that meet, and a process that dies at any write."""

import numpy as np
import pytest
from faulty_fs import FailAt, KillAt, Killed, NoSync
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from sememe.contracts import Record
from sememe.errors import ConflictError, FormatError, StorageError
from sememe.index import engine
from sememe.testing import HashingEncoder, toy_records

ENCODER = HashingEncoder(32)
WORDS = ["flour", "yeast", "mast", "tide", "comet", "rook", "soil", "rose", "knight", "sail"]
DOC = st.tuples(st.sampled_from("abcdefghij"), st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))


def record(identity, words):
    return Record(identity, " ".join(words), metadata={"n": len(words), "first": words[0]})


@pytest.mark.parametrize("recipe", ["static | fp16 | flat", "static | flat | hybrid:bm25", "bm25 | inverted"])
def test_any_history_equals_a_dict(tmp_path_factory, recipe):
    encoder = None if "inverted" in recipe else ENCODER

    class Machine(RuleBasedStateMachine):
        @initialize(docs=st.lists(DOC, min_size=1, max_size=6))
        def start(self, docs):
            self.path = tmp_path_factory.mktemp("m") / "i"
            self.model = dict(docs)
            records = [record(*doc) for doc in docs]
            self.index = engine.build(records, self.path, recipe, encoder=encoder, on_duplicate="replace", fs=NoSync())

        @rule(docs=st.lists(DOC, max_size=4))
        def add(self, docs):
            self.index.add([record(*doc) for doc in docs])
            self.model |= dict(docs)

        @rule(ids=st.sets(st.sampled_from("abcdefghij"), max_size=4))
        def delete(self, ids):
            assert self.index.delete(ids) == len(ids & self.model.keys())
            self.model = {i: words for i, words in self.model.items() if i not in ids}

        @rule()
        def compact(self):
            before = self.index.search("rook comet", k=10)
            self.index.compact()
            assert len(self.index.segments) <= 1
            after = self.index.search("rook comet", k=10)
            assert after.ids.tolist() == before.ids.tolist()
            np.testing.assert_allclose(after.scores, before.scores, rtol=1e-6)

        @rule()
        def reopen(self):
            self.index.close()
            self.index = engine.open(self.path, encoder=encoder, fs=NoSync())

        @invariant()
        def same(self):
            assert self.index.records == len(self.model)
            hits = self.index.search("rook tide", k=20)
            results = {r["id"]: r["text"] for r in self.index.results(hits)[0]}
            if "inverted" not in recipe:
                assert results == {i: " ".join(words) for i, words in self.model.items()}
            if recipe.startswith("static | fp16") and self.model:
                ids = list(self.model)
                X = ENCODER.encode([" ".join(self.model[i]) for i in ids])
                exact = dict(zip(ids, X @ ENCODER.encode(["rook tide"])[0]))
                np.testing.assert_allclose(hits.scores[0], [exact[i] for i in hits.ids[0]], atol=2e-3)
                some = self.index.search("rook tide", k=20, where="n >= 2")
                assert set(some.ids[0]) == {i for i, words in self.model.items() if len(words) >= 2}

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=8,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )


@pytest.fixture
def pair(tmp_path):
    first = engine.build(toy_records(40), tmp_path / "i", "static | int8 | flat", encoder=ENCODER, fs=NoSync())
    return first, engine.open(tmp_path / "i", encoder=ENCODER, fs=NoSync())


def test_additions_rebase(pair):
    a, b = pair
    a.add([Record("a", "rook")])
    b.add([Record("b", "knight")])
    assert a.refresh()
    assert a.records == b.records == 42
    assert {s.entry.name for s in a.segments} == {s.entry.name for s in b.segments}
    assert len(a.segments) == 3


def test_additions_of_one_id_conflict(pair):
    a, b = pair
    a.add([Record("same", "rook")])
    with pytest.raises(ConflictError, match="same"):
        b.add([Record("same", "knight")])
    b.refresh()
    assert b.records == 41
    assert len(list(b.path.glob("*.seg"))) == sum(1 for _ in b.store.manifest.entries())


def test_deletions_rebase_unless_they_meet(pair):
    a, b = pair
    a.delete(["doc-1", "doc-2"])
    with pytest.raises(ConflictError, match="doc-2"):
        b.delete(["doc-2", "doc-3"])
    assert b.delete(["doc-4"]) == 1
    a.refresh()
    assert a.records == b.records == 37
    assert a.delete(["doc-5"]) == 1  # on top of two files of marks
    assert a.records == 36
    a.compact()
    assert a.info()["deleted"] == 0


def test_compaction_keeps_additions_and_gives_way_to_deletions(pair):
    a, b = pair
    a.delete(["doc-7"])
    b.refresh()
    b.add([Record("b", "knight")])
    a.compact()
    assert a.records == 40
    assert len(a.segments) == 2
    with pytest.raises(ConflictError, match="merged"):
        b.delete(["doc-9"])
    b.refresh()
    b.delete(["doc-9"])
    with pytest.raises(ConflictError):
        a.compact()
    a.refresh()
    a.compact()
    assert a.records == 39


def test_a_replacement_and_a_deletion_of_one_record_conflict(pair):
    a, b = pair
    a.delete(["doc-1"])
    with pytest.raises(ConflictError):
        b.add([Record("doc-1", "rook")], on_duplicate="replace")


def test_two_first_additions_fit_one_codec(tmp_path):
    a = engine.build([], tmp_path / "i", "static | int8 | flat", encoder=ENCODER, fs=NoSync())
    b = engine.open(tmp_path / "i", encoder=ENCODER, fs=NoSync())
    a.add(toy_records(5))
    with pytest.raises(ConflictError, match="codec"):
        b.add([Record("b", "rook")])
    b.refresh()
    assert b.add([Record("b", "rook")]) == 1
    assert b.search("rook", k=1).ids[0, 0] == "b"


@pytest.mark.parametrize("recipe", ["static | int8 | flat", "static | pca:8 | binary | flat"])
def test_an_index_that_was_built_anew(pair, recipe):
    _, stale = pair
    before = stale.search("rook", k=5).ids.tolist()
    new = engine.build(
        [Record(f"n{i}", "rook " * i) for i in range(1, 20)],
        stale.path,
        recipe,
        encoder=ENCODER,
        overwrite=True,
        fs=NoSync(),
    )
    assert stale.search("rook", k=5).ids.tolist() == before
    for change in (lambda: stale.add([Record("x", "y")]), lambda: stale.delete(["doc-1"])):
        with pytest.raises(ConflictError):
            change()
    assert stale.refresh()
    assert str(stale.recipe) == recipe
    assert stale.search("rook", k=5).ids.tolist() == new.search("rook", k=5).ids.tolist()


RECIPE = "static | int8 | flat | hybrid:bm25"
STEPS = [
    ("add", lambda index: index.add([Record("new", "rook and knight")])),
    ("delete", lambda index: index.delete(["doc-1"])),
    ("compact", lambda index: index.compact()),
]


def _fresh(path):
    index = engine.build(toy_records(12), path, RECIPE, encoder=ENCODER, fs=NoSync())
    index.add([Record("second", "sail and tide")])
    index.close()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("name", "change"), STEPS)
def test_killed_at_every_write(tmp_path, name, change, half):
    outcomes, point = {"old": 0, "new": 0}, 0
    while True:
        path = tmp_path / str(point)
        _fresh(path)
        index = engine.open(path, encoder=ENCODER, fs=KillAt(point, half))
        before = (index.records, index.store.manifest.generation)
        try:
            change(index)
        except Killed:
            pass
        else:
            break
        after = engine.open(path, verify="full", encoder=ENCODER, fs=NoSync())
        assert after.verify().ok
        new = after.store.manifest.generation != before[1]
        outcomes["new" if new else "old"] += 1
        if not new:
            assert after.records == before[0]
            change(after)
        expected = {"add": before[0] + 1, "delete": before[0] - 1, "compact": before[0]}[name]
        assert after.records == expected
        assert after.search("rook", k=30).ids.shape[1] == expected
        point += 1
    assert outcomes["old"] > 3
    assert outcomes["new"] > 0


def test_a_killed_build_is_no_index(tmp_path):
    for point in range(0, 60):
        path = tmp_path / str(point)
        try:
            engine.build(toy_records(12), path, RECIPE, encoder=ENCODER, fs=KillAt(point))
        except Killed:
            if not path.exists():
                continue
            try:
                survivor = engine.open(path, verify="full", encoder=ENCODER, fs=NoSync())
            except FormatError:
                survivor = engine.build(toy_records(12), path, RECIPE, encoder=ENCODER, fs=NoSync())
            assert survivor.records == 12
        else:
            break
    else:
        pytest.fail("the build never finished")


@pytest.mark.parametrize("code", [28, 5])
def test_a_full_or_failing_disk_changes_nothing(tmp_path, code):
    _fresh(tmp_path / "i")
    failures = 0
    for point in range(0, 120, 3):
        fs = FailAt(10**9, code, sticky=True)
        index = engine.open(tmp_path / "i", encoder=ENCODER, fs=fs)
        fs.point = fs.seen + point
        before = index.records
        try:
            index.add([Record(f"p{point}", "rook")])
        except StorageError:
            failures += 1
            index = engine.open(tmp_path / "i", verify="full", encoder=ENCODER, fs=NoSync())
            assert index.records in (before, before + 1)
    assert failures > 5
