"""Random tokenizers of a text: what a hypernetwork learns from, so that it knows none in particular."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError

if TYPE_CHECKING:
    from tokenizers.models import Unigram

# Letters, a digit, other signs, each with one space before it; then white space.
_WORDS = re.compile(r" ?[^\W\d_]+| ?\d| ?(?:[^\w\s]|_)+|\s+(?!\S)|\s+")
_CHARACTERS = 6  # of text for each token that is needed: more than any tokenizer's mean


def words(text: str) -> list[str]:
    """Words with the space before them; joined they are the text."""
    return _WORDS.findall(text)


@dataclass(frozen=True, eq=False)
class RandomUnigram:
    """A Unigram tokenizer that was drawn.

    Attributes
    ----------
    tokens : list of str
        By number; a word's beginning is a leading space.
    """

    tokens: list[str]
    _model: Unigram
    _known: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def draw(
        cls, texts: Sequence[str], size: int, noise: float, generator: np.random.Generator, *, longest: int = 16
    ) -> RandomUnigram:
        """The most frequent substrings of words, after noise on the logarithms of their counts.

        Every character of the texts is a token, whatever the noise, so that each of the texts can be spelled.

        Parameters
        ----------
        texts : sequence of str
        size : int
            Tokens; more where there are more characters, fewer where the texts have fewer substrings.
        noise : float
            Standard deviation, in natural logarithms.
        generator : numpy.random.Generator
        longest : int
            Most characters of a token.
        """
        from tokenizers.models import Unigram

        counted = Counter(word for text in texts for word in words(text))
        if not counted:
            raise InputError("there is no text to draw a tokenizer from", fix="give more text")
        pieces: dict[str, int] = {}
        for word, count in counted.items():
            for start in range(len(word)):
                for stop in range(start + 1, min(start + longest, len(word)) + 1):
                    piece = word[start:stop]
                    pieces[piece] = pieces.get(piece, 0) + count
        names = sorted(pieces)
        scores = np.log([pieces[name] for name in names]) + noise * generator.standard_normal(len(names))
        # A token that stands for more has to be worth more than its count, or short ones alone would be chosen.
        gain = scores + np.log([max(len(name) - 0.5, 0.1) for name in names])
        single = [place for place, name in enumerate(names) if len(name) == 1]
        gain[single] = np.inf
        chosen = np.sort(np.argsort(-gain, kind="stable")[: max(size, len(single))])
        total = np.logaddexp.reduce(scores[chosen])
        tokens = [names[place] for place in chosen]
        return cls(tokens, Unigram([(t, float(s)) for t, s in zip(tokens, scores[chosen] - total, strict=True)]))

    def encode(self, text: str) -> list[int]:
        """The most probable spelling of each word of a text, by numbers of tokens."""
        out: list[int] = []
        for word in words(text):
            found = self._known.get(word)
            if found is None:
                found = self._known[word] = [token.id for token in self._model.tokenize(word)]
            out += found
        return out


def endless(
    texts: Sequence[str], batch: int, length: int, *, size: int, noise: float, generator: np.random.Generator
) -> Iterator[tuple[RandomUnigram, NDArray[np.int64]]]:
    """Tokenizers, each drawn from some of the texts, with those texts in its tokens.

    Parameters
    ----------
    texts : sequence of str
    batch, length : int
        Sequences, and their tokens; fewer where there is little text.
    size : int
        Largest vocabulary; the smallest is half of it.
    noise : float
        Most noise; a tokenizer gets a random share of it.
    generator : numpy.random.Generator

    Yields
    ------
    (RandomUnigram, int64 ndarray of shape (b, l))
    """
    needed = batch * length
    order: list[int] = []
    while True:
        chosen: list[str] = []
        while sum(map(len, chosen)) < _CHARACTERS * needed and len(chosen) < 4 * needed:
            if not order:
                order = generator.permutation(len(texts)).tolist()
            chosen.append(texts[order.pop()] + "\n")
        wanted = int(generator.integers(max(size // 2, 1), size + 1))
        drawn = RandomUnigram.draw(chosen, wanted, noise * float(generator.random()), generator)
        ids = np.array([number for text in chosen for number in drawn.encode(text)], dtype=np.int64)
        width = min(length, len(ids))
        rows = max(1, min(batch, len(ids) // width))
        yield drawn, ids[: rows * width].reshape(rows, width)
