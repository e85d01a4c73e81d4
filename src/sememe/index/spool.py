"""Vectors on their way into a segment: a scratch file without a name.

The codec must be fitted on a sample of all vectors before the first can be encoded, and the vectors of a large corpus
do not fit in memory. The file has no name in the folder, so it is gone when the process is, however it ends.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.errors import StorageError

BLOCK_BYTES = 8 << 20  # of float32 handed out at a time


class VectorSpool:
    """Float32 rows of one width, appended, then read back in blocks or as a sample.

    Parameters
    ----------
    folder : Path, optional
        The file system to use; the system's temporary folder, which may lie in memory, where not given.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self.rows = self.dim = 0

    def __len__(self) -> int:
        return self.rows

    def append(self, X: Vectors) -> None:
        """Add rows ``(n, d)`` at the end."""
        self.dim = X.shape[1]
        try:
            self._file.write(np.ascontiguousarray(X, dtype=np.float32).tobytes())
        except OSError as error:
            raise StorageError(
                f"vectors could not be kept on disk while building ({error.strerror})", fix="free some disk space"
            ) from None
        self.rows += len(X)

    def blocks(self) -> Iterator[Vectors]:
        """All rows in order, a few megabytes at a time."""
        step = max(1, BLOCK_BYTES // max(1, 4 * self.dim))
        for start in range(0, self.rows, step):
            yield self._read(start, min(start + step, self.rows))

    def sample(self, size: int, seed: int) -> Vectors:
        """``size`` rows drawn without replacement (all where there are fewer), in order."""
        if self.rows <= size:
            return self._read(0, self.rows)
        rows: NDArray[np.int64] = np.sort(np.random.default_rng(seed).choice(self.rows, size=size, replace=False))
        out = np.empty((size, self.dim), dtype=np.float32)
        start = filled = 0
        for block in self.blocks():
            stop = int(np.searchsorted(rows, start + len(block)))
            out[filled:stop] = block[rows[filled:stop] - start]
            start, filled = start + len(block), stop
        return out

    def _read(self, start: int, stop: int) -> Vectors:
        self._file.flush()
        self._file.seek(start * self.dim * 4)
        data = self._file.read((stop - start) * self.dim * 4)
        return np.frombuffer(data, dtype=np.float32).reshape(stop - start, self.dim)

    def __enter__(self) -> VectorSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
