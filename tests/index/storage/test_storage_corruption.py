"""Damage of any kind, anywhere: an error that names the place, or the untouched data; never a wrong byte."""

import os
import random
import re
from dataclasses import replace

import pytest
import toy_store as toy
from faulty_fs import NoSync

from sememe.errors import CorruptIndex, FormatError, StorageError
from sememe.index.storage import Segment, Store
from sememe.index.storage.check import verify
from sememe.index.storage.layout import head_name, manifest_name

MUTATIONS = int(os.environ.get("SEMEME_MUTATIONS", "3000"))


@pytest.fixture
def path(tmp_path):
    with toy.build(tmp_path / "ix", 4, NoSync()) as store:
        toy.drop(store, 1)
    return tmp_path / "ix"


def mutate(files, rng):
    """Damage one file (or swap two) in place; what it was, and the originals."""
    file = rng.choice(files)
    data = bytearray(file.read_bytes())
    kind = rng.choice(["bit", "byte", "zeros", "truncate", "append", "swap", "delete"])
    saved = {file: bytes(data)}
    if kind == "swap":
        other = rng.choice(files)
        saved[other] = other.read_bytes()
        file.write_bytes(saved[other])
        other.write_bytes(saved[file])
        return kind, saved
    if kind == "delete":
        file.unlink()
        return kind, saved
    # Half of the hits go to the ends, where headers, tables and trailers are.
    position = rng.randrange(len(data)) if rng.random() < 0.5 else rng.choice([0, len(data) - 1 - rng.randrange(24)])
    position = max(position, 0)
    if kind == "bit":
        data[position] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        data[position] = rng.randrange(256)
    elif kind == "zeros":
        data[position : position + 512] = bytes(len(data[position : position + 512]))
    elif kind == "truncate":
        del data[rng.randrange(len(data)) :]
    else:
        data += rng.randbytes(rng.choice([1, 8, 4096]))
    file.write_bytes(data)
    return kind, saved


def test_mutated_files_never_give_a_wrong_answer(path):
    rng = random.Random(20)
    # The second name of the newest manifest is the same file as the first; a copy lets each be damaged alone.
    head = path / head_name(5)
    content = head.read_bytes()
    head.unlink()
    head.write_bytes(content)
    files = sorted(path.iterdir())
    errors = untouched = 0
    for number in range(MUTATIONS):
        kind, saved = mutate(files, rng)
        hit = [file.name for file in saved]
        try:
            assert toy.read(path) == [0, 2, 3], f"mutation {number}: {kind} of {hit}"
            untouched += 1
        except (CorruptIndex, FormatError) as error:
            errors += 1
            assert any(name in str(error) for name in hit), f"mutation {number}: {kind} of {hit}: {error}"
            if number % 5 == 0:
                assert not verify(path).ok
        for file, data in saved.items():
            file.write_bytes(data)
    assert errors > MUTATIONS / 5 and untouched > MUTATIONS / 5
    assert toy.read(path) == [0, 2, 3]


def damage(file, position):
    with file.open("r+b") as handle:
        handle.seek(position)
        byte = handle.read(1)
        handle.seek(position)
        handle.write(bytes([byte[0] ^ 1]))


def file_of(path, number, role):
    with Store.open(path) as store:
        return path / next(s for s in store.manifest.segments if s.info["number"] == number).files[role].name


def test_damage_is_found_on_the_first_touch_of_its_block(path):
    victim = file_of(path, 3, "codes")
    damage(victim, 70_000)
    with Store.open(path) as store:
        entry = next(e for e in store.manifest.entries() if e.name == victim.name)
        file = store.file(entry)
        assert bytes(file.read(0, 60_000)) == toy.payload(3, "codes")[:60_000]
        with pytest.raises(CorruptIndex, match=rf"{victim.name}: the block at offset 65536 is damaged"):
            file.read(65_000, 66_000)
        with pytest.raises(CorruptIndex, match="offset 65536"):  # and on every later touch
            file.verified_array("u1", (79_000,))
    with pytest.raises(CorruptIndex, match="offset 65536"):
        Store.open(path, verify="full")
    with Store.open(path, verify="off") as store:
        assert bytes(store.file(entry).read()) != toy.payload(3, "codes")
    report = verify(path)
    assert not report.ok and len(report.problems) == 1 and victim.name in report.problems[0]


def test_a_block_forged_to_its_checksum_is_found_by_full_verification(path):
    # A payload, its table and the table's digest that fit each other, but not what was committed.
    with Store.open(path, NoSync()) as store, store.begin() as change:
        forged = change.write("codes", b"forged")
        entry = replace(forged, digest="0" * 64)
        change.commit(lambda m: replace(m, segments=(*m.segments, Segment("f", 1, {"codes": entry}))))
    with Store.open(path) as store:
        store.file(entry).read()
    with pytest.raises(CorruptIndex, match="does not match the digest"):
        Store.open(path, verify="full")


def test_a_damaged_newest_version_is_an_error_until_recovered(path):
    damage(path / manifest_name(5), 200)
    with pytest.raises(CorruptIndex, match=r"bytes 0 to \d+ .*the last good version is 4"):
        Store.open(path)
    assert not verify(path).ok
    assert Store.recover(path) == 4
    assert toy.read(path) == [0, 1, 2, 3]
    assert verify(path).ok and any("put aside" in note for note in verify(path).notes)
    with Store.open(path) as store:
        toy.append(store, 6)
    assert toy.read(path) == [0, 1, 2, 3, 6]


def test_a_removed_newest_version_is_noticed_and_brought_back(path):
    (path / manifest_name(5)).unlink()
    with pytest.raises(CorruptIndex, match="newest manifest is missing"):
        Store.open(path)
    assert Store.recover(path) == 5
    assert toy.read(path) == [0, 2, 3]


def test_recover_goes_back_past_damaged_files_and_gives_up_honestly(path):
    damage(file_of(path, 3, "ids"), 3)  # versions 4 and 5 hold it
    assert Store.recover(path) == 3
    assert toy.read(path) == [0, 1, 2]
    damage(file_of(path, 0, "ids"), 3)  # every version holds it
    before = sorted(file.name for file in path.iterdir())
    with pytest.raises(CorruptIndex, match="no version of this index is whole"):
        Store.recover(path)
    assert sorted(file.name for file in path.iterdir()) == before


def test_recover_leaves_a_writer_alone(path):
    with Store.open(path, NoSync()) as store, store.begin(), pytest.raises(StorageError, match="a writer is at work"):
        Store.recover(path)


def test_a_damaged_index_can_be_overwritten(path):
    for file in path.glob("manifest.*"):
        damage(file, 0)
    toy.build(path, 1, NoSync(), overwrite=True).close()
    assert toy.read(path) == [0]


def test_vacuum_keeps_everything_while_a_kept_manifest_is_unreadable(path):
    damage(path / manifest_name(4), 100)
    files = {file.name for file in path.glob("*.seg")}
    with Store.open(path) as store:
        store.vacuum(keep=2)
    assert {file.name for file in path.glob("*.seg")} == files


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no index here"),
        (lambda path: path.mkdir(), "not an index"),
        (lambda path: path.write_text("text"), "there is no index here"),
        (lambda path: (path.mkdir(), (path / "notes.txt").write_text("mine")), "not an index"),
        (lambda path: (path.mkdir(), (path / "manifest.1").write_text("{}")), "not an index"),
    ],
)
def test_what_is_not_an_index(tmp_path, make, message):
    make(tmp_path / "x")
    with pytest.raises(FormatError, match=message):
        Store.open(tmp_path / "x")


def test_a_folder_of_someone_else_is_not_built_in(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(StorageError, match=re.escape("not empty (it holds letter.txt)")):
            Store.create(tmp_path, {}, overwrite=overwrite)
    with pytest.raises(StorageError, match="a file, not a folder"):
        Store.create(tmp_path / "letter.txt", {})
