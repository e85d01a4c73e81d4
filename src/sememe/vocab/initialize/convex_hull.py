"""Constrained word2vec: new rows inside the convex hull of the old ones, placed there by text."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from sememe import progress
from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.vocab.initialize.cooccurrence import pair_counts
from sememe.vocab.initialize.neighbours import nearest, softmax
from sememe.vocab.initialize.rows import Ids, Initializer, Problem
from sememe.vocab.initialize.spaces import helper_space

_WIDTH = 64  # dimensions in which weights are learned
_BATCH = 4096  # pairs of tokens a step
_POOL = 64  # random contexts that the pairs of a step share


@register(
    "convex-hull",
    room="vocab",
    kind="initializer",
    summary="convex sums of old rows, weights learned by skip-gram on text with the old rows frozen (CW2V)",
    paper=Paper(
        "An Empirical Comparison of Vocabulary Expansion and Initialization Approaches for Language Models",
        2024,
        "2407.05841",
    ),
    claim="Equals or beats initialisers that need bilingual vectors; a normal draw is nearly as good.",
)
class ConvexHull(Initializer):
    """``softmax(W)`` times the old rows, with ``W`` learned by skip-gram with negative samples; old rows stay frozen.

    A full ``W`` would have a number for every pair of a new and an old token. Here each new token has ``support`` old
    ones: its pieces, and the shared tokens that stand among the same tokens in the text. Sums of rows commute with
    linear maps, so the weights are learned on the old rows' leading principal components: the same weights, a
    fraction of the work. The context vectors are free, as in word2vec.

    Parameters
    ----------
    support : int
        Old tokens that can have weight, for each new token.
    passes : int
        Over all pairs of neighbouring tokens.
    rate : float
        Learning rate (AdaGrad), falling to 0.
    window, negatives : int
        Places to either side that count as context; random tokens held against each true one.
    """

    needs: ClassVar[tuple[str, ...]] = ("text",)

    def __init__(
        self, support: int = 32, passes: int = 3, rate: float = 0.2, window: int = 5, negatives: int = 5
    ) -> None:
        self.support = support
        self.passes = passes
        self.rate = rate
        self.window = window
        self.negatives = negatives

    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        from scipy.sparse import csr_array

        if min(self.support, self.passes, self.window, self.negatives) < 1 or not self.rate > 0:
            raise InputError("support, passes, rate, window and negatives of ConvexHull must be positive")
        columns, start = self._supports(problem, ids)
        rows = _principal(table, _WIDTH)
        counts = pair_counts(problem.new.encode_batch(problem.text), len(problem.new.tokens), self.window)
        logits = _Skipgram(problem, rows, ids, columns, start).learn(counts, self.passes, self.rate, self.negatives)
        known = np.isfinite(start).any(axis=1)
        weights = np.zeros(logits.shape)
        weights[known] = softmax(logits[known], 1.0)
        place = np.nonzero(weights)
        out = csr_array((weights[place], (place[0], columns[place])), shape=(len(ids), len(table)))
        out.sum_duplicates()
        return out

    def _supports(self, problem: Problem, ids: Ids) -> tuple[Ids, Vectors]:
        """Old ids ``(m, support)`` and the logits to start from; minus infinity where a place is not used."""
        space = helper_space(problem, "text")
        near, _ = nearest(space.new[ids], space.anchors, self.support)
        columns = np.zeros((len(ids), self.support), dtype=np.int64)
        start = np.full(columns.shape, -np.inf, dtype=np.float32)
        for place, number in enumerate(ids.tolist()):
            pieces = list(dict.fromkeys(problem.pieces(number)))[: self.support]
            found = space.anchor_ids[near[place]].tolist() if space.new_known[number] else []
            others = [old for old in dict.fromkeys(found) if old not in pieces][: self.support - len(pieces)]
            count = len(pieces) + len(others)
            columns[place, :count] = [*pieces, *others]
            start[place, :count] = 0
            if others:  # the pieces together begin with as much weight as the others
                start[place, : len(pieces)] = np.log(len(others) / max(len(pieces), 1))
        return columns, start


def _principal(table: Vectors, width: int) -> Vectors:
    """Leading principal components, of mean square length 1, float32 ``(v, width)``."""
    centred = table.astype(np.float64) - table.mean(axis=0, dtype=np.float64)
    _values, vectors = np.linalg.eigh(centred.T @ centred / len(table))
    found = centred @ vectors[:, ::-1][:, : min(width, table.shape[1])]
    return (found / max(np.sqrt((found**2).sum(axis=1).mean()), 1e-12)).astype(np.float32)


class _Skipgram:
    """Logits of new tokens and free context vectors of all, by AdaGrad on pairs of neighbouring tokens."""

    def __init__(self, problem: Problem, rows: Vectors, ids: Ids, columns: Ids, start: Vectors) -> None:
        size, width = len(problem.new.tokens), rows.shape[1]
        self.generator = problem.generator
        self.rows, self.columns = rows, columns
        self.logits = start.copy()
        self.place = np.full(size, -1, dtype=np.int64)  # of a new token among the logits
        known = np.isfinite(start).any(axis=1)  # the others have nothing that they could be made of
        self.place[ids[known]] = np.flatnonzero(known)
        self.frozen = np.zeros((size, width), dtype=np.float32)
        self.frozen[problem.shared[:, 0]] = rows[problem.shared[:, 1]]
        self.contexts = np.zeros((size, width), dtype=np.float32)
        self.seen = {"logits": np.zeros_like(self.logits), "contexts": np.zeros_like(self.contexts)}

    def learn(self, counts: Any, passes: int, rate: float, negatives: int) -> Vectors:
        """The logits after so many passes over pairs, drawn in proportion to their counts."""
        pairs = counts.tocoo()
        if not pairs.nnz or not len(self.logits):
            return self.logits
        reach = np.cumsum(pairs.data / pairs.data.sum())
        noise = np.bincount(pairs.col, weights=pairs.data, minlength=len(self.frozen)) ** 0.75
        noise = np.cumsum(noise / noise.sum())
        steps = passes * -(-pairs.nnz // _BATCH)
        with progress.task("constrained word2vec", total=steps, unit="batches") as step:
            for number in range(steps):
                drawn = np.minimum(np.searchsorted(reach, self.generator.random(_BATCH)), pairs.nnz - 1)
                others = np.minimum(np.searchsorted(noise, self.generator.random(_POOL)), len(noise) - 1)
                self._step(pairs.row[drawn], pairs.col[drawn], others, rate * (1 - number / steps), negatives)
                step(1)
        return self.logits

    def _step(self, centres: Ids, contexts: Ids, others: Ids, rate: float, negatives: int) -> None:
        """One batch; all its centres share the random contexts, which count as ``negatives`` in sum."""
        token, owner = np.unique(centres, return_inverse=True)
        new = self.place[token]
        made = np.flatnonzero(new >= 0)
        vectors = self.frozen[token]
        weights = softmax(self.logits[new[made]], 1.0).astype(np.float32) if len(made) else self.logits[:0]
        support = self.rows[self.columns[new[made]]]  # (made, support, width)
        vectors[made] = np.einsum("ms,msw->mw", weights, support)
        centre = vectors[owner]
        true, false = self.contexts[contexts], self.contexts[others]
        # How far each prediction is from 1 or 0: the gradients of the logistic loss.
        short = (_sigmoid(np.einsum("bw,bw->b", centre, true)) - 1)[:, None] / len(centres)
        over = _sigmoid(centre @ false.T) * np.float32(negatives / (len(others) * len(centres)))
        touched, where = np.unique(np.concatenate([contexts, others]), return_inverse=True)
        pulls = np.concatenate([short * centre, over.T @ centre]).astype(np.float32)
        self._descend("contexts", touched, _sums(where, pulls), rate)
        if len(made):
            pull = _sums(owner, np.asarray(short * true + over @ false, dtype=np.float32))[made]
            along = np.einsum("mw,msw->ms", pull, support)
            along = weights * (along - np.einsum("ms,ms->m", weights, along)[:, None])
            self._descend("logits", new[made], along, rate)

    def _descend(self, name: str, rows: Ids, gradient: Vectors, rate: float) -> None:
        seen, values = self.seen[name], getattr(self, name)
        seen[rows] += gradient**2
        values[rows] -= rate * gradient / np.sqrt(seen[rows] + 1e-12)


def _sigmoid(x: Vectors) -> Vectors:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))), dtype=np.float32)


def _sums(owner: Ids, values: Vectors) -> Vectors:
    """Sums of rows with the same owner, owners numbered from 0."""
    from scipy.sparse import csr_array

    n = len(owner)
    gather = csr_array((np.ones(n, dtype=np.float32), (owner, np.arange(n))), shape=(int(owner.max()) + 1, n))
    return np.asarray(gather @ values, dtype=np.float32)
