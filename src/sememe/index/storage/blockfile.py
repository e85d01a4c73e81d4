"""Immutable files whose every block is checked before its first use.

Layout: the payload, then a table with the 64-bit XXH3 of each 64 KiB of payload (8 bytes, little endian), then a
16-byte trailer: ``SEMBLK01``, block size (uint32), zero (uint32). The manifest keeps, in a ``FileEntry``, the length of
the payload, a BLAKE2b digest of the payload and one of table and trailer.

So opening a file costs a look at its length and a digest of 0.012 % of its bytes, and still no byte of it is believed
unchecked: the manifest vouches for the table, the table for each block, and a block is checked when it is first
touched. XXH3 finds damage, not malice; ``verify="full"`` checks the BLAKE2b digest of every payload as well.
"""

from __future__ import annotations

import hashlib
import struct
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sememe.errors import CorruptIndex, InputError, StorageError
from sememe.index.storage.fs import FileSystem, Missing
from sememe.kernels.select import all_marked

BLOCK = 1 << 16  # bytes of payload under one checksum
MAGIC = b"SEMBLK01"
_TRAILER = struct.Struct("<8sII")
_BUFFER = 1 << 20  # small writes are gathered to this many bytes

Verify = Literal["lazy", "full", "off"]
Buffer = bytes | bytearray | memoryview | NDArray[Any]


def digest_of(*parts: bytes | memoryview) -> str:
    """BLAKE2b-256 of the parts one after another, as 64 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=32)
    for part in parts:
        state.update(part)
    return state.hexdigest()


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a manifest promises about one file: ``length`` is that of the payload, in bytes."""

    name: str
    length: int
    digest: str
    table_digest: str

    @property
    def size(self) -> int:
        """Bytes on disk: payload, table and trailer."""
        return self.length + 8 * -(-self.length // BLOCK) + _TRAILER.size

    def to_json(self) -> dict[str, Any]:
        """A plain dict; ``manifest.read_entry`` is the checked way back."""
        return {"name": self.name, "length": self.length, "digest": self.digest, "table": self.table_digest}


def as_bytes(data: Buffer) -> memoryview:
    """The bytes of any contiguous buffer, without a copy where that is possible."""
    if isinstance(data, np.ndarray):
        if data.dtype.hasobject:
            raise InputError("an array of Python objects cannot be stored", fix="convert it to numbers or bytes")
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8).data
    view = memoryview(data)
    return view.cast("B") if view.nbytes else memoryview(b"")


class BlockWriter:
    """Write a new block file from start to end; ``close`` gives the entry for the manifest.

    Parameters
    ----------
    fs : FileSystem
        Where the system calls go.
    path : Path
        A name that must not exist yet (``StorageError`` where it does).
    """

    def __init__(self, fs: FileSystem, path: Path) -> None:
        import xxhash

        self.path = path
        self._handle = fs.create(path)
        self._entry: FileEntry | None = None
        self._pending = bytearray()
        self._table: list[int] = []
        self._block_digest = xxhash.xxh3_64_intdigest
        self._whole = hashlib.blake2b(digest_size=32)
        self._length = 0
        self._broken = False

    @property
    def length(self) -> int:
        """Bytes written so far."""
        return self._length

    @property
    def closed(self) -> bool:
        """Whether the file is complete and on the medium."""
        return self._entry is not None

    def write(self, data: Buffer) -> None:
        """Append any contiguous buffer or array (its bytes in C order)."""
        self._must_be_sound()
        if self.closed:
            raise StorageError("the file is complete", where=str(self.path))
        view = as_bytes(data)
        self._length += len(view)
        while len(view):
            room = _BUFFER - len(self._pending)
            self._pending += view[:room]
            view = view[room:]
            if len(self._pending) == _BUFFER:
                self._spill()

    def _spill(self) -> None:
        # The buffer is a whole number of blocks, so only the last spill of a file can hold a short block.
        pending, self._pending = self._pending, bytearray()
        view = memoryview(pending)
        self._table += [self._block_digest(view[start : start + BLOCK]) for start in range(0, len(view), BLOCK)]
        self._whole.update(view)
        self._broken = True  # until the bytes are out: what failed once cannot be completed, only begun again
        self._handle.write(view)
        self._broken = False

    def _must_be_sound(self) -> None:
        if self._broken:
            raise StorageError("an earlier write or flush of this file failed", where=str(self.path), fix="write anew")

    def close(self) -> FileEntry:
        """Write what is left and the table, flush to the medium, and describe the file."""
        self._must_be_sound()
        if self._entry is None:
            if self._pending:
                self._spill()
            self._broken = True  # a flush that failed must not be tried again: the kernel may have dropped the bytes
            footer = np.array(self._table, dtype="<u8").tobytes() + _TRAILER.pack(MAGIC, BLOCK, 0)
            self._handle.write(footer)
            self._handle.fsync()
            self._handle.close()
            self._broken = False
            self._entry = FileEntry(self.path.name, self._length, self._whole.hexdigest(), digest_of(footer))
        return self._entry

    def abandon(self) -> None:
        """Let go of the file without completing it; whoever made it removes it."""
        self._handle.close()

    def __enter__(self) -> BlockWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class BlockFile:
    """A block file opened for reading through a map.

    Parameters
    ----------
    fs : FileSystem
        Where the system calls go.
    folder : Path
        The index.
    entry : FileEntry
        What the manifest promises; length and table are checked against it here.
    verify : {"lazy", "full", "off"}
        Check each block when it is first touched, everything now, or nothing at all.

    Raises
    ------
    CorruptIndex
        Here or at the first touch of a damaged block, naming the file and the offset of the block in it.
    """

    def __init__(self, fs: FileSystem, folder: Path, entry: FileEntry, verify: Verify = "lazy") -> None:
        self.path, self.entry, self.length = folder / entry.name, entry, entry.length
        self._fs = fs
        try:
            self._map: memoryview = fs.map(self.path)
        except Missing:
            raise self._corrupt("the file is missing") from None
        if len(self._map) != entry.size:
            raise self._corrupt(f"the file has {len(self._map)} bytes and should have {entry.size}")
        footer = self._map[self.length :]
        magic, block, zero = _TRAILER.unpack(footer[-_TRAILER.size :])
        if verify != "off" and digest_of(footer) != entry.table_digest:
            raise self._corrupt(f"the table of checksums at offset {self.length} is damaged")
        if (magic, block, zero) != (MAGIC, BLOCK, 0):
            raise self._corrupt(f"the trailer at offset {entry.size - _TRAILER.size} is unknown")
        self._table: NDArray[np.uint64] = np.frombuffer(footer[: -_TRAILER.size], dtype="<u8")
        self._checked = np.full(len(self._table), verify == "off")
        self._all_checked = verify == "off"
        self._scattered = self._copied = False
        self._shut: Callable[[], object] | None = None
        if verify == "full":
            self.verify_all()

    def _corrupt(self, what: str) -> CorruptIndex:
        return CorruptIndex(
            what, where=str(self.path), fix="run sememe verify for the whole damage, then sememe recover or rebuild"
        )

    @property
    def all_checked(self) -> bool:
        """Whether no block is left to check."""
        return self._all_checked

    @property
    def unchecked(self) -> tuple[NDArray[np.uint8], int] | None:
        """For each block whether it was checked, ``(blocks,)``, and its bytes; None once all were."""
        return None if self._all_checked else (self._checked.view(np.uint8), BLOCK)

    def ensure(self, start: int, stop: int) -> None:
        """Check every block that holds a byte of ``[start, stop)`` and has not been checked yet."""
        if self._all_checked or start >= stop:
            return
        first, last = start // BLOCK, -(-stop // BLOCK)
        if not (self._checked[first] if last == first + 1 else self._checked[first:last].all()):
            self._check(np.flatnonzero(~self._checked[first:last]) + first)

    def ensure_rows(self, rows: NDArray[np.integer], row_bytes: int, offset: int = 0) -> None:
        """Check the blocks behind scattered rows of ``row_bytes`` bytes each, the table beginning at ``offset``.

        ``rows`` has shape ``(m,)``. After every block has been seen once this costs one comparison.
        """
        if self._all_checked or not len(rows) or not row_bytes:
            return
        numbers = np.asarray(rows, dtype=np.int64)
        if offset % row_bytes == 0:
            numbers, offset = numbers + offset // row_bytes, 0
        if not offset and all_marked(self._checked, numbers, row_bytes, BLOCK):
            return
        starts = numbers * row_bytes + offset
        if starts.min() < 0 or starts.max() + row_bytes > self.length:
            raise self._outside(int(starts.min()), int(starts.max()) + row_bytes)
        first, last = starts // BLOCK, (starts + row_bytes - 1) // BLOCK
        needed = np.zeros(len(self._table), dtype=bool)
        for step in range(int((last - first).max()) + 1):
            needed[np.minimum(first + step, last)] = True
        self._check(np.flatnonzero(needed & ~self._checked))

    def expect_scattered_reads(self) -> None:
        """Tell the system that rows are read here and there, so that it does not read on beyond them."""
        self._fs.advise(self._map, scattered=True)
        self._scattered = True

    def expect_few_rows(self) -> None:
        """Let ``copied_rows`` read from the file instead of the map, so that few rows leave no pages in memory."""
        self._copied = True

    @property
    def copies_rows(self) -> bool:
        """Whether ``copied_rows`` can be asked for; looks for the file once."""
        return self._copied and self._descriptor is not None

    @cached_property
    def _descriptor(self) -> int | None:
        descriptor = self._fs.open_rows(self.path)
        if descriptor is not None:
            self._shut = weakref.finalize(self, self._fs.shut, descriptor)
        return descriptor

    def copied_rows(self, rows: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
        """Checked copies of some rows of ``width`` bytes: uint8 ``(m, width)``."""
        assert self._descriptor is not None
        if len(rows) and (int(rows.min()) < 0 or (int(rows.max()) + 1) * width > self.length):
            raise self._outside(int(rows.min()) * width, (int(rows.max()) + 1) * width)
        self.ensure_rows(rows, width)
        data = self._fs.read_rows(self._descriptor, (rows * width).tolist(), width)
        if len(data) != len(rows) * width:
            raise self._corrupt("the file has become shorter")
        return np.frombuffer(data, dtype=np.uint8).reshape(len(rows), width)

    def release(self) -> None:
        """Give back the memory of what was read; what was checked stays checked, and arrays stay valid."""
        self._fs.release(self._map)

    def _check(self, blocks: NDArray[np.int64]) -> None:
        import xxhash

        if self._scattered:  # all blocks are requested before the first is waited for
            for block in blocks.tolist():
                length = min(BLOCK, len(self._map) - block * BLOCK)
                self._fs.advise(self._map, scattered=False, start=block * BLOCK, length=length)
        digest, view = xxhash.xxh3_64_intdigest, self._map[: self.length]
        for block in blocks.tolist():
            if digest(view[block * BLOCK : (block + 1) * BLOCK]) != int(self._table[block]):
                raise self._corrupt(f"the block at offset {block * BLOCK} is damaged")
            self._checked[block] = True
        self._all_checked = bool(self._checked.all())
        if self._copied:
            self.release()

    def _outside(self, start: int, stop: int) -> StorageError:
        if not len(self._map):  # an open file has at least its trailer
            return StorageError("the file has been closed", where=str(self.path), fix="open the index again")
        # Offsets come from the manifest or from other checked files: one that leaves the file is damage, too.
        return self._corrupt(f"bytes {start} to {stop} were asked of a payload of {self.length}")

    def read(self, start: int = 0, stop: int | None = None) -> memoryview:
        """The checked bytes ``[start, stop)``, without a copy."""
        stop = self.length if stop is None else stop
        if not 0 <= start <= stop <= self.length:
            raise self._outside(start, stop)
        self.ensure(start, stop)
        return self._map[start:stop]

    def array(self, dtype: DTypeLike, shape: tuple[int, ...], offset: int = 0) -> NDArray[Any]:
        """A read-only array over the map that is NOT checked: call ``ensure`` or ``ensure_rows`` before use."""
        kind = np.dtype(dtype)
        if kind.hasobject:
            raise InputError("an array of Python objects cannot be read", where=str(self.path))
        count = 1
        for side in shape:
            if side < 0:
                raise self._corrupt(f"an array of shape {shape} was asked for")
            count *= int(side)  # Python integers: a hostile shape cannot overflow
        if offset < 0 or offset + count * kind.itemsize > self.length:
            raise self._outside(offset, offset + count * kind.itemsize)
        if not count:
            return np.empty(shape, dtype=kind)
        return np.frombuffer(self._map, dtype=kind, count=count, offset=offset).reshape(shape)

    def verified_array(self, dtype: DTypeLike, shape: tuple[int, ...], offset: int = 0) -> NDArray[Any]:
        """``array`` after every block behind it has been checked."""
        array = self.array(dtype, shape, offset)
        self.ensure(offset, offset + array.nbytes)
        return array

    def verify_all(self) -> None:
        """Read every byte: each block against the table, and the payload against the manifest's digest."""
        self._check(np.arange(len(self._table)))
        if digest_of(self._map[: self.length]) != self.entry.digest:
            raise self._corrupt("the payload does not match the digest in the manifest")

    def close(self) -> None:
        """Drop the map; arrays that were handed out keep it alive until they go."""
        self._map, self._all_checked, self.length = memoryview(b""), False, -1
        self._copied = False
        if self._shut is not None:
            self._shut()
