"""Safetensors files, read and written in blocks: a table is never wider in memory than it must be.

The library ``safetensors`` checks a file's header before anything of it is used; the bytes are then read here, because
it hands out whole tensors only, and none at all in bfloat16 without PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError

FLOATS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # the upper half of a float32, as it is stored
}
BLOCK = 8 << 20  # bytes that are read at a time


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor lies: ``start`` and ``stop`` are offsets into ``file``, in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """Bytes stored."""
        return self.stop - self.start

    @property
    def parameters(self) -> int:
        """Numbers stored."""
        return int(np.prod(self.shape, dtype=np.int64))

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Rows in order, some at a time, as ``(first row, values as they are stored)``; only of floating types."""
        dtype = FLOATS[self.dtype]
        width = int(np.prod(self.shape[1:], dtype=np.int64))
        rows = max(BLOCK // max(width * dtype.itemsize, 1), 1)
        with self.file.open("rb") as file:
            file.seek(self.start)
            for first in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - first)
                values = np.fromfile(file, dtype, count * width)
                if len(values) != count * width:
                    raise InputError(f"the file ends inside the tensor {self.name}", where=str(self.file))
                yield first, values.reshape(count, *self.shape[1:])


def read_header(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a file by name, and its metadata.

    Raises
    ------
    InputError
        Where the file is cut short, damaged, or is not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as checked:
            names = set(checked.keys())
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(length))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InputError(f"is not a readable safetensors file ({error})", where=str(path)) from None
    metadata = header.pop("__metadata__", None) or {}
    base = 8 + length
    tensors = {
        name: Tensor(
            name,
            str(entry["dtype"]),
            tuple(int(side) for side in entry["shape"]),
            path,
            base + int(entry["data_offsets"][0]),
            base + int(entry["data_offsets"][1]),
        )
        for name, entry in header.items()
    }
    if set(tensors) != names:  # two entries of one name: the library and we could choose different ones
        raise InputError("the header names a tensor twice", where=str(path))
    return tensors, metadata


def widen(values: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Stored values of ``dtype`` as float32 (exact, but for F64)."""
    if dtype == "BF16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def narrow(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Floating values as ``dtype`` stores them, rounded to the nearest (ties to even).

    Raises
    ------
    InputError
        Where a value is not finite, or too large for the type.
    """
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0])
        raise InputError(f"the new table holds NaN or infinity in row {row}")
    with np.errstate(over="ignore"):
        if dtype == "BF16":
            bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
            stored = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(
                "<u2"
            )
        else:
            stored = np.ascontiguousarray(values, dtype=FLOATS[dtype])
    if not np.isfinite(widen(stored, dtype) if dtype == "BF16" else stored).all():
        raise InputError(f"a value of the new table is too large for {dtype}")
    return stored


@dataclass(frozen=True, slots=True)
class Rows:
    """A new tensor made of some rows of the old one, in this order: int64 ``(v_new,)``, ascending.

    ``axis`` is where the vocabulary runs: 0 for tables and biases, 1 for a bias of shape ``(1, v)``.
    """

    rows: NDArray[np.int64]
    axis: int = 0


Change = NDArray[Any] | Rows


class _Digesting:
    """A file that is written and digested at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest, self.size = file, hashlib.sha256(), 0

    def write(self, data: bytes | memoryview) -> None:
        self.file.write(data)
        self.digest.update(data)
        self.size += len(data)


def write_file(
    out: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], changes: Mapping[str, Change]
) -> tuple[str, int]:
    """Write ``tensors`` with some changed and the others copied block by block.

    Parameters
    ----------
    out : Path
    tensors : dict of name to Tensor
        What the file shall hold, by its source.
    metadata : dict of str to str
    changes : dict of name to ndarray or Rows
        Arrays must have a floating type, or for BF16 be uint16 as stored.

    Returns
    -------
    (str, int)
        sha256 of the new file, and the bytes of its tensors.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].file, item[1].start)):
        shape = _new_shape(tensor, changes.get(name))
        size = tensor.nbytes
        if name in changes:
            size = int(np.prod(shape, dtype=np.int64)) * FLOATS[tensor.dtype].itemsize
        header[name] = {"dtype": tensor.dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with out.open("wb") as file:
        sink = _Digesting(file)
        sink.write(len(text).to_bytes(8, "little"))
        sink.write(text)
        for name in header:
            if name != "__metadata__":
                for piece in _pieces(tensors[name], changes.get(name)):
                    sink.write(piece)
        file.flush()
        os.fsync(file.fileno())
    if sink.size != 8 + len(text) + offset:
        raise InputError("a tensor changed while it was copied", where=str(out))
    return sink.digest.hexdigest(), offset


def _new_shape(tensor: Tensor, change: Change | None) -> tuple[int, ...]:
    if change is None:
        return tensor.shape
    if isinstance(change, Rows):
        return tuple(len(change.rows) if axis == change.axis else side for axis, side in enumerate(tensor.shape))
    return tuple(change.shape)


def _pieces(tensor: Tensor, change: Change | None) -> Iterator[memoryview]:
    if change is None:
        left = tensor.nbytes
        with tensor.file.open("rb") as file:
            file.seek(tensor.start)
            while left:
                data = file.read(min(BLOCK, left))
                if not data:
                    raise InputError(f"the file ends inside the tensor {tensor.name}", where=str(tensor.file))
                left -= len(data)
                yield memoryview(data)
    elif isinstance(change, Rows):
        for first, values in tensor.blocks():
            if change.axis == 0:
                begin, end = np.searchsorted(change.rows, [first, first + len(values)])
                values = values[change.rows[begin:end] - first]
            else:
                values = values[:, change.rows]
            if values.size:  # all rows of a block may be gone
                yield np.ascontiguousarray(values).data.cast("B")
    else:
        step = max(BLOCK // max(change[:1].nbytes, 1), 1)
        for first in range(0, len(change), step):
            values = change[first : first + step]
            stored = values if values.dtype == np.uint16 else narrow(values, tensor.dtype)
            yield np.ascontiguousarray(stored).data.cast("B")
