"""Which token sequences WordPiece gives: at every place of a word the longest token that fits.

A sequence is the encoding of its text just where no token of it could have been longer: whenever a longer token begins
with it, what follows must leave that token's path. What the longer ones still lack is carried along a word.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sememe.vocab.canonical import Canonical, residuals
from sememe.vocab.tokenizer import TokenizerFile

Mask = NDArray[np.bool_]


class GreedyRule:
    """Allowed neighbours under WordPiece.

    Parameters
    ----------
    tokenizer : TokenizerFile
        Of kind ``wordpiece``.
    keep : int
        Rows that are remembered.

    Attributes
    ----------
    texts : list of bytes or None
        What each token spells: a space before it where it begins a word.
    first : bool ndarray of shape (v,)
        Tokens that begin a word.
    canonical : Canonical
    """

    def __init__(self, tokenizer: TokenizerFile, keep: int = 1024) -> None:
        self.tokenizer, self.canonical = tokenizer, Canonical(tokenizer)
        self._keep, self._rows = keep, OrderedDict[tuple[int, ...], Mask]()
        self._left: OrderedDict[tuple[int, ...], frozenset[str]] = OrderedDict()
        model = tokenizer.model
        prefix = str(model.get("continuing_subword_prefix") or "##")
        self._most = int(model.get("max_input_chars_per_word", 100))
        size = len(tokenizer.tokens)
        self.texts: list[bytes | None] = [None] * size
        self.first = np.zeros(size, dtype=np.bool_)
        self._names: list[str] = [""] * size
        self._continues, self._goes_on = self.first.copy(), self.first.copy()
        silent = tokenizer.special | tokenizer.added_ids
        for token, number in tokenizer.entries():
            if number in silent:
                continue
            inside = token.startswith(prefix) and len(token) > len(prefix)
            name = token[len(prefix) :] if inside else token
            self._names[number] = name
            if inside:
                self._continues[number] = self.canonical.words("x" + name) == ["x" + name]
                self._goes_on[number] = True
            else:
                self.first[number] = self.canonical.words(token) == [token]
                self._goes_on[number] = self.canonical.words(token + "x") == [token + "x"]
            self.texts[number] = ("" if inside else " ").encode() + name.encode("utf-8", "surrogatepass")
        # Longest-match looks at tokens that no text would give, too.
        words = [(token, number) for token, number in tokenizer.entries() if not token.startswith(prefix)]
        self._starts = sorted(token for token, _ in words)
        parts = [(t[len(prefix) :], n) for t, n in tokenizer.entries() if t.startswith(prefix) and len(t) > len(prefix)]
        self._parts = sorted(name for name, _ in parts)
        usable = sorted((name, number) for name, number in parts if self._continues[number])
        self._order = np.array([number for _, number in usable], dtype=np.int64)
        self._sorted = [name for name, _ in usable]
        self._lengths = np.array([len(name) for name in self._names], dtype=np.int64)

    def mask(self, tokens: Sequence[int]) -> Mask:
        """Tokens that may follow these, bool ``(v,)``; do not write into it."""
        word = self._word(tokens)
        if not word or not self._goes_on[word[-1]]:
            return self.first
        found = self._rows.get(word)
        if found is None:
            found = self._rows[word] = self._row(word)
            if len(self._rows) > self._keep:
                self._rows.popitem(last=False)
        return found

    def accepts(self, tokens: Sequence[int]) -> bool:
        """Whether the last word, if it ends here, is cut into these tokens."""
        word = self._word(tokens)
        return self.tokenizer.encode("".join(self._names[number] for number in word)) == list(word)

    def _word(self, tokens: Sequence[int]) -> tuple[int, ...]:
        start = len(tokens)
        while start:
            start -= 1
            if self.first[tokens[start]]:
                break
        return tuple(tokens[start:])

    def _row(self, word: tuple[int, ...]) -> Mask:
        from bisect import bisect_left

        row = self.first.copy()
        on = np.zeros(len(self._order), dtype=np.bool_)
        on[:] = self._lengths[self._order] <= self._most - int(self._lengths[list(word)].sum())
        for rest in self._open(word):
            low = bisect_left(self._sorted, rest)
            on[low : bisect_left(self._sorted, rest + chr(0x10FFFF), low)] = False
        row[self._order[on]] = True
        return row

    def _open(self, word: tuple[int, ...]) -> frozenset[str]:
        """What longer tokens than those of a word still lack."""
        found = self._left.get(word)
        if found is None:
            name = self._names[word[-1]]
            fresh = residuals(self._starts if len(word) == 1 else self._parts, name)
            before = self._open(word[:-1]) if len(word) > 1 else frozenset()
            found = frozenset([*fresh, *(rest[len(name) :] for rest in before if rest.startswith(name))])
            self._left[word] = found
            if len(self._left) > self._keep:
                self._left.popitem(last=False)
        return found
