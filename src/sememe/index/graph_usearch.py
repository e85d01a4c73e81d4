"""Graphs built and walked by usearch: where the native core was not built, for other number types, and of old indexes.

The engine parses nothing that our checksums have not passed: the whole graph file is verified before ``restore`` sees
it, because a damaged graph can crash the engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.errors import CorruptIndex, MissingDependency

BYTES = {"i8": 1.0, "f16": 2.0, "f32": 4.0, "b1": 0.125}
_HEAD = 8 + 2 + 2  # key and level in the node, level again in the table at the file's head
_FILE = 144  # header and dimensions of the file


@dataclass(frozen=True)
class Usearch:
    """How the engine is set: links on upper levels, candidates kept while building, and the type of its numbers."""

    connectivity: int
    build_width: int
    dtype: str

    def build(self, blocks: Iterable[Vectors], dim: int) -> NDArray[np.uint8] | None:
        """The graph over projected vectors, as the engine's bytes; row numbers are the keys.

        One thread, so that the same vectors give the same bytes.
        """
        index = _engine().Index(
            ndim=self._width(dim),
            metric="hamming" if self.dtype == "b1" else "ip",
            dtype=self.dtype,
            connectivity=self.connectivity,
            expansion_add=self.build_width,
        )
        start = 0
        for block in blocks:
            keys = np.arange(start, start + len(block), dtype=np.uint64)
            index.add(keys, self._cast(block), threads=1)
            start += len(block)
        return np.frombuffer(index.save(), dtype=np.uint8) if start else None

    def size_of(self, n: int, dim: int) -> int:
        """Expected bytes of the graph of ``n`` vectors.

        Each node holds its vector, key, level and ``2 c`` links of 4 bytes; a share ``c**-l`` of the nodes has ``c``
        more links on level ``l``.
        """
        if not n:
            return 0
        c = self.connectivity
        vector = -(-self._width(dim) // 8) if self.dtype == "b1" else dim * BYTES[self.dtype]
        links = 4 + 8 * c + (4 + 4 * c) / (c - 1)
        return round(_FILE + n * (_HEAD + vector + links))

    def open(self, buffer: NDArray[np.uint8], n: int, dim: int) -> Any:
        """The engine's view of verified bytes."""
        try:
            index = _engine().Index.restore(buffer, view=True)
        except (ValueError, RuntimeError):
            index = None
        if index is None or len(index) != n or index.ndim != self._width(dim):
            raise CorruptIndex("the graph does not fit its segment", fix="run: sememe compact to build it again")
        return index

    def candidates(self, index: Any, Q: Vectors, count: int) -> NDArray[np.int64]:
        """Rows that a walk keeping ``count`` finds for each query: int64 ``(q, count)``, -1 where it found fewer."""
        index.expansion_search = count
        found = index.search(self._cast(Q), count, threads=1)
        keys = np.atleast_2d(found.keys).astype(np.int64)
        counts = np.atleast_1d(getattr(found, "counts", np.full(len(keys), keys.shape[1])))
        return np.where(np.arange(keys.shape[1]) < counts[:, None], keys, -1)

    def _width(self, dim: int) -> int:
        return -(-dim // 8) * 8 if self.dtype == "b1" else dim

    def _cast(self, X: Vectors) -> NDArray[Any]:
        return np.packbits(X > 0, axis=1) if self.dtype == "b1" else X


def _engine() -> Any:
    try:
        from usearch import index
    except ImportError:
        raise MissingDependency("usearch", command="pip install usearch", need="this hnsw index") from None
    return index
