"""New rows as convex sums of the rows of old tokens that are near in some helper space."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sememe import progress
from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.vocab.initialize.rows import Ids, Initializer, Problem
from sememe.vocab.initialize.spaces import Space, helper_space

_BLOCK = 1 << 22  # similarities held at a time: 16 MiB


def nearest(queries: Vectors, anchors: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ``k`` anchors of the largest inner product with each query: numbers and products ``(q, k)``, best first.

    Parameters
    ----------
    queries, anchors : float32 ndarrays of shape (q, e) and (n, e)
    k : int
        At most ``n`` are returned.
    """
    k = min(k, len(anchors))
    numbers, values = np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k), dtype=np.float32)
    turned = np.ascontiguousarray(anchors.T)
    rows = max(1, _BLOCK // max(len(anchors), 1))
    with progress.task("nearest tokens", total=len(queries), unit="tokens") as step:
        for start in range(0, len(queries), rows):
            scores = queries[start : start + rows] @ turned
            best = _largest(scores, k)
            found = np.take_along_axis(scores, best, axis=1)
            order = np.lexsort((best, -found), axis=1)
            numbers[start : start + rows] = np.take_along_axis(best, order, axis=1)
            values[start : start + rows] = np.take_along_axis(found, order, axis=1)
            step(len(scores))
    return numbers, values


def _largest(scores: Vectors, k: int) -> NDArray[np.int64]:
    """Columns of the ``k`` largest of each row, in no order.

    Partitioning a long row is slower than computing it. The largest of each run of columns is found in one quick pass;
    the k-th largest of those bounds what can be among the k largest of all.
    """
    rows, n = scores.shape
    width = 64
    if n < 8 * width or k * width > n:
        return np.argpartition(scores, n - k, axis=1)[:, n - k :]
    runs = n // width
    tops = scores[:, : runs * width].reshape(rows, runs, width).max(axis=2)
    floor = np.partition(tops, runs - k, axis=1)[:, runs - k]
    out = np.empty((rows, k), dtype=np.int64)
    for row in range(rows):
        near = np.flatnonzero(scores[row] >= floor[row])
        out[row] = near if len(near) == k else near[np.argpartition(scores[row, near], len(near) - k)[-k:]]
    return out


def softmax(values: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Rows of weights that add up to 1, in proportion to ``exp(value / temperature)``."""
    wide = np.asarray(values, dtype=np.float64) / temperature
    wide = np.exp(wide - wide.max(axis=-1, keepdims=True, initial=-np.inf))
    return np.asarray(wide / wide.sum(axis=-1, keepdims=True))


def sparsemax(
    queries: Vectors, anchors: Vectors, most: int = 64
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """For each query the point of the simplex that is nearest to its similarities with all anchors.

    Only values within 1 of the largest can have weight, mostly a few dozen; ``most`` of them are looked at first, and
    twice as many wherever that was not enough.

    Returns
    -------
    list of (ndarray, ndarray)
        Numbers of anchors and their weights, all positive.
    """
    out: list[tuple[NDArray[np.int64], NDArray[np.float64]] | None] = [None] * len(queries)
    left = np.arange(len(queries))
    while len(left):
        numbers, values = nearest(queries[left], anchors, most)
        wide = values.astype(np.float64)
        sums = np.cumsum(wide, axis=1)
        places = np.arange(1, wide.shape[1] + 1)
        support = (1 + places * wide > sums).sum(axis=1)
        level = (np.take_along_axis(sums, support[:, None] - 1, axis=1)[:, 0] - 1) / support
        # Enough were looked at where the last of them is already below the level.
        done = (support < wide.shape[1]) | (wide.shape[1] == len(anchors))
        for row in np.flatnonzero(done):
            weights = wide[row, : support[row]] - level[row]
            out[left[row]] = (numbers[row, : support[row]], weights / weights.sum())
        left = left[~done]
        most *= 4
    return [found for found in out if found is not None]


class _OverSpace(Initializer):
    """Shared by the methods that look for old tokens near a new one in a helper space."""

    needs: ClassVar[tuple[str, ...]] = ("donor|words|embed|text",)
    space = "auto"

    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        space = helper_space(problem, self.space)
        covered = space.new_known[ids]
        return self._combine(space, ids, np.flatnonzero(covered), len(table))

    @abstractmethod
    def _combine(self, space: Space, ids: Ids, places: NDArray[np.intp], size: int) -> Any:
        """Rows for the tokens ``ids`` from the old ones at ``places`` of the space."""


@register(
    "neighbours",
    room="vocab",
    kind="initializer",
    summary="softmax-weighted mean of the old tokens nearest in a helper space",
)
class Neighbours(_OverSpace):
    """The ``k`` nearest old tokens by cosine, weighted by ``softmax(cosine / temperature)``.

    Parameters
    ----------
    k : int
    temperature : float
    space : {"auto", "donor", "words", "embed", "text"}
        Where tokens are compared; see `sememe.vocab.initialize.spaces.helper_space`.
    """

    def __init__(self, k: int = 10, temperature: float = 0.1, space: str = "auto") -> None:
        self.k = k
        self.temperature = temperature
        self.space = space

    def _combine(self, space: Space, ids: Ids, places: NDArray[np.intp], size: int) -> Any:
        return nearest_weights(space, ids, places, size, self.k, self.temperature)


@register(
    "focus",
    room="vocab",
    kind="initializer",
    summary="sparse convex sum (sparsemax) over all shared tokens by similarity in a helper space",
    paper=Paper("FOCUS: Effective Embedding Initialization for Monolingual Specialization of Multilingual Models", 2023,
                "2305.14481"),
)  # fmt: skip
class Focus(_OverSpace):
    """``sparsemax`` of the cosines with all tokens that both vocabularies know.

    Parameters
    ----------
    space : {"auto", "donor", "words", "embed", "text"}
        The paper's is ``text``: static token vectors learned from text in the new tokenization.
    """

    def __init__(self, space: str = "auto") -> None:
        self.space = space

    def _combine(self, space: Space, ids: Ids, places: NDArray[np.intp], size: int) -> Any:
        from scipy.sparse import csr_array

        found = sparsemax(space.new[ids[places]], space.anchors)
        lengths = np.zeros(len(ids), dtype=np.int64)
        lengths[places] = [len(numbers) for numbers, _ in found]
        columns = np.concatenate([np.zeros(0, dtype=np.int64), *(space.anchor_ids[numbers] for numbers, _ in found)])
        values = np.concatenate([np.zeros(0), *(weights for _, weights in found)])
        out = csr_array((values, columns, np.concatenate(([0], np.cumsum(lengths)))), shape=(len(ids), size))
        out.sum_duplicates()
        return out


def nearest_weights(space: Space, ids: Ids, places: NDArray[np.intp], size: int, k: int, temperature: float) -> Any:
    """``softmax(cosine / temperature)`` over the ``k`` nearest anchors, CSR ``(len(ids), size)``."""
    from scipy.sparse import csr_array

    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k={k!r} neighbours are not possible", fix="give 1 or more")
    if not temperature > 0:
        raise InputError(f"temperature={temperature!r} is not possible", fix="give a positive number")
    numbers, cosines = nearest(space.new[ids[places]], space.anchors, k)
    weights = softmax(cosines, temperature)
    rows = np.repeat(places, numbers.shape[1])
    out = csr_array((weights.ravel(), (rows, space.anchor_ids[numbers].ravel())), shape=(len(ids), size))
    out.sum_duplicates()
    return out
