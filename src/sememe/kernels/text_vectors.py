"""Parsing vectors written as text, a word and its numbers a line, without making a Python object of every number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.kernels import native

Spans = NDArray[np.int64]
_LARGEST = float(np.finfo(np.float32).max)
_BLANKS = b" \t\r"
_SPACES = bytes.maketrans(b"\t\r\v\f", b"  vf")  # rsplit must not take other white space for a separator


def parse(
    data: NDArray[np.uint8], start: int, d: int, n: int | None = None
) -> tuple[NDArray[np.float32], Spans, tuple[int, int] | None]:
    """Read every line of ``data`` from byte ``start`` on.

    Parameters
    ----------
    data : ndarray of shape (bytes,)
        uint8, for instance a mapped file. Lines end in a newline; blank ones are passed over.
    start, d : int
        Where the first line begins, and how many numbers a line has. What stands before them is the key.
    n : int, optional
        Expected lines; a guess that saves a pass over the file.

    Returns
    -------
    vectors : float32 ``(n, d)``
    spans : int64 ``(n, 2)``
        Start and length in ``data`` of each key.
    bad : (line, byte), or None
        The first line that is not a key and ``d`` finite numbers, counted from 0 at ``start``, and where it begins.
    """
    core = native.core()
    if core is None:
        return _parse_slowly(data, start, d)
    rows = n or 0
    while True:
        vectors, spans = np.empty((rows, d), dtype=np.float32), np.empty((rows, 2), dtype=np.int64)
        found, bad_at, bad_line = core.parse_text_vectors(data, start, vectors, spans, native.threads())
        if bad_at >= 0:
            return vectors, spans, (bad_line, bad_at)
        if found <= rows:
            return vectors[:found], spans[:found], None
        rows = found


def _parse_slowly(
    data: NDArray[np.uint8], start: int, d: int
) -> tuple[NDArray[np.float32], Spans, tuple[int, int] | None]:
    """The same in Python: also what the compiled loop is tested against."""
    rows: list[list[float]] = []
    spans: list[tuple[int, int]] = []
    at, bad = start, None
    for line in data[start:].tobytes().split(b"\n"):
        text = line.rstrip(_BLANKS)
        if text:
            fields = text.translate(_SPACES).rsplit(None, d)
            numbers = [value for value in map(_number, fields[1:]) if value is not None]
            if len(numbers) != d or text[:1] in (b" ", b"\t", b"\r"):
                bad = (len(rows), at)
                break
            rows.append(numbers)
            spans.append((at, len(fields[0].rstrip(_BLANKS))))
        at += len(line) + 1
    vectors = np.array(rows, dtype=np.float32).reshape(-1, d)
    return vectors, np.array(spans, dtype=np.int64).reshape(-1, 2), bad


def _number(field: bytes) -> float | None:
    if not field or set(field) - set(b"0123456789+-.eE"):
        return None
    try:
        value = float(field)
    except ValueError:
        return None
    return value if abs(value) <= _LARGEST else None
