"""Vectors on disk, so that no text is encoded twice by the same encoder, whatever interrupts it.

A folder for each encoder holds two files that only ever grow:

    rows   the vectors, float32, ``4 * dim`` bytes each
    keys   for each row 24 bytes: the text's digest (16) and a checksum (8) of digest and vector

A row exists once its key does: rows are written first. Writers hold a lock on the folder; what a killed writer left
half-written behind the last whole key is cut off by the next one. A reader maps both files, needs no lock, and takes a
row only if its checksum fits, so damage costs an encoding, never a wrong vector.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Encoder, Kind, Vectors, as_vectors
from sememe.encode.base import check_kind, check_texts, fingerprint, stepping
from sememe.encode.places import cache_root
from sememe.errors import InputError

Keys = NDArray[np.uint64]
_KEY = np.dtype([("text", "<u8", 2), ("check", "<u8")])
_FORMAT = 1
_PATIENCE = 2.0  # seconds of encoding between two writes, about


class Shelf:
    """The vectors of one encoder: a folder with ``rows`` and ``keys``."""

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder, self.dim = folder, dim
        self._lock = threading.Lock()
        self._count = -1
        self._keys: NDArray[Any] = np.zeros(0, dtype=_KEY)
        self._first: Keys = np.zeros(0, dtype=np.uint64)
        self._order: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._rows: NDArray[np.float32] = np.zeros((0, dim), dtype=np.float32)

    def get(self, keys: Keys) -> tuple[NDArray[np.bool_], Vectors]:
        """Which of the text digests ``(n, 2)`` are here, and float32 rows ``(n, dim)``, zero where not."""
        with self._lock:
            self._refresh()
            entries, first, order, stored = self._keys, self._first, self._order, self._rows
        out = np.zeros((len(keys), self.dim), dtype=np.float32)
        known = np.zeros(len(keys), dtype=bool)
        if not len(entries) or not len(keys):
            return known, out
        # The last of equal keys: it replaced one that was damaged.
        place = np.searchsorted(first, keys[:, 0], side="right") - 1
        rows = order[np.maximum(place, 0)]
        known = (entries["text"][rows] == keys).all(axis=1)
        at = np.flatnonzero(known)
        vectors = np.ascontiguousarray(stored[rows[at]], dtype=np.float32)
        good = _checksums(keys[at], vectors) == entries["check"][rows[at]]
        out[at[good]] = vectors[good]
        known[at[~good]] = False
        return known, out

    def put(self, keys: Keys, vectors: Vectors) -> None:
        """Append rows ``(n, dim)`` under their text digests ``(n, 2)``."""
        entries = np.zeros(len(keys), dtype=_KEY)
        entries["text"], entries["check"] = keys, _checksums(keys, vectors)
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder / "lock"), self._open("keys") as key_file, self._open("rows") as row_file:
            size = min(_size(key_file) // _KEY.itemsize, _size(row_file) // (4 * self.dim))
            for file, width, content in ((row_file, 4 * self.dim, vectors), (key_file, _KEY.itemsize, entries)):
                file.truncate(size * width)
                file.seek(size * width)
                file.write(content.tobytes())
                file.flush()

    def _open(self, name: str) -> BinaryIO:
        path = self.folder / name
        path.touch()
        return path.open("r+b")

    def _refresh(self) -> None:
        """Map what has been written since the last look, by this process or another."""
        try:
            with (self.folder / "keys").open("rb") as key_file, (self.folder / "rows").open("rb") as row_file:
                count = min(_size(key_file) // _KEY.itemsize, _size(row_file) // (4 * self.dim))
                if count == self._count:
                    return
                self._keys = np.fromfile(key_file, dtype=_KEY, count=count)
                self._rows = (
                    np.memmap(row_file, dtype="<f4", mode="r", shape=(count, self.dim))
                    if count
                    else np.zeros((0, self.dim), dtype=np.float32)
                )
        except FileNotFoundError:
            count, self._keys = 0, np.zeros(0, dtype=_KEY)
        self._count = count
        self._order = np.argsort(self._keys["text"][:, 0], kind="stable")
        self._first = self._keys["text"][:, 0][self._order]

    def describe(self, encoder: Encoder) -> None:
        """Leave a note for people who look into the folder."""
        note = self.folder / "about.json"
        if not note.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            about = {"format": _FORMAT, "encoder": encoder.name, "digest": encoder.digest, "dim": encoder.dim}
            note.write_text(json.dumps(about, indent=1) + "\n", "utf-8")


class VectorCache:
    """Vectors on disk under one root, a folder an encoder.

    Parameters
    ----------
    root : path, optional
        Default: ``vectors`` in the folder that the environment variable SEMEME_CACHE names, else in the platform's
        cache folder (``~/.cache/sememe/vectors``).
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root) if root is not None else cache_root() / "vectors"
        self._shelves: dict[str, Shelf] = {}
        self._warned = False

    def shelf(self, encoder: Encoder) -> Shelf:
        """The folder of one encoder; equal digests share it."""
        name = fingerprint(_FORMAT, encoder.digest, encoder.dim)
        if name not in self._shelves:
            self._shelves[name] = Shelf(self.root / name, encoder.dim)
        return self._shelves[name]

    def get(self, encoder: Encoder, texts: Sequence[str], kind: Kind = "passage") -> tuple[NDArray[np.bool_], Vectors]:
        """Which of ``n`` texts are known, bool ``(n,)``, and their rows ``(n, dim)``, zero where not."""
        try:
            return self.shelf(encoder).get(_text_keys(encoder, texts, kind))
        except OSError as error:
            self._warn(error)
            return np.zeros(len(texts), dtype=bool), np.zeros((len(texts), encoder.dim), dtype=np.float32)

    def put(self, encoder: Encoder, texts: Sequence[str], vectors: Vectors, kind: Kind = "passage") -> None:
        """Keep the rows ``(n, dim)`` of ``n`` texts. A folder that cannot be written costs a warning, no more."""
        vectors = as_vectors(vectors, name="vectors", dim=encoder.dim)
        if len(vectors) != len(texts):
            raise InputError(f"{len(texts)} texts and {len(vectors)} vectors")
        try:
            shelf = self.shelf(encoder)
            shelf.put(_text_keys(encoder, texts, kind), vectors)
            shelf.describe(encoder)
        except OSError as error:
            self._warn(error)

    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())

    def clear(self) -> None:
        """Forget everything. Other processes that are reading keep what they have mapped."""
        shutil.rmtree(self.root, ignore_errors=True)
        self._shelves.clear()

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.root}: vectors cannot be cached ({error}); set SEMEME_CACHE to a folder that can be written",
                RuntimeWarning,
                stacklevel=4,
            )


class Cached:
    """An encoder that asks the cache first; everything else is the encoder's own.

    Parameters
    ----------
    encoder : Encoder
        What encodes the texts that are not yet known.
    cache : VectorCache, optional
        Where vectors are kept; the default cache when left out.
    """

    def __init__(self, encoder: Encoder, cache: VectorCache | None = None) -> None:
        self.encoder = encoder
        self.cache = cache if cache is not None else VectorCache()
        self.name, self.dim, self.digest = encoder.name, encoder.dim, encoder.digest

    def encode(
        self, texts: Sequence[str], *, kind: Kind = "passage", batch_size: int = 64, progress: bool = False
    ) -> Vectors:
        """Rows ``(n, dim)`` as the encoder gives them; only texts not yet known are encoded, equal ones once.

        What is done is written every few seconds, so that an interruption loses no more than that.
        """
        check_kind(kind)
        texts = check_texts(texts)
        unique = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        names = list(unique)
        known, vectors = self.cache.get(self.encoder, names, kind)
        missing = np.flatnonzero(~known)
        with stepping(f"encoding with {self.name}", len(missing), progress) as step:
            for rows in _portions(missing, max(batch_size, 64)):
                portion = [names[row] for row in rows]
                vectors[rows] = self.encoder.encode(portion, kind=kind, batch_size=batch_size)
                self.cache.put(self.encoder, portion, vectors[rows], kind)
                step(len(rows))
        if len(names) == len(texts):
            return vectors
        return vectors[[unique[text] for text in texts]]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "encoder":  # not yet set while unpickling
            raise AttributeError(name)
        return getattr(self.encoder, name)

    def __repr__(self) -> str:
        return f"Cached({self.encoder!r})"


def _portions(rows: NDArray[np.int64], first: int) -> Iterator[NDArray[np.int64]]:
    """Portions of ``rows``, the first of size ``first``, growing until one takes about as long as ``_PATIENCE``."""
    start, size = 0, first
    while start < len(rows):
        began = time.monotonic()
        yield rows[start : start + size]
        start += size
        if time.monotonic() - began < _PATIENCE / 2:
            size *= 2


def _text_keys(encoder: Encoder, texts: Sequence[str], kind: Kind) -> Keys:
    """Digests of texts, uint64 ``(n, 2)``. Query and passage differ only where the encoder tells them apart."""
    person = kind.encode() if getattr(encoder, "asymmetric", False) else b""
    digests = b"".join(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=person).digest() for text in texts
    )
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2)


def _checksums(keys: Keys, vectors: Vectors) -> Keys:
    """A checksum of each digest and its vector, uint64 ``(n,)``."""
    from xxhash import xxh3_64_intdigest

    width = vectors.shape[1] * 4
    rows = memoryview(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
    values = (
        xxh3_64_intdigest(rows[start : start + width], seed=seed)
        for start, seed in zip(range(0, len(rows), width), keys[:, 0].tolist())
    )
    return np.fromiter(values, dtype=np.uint64, count=len(vectors))


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system releases it when the process dies."""
    with path.open("a+b") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
            try:
                yield
            finally:
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
