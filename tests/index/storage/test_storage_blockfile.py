"""Block files: what is written is what is read, at every size around a block."""

import errno

import numpy as np
import pytest
from faulty_fs import Counting, NoSync

from sememe.errors import CorruptIndex, InputError, StorageError
from sememe.index.storage import BlockFile, BlockWriter, FileEntry, FileSystem
from sememe.index.storage.blockfile import BLOCK


def write(path, *parts):
    with BlockWriter(NoSync(), path) as writer:
        for part in parts:
            writer.write(part)
    return writer.close()


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, (1 << 20) - 1, 1 << 20, (1 << 20) + 7])
@pytest.mark.parametrize("step", [1 << 30, 50_001])
def test_sizes(tmp_path, size, step):
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8).tobytes()
    entry = write(tmp_path / "a-0-0.seg", *(data[start : start + step] for start in range(0, size, step)))
    assert entry.length == size
    assert entry.size == (tmp_path / entry.name).stat().st_size
    for verify in ("lazy", "full", "off"):
        file = BlockFile(FileSystem(), tmp_path, entry, verify)
        assert bytes(file.read()) == data
        assert file.verified_array("u1", (size,)).tobytes() == data
    assert size < BLOCK or entry.size - size <= 0.0005 * size + 16 + 8


def test_arrays_of_every_kind_come_back(tmp_path):
    arrays = [
        np.arange(6, dtype="<f4").reshape(2, 3),
        np.arange(6, dtype="<i8").reshape(2, 3).T,  # not contiguous
        np.zeros((0, 4), dtype="<f2"),
        np.array(3.5),
        np.array(["2024-01-01"], dtype="datetime64[D]"),
    ]
    entry = write(tmp_path / "a-0-0.seg", *arrays)
    file = BlockFile(FileSystem(), tmp_path, entry)
    offset = 0
    for array in arrays:
        back = file.verified_array(array.dtype, array.shape, offset)
        np.testing.assert_array_equal(back, array)
        assert back.size == 0 or not back.flags.writeable
        offset += array.nbytes
    assert offset == file.length


def test_bounds(tmp_path):
    file = BlockFile(FileSystem(), tmp_path, write(tmp_path / "a-0-0.seg", b"x" * 100))
    for start, stop in ((-1, 5), (0, 101), (5, 4)):
        with pytest.raises(CorruptIndex, match="were asked of a payload of 100"):
            file.read(start, stop)
    for dtype, shape, offset in (("u1", (101,), 0), ("f4", (1 << 40, 1 << 40), 0), ("u1", (1,), 100), ("u1", (1,), -1)):
        with pytest.raises(CorruptIndex, match="were asked of"):
            file.array(dtype, shape, offset)
    with pytest.raises(CorruptIndex, match="shape"):
        file.array("u1", (-1,))
    with pytest.raises(CorruptIndex, match="were asked of"):
        file.ensure_rows(np.array([10]), 10)
    with pytest.raises(InputError, match="objects"):
        file.array("O", (1,))
    file.close()
    with pytest.raises(StorageError, match="closed"):
        file.read()


def test_objects_are_not_written(tmp_path):
    writer = BlockWriter(NoSync(), tmp_path / "a-0-0.seg")
    with pytest.raises(InputError, match="objects"):
        writer.write(np.array([{}]))
    writer.close()
    with pytest.raises(StorageError, match="complete"):
        writer.write(b"more")


def test_arrays_outlive_the_file(tmp_path):
    entry = write(tmp_path / "a-0-0.seg", np.arange(100_000, dtype="<i4"))
    file = BlockFile(FileSystem(), tmp_path, entry)
    array = file.verified_array("<i4", (100_000,))
    file.close()
    (tmp_path / entry.name).unlink()
    assert array[-1] == 99_999


def test_rows_are_checked_where_they_lie(tmp_path):
    """Damage each block in turn: rows that touch it fail, all others are read."""
    rows, width = 1000, 777  # rows lie across blocks
    data = np.random.default_rng(0).integers(0, 256, (rows, width), dtype=np.uint8)
    entry = write(tmp_path / "a-0-0.seg", b"head", data)
    path = tmp_path / entry.name
    good = path.read_bytes()
    starts = 4 + np.arange(rows) * width
    for block in range(-(-entry.length // BLOCK)):
        bad = bytearray(good)
        bad[block * BLOCK + 1] ^= 4
        path.write_bytes(bad)
        touches = (starts // BLOCK <= block) & ((starts + width - 1) // BLOCK >= block)
        file = BlockFile(FileSystem(), tmp_path, entry)
        clear = np.flatnonzero(~touches)
        if not (starts[0] > block * BLOCK):
            file.ensure_rows(clear, width, 4)
            np.testing.assert_array_equal(file.array("u1", (rows, width), 4)[clear], data[clear])
        for row in np.flatnonzero(touches)[:: max(1, touches.sum() // 3)]:
            with pytest.raises(CorruptIndex, match=f"offset {block * BLOCK} "):
                file.ensure_rows(np.array([row]), width, 4)


def test_each_block_is_checked_once(tmp_path, monkeypatch):
    import xxhash

    entry = write(tmp_path / "a-0-0.seg", np.zeros(4 * BLOCK, dtype=np.uint8))
    file = BlockFile(FileSystem(), tmp_path, entry)
    seen = []
    real = xxhash.xxh3_64_intdigest
    monkeypatch.setattr(xxhash, "xxh3_64_intdigest", lambda data: seen.append(len(data)) or real(data))
    for _ in range(3):
        file.read(BLOCK - 1, BLOCK + 1)
    assert seen == [BLOCK, BLOCK]
    file.verified_array("u1", (4 * BLOCK,))
    file.ensure_rows(np.arange(4), BLOCK)
    assert len(seen) == 4


def test_a_file_is_written_in_few_calls_and_flushed_once(tmp_path):
    fs = Counting()
    writer = BlockWriter(fs, tmp_path / "a-0-0.seg")
    for _ in range(10_000):
        writer.write(b"x" * 300)
    writer.close()
    assert fs.counts["fsync"] == 1 and fs.counts["write"] <= 4


def test_a_foreign_trailer_is_refused(tmp_path):
    entry = write(tmp_path / "a-0-0.seg", b"abc")
    path = tmp_path / entry.name
    data = path.read_bytes().replace(b"SEMBLK01", b"SEMBLK99")
    path.write_bytes(data)
    from sememe.index.storage.blockfile import digest_of

    forged = FileEntry(entry.name, 3, entry.digest, digest_of(data[3:]))
    with pytest.raises(CorruptIndex, match="trailer"):
        BlockFile(FileSystem(), tmp_path, forged)


def rows_file(folder, rows=5000, width=100):
    table = np.random.default_rng(1).integers(0, 256, (rows, width), dtype=np.uint8)
    return table, write(folder / "a-0-0.seg", table.tobytes())


def test_copied_rows_are_the_rows_of_the_map(tmp_path):
    table, entry = rows_file(tmp_path)
    fs = Counting()
    file = BlockFile(fs, tmp_path, entry)
    assert not file.copies_rows  # nobody asked for it
    file.expect_few_rows()
    assert file.copies_rows
    rows = np.array([4999, 0, 655, 656, 655])  # 655 lies across the end of a block
    np.testing.assert_array_equal(file.copied_rows(rows, 100), table[rows])
    assert fs.counts["pread"] == len(rows)
    assert file.copied_rows(rows[:0], 100).shape == (0, 100)
    with pytest.raises(CorruptIndex, match="were asked of"):
        file.copied_rows(np.array([5000]), 100)
    opened, before = fs.counts["open"], fs.counts["close"]
    (tmp_path / entry.name).unlink()  # compaction elsewhere: what is open stays open
    np.testing.assert_array_equal(file.copied_rows(rows[:1], 100), table[rows[:1]])
    assert fs.counts["open"] == opened
    file.close()
    assert fs.counts["close"] == before + 1
    assert not file.copies_rows


def test_rows_are_not_copied_from_a_file_that_is_gone(tmp_path):
    table, entry = rows_file(tmp_path)
    file = BlockFile(FileSystem(), tmp_path, entry)
    (tmp_path / entry.name).unlink()
    file.expect_few_rows()
    assert not file.copies_rows
    np.testing.assert_array_equal(file.verified_array("u1", table.shape), table)


def test_rows_are_not_copied_where_no_descriptor_is_left(tmp_path):
    class Full(FileSystem):
        full = False

        def call(self, name, *args):
            if self.full and name == "open":
                raise OSError(errno.EMFILE, "too many")
            return super().call(name, *args)

    table, entry = rows_file(tmp_path)
    fs = Full()
    file = BlockFile(fs, tmp_path, entry)
    fs.full = True
    file.expect_few_rows()
    assert not file.copies_rows
    np.testing.assert_array_equal(file.verified_array("u1", table.shape), table)


def test_copied_rows_are_checked(tmp_path):
    _, entry = rows_file(tmp_path)
    with (tmp_path / entry.name).open("r+b") as disk:
        disk.seek(300_000)
        byte = disk.read(1)
        disk.seek(300_000)
        disk.write(bytes([byte[0] ^ 1]))
    file = BlockFile(FileSystem(), tmp_path, entry)
    file.expect_few_rows()
    file.copied_rows(np.array([0, 4999]), 100)
    with pytest.raises(CorruptIndex, match="block at offset 262144"):
        file.copied_rows(np.array([3000]), 100)
