"""TokenAdapt: a local estimate from a token's pieces and a global one from tokens that mean the same, blended."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from sememe.catalog import Paper, register
from sememe.contracts import Vectors, unit_rows
from sememe.errors import InputError
from sememe.vocab.initialize.neighbours import nearest, softmax
from sememe.vocab.initialize.rows import Ids, Initializer, Problem
from sememe.vocab.initialize.spaces import embedded, spoken


@register(
    "hybrid-init",
    room="vocab",
    kind="initializer",
    summary="pieces weighted by meaning and length, blended with the old tokens nearest in a text encoder",
    paper=Paper(
        "Achieving Tokenizer Flexibility in Language Models through Heuristic Adaptation and Supertoken Learning",
        2025,
        "2505.09738",
    ),
    claim="A perplexity ratio at least twice as good as the mean of pieces.",
)
class Hybrid(Initializer):
    """``(1 - share) * local + share * global``; where only one of the two exists, that one.

    The local estimate weighs the old pieces of the new token by ``softmax((cosine + length) / 2 / temperature)``: the
    cosine of the piece and the whole in a text encoder, and the piece's share of the token's characters. The global one
    weighs the ``k`` old tokens of the largest cosine by ``softmax(cosine / temperature)``; those below ``least`` are
    not near and do not count.

    Parameters
    ----------
    share : float
        Weight of the global estimate, 0 to 1.
    k : int
    temperature : float
    least : float
    """

    needs: ClassVar[tuple[str, ...]] = ("embed",)

    def __init__(self, share: float = 0.3, k: int = 3, temperature: float = 0.3, least: float = 0.6) -> None:
        self.share = share
        self.k = k
        self.temperature = temperature
        self.least = least

    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        from scipy.sparse import csr_array

        if not 0 <= self.share <= 1 or not self.temperature > 0 or self.k < 1:
            raise InputError(
                f"share={self.share!r}, k={self.k!r}, temperature={self.temperature!r} are not possible for Hybrid",
                fix="share from 0 to 1, the others positive",
            )
        new, old = unit_rows(embedded(problem, problem.new)), unit_rows(embedded(problem, problem.old))
        rows: list[int] = []
        columns: list[int] = []
        weights: list[float] = []
        near, cosines = self._nearest(new[ids], old)
        for place, number in enumerate(ids.tolist()):
            local, at = self._local(problem, number, new, old)
            close = cosines[place] >= self.least
            share = self.share if close.any() and local else float(close.any())
            if local:
                rows += [place] * len(local)
                columns += local
                weights += ((1 - share) * at).tolist()
            if close.any():
                rows += [place] * int(close.sum())
                columns += near[place, close].tolist()
                weights += (share * softmax(cosines[place, close], self.temperature)).tolist()
        out = csr_array((weights, (rows, columns)), shape=(len(ids), len(table)))
        out.sum_duplicates()
        out.eliminate_zeros()
        return out

    def _nearest(self, queries: Vectors, old: Vectors) -> tuple[Any, Any]:
        known = np.flatnonzero(old.any(axis=1))
        numbers, cosines = nearest(queries, np.ascontiguousarray(old[known]), self.k)
        cosines[~queries.any(axis=1)] = -1  # no text, no neighbours
        return known[numbers], cosines

    def _local(self, problem: Problem, number: int, new: Vectors, old: Vectors) -> tuple[list[int], Any]:
        """Pieces and their weights."""
        pieces = problem.pieces(number)
        if not pieces:
            return [], None
        whole = len(spoken(problem.new, number))
        lengths = np.array([len(spoken(problem.old, piece)) for piece in pieces]) / max(whole, 1)
        cosine = old[pieces] @ new[number]
        return pieces, softmax((cosine + np.minimum(lengths, 1)) / 2, self.temperature)
