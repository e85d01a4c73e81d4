"""Known tokens that are spelled like a token, and in what way they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.vocab.initialize.rows import Ids
from sememe.vocab.initialize.spelling import Grams, alike, edit_distances, parts

MOST_PARTS = 8  # parts of a token that are looked at
FEATURES = (
    "cosine of n-grams", "edit similarity", "is a part", "share of the token", "is the first part", "is the last part",
    "common beginning", "common end", "begins a word alike", "length",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Relatives:
    """Known tokens that are spelled like some tokens, and in what way.

    Attributes
    ----------
    numbers : int64 ndarray of shape (n, c)
        -1 where there are fewer.
    features : float64 ndarray of shape (n, c, 10)
        ``FEATURES``.
    """

    numbers: Ids
    features: NDArray[np.float64]

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Which entries are tokens, bool ``(n, c)``."""
        return self.numbers >= 0

    def attention(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Softmax over the relatives of each token, ``(n, c)``; zero rows for tokens without any."""
        logits = np.where(self.present, self.features @ weights, -np.inf)
        top = logits.max(axis=1, keepdims=True, initial=-np.inf)
        wide = np.exp(logits - np.where(np.isfinite(top), top, 0))
        return np.asarray(wide / np.maximum(wide.sum(axis=1, keepdims=True), 1e-300))

    def rows(self, chosen: Any) -> Relatives:
        """Those of some of the tokens."""
        return Relatives(self.numbers[chosen], self.features[chosen])


class Family:
    """The known tokens, among which relatives are looked for.

    Parameters
    ----------
    texts : sequence of n distinct bytes
    k : int
        Relatives of a token besides its parts.

    Attributes
    ----------
    grams : Grams
        The n-grams of the known tokens.
    """

    def __init__(self, texts: Sequence[bytes], k: int) -> None:
        self.texts, self.k = list(texts), k
        self.grams = Grams.of(self.texts)
        self._places = {text: number for number, text in enumerate(self.texts)}
        self._known = self.grams.rows(self.texts)

    def of(self, texts: Sequence[bytes], own: Ids | None = None) -> Relatives:
        """Relatives of tokens; ``own`` are their numbers where they are known themselves, and left out."""
        numbers, cosines = alike(self.grams.rows(texts), self._known, self.k, own)
        spelled = [parts(text, self._places)[: MOST_PARTS + 1] for text in texts]
        width = MOST_PARTS + self.k
        out = np.full((len(texts), width), -1, dtype=np.int64)
        features = np.zeros((len(texts), width, len(FEATURES)))
        known = self._known
        near = zip(texts, spelled, numbers.tolist(), cosines.tolist(), strict=True)
        for row, (text, found, others, values) in enumerate(near):
            if len(found) > MOST_PARTS:
                found.clear()  # spelled in letters: no part says much
            for place, number in enumerate(found):
                out[row, place] = number
                size = len(self.texts[number])
                features[row, place, 2:6] = 1, size / len(text), place == 0, place == len(found) - 1
            fresh = [place for place, number in enumerate(others) if number >= 0 and number not in found]
            stop = MOST_PARTS + len(fresh)
            out[row, MOST_PARTS:stop] = [others[place] for place in fresh]
            features[row, MOST_PARTS:stop, 0] = [values[place] for place in fresh]
        rows, columns = np.nonzero(out >= 0)
        is_part = columns < MOST_PARTS
        if is_part.any():
            mine = self.grams.rows(texts)[rows[is_part]]
            both = mine.multiply(known[out[rows[is_part], columns[is_part]]]).sum(axis=1)
            features[rows[is_part], columns[is_part], 0] = np.asarray(both).ravel()
        left = [texts[row] for row in rows.tolist()]
        right = [self.texts[number] for number in out[rows, columns].tolist()]
        lengths = np.array([[len(a), len(b)] for a, b in zip(left, right, strict=True)]).reshape(-1, 2)
        largest = np.maximum(lengths.max(axis=1, initial=1), 1)
        features[rows, columns, 1] = 1 - edit_distances(left, right) / largest
        ends = [
            (_common(a, b) / len(a), _common(a[::-1], b[::-1]) / len(a), (a[:1] == b" ") == (b[:1] == b" "))
            for a, b in zip(left, right, strict=True)
        ]
        features[rows, columns, 6:9] = np.array(ends, dtype=np.float64).reshape(-1, 3)
        features[rows, columns, 9] = np.abs(lengths[:, 0] - lengths[:, 1]) / largest
        return Relatives(out, features)


def _common(a: bytes, b: bytes) -> int:
    """Length of the common beginning."""
    most = min(len(a), len(b))
    return next((place for place in range(most) if a[place] != b[place]), most)
