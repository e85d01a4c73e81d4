"""WECHSEL: new tokens from the old ones whose words mean the same, by bilingual word vectors."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.vocab.initialize.neighbours import nearest_weights
from sememe.vocab.initialize.rows import Ids, Initializer, Problem
from sememe.vocab.initialize.simple import normal_rows
from sememe.vocab.initialize.spaces import helper_space


@register(
    "wechsel",
    room="vocab",
    kind="initializer",
    summary="softmax-weighted mean of the old tokens nearest in bilingual word vectors",
    paper=Paper(
        "WECHSEL: Effective initialization of subword embeddings for cross-lingual transfer of monolingual language "
        "models",
        2022,
        "2112.06598",
    ),
    claim="Brings a model to another language with up to 64 times less training than from scratch.",
)
class Wechsel(Initializer):
    """The ``k`` old tokens nearest by cosine, weighted by ``softmax(cosine / temperature)``.

    A token's vector is the mean of the words that it helps to spell, weighted by how frequent they are. Tokens of no
    known word are drawn from a normal distribution with the mean and the deviations of the old rows.

    Parameters
    ----------
    k : int
    temperature : float
    """

    needs: ClassVar[tuple[str, ...]] = ("words",)

    def __init__(self, k: int = 10, temperature: float = 0.1) -> None:
        self.k = k
        self.temperature = temperature

    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        space = helper_space(problem, "words")
        return nearest_weights(space, ids, np.flatnonzero(space.new_known[ids]), len(table), self.k, self.temperature)

    def _fallback(self, problem: Problem, table: Vectors, count: int) -> NDArray[Any]:
        return normal_rows(table, count, problem.generator)
