"""Cells around centres for inverted lists: trained in two stages on a sample, kept about equally full, quick to assign.

Thousands of centres make plain k-means slow, so centres lie in groups: a first k-means finds the groups, a second one
the centres of each group, and rows are compared with the centres of the few groups nearest to them only. Every centre
has a handicap, learned so that crowded cells give rows away to their neighbours: the cells of a power diagram.

Queries look for large inner products, not for small distances: a cell is promising by ``q . centre`` and by how far
its rows lie about the centre, because the best of widely scattered rows lies further out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sememe.kernels.kmeans import kmeans, nearest

F32 = NDArray[np.float32]
FLAT = 256  # centres up to which there is only one group
GROUPS = 8  # groups in which a row looks for its cell
_BLOCK = 1 << 14  # rows assigned at a time
_RATE = 0.1  # of the gap between a row's best two cells, by which a cell of e times the mean size is held back
_MOST = 0.3  # of the mean gap: beyond that a cell could swallow its neighbours at once
_REACH = 0.4  # of a cell's scatter, by which its best row is expected to beat its centre


@dataclass(frozen=True, eq=False)
class Cells:
    """Centres in groups; a row belongs to the cell with the highest ``x . centre - handicap``.

    Attributes
    ----------
    centres : ndarray of shape (c, d)
        float32, group after group.
    handicap : ndarray of shape (c,)
        float32: half the squared length of the centre, and what keeps its cell from growing too large.
    reach : ndarray of shape (c,)
        float32: what the scatter of its rows adds to a cell's promise, for a query of unit length.
    groups : ndarray of shape (g, d)
        float32: the means of the groups.
    first : ndarray of shape (g + 1,)
        int64: where the centres of each group begin.
    """

    centres: F32
    handicap: F32
    reach: F32
    groups: F32
    first: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.centres)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in vars(self).values())

    def promise(self, Q: F32) -> F32:
        """How promising each cell is for each query ``(q, d)``, float32 ``(q, c)``; higher is better."""
        out: F32 = Q @ self.centres.T
        out += np.sqrt(np.einsum("ij,ij->i", Q, Q))[:, None] * self.reach
        return out

    def assign(self, X: F32) -> NDArray[np.int32]:
        """The cell of each row of ``X`` ``(n, d)``: the best one of the ``GROUPS`` groups nearest to the row."""
        out = np.empty(len(X), dtype=np.int32)
        for start in range(0, len(X), _BLOCK):
            out[start : start + _BLOCK] = self._search(X[start : start + _BLOCK])[0]
        return out

    def _search(self, X: F32) -> tuple[NDArray[np.int32], F32, F32]:
        """Cell, score, and score of the runner-up in the same group, for a block of rows."""
        owner = np.zeros(len(X), dtype=np.int32)
        best = np.full(len(X), -np.inf, dtype=np.float32)
        second = best.copy()
        wide = len(self.groups)
        if wide > GROUPS:
            half = (np.einsum("ij,ij->i", self.groups, self.groups) / 2).astype(np.float32)
            near = X @ self.groups.T - half
            looked = near >= np.partition(near, wide - GROUPS, axis=1)[:, wide - GROUPS, None]
        for group in range(wide):
            low, high = int(self.first[group]), int(self.first[group + 1])
            rows = np.flatnonzero(looked[:, group]) if wide > GROUPS else np.arange(len(X))
            if high == low or not len(rows):
                continue
            score = (X if len(rows) == len(X) else X[rows]) @ self.centres[low:high].T
            score -= self.handicap[low:high]
            at = score.argmax(axis=1)
            line = np.arange(len(rows))
            top = score[line, at]
            if high > low + 1:
                score[line, at] = -np.inf
                second[rows] = np.maximum(second[rows], np.minimum(best[rows], top))
                second[rows] = np.maximum(second[rows], score.max(axis=1))
            better = top > best[rows]
            best[rows[better]] = top[better]
            owner[rows[better]] = low + at[better]
        return owner, best, second

    @classmethod
    def fit(cls, X: F32, count: int, *, seed: int = 0, iterations: int = 8, refine: int = 4) -> Cells:
        """Learn ``count`` cells from a sample ``(n, d)``; ``iterations`` of each k-means, then ``refine`` of all.

        With fewer rows than ``count`` some centres repeat.
        """
        wide = 1 if count <= FLAT else round(count**0.5)
        groups = kmeans(X, wide, iterations=iterations, seed=seed)
        member = nearest(X, groups)
        order = np.argsort(member, kind="stable")
        sizes = np.bincount(member, minlength=wide)
        shares = _shares(sizes, count)
        ends = np.cumsum(sizes)
        parts = []
        for group, (share, end) in enumerate(zip(shares.tolist(), ends.tolist())):
            rows = X[order[end - sizes[group] : end]] if sizes[group] else groups[group : group + 1]
            if share:
                parts.append(kmeans(rows, share, iterations=iterations, seed=seed + 1 + group))
        centres = np.concatenate(parts)
        first = np.concatenate([[0], np.cumsum(shares)]).astype(np.int64)
        cells = cls(centres, _half(centres), np.zeros(count, dtype=np.float32), groups, first)
        held_back = np.zeros(count)
        for _ in range(refine):
            cells, held_back = cells._refined(X, held_back)
        return cells

    def _refined(self, X: F32, held_back: NDArray[np.float64]) -> tuple[Cells, NDArray[np.float64]]:
        """One step: centres move to the means of their rows, crowded cells are held back a little more."""
        count = len(self)
        owner, gap = np.empty(len(X), dtype=np.int32), np.empty(len(X), dtype=np.float32)
        for start in range(0, len(X), _BLOCK):
            owner[start : start + _BLOCK], best, second = self._search(X[start : start + _BLOCK])
            gap[start : start + _BLOCK] = np.where(np.isfinite(second), best - second, 0)
        sizes = np.bincount(owner, minlength=count)
        order = np.argsort(owner, kind="stable")
        held = np.flatnonzero(sizes)
        centres = self.centres.copy()
        starts = (np.cumsum(sizes) - sizes)[held]
        centres[held] = np.add.reduceat(X[order], starts, axis=0) / sizes[held, None].astype(np.float32)
        mean_square = np.add.reduceat(np.einsum("ij,ij->i", X, X)[order], starts) / sizes[held]
        reach = np.zeros(count, dtype=np.float32)
        reach[held] = _REACH * np.sqrt(np.maximum(mean_square - 2 * _half(centres[held]), 0))
        pressure = np.log(np.maximum(sizes, 0.5) / max(len(X) / count, 0.5))
        # How easily a cell gives rows away depends on how near its neighbours are: on the gaps of its own rows.
        mean = float(gap.mean(dtype=np.float64))
        ease = np.full(count, mean)
        ease[held] = np.minimum(mean, np.add.reduceat(gap[order], starts, dtype=np.float64) / sizes[held])
        held_back = np.clip(held_back + _RATE * ease * np.clip(pressure, -2, 2), -_MOST * mean, _MOST * mean)
        handicap = (_half(centres) + held_back).astype(np.float32)
        return Cells(centres, handicap, reach, self.groups, self.first), held_back


def _half(centres: F32) -> F32:
    return (np.einsum("ij,ij->i", centres, centres, dtype=np.float64) / 2).astype(np.float32)


def _shares(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """How many of ``count`` centres each group gets: in proportion to its rows, largest remainders rounded up."""
    exact = sizes * count / max(int(sizes.sum()), 1)
    shares = np.floor(exact).astype(np.int64)
    for group in np.argsort(shares - exact, kind="stable")[: count - int(shares.sum())]:
        shares[group] += 1
    return shares
