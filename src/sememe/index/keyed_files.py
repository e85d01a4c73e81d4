"""Reading word vectors as others write them: word2vec text and binary, GloVe, fastText ``.vec`` and ``.bin``."""

from __future__ import annotations

import gzip
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.kernels import text_vectors

_FASTTEXT = 793712314
_FASTTEXT_ARGS = struct.Struct("<iiiiiiiiiiiid")
_FASTTEXT_WORDS = struct.Struct("<iiiqq")


@dataclass(frozen=True, eq=False)
class Table:
    """What a file holds.

    ``keys`` as UTF-8 bytes, ``vectors`` float32 ``(n, d)``; for a fastText model also the n-gram rows ``grams``
    float32 ``(buckets, d)`` and the lengths of n-grams it was trained with.
    """

    keys: list[bytes]
    vectors: NDArray[np.float32]
    form: str
    grams: NDArray[np.float32] | None = None
    shortest: int = 0
    longest: int = 0


def read_table(path: str | Path) -> Table:
    """Read any of the formats; which one is seen from the first bytes. ``.gz`` is unpacked.

    Raises
    ------
    InputError
        The file is missing, none of these, cut short, or damaged: with the line or the byte.
    """
    file = Path(path)
    try:
        data = _contents(file)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=str(file)) from None
    if not len(data):
        raise InputError("the file is empty", where=str(file), fix="give word vectors in text or binary form")
    if len(data) >= 8 and struct.unpack("<i", data[:4].tobytes())[0] == _FASTTEXT:
        return _fasttext(file, data)
    stop = int(np.argmax(data[: 1 << 20] == 10)) if (data[: 1 << 20] == 10).any() else len(data)
    first = data[:stop].tobytes()
    fields = first.split()
    if len(fields) == 2 and all(field.isdigit() for field in fields):
        n, d = int(fields[0]), int(fields[1])
        if not 1 <= d <= 65536 or n > len(data):
            raise InputError(f"the header promises {n} words of {d} numbers", where=f"{file}:1")
        if _is_binary(data, stop + 1, d):
            return _word2vec_binary(file, data, stop + 1, n, d)
        return _text(file, data, stop + 1, d, n, "word2vec text", 2)
    if len(fields) < 2:
        raise InputError("the first line is neither a header nor a word with its numbers", where=f"{file}:1")
    return _text(file, data, 0, _width(file, fields), None, "GloVe text", 1)


def _contents(file: Path) -> NDArray[np.uint8]:
    if file.suffix == ".gz":
        try:
            with gzip.open(file) as handle:
                return np.frombuffer(handle.read(), dtype=np.uint8)
        except (EOFError, gzip.BadGzipFile) as error:
            raise InputError(f"the archive is damaged ({error})", where=str(file)) from None
    with file.open("rb") as handle:
        if not file.stat().st_size:
            return np.empty(0, dtype=np.uint8)
        return np.frombuffer(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)


def _width(file: Path, fields: list[bytes]) -> int:
    """Numbers at the end of a first line without a header: all but the key, which may hold blanks."""
    count = 0
    for field in reversed(fields[1:]):
        try:
            float(field)
        except ValueError:
            break
        count += 1
    if not count:
        raise InputError("the first line holds a word without numbers", where=f"{file}:1")
    return count


def _is_binary(data: NDArray[np.uint8], start: int, d: int) -> bool:
    """Whether the first entry after the header is no line of text with ``d`` numbers."""
    line = data[start : start + 64 * d + 1024]
    ends = np.flatnonzero(line == 10)
    stop = start + (int(ends[0]) if len(ends) else len(line))
    vectors, _, bad = text_vectors.parse(np.ascontiguousarray(data[start:stop]), 0, d)
    return bad is not None and bool((line > 127).any() or (line < 9).any() or not len(vectors))


def _text(file: Path, data: NDArray[np.uint8], start: int, d: int, n: int | None, form: str, first: int) -> Table:
    vectors, spans, bad = text_vectors.parse(data, start, d, n)
    if bad is not None:
        at = bad[1]
        shown = data[at : at + 40].tobytes().split(b"\n")[0].decode("utf-8", "replace")
        number = 1 + int(np.count_nonzero(data[:at] == 10))
        raise InputError(
            f"the line {shown!r} is not a word and {d} numbers", where=f"{file}:{number}", fix="remove or mend it"
        )
    if n is not None and len(vectors) != n:
        raise InputError(f"the header promises {n} words, the file holds {len(vectors)}", where=f"{file}:{first - 1}")
    ends = spans.sum(axis=1)
    keys = [data[a:b].tobytes() for a, b in zip(spans[:, 0].tolist(), ends.tolist(), strict=True)]
    return Table(keys, vectors, form)


def _word2vec_binary(file: Path, data: NDArray[np.uint8], at: int, n: int, d: int) -> Table:
    raw, size = data.data, 4 * d
    vectors, keys = np.empty((n, d), dtype=np.float32), []
    whole = data.tobytes() if len(data) < 1 << 16 else None
    for row in range(n):
        while at < len(data) and data[at] == 10:
            at += 1
        window = (whole[at : at + 4096] if whole is not None else raw[at : at + 4096].tobytes()).partition(b" ")
        start = at + len(window[0]) + 1
        if not window[1] or start + size > len(data):
            raise InputError(f"the file ends in word {row + 1} of {n}", where=f"{file}, byte {at}", fix="get it again")
        keys.append(window[0])
        vectors[row] = np.frombuffer(raw, dtype="<f4", count=d, offset=start)
        at = start + size
    _finite(file, vectors)
    return Table(keys, vectors, "word2vec binary")


def _finite(file: Path, vectors: NDArray[np.float32]) -> None:
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise InputError(f"word {int(np.argmax(bad)) + 1} holds NaN or infinity", where=str(file))


def _fasttext(file: Path, data: NDArray[np.uint8]) -> Table:
    """The word rows and n-gram rows of a fastText model; a word's vector is the mean of its and its n-grams'."""
    from sememe.index.spelling import subwords

    cut = InputError("the fastText model is cut short or damaged", where=str(file), fix="get it again")
    raw = data.data
    try:
        version = struct.unpack_from("<i", raw, 4)[0]
        args = _FASTTEXT_ARGS.unpack_from(raw, 8)
        dim, buckets, shortest, longest = args[0], args[8], args[9], args[10]
        at = 8 + _FASTTEXT_ARGS.size
        size, words, labels, _, pruned = _FASTTEXT_WORDS.unpack_from(raw, at)
        at += _FASTTEXT_WORDS.size
        if version not in (11, 12) or pruned > 0:
            raise InputError(
                f"fastText model of version {version}{' with pruned words' if pruned > 0 else ''} is not supported",
                where=str(file),
                fix="give an unquantized model of version 12, or its .vec file",
            )
        if not (0 < dim <= 65536 and 0 <= words <= size <= len(data) and size == words + labels and buckets >= 0):
            raise cut
        keys: list[bytes] = []
        for _entry in range(size):
            window = data[at : at + 4096].tobytes()
            key, mark, _ = window.partition(b"\0")
            if not mark:
                raise cut
            at += len(key) + 1 + 9
            if data[at - 1] == 0:  # a word rather than a label
                keys.append(key)
        quantized = bool(data[at])
        rows, width = struct.unpack_from("<qq", raw, at + 1)
        at += 17
        if quantized:
            raise InputError("a quantized fastText model is not supported", where=str(file), fix="give the .bin model")
        if width != dim or rows != words + buckets or at + 4 * rows * dim > len(data):
            raise cut
        matrix: NDArray[Any] = np.frombuffer(data, dtype="<f4", count=rows * dim, offset=at).reshape(rows, dim)
    except (struct.error, IndexError, ValueError):
        raise cut from None
    _finite(file, matrix)
    vectors = np.array(matrix[:words], dtype=np.float32)
    if longest > 0 and buckets:
        for row, key in enumerate(keys):
            grams = subwords(key.decode("utf-8", "surrogateescape"), shortest, longest, buckets)
            # The end-of-sentence mark has no n-grams in fastText.
            if grams and key != b"</s>":
                parts = matrix[[words + gram for gram in grams]].sum(axis=0, dtype=np.float64) + matrix[row]
                vectors[row] = parts / (len(grams) + 1)
    return Table(keys, vectors, "fastText model", np.ascontiguousarray(matrix[words:]), shortest, longest)
