"""Drafts without training: tables of what came before say what may come next, and the model checks a tree of it.

Both tables here are learned while decoding. `sememe.vocab.tree_decoding.decode` uses them; the text that comes out is
the model's own.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from sememe.catalog import Paper, register
from sememe.errors import InputError
from sememe.vocab.tree_decoding import Logits, Tree

_WIDTH = 8  # branches of a node at the most


@register(
    "trigram-draft",
    room="vocab",
    kind="draft",
    summary="lossless drafts from trigrams of a corpus and of the model's own output, the tree spread by upper bounds",
    paper=Paper("Adaptive Draft-Verification for Efficient Large Language Model Decoding", 2024, "2407.12021"),
    claim="Drafts from a trigram table that follows the model's output speed decoding up; the output stays the same.",
)
class TrigramDraft:
    """Counts of the token after two others, and a tree of the likeliest paths through them.

    A path is worth the product of its conditional probabilities; each is raised by an upper confidence bound, so that
    contexts seen seldom spread over more branches. The tree grows by the worthiest node next.

    Parameters
    ----------
    nodes : int
        Of a tree.
    depth : int
        The most tokens ahead.
    explore : float
        Weight of the bound; 0 trusts the counts.
    fresh : float
        How many occurrences of the corpus one of the model's own output counts as.
    """

    def __init__(self, nodes: int = 24, depth: int = 8, explore: float = 0.1, fresh: float = 4.0) -> None:
        if min(nodes, depth) < 1 or explore < 0 or fresh <= 0:
            raise InputError(f"nodes={nodes}, depth={depth}, explore={explore}, fresh={fresh} make no tree")
        self.nodes, self.depth, self.explore, self.fresh = nodes, depth, explore, fresh
        self._three: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)
        self._two: dict[int, dict[int, float]] = defaultdict(dict)
        self._ranked: dict[tuple[int, int], list[tuple[float, int]]] = {}

    def fit(self, sequences: Iterable[Sequence[int]]) -> TrigramDraft:
        """Count a corpus of token sequences."""
        for sequence in sequences:
            self._count([int(token) for token in sequence], 1.0)
        return self

    def _count(self, ids: Sequence[int], weight: float) -> None:
        if len(ids) > 1:
            self._add(self._two[ids[0]], ids[1], weight)
        for a, b, c in zip(ids, ids[1:], ids[2:]):
            self._add(self._three[a, b], c, weight)
            self._add(self._two[b], c, weight)
            self._ranked.pop((a, b), None)

    @staticmethod
    def _add(counts: dict[int, float], token: int, weight: float) -> None:
        counts[token] = counts.get(token, 0.0) + weight

    def begin(self, prompt: Sequence[int]) -> None:
        """Count the prompt."""
        self._count(prompt, self.fresh)

    def propose(self, context: Sequence[int]) -> Tree:
        """See `tree_decoding.Draft`."""
        tree = Tree([], [])
        depths: list[int] = []
        waiting: list[tuple[float, int, int, int, int]] = []  # minus worth, number, token, parent, the token before it
        number = itertools.count()

        def expand(worth: float, parent: int, before: int, last: int) -> None:
            for share, token in self._likely(before, last):
                heapq.heappush(waiting, (-worth * share, next(number), token, parent, last))

        expand(1.0, -1, context[-2] if len(context) > 1 else -1, context[-1])
        while waiting and len(tree) < self.nodes:
            worth, _, token, parent, before = heapq.heappop(waiting)
            tree.tokens.append(token)
            tree.parents.append(parent)
            depths.append(depths[parent] + 1 if parent >= 0 else 1)
            if depths[-1] < self.depth:
                expand(-worth, len(tree) - 1, before, token)
        return tree

    def _likely(self, before: int, last: int) -> list[tuple[float, int]]:
        """The likeliest tokens after two others, with their raised shares; after one where the two are new together."""
        known = self._ranked.get((before, last))
        if known is not None:
            return known
        counts = self._three.get((before, last))
        found = self._two.get(last, {}) if counts is None else counts
        if not found:
            return []
        total = sum(found.values())
        bound = self.explore * math.sqrt(math.log1p(total) / (1 + total))
        best = heapq.nlargest(_WIDTH, found.items(), key=lambda item: item[1])
        ranked = [(min(n / total + bound, 1.0), token) for token, n in best]
        if counts is not None:
            self._ranked[before, last] = ranked
        return ranked

    def learn(self, context: Sequence[int], accepted: Sequence[int], tree: Tree, logits: Logits) -> None:
        """Count what came."""
        ids = context[-len(accepted) - 2 :]
        for a, b, c in zip(ids, ids[1:], ids[2:]):
            self._add(self._three[a, b], c, self.fresh)
            self._add(self._two[b], c, self.fresh)
            self._ranked.pop((a, b), None)


@register(
    "adjacency-draft",
    room="vocab",
    kind="draft",
    summary="lossless drafts from the candidates that the model last had after each token",
    paper=Paper(
        "Turning Trash into Treasure: Accelerating Inference of Large Language Models with Token Recycling",
        2024,
        "2408.08696",
    ),
    claim="A small matrix of the candidates last seen after each token drafts trees that double the speed of decoding, "
    "without training.",
)
class AdjacencyDraft:
    """For every token the candidates that the model last had after it; the tree is laid out once.

    Parameters
    ----------
    vocabulary : int
    candidates : int
        Remembered for each token.
    shape : sequence of sequence of int, optional
        Each node as the ranks of the candidates on the way to it, such as ``(0,), (1,), (0, 0)``. By default nodes are
        chosen by the product of ``1 / (1 + rank) ** 1.5`` along the way.
    nodes : int
        Of the default shape.

    Attributes
    ----------
    matrix_ : int32 ndarray of shape (vocabulary, candidates)
        -1 where nothing was seen; best candidates first.
    """

    def __init__(
        self, vocabulary: int, candidates: int = 8, shape: Sequence[Sequence[int]] | None = None, nodes: int = 48
    ) -> None:
        if vocabulary < 1 or not 1 <= candidates <= vocabulary or nodes < 1:
            raise InputError(f"vocabulary={vocabulary}, candidates={candidates}, nodes={nodes} make no tree")
        self.vocabulary, self.candidates = vocabulary, candidates
        self.shape = tuple(tuple(way) for way in (balanced(candidates, nodes) if shape is None else shape))
        place = {way: number for number, way in enumerate(self.shape)}
        if any((way[:-1] and way[:-1] not in place) or not way or max(way) >= candidates for way in self.shape):
            raise InputError("the shape has a node without its parent, or a rank that is not remembered")
        if any(place.get(way[:-1], -1) >= number for number, way in enumerate(self.shape)):
            raise InputError("the shape has a child before its parent", fix="sort it by length")
        self._layout = [(place.get(way[:-1], -1), way[-1]) for way in self.shape]
        self.matrix_ = np.full((vocabulary, candidates), -1, dtype=np.int32)

    @property
    def bytes(self) -> int:
        """Of the matrix."""
        return self.matrix_.nbytes

    def begin(self, prompt: Sequence[int]) -> None:
        """What was seen in earlier texts stays."""

    def propose(self, context: Sequence[int]) -> Tree:
        """See `tree_decoding.Draft`."""
        tree = Tree([], [])
        moved = [-1] * len(self._layout)  # place in the tree of each node of the shape; -1 where it was left out
        for node, (parent, rank) in enumerate(self._layout):
            if parent >= 0 and moved[parent] < 0:
                continue
            before = tree.tokens[moved[parent]] if parent >= 0 else context[-1]
            token = int(self.matrix_[before, rank])
            if token < 0:
                continue
            tree.tokens.append(token)
            tree.parents.append(moved[parent] if parent >= 0 else -1)
            moved[node] = len(tree) - 1
        return tree

    def learn(self, context: Sequence[int], accepted: Sequence[int], tree: Tree, logits: Logits) -> None:
        """Write back the candidates after every node, taken or not."""
        read = np.array([context[-len(accepted) - 1], *tree.tokens])
        top = np.argpartition(logits[:, : self.vocabulary], -self.candidates, axis=1)[:, -self.candidates :]
        order = np.argsort(-np.take_along_axis(logits, top, axis=1), axis=1, kind="stable")
        ranked = np.take_along_axis(top, order, axis=1).astype(np.int32)
        self.matrix_[read[::-1]] = ranked[::-1]  # of a token that is read twice, the node nearest the context counts


def balanced(candidates: int, nodes: int, depth: int = 12) -> list[tuple[int, ...]]:
    """Ways to the nodes of a tree: the worthiest by the product of ``(1 + rank) ** -1.5`` and 0.9 a level."""
    waiting: list[tuple[float, tuple[int, ...]]] = [(-1.0, ())]
    out: list[tuple[int, ...]] = []
    while waiting and len(out) <= nodes:
        worth, way = heapq.heappop(waiting)
        out.append(way)
        if len(way) < depth:
            for rank in range(candidates):
                heapq.heappush(waiting, (worth * 0.9 * (1 + rank) ** -1.5, (*way, rank)))
    return sorted(out[1:], key=lambda way: (len(way), way))
