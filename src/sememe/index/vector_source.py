"""Vectors as they come: an array, a file of them, or blocks one after another; read in pieces of bounded size.

Files are read, not mapped: pages of a mapped file count as memory of the process, and a build keeps to a limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.errors import InputError

STEP = 4 << 20  # bytes of float32 handed on at a time
_BINARY = {".fbin": "<f4", ".hbin": "<f2", ".i8bin": "<i1", ".u8bin": "<u1"}  # two int32 (rows, columns), then the rows
Given = NDArray[Any] | str | PathLike[str] | Iterable[NDArray[Any]]


class Source:
    """Vectors to be read once from any row on, and, where that is possible, sampled first.

    Parameters
    ----------
    given : array (n, d), path of a .npy, .fbin, .hbin, .i8bin or .u8bin file, or iterable of arrays (b, d)
        Of any real type; an iterable may end at any row and blocks may be of any size.

    Attributes
    ----------
    rows : int or None
        How many there are; None where only the end of an iterable will tell.
    dim : int
        Their width.
    """

    def __init__(self, given: Given) -> None:
        self._file: tuple[Path, np.dtype[Any], int] | None = None
        self._array: NDArray[Any] | None = None
        self._blocks: Iterator[NDArray[Any]] = iter(())
        self._kept: list[Vectors] = []
        self._taken = 0  # rows that an iterable has given
        self.rows: int | None = None
        if isinstance(given, (str, PathLike)):
            self._open(Path(given))
        elif isinstance(given, np.ndarray):
            self._array = _table(given, "vectors")
            self.rows, self.dim = self._array.shape
        else:
            try:
                self._blocks = iter(given)
            except TypeError:
                raise InputError(
                    f"vectors cannot be read from {type(given).__name__}", fix="give an array, a path or blocks"
                ) from None
            self.dim = 0
            self._keep(1)
        if not self.dim or self.rows == 0:
            raise InputError("there are no vectors", fix="check the source")

    def _open(self, path: Path) -> None:
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                if path.suffix == ".npy":
                    shape, dtype = _npy_header(file, path)
                elif path.suffix in _BINARY:
                    head = np.fromfile(file, dtype="<i4", count=2)
                    shape, dtype = tuple(head.tolist()), np.dtype(_BINARY[path.suffix])
                else:
                    raise InputError("unknown kind of file", where=str(path), fix=f"use .npy, {', '.join(_BINARY)}")
                start = file.tell()
        except OSError as error:
            raise InputError(f"cannot read vectors ({error.strerror})", where=str(path)) from None
        if len(shape) != 2 or min(shape) < 0:
            raise InputError(f"vectors of shape {shape}, expected (n, d)", where=str(path))
        self.rows, self.dim = int(shape[0]), int(shape[1])
        if size - start < self.rows * self.dim * dtype.itemsize:
            raise InputError(
                f"{self.rows} rows of {self.dim} {dtype} were announced and the file has {size} bytes",
                where=str(path), fix="it was cut short: write it again",
            )  # fmt: skip
        self._file = path, dtype, start

    def sample(self, size: int, seed: int) -> Vectors:
        """``size`` rows to learn from: drawn from all of them, or the first ones of an iterable, which are kept."""
        if self.rows is None:
            self._keep(size)
            return np.concatenate(self._kept)[:size] if self._kept else np.empty((0, self.dim), np.float32)
        if self.rows <= size:
            return np.concatenate(list(self.read(0)))
        chosen = np.sort(np.random.default_rng(seed).choice(self.rows, size=size, replace=False))
        out = np.empty((size, self.dim), dtype=np.float32)
        if self._array is not None:
            out[:] = self._array[chosen]
        else:
            assert self._file is not None
            path, dtype, begin = self._file
            width = self.dim * dtype.itemsize
            with path.open("rb") as file:
                for line, row in enumerate(chosen.tolist()):
                    file.seek(begin + row * width)
                    out[line] = np.frombuffer(file.read(width), dtype=dtype)
        return _checked(out, chosen)

    def read(self, start: int) -> Iterator[Vectors]:
        """Float32 rows from ``start`` on, in order, some megabytes at a time. An iterable can be read once only."""
        step = max(1, STEP // (4 * self.dim))
        if self._array is not None:
            for first in range(start, len(self._array), step):
                yield _checked(np.ascontiguousarray(self._array[first : first + step], dtype=np.float32), first)
        elif self._file is not None:
            path, dtype, begin = self._file
            assert self.rows is not None
            with path.open("rb") as file:
                file.seek(begin + start * self.dim * dtype.itemsize)
                for first in range(start, self.rows, step):
                    count = min(step, self.rows - first)
                    flat = np.fromfile(file, dtype=dtype, count=count * self.dim)
                    yield _checked(flat.reshape(count, self.dim).astype(np.float32, copy=False), first)
        else:
            yield from self._rest(start)

    def _rest(self, start: int) -> Iterator[Vectors]:
        at = 0
        while self._kept or (block := self._next()) is not None:
            if self._kept:
                block = self._kept.pop(0)
            assert block is not None
            at += len(block)
            if at > start:
                yield block[max(0, len(block) - (at - start)) :]

    def _next(self) -> Vectors | None:
        """The next block of the iterable, checked; None at its end."""
        block = next(self._blocks, None)
        if block is None:
            return None
        table = _table(block, f"the block that begins with row {self._taken}")
        if self.dim and table.shape[1] != self.dim:
            raise InputError(f"row {self._taken} has {table.shape[1]} columns, expected {self.dim}")
        self.dim = table.shape[1]
        rows = _checked(np.ascontiguousarray(table, dtype=np.float32), self._taken)
        self._taken += len(rows)
        return rows

    def _keep(self, size: int) -> None:
        while sum(map(len, self._kept)) < size and (block := self._next()) is not None:
            self._kept.append(np.array(block))  # the producer may use its array again


def _table(given: object, name: str) -> NDArray[Any]:
    array = np.asarray(given)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(f"{name} must be numbers of shape (n, d), got {array.dtype} of shape {array.shape}")
    return array


def _checked(rows: Vectors, numbers: int | NDArray[np.int64]) -> Vectors:
    """The rows, unless one is not finite; ``numbers`` are theirs, or that of the first."""
    if not np.isfinite(rows).all():
        bad = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        number = numbers + bad if isinstance(numbers, int) else int(numbers[bad])
        raise InputError(f"the vectors hold NaN or infinity in row {number}", fix="remove or replace that row")
    return rows


def _npy_header(file: Any, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, turned, dtype = read(file)
    except ValueError as error:
        raise InputError(f"not a .npy file ({error})", where=str(path)) from None
    if (turned and min(shape, default=0) > 1) or dtype.kind not in "fiu":
        raise InputError(f"{dtype} in {'Fortran' if turned else 'C'} order cannot be streamed", where=str(path),
                         fix="save it as C-ordered numbers: np.ascontiguousarray")  # fmt: skip
    return shape, dtype
