"""Which token sequences a Unigram tokenizer gives: the path of a word with the highest sum of scores.

If the best path of a text passes a place, its part up to there is the best path of the text up to there. So a sequence
is given just where it is the best path of what it spells, and whether a token may follow can be said at once: no other
path to its end may be better, and all that do not pass the place where it begins cross that place with one token.
"""

from __future__ import annotations

import unicodedata
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.vocab.canonical import Canonical, residuals
from sememe.vocab.tokenizer import MARKER, TokenizerFile

Mask = NDArray[np.bool_]
_PENALTY = 10.0  # of an unknown character below the lowest score, as the package tokenizers has it
_ENDS = 1 << 20  # ends of tokens whose best sums are remembered
_NEAR = 1e-6  # scores that differ by less are compared in the package's own order of sums


class BestPathRule:
    """Allowed neighbours under a Unigram tokenizer.

    Parameters
    ----------
    tokenizer : TokenizerFile
        Of kind ``unigram``.
    keep : int
        Rows that are remembered.

    Attributes
    ----------
    texts : list of bytes or None
        What each token spells, ``▁`` as a space.
    first : bool ndarray of shape (v,)
        Tokens that are their own encoding.
    canonical : Canonical

    Raises
    ------
    InputError
        A tokenizer that writes unknown characters in bytes, or cuts words in ways that are not followed.
    """

    def __init__(self, tokenizer: TokenizerFile, keep: int = 1024) -> None:
        if tokenizer.model.get("byte_fallback"):
            raise InputError(
                "a Unigram tokenizer with byte fall-back writes one character in bytes or as a token, as scores around "
                "it have it",
                where=tokenizer.where,
                fix="there is no exact law of bytes for it here",
            )
        self.tokenizer, self.canonical = tokenizer, Canonical(tokenizer)
        self._keep, self._rows = keep, OrderedDict[tuple[int, ...], Mask]()
        self._sums: OrderedDict[tuple[int, ...], list[float]] = OrderedDict()
        self._ends: dict[str, float] = {}
        self._whole = tokenizer.across
        silent = tokenizer.special | tokenizer.added_ids
        pairs = [(str(token), float(score)) for token, score in tokenizer.model["vocab"]]
        self._scores = {token: score for token, score in pairs if token}
        self._unknown = min(self._scores.values()) - _PENALTY
        self._longest = max(map(len, self._scores))
        self._all = sorted(self._scores)
        size = len(tokenizer.tokens)
        self.texts: list[bytes | None] = [None] * size
        self.first = np.zeros(size, dtype=np.bool_)
        self._names = [""] * size
        for number, (token, _) in enumerate(pairs):
            if number in silent or not token:
                continue
            self._names[number] = token
            self.texts[number] = token.replace(MARKER, " ").encode("utf-8", "surrogatepass")
            alone = tokenizer.backend.model.tokenize(token)
            self.first[number] = len(alone) == 1 and alone[0].id == number and self._read(token)
        usable = sorted((self._names[number], number) for number in np.flatnonzero(self.first).tolist())
        self._order = np.array([number for _, number in usable], dtype=np.int64)
        self._sorted = [name for name, _ in usable]
        self._own = np.array([self._scores[name] for name in self._sorted])
        self._above = 0.0 if max(self._scores.values()) <= 0 else np.inf
        self._begins = np.array([name.startswith(MARKER) for name in self._names])
        # A mark may melt into the character before it, as é does: those are looked at where they stand.
        self._marks = [n for n in self._order.tolist() if _melts(self._names[n][0])]
        self._added = [str(token["content"]) for token in tokenizer.added if token["content"]]

    def _read(self, token: str) -> bool:
        """Whether a token can stand in a text as it is read, cut nowhere inside."""
        if not self._whole and MARKER in token[1:]:
            return False
        plain = token.replace(MARKER, " ")
        inside = "x" + plain + "x"
        return (
            token == MARKER or self.canonical.text(inside) == inside or self.canonical.text("x" + plain) == "x" + plain
        )

    def mask(self, tokens: Sequence[int]) -> Mask:
        """Tokens that may follow these, bool ``(v,)``; do not write into it."""
        if not tokens:
            return self.first
        word = self._word(tokens)
        found = self._rows.get(word)
        if found is None:
            found = self._rows[word] = self._row(word)
            if len(self._rows) > self._keep:
                self._rows.popitem(last=False)
        return found

    def accepts(self, tokens: Sequence[int]) -> bool:
        """Whether a text begins with these: the last word is cut into its tokens where it ends here.

        No word is a space alone where it ends, so there must be one that goes on from it.
        """
        word = self._word(tokens)
        text = "".join(self._names[number] for number in word)
        if text == MARKER and not self.mask(tokens).any():
            return False
        return [token.id for token in self.tokenizer.backend.model.tokenize(text)] == list(word)

    def _word(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """The tokens that are cut together with what follows: of the last word, or all."""
        if self._whole:
            return tuple(tokens)
        start = len(tokens)
        while start:
            start -= 1
            if self._begins[tokens[start]]:
                break
        return tuple(tokens[start:])

    def _row(self, word: tuple[int, ...]) -> Mask:
        from bisect import bisect_left

        row = self.first.copy()
        text = "".join(self._names[number] for number in word)
        if not self._whole:
            row &= ~self._begins  # those begin another word, and meet nothing across
        sums = self._paths(word)
        place = len(text)
        gains: dict[str, float] = {}
        for back in range(1, min(self._longest, place) + 1):
            held = text[place - back :]
            for rest in residuals(self._all, held):
                if self._whole or MARKER not in rest:
                    gain = sums[place - back] + self._scores[held + rest]
                    gains[rest] = max(gains.get(rest, -np.inf), gain)
        for content in self._added:
            for length in range(1, len(content)):
                if text.replace(MARKER, " ").endswith(content[:length]):
                    gains[content[length:].replace(" ", MARKER)] = np.inf
        for rest, gain in gains.items():
            low = bisect_left(self._sorted, rest)
            high = bisect_left(self._sorted, rest + chr(0x10FFFF), low)
            # Where no score is above zero, what is behind can only lower the other path.
            open_ = self._own[low:high] + (sums[place] - self._above) <= gain + _NEAR
            for at in (low + np.flatnonzero(open_)).tolist():
                number = int(self._order[at])
                if row[number]:
                    row[number] = self._wins(word, sums[place], number, gain, self._sorted[at][len(rest) :])
        for number in self._marks:
            if row[number]:
                whole = ("x" + text + self._names[number]).replace(MARKER, " ")
                row[number] = self.canonical.text(whole) == whole
        if not self._whole:
            blank = self.canonical.spaced and text == MARKER  # where words are apart by one space, none is empty
            row |= self.first & self._begins & (not blank)
        return row

    def _wins(self, word: tuple[int, ...], reached: float, number: int, gain: float, behind: str) -> bool:
        """Whether a token beats the best path that crosses its beginning and is at ``gain`` where ``behind`` begins."""
        if gain == np.inf:
            return False
        other = gain + self._best(behind)
        own = reached + self._scores[self._names[number]]
        return own > other if abs(own - other) > _NEAR else self.accepts((*word, number))

    def _best(self, text: str) -> float:
        """The highest sum of scores of a path."""
        found = self._ends.get(text)
        if found is None:
            if len(self._ends) > _ENDS:
                self._ends.clear()
            found = self._ends[text] = self._extended([0.0], "", text)[-1]
        return found

    def _paths(self, word: tuple[int, ...]) -> list[float]:
        """The highest sum of scores up to each place of what these tokens spell."""
        found = self._sums.get(word)
        if found is None:
            before = self._paths(word[:-1]) if len(word) > 1 else [0.0]
            text = "".join(self._names[number] for number in word[:-1])
            found = self._sums[word] = self._extended(before, text, self._names[word[-1]])
            if len(self._sums) > self._keep:
                self._sums.popitem(last=False)
        return found

    def _extended(self, sums: list[float], text: str, more: str) -> list[float]:
        """Sums up to each place of a text that goes on."""
        whole, out = text + more, list(sums)
        for stop in range(len(text) + 1, len(whole) + 1):
            best = -np.inf
            for start in range(max(0, stop - self._longest), stop):
                score = self._scores.get(whole[start:stop])
                if score is None and start == stop - 1:
                    score = self._unknown
                if score is not None:
                    best = max(best, out[start] + score)
            out.append(best)
        return out


def _melts(character: str) -> bool:
    """Whether normalisation may join a character with the one before: combining marks, and Hangul's inner letters."""
    return unicodedata.combining(character) > 0 or 0x1160 <= ord(character) <= 0x11FF or character in "\u3099\u309a"
