"""All token sequences that cover a byte string, and what a model says about them.

A cover is kept as its stem, the tokens before its last one, and the range of last tokens that are still possible:
tokens in the order of their bytes that begin with what the text has behind the stem are neighbours.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.vocab.token_law import Law, TokenLaw, score

END = 256  # the outcome that the text ends here
NOTHING = -np.inf
_KEEP_BYTES = 1 << 27
_KEEP_SCORES = 1 << 16


class Rule(Protocol):
    """Which token sequences the tokenizer gives; see `sememe.vocab.pair_rule.PairRule`."""

    def mask(self, tokens: Sequence[int]) -> NDArray[np.bool_]:
        """Tokens that may follow these, bool ``(v,)``; ``first`` where there are none."""
        ...

    def accepts(self, tokens: Sequence[int]) -> bool:
        """Whether tokens that may follow one another are a beginning that the tokenizer gives."""
        ...


@dataclass(frozen=True, slots=True)
class Stem:
    """The tokens of covers before their last one, and which last tokens are still possible.

    Attributes
    ----------
    tokens : tuple of int
    depth : int
        Bytes of the text behind the stem, which the last token must begin with.
    low, high : int
        Range of the last tokens, in the order of their bytes.
    """

    tokens: tuple[int, ...]
    depth: int
    low: int
    high: int


class Covers:
    """Stems of a model and its vocabulary.

    Parameters
    ----------
    token_law : TokenLaw
    token_bytes : sequence of bytes or None, of length v
    rule : Rule, optional
    end : collection of int
    prune : float
        See `ByteLevelModel` for all of them.

    Attributes
    ----------
    order : int64 ndarray of shape (t,)
        Tokens that spell something, in the order of their bytes.
    evaluations : int
        Prefixes that the model was asked about so far.
    """

    def __init__(
        self,
        token_law: TokenLaw,
        token_bytes: Sequence[bytes | None],
        *,
        rule: Rule | None,
        end: Collection[int],
        prune: float,
    ) -> None:
        self.token_law, self.rule, self.prune = token_law, rule, prune
        self.size = len(token_bytes)
        known = [number for number, text in enumerate(token_bytes) if text and number not in end]
        if not known:
            raise InputError("no token spells anything", fix="give the bytes of each token")
        known.sort(key=lambda number: token_bytes[number] or b"")
        self.order = np.array(known, dtype=np.int64)
        self._end = np.array(sorted(end), dtype=np.int64)
        self._place = {number: place for place, number in enumerate(known)}
        width = max(len(token_bytes[n] or b"") for n in known)
        self._bytes = np.full((len(known), width + 1), -1, dtype=np.int16)  # a column more: -1 marks where tokens end
        for place, number in enumerate(known):
            text = token_bytes[number] or b""
            self._bytes[place, : len(text)] = np.frombuffer(text, dtype=np.uint8)
        self.evaluations = 0
        self._keep = max(64, _KEEP_BYTES // (8 * len(known)))
        self._vectors: OrderedDict[tuple[int, ...], tuple[Law, float]] = OrderedDict()
        self._scores: OrderedDict[tuple[int, ...], float] = OrderedDict()
        self.whole = Stem((), 0, 0, len(known))

    def step(self, stems: Sequence[Stem], byte: int) -> tuple[Stem, ...]:
        """Stems after one more byte."""
        out: list[Stem] = []
        for stem in stems:
            column = self._bytes[stem.low : stem.high, stem.depth]
            low = stem.low + int(np.searchsorted(column, byte, "left"))
            high = stem.low + int(np.searchsorted(column, byte, "right"))
            if low == high:
                continue
            allowed = self._allowed(stem.tokens, low, high)
            if not allowed.any():
                continue
            narrowed = Stem(stem.tokens, stem.depth + 1, low, high)
            out.append(narrowed)
            ending = int(np.searchsorted(self._bytes[low:high, narrowed.depth], -1, "right"))
            for place in np.flatnonzero(allowed[:ending]).tolist():  # tokens that end with this byte
                tokens = (*stem.tokens, int(self.order[low + place]))
                if self.rule is None or self.rule.accepts(tokens):
                    out.append(Stem(tokens, 0, 0, len(self.order)))
        return tuple(out)

    def _allowed(self, tokens: tuple[int, ...], low: int, high: int) -> NDArray[np.bool_]:
        """Which of the tokens ``low`` to ``high``, in the order of bytes, may come next."""
        if self.rule is None:
            return np.ones(high - low, dtype=np.bool_)
        return self.rule.mask(tokens)[self.order[low:high]]

    def score(self, tokens: tuple[int, ...]) -> float:
        """Log-probability of a sequence of tokens."""
        if not tokens:
            return 0.0
        found = self._scores.get(tokens)
        if found is None:
            before = tokens[:-1]
            vector = self._vectors.get(before)
            if not before or (vector is not None and before in self._scores):
                found = self.score(before) + float(self.vector(before)[0][self._place[tokens[-1]]])
            else:
                found = float(score(self.token_law, tokens).sum())
            self._scores[tokens] = found
            if len(self._scores) > _KEEP_SCORES:
                self._scores.popitem(last=False)
        return found

    def vector(self, tokens: tuple[int, ...]) -> tuple[Law, float]:
        """Log-probabilities of the next token in the order of bytes, and of the end."""
        if tokens not in self._vectors:
            self._evaluate([tokens])
        self._vectors.move_to_end(tokens)
        return self._vectors[tokens]

    def _evaluate(self, wanted: Sequence[tuple[int, ...]]) -> None:
        rows = self.token_law.log_probs(wanted)
        if rows.shape[1] < self.size:
            raise InputError(f"the model gives {rows.shape[1]} tokens and the tokenizer has {self.size}")
        self.evaluations += len(wanted)
        for tokens, row in zip(wanted, rows):
            end = float(np.logaddexp.reduce(row[self._end])) if len(self._end) else NOTHING
            costs = row[self.order]
            costs[~self._allowed(tokens, 0, len(costs))] = NOTHING
            self._vectors[tokens] = costs, end
        while len(self._vectors) > max(self._keep, len(wanted)):
            self._vectors.popitem(last=False)

    def covered(self, stem: Stem) -> float:
        """Log-probability of the covers of one stem that are not covers of a longer stem too."""
        base = self.score(stem.tokens)
        if not stem.depth:
            return base
        return base + float(np.logaddexp.reduce(self._onward(stem)[1], initial=NOTHING))

    def _onward(self, stem: Stem) -> tuple[NDArray[np.int16], Law]:
        """Next bytes and log-probabilities of the tokens that go on; those that end here are stems of their own."""
        column = self._bytes[stem.low : stem.high, stem.depth]
        over = int(np.searchsorted(column, -1, "right"))
        return column[over:], self.vector(stem.tokens)[0][stem.low + over : stem.high]

    def worth(self, groups: Sequence[Sequence[Stem]]) -> list[list[Stem]]:
        """Of each group the stems that carry more than ``prune`` of its probability, all asked about.

        A stem carries at most the probability of its own tokens; the model is asked about the ones that may matter, in
        one batch for all groups, until what is left cannot.
        """
        if not self.prune:
            self._prepare([stem for stems in groups for stem in stems])
            return [list(stems) for stems in groups]
        bounds = [[self.score(stem.tokens) for stem in stems] for stems in groups]
        kept: list[list[bool]] = [[False] * len(stems) for stems in groups]
        totals = [NOTHING] * len(groups)
        while True:
            asked: list[tuple[int, int]] = []
            for group, costs in enumerate(bounds):
                left = [cost for cost, known in zip(costs, kept[group]) if not known]
                least = max(totals[group], max(left, default=NOTHING) if totals[group] == NOTHING else NOTHING)
                least += np.log(self.prune)
                asked += [(group, n) for n, cost in enumerate(costs) if cost > least and not kept[group][n]]
            if not asked:
                break
            self._prepare([groups[group][n] for group, n in asked])
            for group, n in asked:
                kept[group][n] = True
                totals[group] = float(np.logaddexp(totals[group], self.covered(groups[group][n])))
        return [[stem for stem, used in zip(stems, uses) if used] for stems, uses in zip(groups, kept)]

    def _prepare(self, stems: Sequence[Stem]) -> None:
        """Ask the model about all these stems in one batch."""
        wanted = list(dict.fromkeys(stem.tokens for stem in stems if stem.tokens not in self._vectors))
        if wanted:
            self._evaluate(wanted)

    def branches(self, stems: Sequence[Stem]) -> Law:
        """Log-probability of each next byte, and of the end, together with the text: float64 ``(257,)``."""
        total = np.full(END + 1, NOTHING)
        for stem in self.worth([stems])[0]:
            column, costs = self._onward(stem)
            base = self.score(stem.tokens)
            if not stem.depth:
                total[END] = np.logaddexp(total[END], base + self.vector(stem.tokens)[1])
            most = costs.max(initial=NOTHING)
            if most == NOTHING or base == NOTHING:
                continue
            starts = np.append(0, np.flatnonzero(np.diff(column)) + 1)
            with np.errstate(divide="ignore"):
                sums = np.log(np.add.reduceat(np.exp(costs - most), starts)) + (base + most)
            total[column[starts]] = np.logaddexp(total[column[starts]], sums)
        return total
