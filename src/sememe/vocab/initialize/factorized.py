"""OFA: the old table as coordinates of few primitives; new tokens get coordinates of old ones that mean the same."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.vocab.initialize.neighbours import nearest_weights
from sememe.vocab.initialize.rows import Ids, Initializer, Problem, Rows
from sememe.vocab.initialize.simple import normal_rows
from sememe.vocab.initialize.spaces import helper_space


class Factors(NamedTuple):
    """A table in two parts: ``coordinates @ primitives``.

    Attributes
    ----------
    coordinates : ndarray of shape (v, r)
        float32, a row a token.
    primitives : ndarray of shape (r, d)
        float32, shared by all tokens.
    """

    coordinates: Vectors
    primitives: Vectors

    @property
    def table(self) -> Vectors:
        """The product, float32 ``(v, d)``."""
        return self.coordinates @ self.primitives


def factorize(table: Vectors, rank: int) -> Factors:
    """The nearest product of that rank, by singular values; the primitives carry them, coordinates are orthonormal.

    Raises
    ------
    InputError
        A rank below 1 or above the smaller side of the table.
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= min(table.shape):
        raise InputError(
            f"rank={rank!r} is not possible for a table {table.shape}", fix=f"give 1 to {min(table.shape)}"
        )
    # d is small beside v: the eigenvectors of (d, d) are enough, in double precision.
    wide = table.astype(np.float64)
    values, vectors = np.linalg.eigh(wide.T @ wide)
    order = np.argsort(-values, kind="stable")[:rank]
    size = np.sqrt(np.maximum(values[order], 0))
    directions = vectors[:, order]
    coordinates = np.divide(wide @ directions, size, out=np.zeros((len(table), rank)), where=size > 1e-12 * size[0])
    return Factors(coordinates.astype(np.float32), (size[:, None] * directions.T).astype(np.float32))


@register(
    "ofa",
    room="vocab",
    kind="initializer",
    summary="old table factorised; new tokens take coordinates of old ones that mean the same",
    paper=Paper(
        "OFA: A Framework of Initializing Unseen Subword Embeddings for Efficient Large-scale Multilingual Continued "
        "Pretraining",
        2024,
        "2311.08849",
    ),
    claim="Faster continued pretraining with far fewer embedding parameters.",
)
class Factorized(Initializer):
    """Coordinates of new tokens are ``softmax(cosine / temperature)`` means of those of the ``k`` nearest old tokens.

    Cosines are between mean vectors of the words that tokens help to spell, in word vectors of both languages; where
    none are given, in the first other helper space there is. Tokens of no known word are drawn in the space of
    coordinates. `factors` keeps the two parts, which is what saves parameters; `weights` multiplies them out for a
    model whose table stays whole, and there shared tokens are copied exactly, not by their factors.

    Parameters
    ----------
    rank : int
        Primitives. At most the width of the table.
    k : int
    temperature : float
    """

    needs: ClassVar[tuple[str, ...]] = ("words|embed|donor|text",)

    def __init__(self, rank: int = 100, k: int = 10, temperature: float = 0.1) -> None:
        self.rank = rank
        self.k = k
        self.temperature = temperature

    def factors(self, problem: Problem, table: Vectors) -> Factors:
        """The new table in two parts: coordinates ``(v_new, rank)`` and the old table's primitives."""
        old = factorize(table, self.rank)
        return Factors(self._over(old.coordinates, problem).apply(old.coordinates), old.primitives)

    def _over(self, coordinates: Vectors, problem: Problem) -> Rows:
        """How new coordinates come from old ones."""
        return _Coordinates(self.k, self.temperature).weights(problem, coordinates)

    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        old = factorize(table, min(self.rank, *table.shape) if isinstance(self.rank, int) else self.rank)
        return self._over(old.coordinates, problem).apply(old.coordinates)[ids] @ old.primitives


class _Coordinates(Initializer):
    """The same over a table of coordinates."""

    def __init__(self, k: int, temperature: float) -> None:
        self.k = k
        self.temperature = temperature

    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        space = helper_space(problem, "words" if problem.words is not None else "auto")
        return nearest_weights(space, ids, np.flatnonzero(space.new_known[ids]), len(table), self.k, self.temperature)

    def _fallback(self, problem: Problem, table: Vectors, count: int) -> NDArray[Any]:
        return normal_rows(table, count, problem.generator)
