"""Writers and readers at once, in one process and in several."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import toy_store as toy
from faulty_fs import NoSync
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sememe.errors import ConflictError, FormatError, StorageError
from sememe.index.storage import Segment, Store

WRITERS, COMMITS = (int(n) for n in os.environ.get("SEMEME_WRITERS", "4 25").split())

WRITER = """
import sys
sys.path[:0] = sys.argv[2:4]
import toy_store as toy
from faulty_fs import NoSync
from sememe.index.storage import Store
me = int(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
with Store.open(sys.argv[1], NoSync()) as store:
    for step in range(int(sys.argv[5])):
        toy.append(store, 1 + me * 1000 + step)
        if me == 0:
            store.vacuum(keep=1)
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path, here = tmp_path / "ix", Path(__file__).parent
    toy.build(path, 1, NoSync()).close()
    command = [sys.executable, "-c", WRITER, str(path), str(here), str(here.parent)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, str(me), str(COMMITS)], **pipes) for me in range(WRITERS)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    reads = seen = 0
    while any(writer.poll() is None for writer in writers):
        with Store.open(path) as store:
            found = toy.content(store)
            generation = store.manifest.generation
        assert generation >= seen and len(found) == generation, "a read went back or missed a commit"
        reads, seen = reads + 1, generation
    assert [writer.wait() for writer in writers] == [0] * WRITERS
    for writer in writers:
        writer.communicate()
    found = toy.read(path)
    assert sorted(found) == [0, *(1 + me * 1000 + step for me in range(WRITERS) for step in range(COMMITS))]
    for me in range(WRITERS):
        mine = [number for number in found if number and (number - 1) // 1000 == me]
        assert mine == sorted(mine)
    turns = sum((a - 1) // 1000 != (b - 1) // 1000 for a, b in pairwise(found))
    assert reads > 3 and turns >= 2 * WRITERS, "the writers did not run at once"
    with Store.open(path) as store:
        store.vacuum(keep=1)
        assert store.verify().ok
    assert len(list(path.glob("*.seg"))) == 3 * len(found) and not list(path.glob("tmp.*"))


def test_an_update_is_applied_to_what_another_writer_published(tmp_path):
    first, second = toy.build(tmp_path / "ix", 1, NoSync()), Store.open(tmp_path / "ix", NoSync())
    bases = []
    with first.begin() as change:

        def update(manifest):
            bases.append(manifest.generation)
            if len(bases) == 1:
                toy.append(second, 1)  # gets in between, each reading the same version
            return replace(manifest, body={**manifest.body, "note": True})

        change.commit(update)
    assert bases == [1, 2]
    assert first.manifest.body == {"count": 2, "note": True} and toy.content(first) == [0, 1]
    assert second.refresh() and not second.refresh()
    assert second.manifest == first.manifest


def test_publishing_by_rename_would_lose_a_commit(tmp_path):
    """The test above has teeth: with the usual rename both writers believe they won."""

    class Renaming(NoSync):
        def publish(self, old, new):
            self.rename(old, new)

    first, second = toy.build(tmp_path / "ix", 1, Renaming()), Store.open(tmp_path / "ix", Renaming())
    with first.begin() as change:
        change.commit(lambda manifest: toy.append(second, 1) and manifest)
    assert toy.read(tmp_path / "ix") == [0]  # 1 was acknowledged and is gone


def test_a_conflict_takes_everything_back(tmp_path):
    store = toy.build(tmp_path / "ix", 1, NoSync())
    before = sorted(file.name for file in store.path.iterdir())

    def refuse(manifest):
        raise ConflictError("the rows are gone")

    with pytest.raises(ConflictError, match="rows are gone"), store.begin() as change:
        change.write("codes", b"abc")
        change.commit(refuse)
    assert sorted(file.name for file in store.path.iterdir()) == before


def test_two_builds_of_one_index_do_not_mix(tmp_path):
    one, two = (Store.create(tmp_path / "ix", {"count": 0}, NoSync()) for _ in range(2))
    with one.begin() as change:
        with pytest.raises(FormatError, match="did not finish"):
            Store.open(tmp_path / "ix")
        toy.append(two, 5)
        with pytest.raises(ConflictError, match="another build"):
            change.commit(lambda manifest: manifest)
    assert toy.read(tmp_path / "ix") == [5]


def test_a_version_may_name_only_files_of_its_own(tmp_path):
    store = toy.build(tmp_path / "ix", 2, NoSync())
    stale = store.manifest
    toy.drop(store, 0)
    with store.begin() as change, pytest.raises(StorageError, match="no longer belongs"):
        change.commit(lambda manifest: stale)
    with store.begin() as change:
        change.new_file("codes").write(b"abc")
        with pytest.raises(StorageError, match="not closed"):
            change.commit(lambda manifest: manifest)
    with pytest.raises(StorageError, match="over"):
        change.write("codes", b"abc")
    assert toy.read(tmp_path / "ix") == [1]


def test_files_that_a_commit_does_not_name_are_removed(tmp_path):
    store = toy.build(tmp_path / "ix", 1, NoSync())
    with store.begin() as change:
        change.write("scratch", b"abc")
        change.commit(lambda manifest: manifest)
    assert not list(store.path.glob("scratch*"))


def test_vacuum_spares_versions_that_are_being_read(tmp_path):
    store = toy.build(tmp_path / "ix", 2, NoSync())
    reader = Store.open(tmp_path / "ix", NoSync())
    for number in (0, 1):
        toy.drop(store, number)
    toy.append(store, 2)
    assert store.vacuum(keep=1) > 0
    assert toy.content(reader) == [0, 1]  # opened before, read only now
    names = sorted(file.name for file in store.path.glob("manifest.*"))
    assert names == [f"manifest.{n:020d}" for n in (2, 3, 4, 5)]  # numbers after one in use stay taken
    assert reader.refresh() and toy.content(reader) == [2]
    store.vacuum(keep=1)
    assert [file.name for file in store.path.glob("manifest.*")] == [f"manifest.{5:020d}"]
    assert len(list(store.path.glob("*.seg"))) == 3
    with pytest.raises(ValueError, match="at least the newest"):
        store.vacuum(keep=0)


def test_vacuum_spares_files_of_a_living_writer(tmp_path):
    store, other = toy.build(tmp_path / "ix", 1, NoSync()), Store.open(tmp_path / "ix", NoSync())
    with other.begin() as change:
        entry = change.write("codes", b"abc")
        store.vacuum(keep=1)
        toy.append(store, 1)  # its sweep, too
        change.commit(lambda m: replace(m, segments=(*m.segments, Segment("x", 1, {"codes": entry}))))
    assert bytes(other.file(entry).read()) == b"abc"


class Machine(RuleBasedStateMachine):
    """Random work on an index against a plain list."""

    @initialize()
    def start(self):
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ix"
        self.store = toy.build(self.path, 0, NoSync())
        toy.append(self.store, 1)
        self.model, self.next = [1], 2

    @rule()
    def append(self):
        toy.append(self.store, self.next)
        self.model.append(self.next)
        self.next += 1

    @precondition(lambda self: len(self.model) > 1)
    @rule(choice=st.randoms())
    def drop(self, choice: random.Random):
        number = choice.choice(self.model)
        toy.drop(self.store, number)
        self.model.remove(number)

    @rule(verify=st.sampled_from(["lazy", "full", "off"]))
    def reopen(self, verify):
        self.store.close()
        self.store = Store.open(self.path, NoSync(), verify=verify)

    @rule(keep=st.integers(1, 3))
    def vacuum(self, keep):
        self.store.vacuum(keep)

    @rule(point=st.integers(0, 25), half=st.booleans())
    def die(self, point, half):
        from faulty_fs import KillAt, Killed

        self.store.close()
        try:
            with Store.open(self.path, KillAt(point, half)) as victim:
                toy.append(victim, self.next)
        except Killed:
            pass
        self.store = Store.open(self.path, NoSync())
        if toy.content(self.store) != self.model:
            self.model.append(self.next)
        self.next += 1

    @rule()
    def lose_the_newest_manifest(self):
        self.store.close()
        if next(self.path.glob("head.*"), None):
            newest = max(self.path.glob("manifest.*"))
            if (self.path / newest.name.replace("manifest", "head")).exists():
                newest.unlink()
                Store.recover(self.path)
        self.store = Store.open(self.path, NoSync())

    @invariant()
    def agrees(self):
        if hasattr(self, "store"):
            assert toy.content(self.store) == self.model
            assert toy.read(self.path) == self.model

    def teardown(self):
        if hasattr(self, "store"):
            assert self.store.verify().ok
            self.store.close()
            self.folder.cleanup()


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
