"""Which tokens that a sample does not use would more text of the same languages use?

Learned from the sample itself: what one half shows of a token (how its characters go together in the words of that
half, its length, its place in the vocabulary) predicts whether the other half uses it. Then the same is asked of the
whole.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sememe.vocab.sample import words

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile

_BACK_OFF = 1.0  # weight of the shorter context, in occurrences
_NOTHING = (1 << 21) - 1  # where a character has none before it; no code point is that high
_FLOOR = 1e-7  # probability of a character that the sample does not have


class Spelling:
    """A trigram model of characters inside words, each word with a space before and after it.

    Parameters
    ----------
    texts : iterable of str
        The sample.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        counts = Counter(word for text in texts for word in words(text.lower()))
        self._next: list[dict[str, Counter[str]]] = [defaultdict(Counter) for _ in range(3)]
        for word, count in counts.items():
            padded = f" {word} "
            for place in range(1, len(padded)):
                for order in range(min(place, 2) + 1):
                    self._next[order][padded[place - order : place]][padded[place]] += count
        self._totals = [{c: sum(n.values()) for c, n in table.items()} for table in self._next]

    def probability(self, context: str, character: str) -> float:
        """Of a character after up to two others."""
        value = _FLOOR
        for order in range(min(len(context), 2) + 1):
            before = context[len(context) - order :]
            total = self._totals[order].get(before, 0)
            seen = self._next[order][before][character] if total else 0
            value = (seen + _BACK_OFF * value) / (total + _BACK_OFF)
        return value

    def scores(self, stretches: Stretches) -> NDArray[np.float64]:
        """Natural logarithms of the probabilities of many stretches of characters, ``(n,)``."""
        logs = [math.log(self.probability(seen[:-1], seen[-1])) for seen in stretches.seen]
        return np.bincount(
            stretches.owner, weights=np.array(logs)[stretches.which] if logs else None, minlength=stretches.count
        ).astype(np.float64)


class Stretches:
    """Many short texts as the characters in them, each after up to two others, every different triple once.

    Parameters
    ----------
    texts : sequence of str
        A leading space is a word's beginning, and nothing by itself.

    Attributes
    ----------
    count : int
    seen : list of str
        The different triples, shorter at the beginning of a text.
    which, owner : int64 ndarrays of shape (characters,)
        For each character its triple and its text.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        lowered = [text.lower() for text in texts]
        self.count = len(lowered)
        lengths = np.array([len(text) for text in lowered], dtype=np.int64)
        codes = np.frombuffer("".join(lowered).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
        owner = np.repeat(np.arange(self.count), lengths)
        place = np.arange(len(codes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        # A character and its two predecessors in one number; no predecessor is the highest number there is.
        before = [np.where(place >= back, np.roll(codes, back), _NOTHING) for back in (1, 2)]
        packed = (before[1] << 42) | (before[0] << 21) | codes
        counted = (place > 0) | (codes != ord(" "))
        self.owner = owner[counted]
        triples, self.which = np.unique(packed[counted], return_inverse=True)
        parts = [((triples >> shift) & _NOTHING).tolist() for shift in (42, 21, 0)]
        self.seen = ["".join(chr(code) for code in triple if code != _NOTHING) for triple in zip(*parts, strict=True)]


def chances(tokenizer: TokenizerFile, texts: Sequence[str], encoded: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """How likely more text of the same kind uses each token.

    Parameters
    ----------
    tokenizer : TokenizerFile
    texts : list of str
        The sample.
    encoded : list of list of int
        Its tokens.

    Returns
    -------
    float64 ndarray of shape (v,)
        Larger is likelier; minus infinity for tokens that stand for no text, or for part of a character.
    """
    spelled = [_decoded(tokenizer.text_of(number)) for number in range(len(tokenizer.tokens))]
    rows = np.array([number for number, text in enumerate(spelled) if text], dtype=np.int64)
    out = np.full(len(spelled), -np.inf)
    if not len(rows):
        return out
    one, other = (_used(encoded[half::2], len(spelled))[rows] for half in (0, 1))
    strings = [spelled[number] or "" for number in rows.tolist()]
    fixed = _fixed_features(tokenizer, strings, rows)
    stretches = Stretches(strings)
    before = _features(Spelling(texts[::2]), stretches, fixed)
    centre, scale = before.mean(axis=0), before.std(axis=0) + 1e-9
    unused = ~one  # what is used already need not be predicted
    weights = _logistic((before[unused] - centre) / scale, other[unused].astype(np.float64))
    now = (_features(Spelling(texts), stretches, fixed) - centre) / scale
    out[rows] = now @ weights[1:] + weights[0]
    return out


def fill_order(tokenizer: TokenizerFile, texts: Sequence[str], encoded: Sequence[Sequence[int]]) -> list[int]:
    """Tokens in the order in which they are worth keeping, whether the sample uses them or not.

    Two of the likeliest to be used by text like the sample, then one of the commonest where the tokenizer was trained,
    and so on: text of another domain uses common tokens that the sample gave no hint of.

    Parameters
    ----------
    tokenizer, texts, encoded
        See `chances`.
    """
    score = chances(tokenizer, texts, encoded)
    rows = np.flatnonzero(np.isfinite(score))
    likely = rows[np.argsort(-score[rows], kind="stable")]
    common = rows[np.argsort(-_commonness(tokenizer, rows), kind="stable")]
    rank = np.full(len(score), np.inf)
    rank[likely] = np.arange(len(rows)) + 0.5
    rank[common] = np.minimum(rank[common], 2.0 * np.arange(len(rows)) + 1.0)
    return [int(number) for number in rows[np.argsort(rank[rows], kind="stable")]]


def _commonness(tokenizer: TokenizerFile, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The logarithm of how often the tokenizer's own training text had a token, up to a constant."""
    if tokenizer.kind == "unigram":
        scores = [float(score) for _, score in tokenizer.model["vocab"]]
        lowest = min(scores)
        return np.array([scores[n] if n < len(scores) else lowest for n in rows.tolist()])
    return np.asarray(-np.log(rows + 1.0))  # vocabularies are in the order of frequency, or of merges


def _decoded(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _used(encoded: Sequence[Sequence[int]], size: int) -> NDArray[np.bool_]:
    used = np.zeros(size, dtype=bool)
    for ids in encoded:
        used[np.asarray(ids, dtype=np.int64)] = True
    return used


def _fixed_features(tokenizer: TokenizerFile, strings: Sequence[str], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """What does not hang on the sample: length, commonness where the tokenizer was trained, whether a word begins."""
    lengths = np.array([max(len(text.strip()), 1) for text in strings], dtype=np.float64)
    common = _commonness(tokenizer, rows)
    begins = np.array([text.startswith(" ") for text in strings], dtype=np.float64)
    return np.column_stack([lengths, np.log(lengths), common, rows / len(tokenizer.tokens), begins])


def _features(spelling: Spelling, stretches: Stretches, fixed: NDArray[np.float64]) -> NDArray[np.float64]:
    score = spelling.scores(stretches)
    return np.column_stack([score, score / fixed[:, 0], score / np.sqrt(fixed[:, 0]), fixed])


def _logistic(X: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of a logistic regression, the constant first, by Newton's method with a unit Gaussian prior."""
    X = np.column_stack([np.ones(len(X)), X])
    weights = np.zeros(X.shape[1])
    for _ in range(25):
        chance = 1.0 / (1.0 + np.exp(-np.clip(X @ weights, -30, 30)))
        curvature = (X * (chance * (1 - chance))[:, None]).T @ X + np.eye(X.shape[1])
        step = np.linalg.solve(curvature, X.T @ (y - chance) - weights)
        weights += step
        if np.abs(step).max() < 1e-6:
            break
    return weights
