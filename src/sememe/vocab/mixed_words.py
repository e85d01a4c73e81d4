"""Texts word by word as two tokenizers write them, and batches in which each word is written by one of the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.vocab.dynamic import word_numbers
from sememe.vocab.tokenizer import TokenizerFile

Ids = NDArray[np.int64]
Word = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TwoWays:
    """One text.

    Attributes
    ----------
    large, small : tuple of tuple of int
        Ids of each word under either tokenizer. A special token is a word of its own.
    fixed : tuple of bool
        Which words are special tokens.
    """

    large: tuple[Word, ...]
    small: tuple[Word, ...]
    fixed: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class WordBatch:
    """Texts as a model reads them, with the word that each token belongs to.

    Attributes
    ----------
    numbers : int64 ndarray of shape (n, l)
        Ids; those of the small tokenizer come after all of the large one. 0 behind the end.
    words : int64 ndarray of shape (n, l)
        Number of the word, counted through the batch; -1 behind the end.
    fixed : bool ndarray of shape (w,)
        Which words are special tokens.
    """

    numbers: Ids
    words: Ids
    fixed: NDArray[np.bool_]

    @property
    def keep(self) -> NDArray[np.bool_]:
        """Where there are tokens, ``(n, l)``."""
        return self.words >= 0


def two_ways(large: TokenizerFile, small: TokenizerFile, texts: Sequence[str], most: int) -> list[TwoWays]:
    """Both writings of each text.

    Parameters
    ----------
    large, small : TokenizerFile
        They must agree where words begin and end, as a trimmed tokenizer does with its original.
    texts : sequence of str
    most : int
        Tokens that a text may have in either; further words are cut off.

    Raises
    ------
    InputError
        A text that the two cut into different words.
    """
    return [_both(large, small, text, most) for text in texts]


def _both(large: TokenizerFile, small: TokenizerFile, text: str, most: int) -> TwoWays:
    one, fixed = _grouped(large, text)
    other, same = _grouped(small, text)
    if fixed != same:
        raise InputError(
            f"the two tokenizers cut {text[:40]!r} into different words",
            where=small.where,
            fix="give a tokenizer with the same rules and other tokens, such as a trimmed one",
        )
    tail = next((n for n, known in enumerate(reversed(fixed)) if not known), len(fixed))  # special tokens at the end
    body = len(fixed) - tail
    room = [most - sum(map(len, words[body:])) for words in (one, other)]
    end = 0
    for words, left in zip((one, other), room, strict=True):
        lengths = np.cumsum([len(word) for word in words[:body]])
        fits = int(np.searchsorted(lengths, left, "right"))
        end = fits if words is one else min(end, fits)
    chosen = [*range(end), *range(body, len(fixed))]
    return TwoWays(tuple(one[n] for n in chosen), tuple(other[n] for n in chosen), tuple(fixed[n] for n in chosen))


def _grouped(tokenizer: TokenizerFile, text: str) -> tuple[list[Word], tuple[bool, ...]]:
    ids, words = word_numbers(tokenizer, text, special=True, unknown=True)
    groups: list[list[int]] = []
    for place, (number, word) in enumerate(zip(ids, words, strict=True)):
        if place and word >= 0 and word == words[place - 1]:
            groups[-1].append(number)
        else:
            groups.append([number])
    kinds = [word < 0 for place, word in enumerate(words) if not (place and word >= 0 and word == words[place - 1])]
    return [tuple(group) for group in groups], tuple(kinds)


def written(texts: Sequence[TwoWays], base: int, share: float, generator: np.random.Generator) -> WordBatch:
    """A batch in which each word is written in small tokens with probability ``share``.

    Parameters
    ----------
    texts : sequence of TwoWays
    base : int
        Tokens of the large tokenizer: what small ids are counted up by.
    share : float
        0 writes all in large tokens, special ones too; above that, special tokens are drawn like words.
    generator : numpy.random.Generator
    """
    rows: list[list[int]] = []
    owners: list[list[int]] = []
    fixed: list[bool] = []
    for text in texts:
        row: list[int] = []
        owner: list[int] = []
        drawn = generator.random(len(text.large)) < share
        for large, small, known, other in zip(text.large, text.small, text.fixed, drawn.tolist(), strict=True):
            tokens = [base + number for number in small] if other else list(large)
            row += tokens
            owner += [len(fixed)] * len(tokens)
            fixed.append(known)
        rows.append(row)
        owners.append(owner)
    length = max(map(len, rows), default=0)
    numbers = np.zeros((len(rows), length), dtype=np.int64)
    words = np.full((len(rows), length), -1, dtype=np.int64)
    for place, (row, owner) in enumerate(zip(rows, owners, strict=True)):
        numbers[place, : len(row)], words[place, : len(row)] = row, owner
    return WordBatch(numbers, words, np.array(fixed, dtype=bool))
