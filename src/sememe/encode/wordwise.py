"""Tokens word by word, by a tokenizer of the ``tokenizers`` library: for where the compiled core is missing.

No merge of the tokenizer reaches across the beginning of a word (see ``kernels/bags.py``), so words are looked up in a
table that grows as they occur. Texts in which words cannot simply be cut at spaces go through the tokenizer as a whole.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import Any

import numpy as np

SPACE = "\u2581"  # what the tokenizer writes for a space
_WORDS = 1 << 16  # words remembered before the table starts again, about 10 MB
_LONGEST = 64  # characters of a word that is worth remembering
_JOINED = 64  # words tokenized as one text


class WordTable:
    """The tokens of words that occurred, and a tokenizer for the others.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Without padding and truncation.
    markers : list of str
        Tokens that it finds in the text before anything else.
    """

    def __init__(self, tokenizer: Any, markers: list[str]) -> None:
        self._tokenizer, self._markers = tokenizer, markers
        self._begins = np.zeros(tokenizer.get_vocab_size(), dtype=bool)  # whether a token begins a word
        for token, number in tokenizer.get_vocab().items():
            self._begins[number] = token.startswith(SPACE)
        self._words: dict[str, tuple[int, ...]] = {}

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens. Any number of threads may call."""
        split = [None if self._needs_whole(text) else text.split(" ") for text in texts]
        words = self._words
        if len(words) > _WORDS:
            words = self._words = {}  # a new one: another thread may be reading the old
        fresh = list({word for pieces in split if pieces is not None for word in pieces}.difference(words))
        found = self._tokenize_words(fresh)
        # Enormous words occur once and are not kept. The empty word is the empty text.
        passing = {word: ids for word, ids in found.items() if len(word) > _LONGEST}
        words.update((word, ids) for word, ids in found.items() if word not in passing)
        known: Any = {**words, **passing} if passing else words
        whole = iter(self._ids([text for text, pieces in zip(texts, split) if pieces is None]))
        return [
            next(whole) if pieces is None else list(chain.from_iterable(map(known.__getitem__, pieces)))
            for pieces in split
        ]

    def _tokenize_words(self, words: list[str]) -> dict[str, tuple[int, ...]]:
        """The ids of each word. Words are joined, which saves most of the cost, and their ids cut apart again."""
        plain = [word for word in words if word and "<" not in word]
        groups = [plain[start : start + _JOINED] for start in range(0, len(plain), _JOINED)]
        found: dict[str, tuple[int, ...]] = {}
        for group, ids in zip(groups, self._ids([" ".join(group) for group in groups])):
            # Only the first token of a word begins with the space before it.
            cuts = [*np.flatnonzero(self._begins[ids]).tolist(), len(ids)]
            found.update((word, tuple(ids[a:b])) for word, (a, b) in zip(group, pairwise(cuts)))
        rest = [word for word in words if not word or "<" in word]
        return found | dict(zip(rest, map(tuple, self._ids(rest))))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def _needs_whole(self, text: str) -> bool:
        """Whether word by word would not give the tokens that the whole text has."""
        return (
            "  " in text
            or text[:1] == " "
            or text[-1:] == " "
            or ("<" in text and any(marker in text for marker in self._markers))
            or (not text.isascii() and SPACE in text)
        )
