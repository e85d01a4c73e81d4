"""Many more tokens than a model has, with rows made for them, and the best of them for a state without trying all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.errors import InputError, MissingDependency
from sememe.kernels.graph import LinkGraph
from sememe.vocab.dynamic import word_numbers
from sememe.vocab.tokenizer import TokenizerFile

MadeRows = Callable[[Sequence[Sequence[int]]], Vectors]
"""Tokens of the tokenizer that spell each new one, to rows ``(t, m, d)``: one table, or input and output."""
_DEGREE, _WIDE = 32, 128
_SEARCH = 384  # rows kept on a walk
_AT_ONCE = 4_096


def whole_words(tokenizer: TokenizerFile, texts: Sequence[str], size: int) -> list[tuple[int, ...]]:
    """The most frequent words of a text that are more than one token, as the tokens that spell them.

    Parameters
    ----------
    tokenizer : TokenizerFile
    texts : sequence of str
    size : int
        How many at the most.
    """
    counts: Counter[tuple[int, ...]] = Counter()
    for text in texts:
        ids, words = word_numbers(tokenizer, text, special=False)
        start = 0
        for stop in range(1, len(ids) + 1):
            if stop == len(ids) or words[stop] < 0 or words[stop] != words[start]:
                if stop - start > 1:
                    counts[tuple(ids[start:stop])] += 1
                start = stop
    return [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:size]]


class LargeVocabulary:
    """The tokenizer's own tokens, and words behind them.

    Scores are inner products of a state with output rows. Rows get a coordinate more, so that all have the same norm
    and the nearest row is the one with the largest product (Bachrach et al. 2014); a graph of neighbours over int8
    copies finds candidates, which are scored again as they are. Without the native core all rows are tried.

    Parameters
    ----------
    words : sequence of sequences of int
        Tokens that spell each further one.
    into, out : float32 ndarrays of shape (v, d)
        The model's tables.
    bias : float32 ndarray of shape (v,), optional
        Of the output.
    rows : MadeRows
        Makes the rows of the words.
    exact : bool
        Try all rows.
    """

    def __init__(
        self,
        words: Sequence[Sequence[int]],
        into: Vectors,
        out: Vectors,
        rows: MadeRows,
        *,
        bias: NDArray[np.float32] | None = None,
        exact: bool = False,
    ) -> None:
        if any(not word or min(word) < 0 or max(word) >= len(into) for word in words):
            raise InputError("a word has no tokens, or ids outside the table", fix="give ids of the tokenizer")
        self.base, self.words = len(into), [tuple(word) for word in words]
        parts = [rows(self.words[at : at + _AT_ONCE]) for at in range(0, len(self.words), _AT_ONCE)]
        made = np.concatenate(parts, axis=1) if parts else np.zeros((1, 0, into.shape[1]), np.float32)
        if made.ndim != 3 or made.shape[1:] != (len(self.words), into.shape[1]):
            raise InputError(f"{len(self.words)} words got rows of shape {made.shape}")
        self.into = np.concatenate((into, made[0]))
        whole = np.concatenate((out, made[-1]))
        extra = np.zeros(len(whole), dtype=np.float32) if bias is None else np.pad(bias, (0, len(self.words)))
        self.out = np.ascontiguousarray(np.column_stack((whole, extra)))  # a state gets a 1 for the bias
        self._graph = None if exact else self._linked()

    def __len__(self) -> int:
        return len(self.out)

    def _linked(self) -> LinkGraph | None:
        squares = np.einsum("ij,ij->i", self.out, self.out, dtype=np.float64)
        level = np.sqrt(np.maximum(squares.max(initial=0.0) - squares, 0))
        whole = np.column_stack((self.out, level))
        self._codes = np.rint(whole * (127.0 / max(np.abs(whole).max(initial=0.0), 1e-30))).astype(np.int8)
        try:
            return LinkGraph.build(self._codes, _DEGREE, _WIDE)
        except MissingDependency:
            return None

    def spelled(self, number: int) -> tuple[int, ...]:
        """The tokenizer's ids of a token."""
        return (number,) if number < self.base else self.words[number - self.base]

    def best(self, state: NDArray[np.float32], k: int = 1) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The ``k`` tokens with the largest scores that were found, best first, and their scores.

        Parameters
        ----------
        state : float32 ndarray of shape (d,)
            What the model's head would multiply with its output table.
        k : int
        """
        query = np.append(state.astype(np.float64), 1.0)
        if self._graph is None:
            places = np.arange(len(self.out))
        else:
            walk = np.append(query, 0.0)[None]
            places = self._graph.search(self._codes, walk, max(_SEARCH, k), max(_SEARCH, k))[1][0]
            places = places[places >= 0]
        scores = self.out[places] @ query
        order = np.argsort(-scores, kind="stable")[:k]
        return places[order].astype(np.int64), scores[order]
