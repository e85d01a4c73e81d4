"""Killed at every write, unplugged at any moment: the index is the old version or the new one, whole."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy_store as toy
from faulty_fs import Counting, KillAt, Killed, NoSync, PowerCut

from sememe.errors import FormatError
from sememe.index.storage import Store


def work(path, fs):
    """Append, drop and vacuum on an index of two versions: three commits."""
    with Store.open(path, fs) as store:
        toy.append(store, 2)
        toy.drop(store, 0)
        store.vacuum(keep=1)
        toy.append(store, 3)


WHOLE = ([0, 1], [0, 1, 2], [1, 2], [1, 2, 3])


def writes_of(tmp_path, job):
    class CountingNoSync(Counting, NoSync):
        pass

    counting = CountingNoSync()
    job(counting)
    shutil.rmtree(tmp_path / "count", ignore_errors=True)
    return counting.writes


@pytest.mark.parametrize("half", [False, True])
def test_killed_at_every_write(tmp_path, half):
    toy.build(tmp_path / "start", 2, NoSync()).close()

    def job(fs):
        shutil.copytree(tmp_path / "start", tmp_path / "count")
        work(tmp_path / "count", fs)

    points = writes_of(tmp_path, job)
    assert points > 50
    for point in range(points):
        path = tmp_path / f"k{point}"
        shutil.copytree(tmp_path / "start", path)
        with pytest.raises(Killed):
            work(path, KillAt(point, half))
        before = toy.read(path)
        assert before in WHOLE, f"killed at write {point}"
        with Store.open(path, NoSync()) as store:
            toy.append(store, 9)
            assert toy.content(store) == [*before, 9]
            store.vacuum(keep=1)
            assert store.verify().ok
        left = os.listdir(path)
        assert not [name for name in left if name.startswith("tmp.")], f"leavings of a kill at write {point}"
        assert len([name for name in left if name.endswith(".seg")]) == 3 * (len(before) + 1)
        shutil.rmtree(path)


def test_killed_build_is_no_index_and_can_be_repeated(tmp_path):
    def job(fs):
        toy.build(tmp_path / "count", 1, fs)

    points = writes_of(tmp_path, job)
    finished = 0
    for point in range(points):
        path = tmp_path / f"b{point}"
        with pytest.raises(Killed):
            toy.build(path, 1, KillAt(point))
        try:
            assert toy.read(path) == [0]
            finished += 1
        except FormatError as error:
            assert re.search("did not finish|no index here|not an index", str(error))
            toy.build(path, 1, NoSync()).close()
        assert toy.read(path) == [0]
    assert 0 < finished < points


def test_killed_while_overwriting_keeps_the_old_index(tmp_path):
    outcomes = set()
    for point in range(10_000):
        path = tmp_path / f"o{point}"
        toy.build(path, 2, NoSync()).close()
        try:
            store = Store.create(path, {"count": 0}, KillAt(point), overwrite=True)
            toy.append(store, 7)
            store.close()
        except Killed:
            outcomes.add(tuple(toy.read(path)))
        else:
            break
    assert toy.read(path) == [7]
    assert outcomes == {(0, 1), (7,)}


CHILD = """
import sys
sys.path[:0] = sys.argv[2:4]
import toy_store as toy
from sememe.index.storage import Store
with Store.open(sys.argv[1]) as store:
    for number in range(1000):
        toy.append(store, 1 + number)
        print(number, flush=True)
"""


def test_a_real_process_killed_with_sigkill(tmp_path):
    here = Path(__file__).parent
    for round_ in range(4):
        path = tmp_path / f"r{round_}"
        toy.build(path, 1).close()
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), str(here), str(here.parent)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None and child.stdout.readline().strip() == "0"
        time.sleep(0.01 + 0.013 * round_)
        child.send_signal(signal.SIGKILL)
        acknowledged = [0, *(int(line) for line in child.stdout.read().split())]
        child.wait()
        found = toy.read(path)
        assert found == list(range(len(found))) and len(found) >= 1 + len(acknowledged)
        with Store.open(path) as store:
            toy.append(store, len(found))
            assert toy.content(store) == list(range(len(found) + 1))
        assert not list(path.glob("tmp.*"))


def unplugged(tmp_path, ignore, states, seed):
    """Cut the power ``states`` times; the acknowledged commits lost and the folders that did not read."""
    root = tmp_path / f"live-{ignore}"
    root.mkdir()
    fs = PowerCut(root, ignore)
    store = Store.create(root / "ix", {"count": 0}, fs)
    history = [[]]
    for number in range(4):
        toy.append(store, number)
        history.append(toy.content(store))
        fs.note(store.manifest.generation)
    toy.drop(store, 1)
    history.append(toy.content(store))
    fs.note(store.manifest.generation)
    store.vacuum(keep=1)
    rng = random.Random(seed)
    lost = unreadable = 0
    for state in range(states):
        target = tmp_path / f"cut-{ignore}-{state}"
        target.mkdir()
        acknowledged = fs.state(rng.randrange(len(fs.log) + 1), target, rng)
        need = max(acknowledged, default=0)
        try:
            with Store.open(target / "ix", NoSync(), verify="full") as cut:
                found, generation = toy.content(cut), cut.manifest.generation
                assert found == history[generation]
                toy.append(cut, 8)
                assert toy.content(cut) == [*found, 8]
            lost += generation < need
        except FormatError:  # not an index yet
            lost += need > 0
        except Exception:
            unreadable += 1
            lost += need > 0
        shutil.rmtree(target)
    return lost, unreadable


def test_power_cut_at_any_moment_loses_nothing_acknowledged(tmp_path):
    assert unplugged(tmp_path, "", 400, seed=1) == (0, 0)


@pytest.mark.parametrize("ignore", ["files", "folders"])
def test_the_power_cut_test_has_teeth(tmp_path, ignore):
    lost, _ = unplugged(tmp_path, ignore, 60, seed=2)
    assert lost > 5


def test_flushes_of_a_commit(tmp_path):
    store = toy.build(tmp_path / "ix", 1)
    store.fs = fs = Counting()
    toy.append(store, 1)
    assert fs.counts["fsync"] == 3 + 3  # three files; the folder, the manifest, the folder again
    assert fs.counts["link"] == 1


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_flushes_of_a_commit_as_the_kernel_sees_them(tmp_path):
    here = Path(__file__).parent
    toy.build(tmp_path / "ix", 1).close()
    script = CHILD.replace("range(1000)", "range(2)")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=fsync,link,linkat", "-o", str(trace), sys.executable, "-c", script]
    ran = subprocess.run([*command, str(tmp_path / "ix"), str(here), str(here.parent)], capture_output=True, text=True)
    if not trace.exists() or "ptrace" in ran.stderr:
        pytest.skip("this system does not allow tracing")
    calls = re.findall(r"\b(fsync|linkat|link)\(", trace.read_text())
    assert [call[:4] for call in calls] == (["fsyn"] * 5 + ["link"] + ["fsyn"]) * 2
