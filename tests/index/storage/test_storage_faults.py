"""Every system call may fail: a clean error, the old version intact, nothing left behind for long."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import toy_store as toy
from faulty_fs import Counting, FailAt, NoSync

from sememe.errors import SememeError, StorageError
from sememe.index.storage import FileSystem, Store
from sememe.index.storage.fs import Exists, Missing


class Tally(Counting, NoSync):
    pass


def work(path, fs):
    with Store.open(path, fs) as store:
        toy.append(store, 2)
        toy.drop(store, 0)
        store.vacuum(keep=1)


FAULTS = [(0, False), (errno.EINTR, False), (errno.EIO, False), (errno.ENOSPC, False), (errno.ENOSPC, True)]


@pytest.mark.parametrize(("code", "sticky"), FAULTS)
def test_every_system_call_fails_once(tmp_path, code, sticky):
    toy.build(tmp_path / "start", 2, NoSync()).close()
    shutil.copytree(tmp_path / "start", tmp_path / "count")
    tally = Tally()
    work(tmp_path / "count", tally)
    outcomes, injected, descriptors = [], 0, len(os.listdir("/dev/fd"))
    for point in range(tally.calls):
        path = tmp_path / f"f{point}"
        shutil.copytree(tmp_path / "start", path)
        fs = FailAt(point, code, sticky)
        try:
            work(path, fs)
            outcomes.append("done")
        except StorageError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            outcomes.append("refused")
        injected += bool(fs.failed)
        before = toy.read(path)
        assert before in ([0, 1], [0, 1, 2], [1, 2])
        assert before == [1, 2] or outcomes[-1] == "refused", f"call {point} failed and work went missing"
        with Store.open(path, NoSync()) as store:
            toy.append(store, 9)
            assert toy.content(store) == [*before, 9]
            assert store.verify().ok
        assert not list(path.glob("tmp.*"))
        shutil.rmtree(path)
    assert injected == tally.counts["write"] if code == 0 else injected >= 15
    if code in (0, errno.EINTR):
        assert set(outcomes) == {"done"}
    else:
        assert "refused" in outcomes
    assert len(os.listdir("/dev/fd")) == descriptors, "a failure leaks file descriptors"


def test_a_new_index_on_a_failing_disk(tmp_path):
    for point in range(200):
        fs = FailAt(point, errno.EIO)
        path = tmp_path / f"n{point}"
        try:
            toy.build(path, 1, fs).close()
        except StorageError:
            if not (path / "manifest.00000000000000000001").exists():
                toy.build(path, 1, NoSync()).close()
        assert toy.read(path) == [0]
        if not fs.failed:
            break
    else:
        pytest.fail("building takes more calls than expected")


def test_a_failed_write_or_flush_cannot_be_completed(tmp_path):
    store = toy.build(tmp_path / "ix", 1, NoSync())
    for name in ("write", "fsync"):

        class Broken(NoSync):
            once = name

            def call(self, name, *args):
                if name == self.once:
                    self.once = ""
                    raise OSError(errno.EIO, "fault")
                return super().call(name, *args)

        store.fs = Broken()
        with store.begin() as change:
            writer = change.new_file("codes")
            writer.write(b"abc")
            with pytest.raises(StorageError, match="could not"):
                writer.close()
            with pytest.raises(StorageError, match="earlier write or flush"):
                writer.close()
            with pytest.raises(StorageError, match="not closed"):
                change.commit(lambda manifest: manifest)
    assert toy.read(tmp_path / "ix") == [0]


LIMITED = """
import resource, sys
sys.path[:0] = sys.argv[2:4]
import toy_store as toy
from sememe.errors import StorageError
from sememe.index.storage import Store
if sys.argv[4] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
with Store.open(sys.argv[1]) as store:
    for number in range(1, 100):
        try:
            toy.append(store, number)
        except StorageError as error:
            print(number, error)
            break
"""


def arguments(path, mode):
    here = Path(__file__).parent
    return [sys.executable, "-c", LIMITED, str(path), str(here), str(here.parent), mode]


def test_a_real_limit_on_file_size(tmp_path):
    pytest.importorskip("resource")
    toy.build(tmp_path / "ix", 1).close()
    ran = subprocess.run(arguments(tmp_path / "ix", "limit"), capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("3 ") and "File too large" in ran.stdout  # segment 3 is the first large one
    assert toy.read(tmp_path / "ix") == [0, 1, 2]
    assert not list((tmp_path / "ix").glob("tmp.*"))


def test_a_real_full_disk(tmp_path):
    inner = " ".join(f"'{part}'" for part in arguments(tmp_path / "disk" / "ix", "disk")[3:])
    script = tmp_path / "limited.py"
    script.write_text(LIMITED)
    toy.build(tmp_path / "seed", 1).close()
    (tmp_path / "disk").mkdir()
    disk, seed = tmp_path / "disk", tmp_path / "seed"
    command = (
        f"mount -t tmpfs -o size=400k tmpfs {disk} || exit 42; cp -r {seed} {disk}/ix; "
        f"{sys.executable} {script} {inner}; cp -r {disk}/ix {tmp_path}/after"
    )
    if not shutil.which("unshare"):
        pytest.skip("unshare is not installed")
    ran = subprocess.run(["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True)
    if not (tmp_path / "after").exists():
        pytest.skip(f"this system does not let a user mount a tmpfs: {ran.stderr.strip()[:80]}")
    assert "No space left" in ran.stdout and "free some space" in ran.stdout
    found = toy.read(tmp_path / "after")
    assert found == list(range(int(ran.stdout.split()[0]))) and len(found) > 1


class NoLinks(NoSync):
    def call(self, name, *args):
        if name == "link":
            raise OSError(errno.EPERM, "Operation not permitted")
        return super().call(name, *args)


class NoLocks(NoSync):
    def call(self, name, *args):
        if name == "flock":
            raise OSError(errno.ENOTSUP, "Operation not supported")
        return super().call(name, *args)


def test_without_hard_links_publishing_is_still_exclusive(tmp_path, caplog):
    path = tmp_path / "ix"
    toy.build(path, 2, NoLinks()).close()
    assert toy.read(path) == [0, 1]
    assert "no hard links" in caplog.text
    fs = NoLinks()
    fs.create(path / "tmp.x").close()
    with pytest.raises(Exists):
        fs.publish(path / "tmp.x", path / "manifest.00000000000000000002")
    assert toy.read(path) == [0, 1]
    (path / "tmp.claim.manifest.00000000000000000003").touch()  # its writer was killed between claim and rename
    with Store.open(path, fs) as store, pytest.raises(StorageError, match="delete that file"):
        toy.append(store, 2)
    (path / "tmp.claim.manifest.00000000000000000003").unlink()
    with Store.open(path, fs) as store:
        toy.append(store, 2)
    assert toy.read(path) == [0, 1, 2]


def test_without_locks_nothing_is_removed_on_a_guess(tmp_path):
    path = tmp_path / "ix"
    fs = NoLocks()
    store = toy.build(path, 2, fs)
    toy.drop(store, 0)
    before = set(os.listdir(path))
    store.vacuum(keep=1)
    assert set(os.listdir(path)) == before
    assert toy.read(path, fs) == [1]


def test_a_link_whose_answer_was_lost_counts_as_made(tmp_path):
    class Forgetful(NoSync):
        def call(self, name, *args):
            result = super().call(name, *args)
            if name == "link":
                raise OSError(errno.EIO, "answer lost")
            return result

    toy.build(tmp_path / "ix", 2, Forgetful()).close()
    assert toy.read(tmp_path / "ix") == [0, 1]


def test_the_file_system_speaks_only_our_errors(tmp_path):
    fs = FileSystem()
    with pytest.raises(Missing):
        fs.read(tmp_path / "absent")
    with pytest.raises(Missing):
        fs.lock(tmp_path / "absent", shared=True)
    (tmp_path / "there").write_bytes(b"")
    with pytest.raises(Exists):
        fs.create(tmp_path / "there")
    assert bytes(fs.map(tmp_path / "there")) == b""
    os.mkfifo(tmp_path / "pipe")
    for read in (fs.read, fs.map):
        with pytest.raises(SememeError, match="Invalid argument"):
            read(tmp_path / "pipe")
    with pytest.raises(SememeError):
        fs.makedirs(tmp_path / "there" / "below")
