"""Late interaction: a passage keeps a vector for each token, or fewer within a budget, and is scored by MaxSim.

Searching has two steps. Candidates come from the codes' own centres: a query vector looks up the passages listed under
the centres nearest to it and gives them the centre's score, and passages in none of its lists get the score of the next
centre. Then MaxSim over all codes of the best candidates decides. Codes without centres, and few passages, are
scored exhaustively.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import Ragged, Vectors
from sememe.errors import CorruptIndex, InputError
from sememe.index import pooling, ragged
from sememe.index.best import TopK
from sememe.index.scan import gather, verify
from sememe.kernels import native
from sememe.kernels.maxsim import best_sums, blocks

_BUDGETS = (8, 32)  # vectors a passage that a planner measures
SCRATCH = 1 << 20  # inner products at a time: 4 MiB of float32
Ranked = tuple[NDArray[np.float32], NDArray[np.int64]]


@register(
    "multivector",
    room="index",
    kind="index",
    summary="A vector for each token, or fewer within a budget; candidates through centres, then exact MaxSim.",
    paper=Paper("PLAID: An Efficient Engine for Late Interaction Retrieval", 2022, "2205.09707"),
    claim="Late interaction over MiniLM's own token vectors ranks better than its single vector, and a quarter of the "
    "vectors, pooled, keeps at least 97 % of nDCG@10.",
    exact=False,
)
class MultiVector:
    """``multivector[:budget][,pool=ward][,probe=8][,candidates=256]``, best over ``residual`` codes.

    The lists and their imputed scores follow PLAID and Rethinking the Role of Token Retrieval in Multi-Vector
    Retrieval (2023, arXiv 2304.01982); the score is the mean over the query's vectors, so that a passage of the same
    text scores 1.

    Parameters
    ----------
    budget : int or float
        The most vectors a passage keeps, 0 for all; or the share of its own between 0 and 1.
    pool : {"ward", "sequential", "prefix"}
        How more become fewer (token pooling, 2024, arXiv 2409.14683): see ``index.pooling``.
    probe : int
        Centres looked up for each vector of a query.
    candidates : int
        Passages that are scored exactly; four times ``k`` where that is more. ``ef`` in a search overrides it.
    """

    sparse = False
    multi = True

    def __init__(self, budget: int | float = 0, *, pool: str = "ward", probe: int = 8, candidates: int = 256) -> None:
        self.budget = pooling.check_budget(budget)
        if pool not in pooling.POOLINGS:
            raise InputError(f"multivector has no pooling {pool!r}", fix=f"use {', '.join(pooling.POOLINGS)}")
        for name, value, high in (("probe", probe, 65_536), ("candidates", candidates, 10_000_000)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
                raise InputError(f"multivector {name} must be a whole number from 1 to {high:,}, got {value!r}")
        self.pooling, self.probe, self.candidates = pool, probe, candidates

    @classmethod
    def sweep_tokens(cls, count: float) -> list[str]:
        """Budgets worth measuring where the median passage has ``count`` vectors, the smallest first, at last all."""
        return [*(f"multivector:{budget}" for budget in _BUDGETS if 2 * budget <= count), "multivector"]

    def pool(self, tokens: Ragged) -> Ragged:
        """The vectors that are stored of passages' token vectors: unit rows, within the budget."""
        return pooling.pool(tokens, self.budget, self.pooling)

    def vectors(self, counts: NDArray[np.int64]) -> int:
        """How many vectors are stored of passages with so many tokens each, ``(n,)``."""
        return int(pooling.counts_within(counts, self.budget).sum())

    def build(self, blocks: Iterable[Vectors], dim: int) -> None:
        """No graph."""
        return None

    def graph_bytes(self, n: int, dim: int) -> int:
        """No graph, no bytes."""
        return 0

    def search(
        self,
        segment: Any,
        quantizer: Any,
        Q: Ragged,
        k: int,
        rows: NDArray[np.int64] | None,
        filtered: bool,
        effort: int | None = None,
    ) -> Ranked:
        """The ``k`` best passages of a segment for each query; ``rows`` are those allowed (None: all).

        Filters choose among the candidates before they are counted, so none is lost to a passage that is not allowed;
        where few are allowed, all of them are scored.
        """
        counts = np.maximum(np.diff(Q.offsets), 1)
        Q = Ragged(np.asarray(Q.values / np.repeat(counts, counts)[:, None], dtype=np.float32), Q.offsets)
        allowed = np.arange(segment.passages) if rows is None else rows
        wanted = min(k, len(allowed))
        depth = max(effort or self.candidates, 4 * wanted)
        best = TopK(len(Q), wanted)
        if not segment.ragged.listed or len(allowed) <= 2 * depth:
            for chosen, scores in _scored(segment, quantizer, Q, allowed):
                best.add(scores, chosen)
            return best.result()
        for query in range(len(Q)):
            one = Ragged(Q[query], np.array([0, len(Q[query])]))
            for chosen, scores in _scored(
                segment, quantizer, one, self._nearest(segment, quantizer, one, allowed, depth)
            ):
                best.offer(query, scores[0], chosen)
        return best.result()

    def _nearest(
        self, segment: Any, quantizer: Any, Q: Ragged, allowed: NDArray[np.int64], depth: int
    ) -> NDArray[np.int64]:
        """The ``depth`` allowed passages with the best scores by centres alone, ascending."""
        scores = quantizer.cell_scores(Q.values)
        probe = min(self.probe, scores.shape[1] - 1)
        total = np.zeros(segment.passages, dtype=np.float32)
        gain = np.empty(segment.passages, dtype=np.float32)
        for line in scores:
            order = np.argpartition(-line, probe)[: probe + 1]
            missing, *cells = order[np.argsort(line[order], kind="stable")].tolist()
            lists = [segment.ragged.members(cell) for cell in cells]
            if not lists:
                continue
            found = np.concatenate(lists)
            # The best centres come last, and of several assignments to one place the last one stays.
            gain[found] = np.repeat(line[cells] - line[missing], [len(members) for members in lists])
            total[found] += gain[found]
        chosen = np.argpartition(-total[allowed], depth)[:depth]
        return np.asarray(np.sort(allowed[chosen]))


def _scored(
    segment: Any, quantizer: Any, Q: Ragged, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """MaxSim of queries with ascending passages: some of the rows, and scores ``(q, their number)``, block by block."""
    try:
        if len(Q.values):
            yield from _blocks_scored(segment, quantizer, Q, rows)
    except IndexError as error:
        raise CorruptIndex(f"the codes of the vectors are damaged: {error}", fix="run: sememe verify") from None


def _blocks_scored(
    segment: Any, quantizer: Any, Q: Ragged, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    offsets = segment.ragged.offsets
    core = native.core()
    compiled = None if core is None else quantizer.native_maxsim(Q.values)
    if compiled is not None:  # codes are read where they lie, so only the scores need room
        step = max(1024, SCRATCH // len(Q))
        for start in range(0, len(rows), step):
            chosen = rows[start : start + step]
            if segment.ensure_codes is not None:
                verify(segment.codes, ragged.positions(offsets, chosen), segment.ensure_codes)
            yield chosen, compiled.scores(segment.codes, Q.offsets, offsets[chosen], offsets[chosen + 1], core)
        return
    score = quantizer.scorer(Q.values)
    ends = ragged.offsets_of(offsets[rows + 1] - offsets[rows])
    for start, stop in blocks(ends, max(1, SCRATCH // len(Q.values))):
        chosen = rows[start:stop]
        codes = gather(segment.codes, ragged.positions(offsets, chosen), segment.ensure_codes)
        yield chosen, best_sums(score(codes), Q.offsets, ends[start : stop + 1] - ends[start])
