"""Where the tokens of a model lie along the main directions of its table, which is read a block at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sememe.contracts import Vectors
from sememe.vocab.tensors import Tensor, widen

_WIDEST = 512  # a wider table is first projected at random to this many dimensions


def coordinates(table: Tensor, count: int = 128, seed: int = 0) -> Vectors:
    """Coordinates of the rows of a table along its first principal directions, each with unit variance.

    Parameters
    ----------
    table : Tensor
        Of shape ``(v, d)``. Rows that are not finite count as the mean.
    count : int
        Directions; fewer where the table has fewer.
    seed : int
        Of the random projection of a table of more than 512 dimensions.

    Returns
    -------
    float32 ndarray of shape (v, k)
        ``k`` is 0 where the numbers are too large to be multiplied.
    """
    rows, width = table.shape
    narrow = min(width, _WIDEST)
    projection = None
    if width > narrow:
        draw = np.random.default_rng(seed).standard_normal((width, narrow), dtype=np.float32)
        projection = draw / np.float32(np.sqrt(width))
    total, moment, seen = np.zeros(narrow), np.zeros((narrow, narrow)), 0
    for _, block, finite in _blocks(table, projection):
        with np.errstate(over="ignore", invalid="ignore"):
            total += block.sum(axis=0, dtype=np.float64)
            moment += (block.T @ block).astype(np.float64)
        seen += int(finite)
    if not np.isfinite(moment).all():
        return np.zeros((rows, 0), dtype=np.float32)
    mean = total / max(seen, 1)
    values, vectors = np.linalg.eigh(moment / max(seen, 1) - np.outer(mean, mean))
    chosen = [place for place in np.argsort(-values)[:count] if values[place] > 1e-9 * values[-1]]
    turn = (vectors[:, chosen] / np.sqrt(values[chosen])).astype(np.float32)
    shift = (mean @ turn).astype(np.float32)
    out = np.zeros((rows, len(chosen)), dtype=np.float32)
    for first, block, _ in _blocks(table, projection):
        out[first : first + len(block)] = np.where(block.any(axis=1, keepdims=True), block @ turn - shift, 0)
    return out


def _blocks(table: Tensor, projection: Vectors | None) -> Iterator[tuple[int, Vectors, int]]:
    """First row, rows (those that are not finite as zeros) and how many are finite."""
    for first, stored in table.blocks():
        block = widen(stored, table.dtype)
        finite = np.isfinite(block).all(axis=1, keepdims=True)
        block = np.where(finite, block, np.float32(0))
        with np.errstate(over="ignore", invalid="ignore"):
            yield first, block if projection is None else block @ projection, int(finite.sum())
