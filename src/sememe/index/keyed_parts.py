"""What a store of keyed vectors consists of, in memory or mapped from disk, behind one interface."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import CorruptIndex, FormatError
from sememe.index.arrays import Packed, write_packed
from sememe.index.spelling import BUCKETS, Spelling
from sememe.kernels.fastscan import BLOCK

if TYPE_CHECKING:
    from sememe.index.storage.blockfile import BlockFile

_KIND = "keyed-vectors-2"
_FARTHEST = 8.0  # from a unit row to what its code stands for: no row is even near
_TYPES: dict[str, type[np.generic]] = {
    "keys": np.uint8, "offsets": np.int64, "table": np.int32, "ends": np.int64, "rows": np.int32, "counts": np.int32,
    "loose": np.int32, "turn": np.float32,
}  # fmt: skip


class Rows:
    """A table ``(n, width)`` whose rows are verified when they are first read, where they come from a file."""

    def __init__(self, array: NDArray[Any], file: BlockFile | None = None) -> None:
        self.array, self._file, self._whole = array, file, file is None

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows by number."""
        if self._file is not None:
            self._file.ensure_rows(rows, self.array.strides[0])
        try:
            return self.array[rows]
        except IndexError as error:
            raise CorruptIndex(f"a table names a row that is not there ({error})", fix="get the store anew") from None

    def all(self) -> NDArray[Any]:
        """Every row."""
        if not self._whole and self._file is not None:
            self._file.ensure(0, self.array.nbytes)
            self._whole = True
        return self.array


@dataclass
class Parts:
    """The arrays of a store; ``small`` ones are read whole.

    ``vectors`` float32 ``(n, d)``; ``codes`` uint32, 4-bit codes of the unit rows turned by ``turn``, laid out as
    ``kernels.fastscan.NibbleBlocks``; ``error`` the largest distance of a unit row to what its code stands for, but for
    the rows in ``loose``; ``grams`` float32 ``(buckets, d)``, n-gram rows of a fastText model, with n-grams of
    ``lengths`` letters.
    """

    vectors: Rows
    codes: Rows
    error: float
    grams: Rows | None
    lengths: tuple[int, int]
    report: dict[str, Any]
    small: dict[str, NDArray[Any]] = field(default_factory=dict)
    packed: Packed | None = None

    def get(self, name: str) -> NDArray[Any]:
        """A small array: ``keys``, ``offsets``, ``table``, ``ends``, ``rows``, ``counts``, ``loose`` or ``turn``."""
        if name not in self.small:
            assert self.packed is not None
            self.small[name] = self.packed.get(name, _TYPES[name]).all()
        return self.small[name]

    def outlying(self) -> NDArray[np.float32]:
        """Vectors of the rows in ``loose``, side by side: every search compares them."""
        if "outlying" not in self.small:
            self.small["outlying"] = self.vectors.take(self.get("loose").astype(np.int64))
        return self.small["outlying"]

    def spelling(self) -> Spelling:
        """The trigram lists."""
        return Spelling(self.get("ends"), self.get("rows"), self.get("counts"))


def save(parts: Parts, path: str | PathLike[str], *, overwrite: bool) -> None:
    """Write a new folder; it appears whole or not at all."""
    from sememe.index.storage.store import Store

    with Store.create(path, {"kind": _KIND}, overwrite=overwrite) as store, store.begin() as transaction:
        words, layout = write_packed(transaction, "words", {name: parts.get(name) for name in _TYPES})
        files = {
            "words": words,
            "vectors": transaction.write("vectors", parts.vectors.all()),
            "codes": transaction.write("codes", parts.codes.all()),
        }
        buckets = 0
        if parts.grams is not None:
            files["grams"] = transaction.write("grams", parts.grams.all())
            buckets = len(parts.grams.array)
        body = {
            "kind": _KIND, "count": len(parts.vectors.array), "dim": parts.vectors.array.shape[1], "layout": layout,
            "error": parts.error, "buckets": buckets,
            "lengths": list(parts.lengths), "report": parts.report,
        }  # fmt: skip
        transaction.commit(lambda manifest: replace(manifest, body=body, files=files))


def load(path: str | PathLike[str]) -> Parts:
    """Map a saved store; its data is verified as it is touched."""
    from sememe.index.storage.store import Store

    store = Store.open(Path(path))
    body, files = store.manifest.body, store.manifest.files
    if body.get("kind") != _KIND:
        raise FormatError("this folder holds no keyed vectors", where=str(path), fix="choose another folder")
    try:
        n, d = int(body["count"]), int(body["dim"])
        blocks = (-(-n // BLOCK), -(-((d + 1) // 2) // 4), BLOCK)
        shapes: dict[str, tuple[type, tuple[int, ...]]] = {
            "vectors": (np.float32, (n, d)),
            "codes": (np.uint32, blocks),
        }
        if int(body["buckets"]):
            shapes["grams"] = (np.float32, (int(body["buckets"]), d))
        tables = {}
        for name, (kind, shape) in shapes.items():
            file = store.file(files[name])
            if file.length != np.dtype(kind).itemsize * math.prod(shape):
                raise CorruptIndex(f"{name} have {file.length} bytes for {shape} numbers", where=str(path))
            tables[name] = Rows(file.array(kind, shape), file)
        packed = Packed(store.file(files["words"]), body["layout"])
        slots = len(packed.get("table"))
        if len(packed.get("offsets")) != n + 1 or len(packed.get("ends")) != BUCKETS + 1 or slots & (slots - 1):
            raise CorruptIndex(f"the words do not fit {n} vectors", where=str(path), fix="get or make the store anew")
        lengths, away = (int(body["lengths"][0]), int(body["lengths"][1])), float(body["error"])
        if not 0 <= away <= _FARTHEST:
            raise CorruptIndex(f"the codes cannot be {away} away from their rows", where=str(path))
        return Parts(
            tables["vectors"], tables["codes"], away, tables.get("grams"), lengths,
            dict(body["report"]), packed=packed,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, CorruptIndex):
            raise
        raise CorruptIndex(f"the store's facts are malformed ({error!r})", where=str(path)) from None
