"""Several named arrays in one verified file, and strings as a blob with offsets.

A segment holds a dozen small arrays; a file for each would cost a flush and a checksum table apiece. The layout
(``name -> [dtype, length, offset]``) is JSON and travels in the manifest, so nothing in the file is parsed before its
checksums are checked. Reading is lazy: only the blocks under the bytes asked for are verified and touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sememe.errors import CorruptIndex
from sememe.kernels.sparse import find_terms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sememe.index.storage.blockfile import BlockFile

ALIGN = 64
NUMBERS = "biuf"  # kinds of arrays that are stored: truth values, whole numbers, floats
OFFSETS = (np.uint32, np.int64)  # what `narrow` makes of numbers that are not negative
Layout = dict[str, list[Any]]


def layout_of(arrays: Mapping[str, NDArray[Any]]) -> tuple[Layout, int]:
    """Where each one-dimensional array goes in the file, and the bytes of the whole."""
    layout: Layout = {}
    offset = 0
    for name, array in arrays.items():
        layout[name] = [array.dtype.str, len(array), offset]
        offset += -(-array.nbytes // ALIGN) * ALIGN
    return layout, offset


def write_packed(transaction: Any, role: str, arrays: Mapping[str, NDArray[Any]]) -> tuple[Any, Layout]:
    """Write ``arrays`` as one file of the transaction; its entry and layout."""
    layout, _ = layout_of(arrays)
    writer = transaction.new_file(role)
    for array in arrays.values():
        writer.write(array)
        writer.write(b"\0" * (-array.nbytes % ALIGN))
    return writer.close(), layout


class Lazy:
    """A one-dimensional array in a file; bytes are verified when they are first asked for."""

    def __init__(self, file: BlockFile, dtype: str, length: int, offset: int) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype.kind not in NUMBERS or offset % self.dtype.itemsize:  # compiled loops may count on both
            raise CorruptIndex(f"an array of {dtype!r} at byte {offset} is none of ours", fix="run: sememe verify")
        if length < 0 or offset < 0 or offset + length * self.dtype.itemsize > file.length:
            raise CorruptIndex("an array lies outside its file", fix="run: sememe verify")
        self._file, self._length, self._offset = file, length, offset
        self._view: NDArray[Any] = (
            file.array(self.dtype, (length,), offset) if length else np.empty(0, dtype=self.dtype)
        )

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of the array, without padding."""
        return self._length * self.dtype.itemsize

    @property
    def unverified(self) -> NDArray[Any]:
        """The whole array as it is mapped: ask ``slice`` for the parts that will be read first."""
        return self._view

    def slice(self, start: int, stop: int) -> NDArray[Any]:
        """Elements ``[start, stop)``, verified."""
        if not 0 <= start <= stop <= self._length:
            raise CorruptIndex(f"elements {start} to {stop} of an array of {self._length}", fix="run: sememe verify")
        if stop > start:
            size = self.dtype.itemsize
            self._file.ensure(self._offset + start * size, self._offset + stop * size)
        return self._view[start:stop]

    def at(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """Elements at ``places`` ``(m,)``, verified."""
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < self._length:
            raise CorruptIndex(f"element {places.max()} of an array of {self._length}", fix="run: sememe verify")
        self._file.ensure_rows(places, self.dtype.itemsize, self._offset)
        found: NDArray[Any] = self._view[places]
        return found

    def pieces(self, starts: list[int], stops: list[int]) -> list[bytes]:
        """The bytes of stretches ``[start, stop)`` of an array of bytes, verified."""
        if any(not 0 <= start <= stop <= self._length for start, stop in zip(starts, stops)):
            raise CorruptIndex(f"stretches that leave an array of {self._length}", fix="run: sememe verify")
        for start, stop in zip(starts, stops):
            self._file.ensure(self._offset + start, self._offset + stop)
        view = self._view.data
        return [bytes(view[start:stop]) for start, stop in zip(starts, stops)]

    def all(self) -> NDArray[Any]:
        """The whole array, verified."""
        return self.slice(0, self._length)


class _Memory:
    """Bytes in memory in the place of a file."""

    def __init__(self, data: bytes) -> None:
        self._data, self.length = data, len(data)

    def array(self, dtype: Any, shape: tuple[int, ...], offset: int) -> NDArray[Any]:
        return np.frombuffer(self._data, dtype, shape[0], offset)

    def ensure(self, start: int, stop: int) -> None:
        """Nothing can have happened to them."""

    def ensure_rows(self, rows: NDArray[np.integer], row_bytes: int, offset: int = 0) -> None:
        """As ``ensure``."""


class Packed:
    """The arrays of one file by name."""

    def __init__(self, file: BlockFile, layout: Layout) -> None:
        self._file, self._layout = file, layout

    @classmethod
    def in_memory(cls, arrays: Mapping[str, NDArray[Any]]) -> Packed:
        """Arrays that no file holds: nothing to verify."""
        data = b"".join(array.tobytes() + b"\0" * (-array.nbytes % ALIGN) for array in arrays.values())
        return cls(cast("BlockFile", _Memory(data)), layout_of(arrays)[0])

    def __contains__(self, name: object) -> bool:
        return name in self._layout

    def get(self, name: str, *types: type[np.generic]) -> Lazy:
        """The array of that name, of one of the ``types``: any, where none are given."""
        try:
            dtype, length, offset = self._layout[name]
            array = Lazy(self._file, str(dtype), int(length), int(offset))
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptIndex(f"the array {name!r} is missing or malformed ({error})") from None
        if types and array.dtype not in types:
            raise CorruptIndex(f"the array {name!r} is of type {array.dtype}", fix="run: sememe verify")
        return array


def encode_text(text: str) -> bytes:
    """UTF-8 that also carries lone surrogates, so that any ``str`` survives the round trip."""
    return text.encode("utf-8", "surrogatepass")


def decode_text(data: bytes | NDArray[np.uint8]) -> str:
    """The inverse of ``encode_text``."""
    raw = data if isinstance(data, bytes) else data.tobytes()
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise CorruptIndex(f"stored text is not UTF-8 ({error.reason})") from None


class StringsWriter:
    """Collects strings as one blob and the offsets between them."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = [0]

    def add(self, text: str) -> None:
        """Append one string."""
        self._data += encode_text(text)
        self._ends.append(len(self._data))

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """``name.data`` and ``name.offsets``; nothing at all where every string is empty."""
        if not self._data:
            return {}
        return {
            f"{name}.data": np.frombuffer(bytes(self._data), dtype=np.uint8),
            f"{name}.offsets": narrow(np.asarray(self._ends, dtype=np.int64)),
        }


class Strings:
    """Strings by position, read from a blob and offsets; only what is asked for is touched."""

    def __init__(self, data: Lazy | None, offsets: Lazy | None, length: int) -> None:
        if offsets is not None and len(offsets) != length + 1:
            raise CorruptIndex(f"{len(offsets)} offsets for {length} strings")
        self._data, self._offsets, self._length = data, offsets, length
        self._whole: tuple[NDArray[np.uint8], NDArray[Any]] | None = None

    @classmethod
    def of(cls, packed: Packed, name: str, length: int) -> Strings:
        """The strings a ``StringsWriter`` stored under ``name``."""
        if f"{name}.offsets" not in packed:
            return cls(None, None, length)
        return cls(packed.get(f"{name}.data", np.uint8), packed.get(f"{name}.offsets", *OFFSETS), length)

    def __len__(self) -> int:
        return self._length

    def raw(self, row: int) -> bytes:
        """The UTF-8 bytes of one string."""
        if self._offsets is None or self._data is None:
            return b""
        start, stop = self._offsets.slice(row, row + 2).tolist()
        return self._data.slice(start, stop).tobytes()

    def __getitem__(self, row: int) -> str:
        return decode_text(self.raw(row))

    def some(self, rows: NDArray[np.int64]) -> list[str]:
        """The strings at ``rows`` ``(m,)``, in that order."""
        if self._offsets is None or self._data is None:
            return [""] * len(rows)
        ends = self._offsets.at(np.concatenate([rows, rows + 1])).tolist()
        return [decode_text(piece) for piece in self._data.pieces(ends[: len(rows)], ends[len(rows) :])]

    def whole(self) -> tuple[NDArray[np.uint8], NDArray[Any]] | None:
        """All bytes, and the offsets ``(length + 1,)``; None where every string is empty."""
        if self._whole is None and self._data is not None and self._offsets is not None:
            data, ends = self._data.all(), self._offsets.all()
            if ends[0] != 0 or ends[-1] > len(data) or (ends[1:] < ends[:-1]).any():
                raise CorruptIndex("stored strings contradict each other", fix="run: sememe verify")
            self._whole = data, ends
        return self._whole

    def find(self, wanted: list[str]) -> NDArray[np.int64]:
        """Where each string is among these, which are sorted by their bytes; -1 for one that is not there."""
        if self._offsets is None or self._data is None:
            return np.array([0 if self._length and not text else -1 for text in wanted], dtype=np.int64)
        whole = self.whole()
        assert whole is not None
        found = find_terms(*whole, wanted)
        return np.array([self._find(encode_text(t)) for t in wanted], dtype=np.int64) if found is None else found

    def _find(self, wanted: bytes) -> int:
        low, high = 0, self._length
        while low < high:
            middle = (low + high) // 2
            if self.raw(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < self._length and self.raw(low) == wanted else -1

    def all_raw(self) -> list[bytes]:
        """Every string as UTF-8 bytes: for whole-column work only."""
        if self._offsets is None or self._data is None:
            return [b""] * self._length
        ends = self._offsets.all().tolist()
        blob = self._data.all().tobytes()
        return [blob[a:b] for a, b in pairwise(ends)]

    def equal_to(self, text: str) -> NDArray[np.bool_]:
        """Which strings equal ``text``: lengths first, bytes only for those of the right length."""
        wanted = encode_text(text)
        if self._offsets is None or self._data is None:
            return np.full(self._length, not wanted)
        ends = self._offsets.all()
        same = np.diff(ends.astype(np.int64)) == len(wanted)
        blob = self._data.all()
        candidates = np.flatnonzero(same)
        if wanted and len(candidates):
            windows = ends[candidates].astype(np.int64)[:, None] + np.arange(len(wanted))
            same[candidates] = (blob[windows] == np.frombuffer(wanted, dtype=np.uint8)).all(axis=1)
        return same


def narrow(values: NDArray[np.int64]) -> NDArray[Any]:
    """Non-negative integers as uint32 where they fit, int64 otherwise."""
    if len(values) and int(values.max()) > np.iinfo(np.uint32).max:
        return values
    return values.astype(np.uint32)


def check_length(actual: int, expected: int, what: str) -> None:
    """Refuse a part whose length contradicts the manifest."""
    if actual != expected:
        raise CorruptIndex(f"{what} has {actual} bytes, the manifest implies {expected}", fix="run: sememe verify")
