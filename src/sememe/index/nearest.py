"""The row of highest cosine, exactly, without reading most of the numbers.

Rows are turned onto the principal axes of the table, so that the first few dimensions hold most of their length. By
Cauchy and Schwarz the rest of an inner product is at most the product of the lengths of the rests; a row whose bound
stays below the best so far, or below the threshold, need not be read. Any orthogonal turn keeps this true, so what is
learned about the axes only decides how fast the search is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors, unit_rows

_HEAD = 64  # dimensions that every search reads
_SAMPLE = 8192  # rows the axes are learned from
_LEARN_AT = 1024  # rows from which turning pays
_FIRST = 256  # rows read exactly before the bound is used again
_SLACK = 1e-5  # more than float32 sums of unit rows can be off by


@dataclass(frozen=True)
class Table:
    """Unit rows of one moment, safe to search while others add: what is searched never changes.

    ``axes`` is ``(d, d)`` orthogonal, ``head`` ``(n, m)`` and ``tail`` ``(n, d - m)`` the turned rows cut in two, and
    ``rest`` ``(n,)`` the lengths of the tails.
    """

    axes: NDArray[np.float32]
    head: Vectors
    tail: Vectors
    rest: NDArray[np.float32]
    count: int

    def best(
        self, query: Vectors, at_least: float, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[int, float] | None:
        """The row with the highest cosine to the unit row ``query`` ``(d,)``, and that cosine.

        None where no row (among those ``allowed``, bool ``(n,)``) reaches ``at_least``.
        """
        found = self.nearest(query, at_least, 1, allowed)
        return found[0] if found else None

    def nearest(
        self, query: Vectors, at_least: float, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> list[tuple[int, float]]:
        """The ``k`` rows of highest cosine, best first, ties to the lower row; fewer where fewer reach ``at_least``."""
        turned = self.axes @ query
        m = self.head.shape[1]
        rest = float(np.linalg.norm(turned[m:]))
        partial = self.head[: self.count] @ turned[:m]
        bound = partial + np.float32(rest) * self.rest[: self.count]
        rows = np.flatnonzero(bound >= at_least - _SLACK)
        if allowed is not None:
            rows = rows[allowed[rows]]
        if len(rows) > _FIRST:
            rows = rows[np.argsort(-bound[rows], kind="stable")]
        scores = np.empty(0, dtype=np.float32)
        floor, done, step = at_least, 0, _FIRST
        while done < len(rows) and bound[rows[done]] >= floor - _SLACK:
            some = rows[done : done + step]
            exact = partial[some] + self.tail[some] @ turned[m:]
            scores = np.concatenate([scores, exact])
            done, step = done + len(some), 4 * step
            if len(scores) >= k:
                floor = max(at_least, float(np.partition(scores, len(scores) - k)[-k]))
        seen = rows[: len(scores)]
        order = np.lexsort((seen, -scores))[:k]
        return [(int(seen[i]), float(scores[i])) for i in order if scores[i] >= at_least]


class GrowingTable:
    """Unit rows that are only ever appended; ``view`` is a ``Table`` of what is there. One writer at a time."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._reset(np.eye(dim, dtype=np.float32), np.zeros((0, dim), dtype=np.float32))
        self._learned_at = 0

    def _reset(self, axes: NDArray[np.float32], turned: Vectors) -> None:
        room = max(64, len(turned) * 3 // 2)
        m = min(_HEAD, self.dim)
        head = np.zeros((room, m), dtype=np.float32)
        tail = np.zeros((room, self.dim - m), dtype=np.float32)
        rest = np.zeros(room, dtype=np.float32)
        count = len(turned)
        head[:count], tail[:count] = turned[:, :m], turned[:, m:]
        rest[:count] = np.linalg.norm(turned[:, m:], axis=1)
        self.view = Table(axes, head, tail, rest, count)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows that are there."""
        return self.view.count * row_bytes(self.dim)

    def append(self, rows: Vectors) -> None:
        """Add unit rows ``(n, d)``. Amortised: now and then everything is copied, and turned onto better axes."""
        view, new = self.view, len(rows)
        if view.count + new > len(view.head):
            self.replace(np.concatenate([self.rows(), rows]))
            return
        turned = rows @ view.axes.T
        here, m = slice(view.count, view.count + new), view.head.shape[1]
        view.head[here], view.tail[here] = turned[:, :m], turned[:, m:]
        view.rest[here] = np.linalg.norm(turned[:, m:], axis=1)
        self.view = Table(view.axes, view.head, view.tail, view.rest, view.count + new)

    def replace(self, rows: Vectors) -> None:
        """Put unit rows ``(n, d)`` in the place of all that are there."""
        axes = self.view.axes
        if len(rows) >= max(_LEARN_AT, 2 * self._learned_at) and self.dim > _HEAD:
            step = -(-len(rows) // _SAMPLE)
            sample = rows[::step].astype(np.float64)
            axes = np.ascontiguousarray(np.linalg.eigh(sample.T @ sample)[1].T[::-1], dtype=np.float32)
            self._learned_at = len(rows)
        self._reset(axes, rows @ axes.T)

    def rows(self) -> Vectors:
        """The rows as they were given, within float32 rounding: ``(n, d)``."""
        view = self.view
        turned = np.concatenate([view.head[: view.count], view.tail[: view.count]], axis=1)
        return unit_rows(turned @ view.axes)


def row_bytes(dim: int) -> int:
    """Bytes that one row takes in memory."""
    return 4 * (dim + 1)
