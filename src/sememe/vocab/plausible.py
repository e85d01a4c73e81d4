"""Which tokens would more text of the same kind as a sample use?

Learned from the sample itself: what one half shows of a token (how often it occurs, how its characters go together in
the words of that half), its length, its place in the vocabulary and where the model's own table puts it (words of one
language and of one subject lie together) predict whether the other half uses it. Then the same is asked of the whole.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.vocab.sample import words

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile

_BACK_OFF = 1.0  # weight of the shorter context, in occurrences
_NOTHING = (1 << 21) - 1  # where a character has none before it; no code point is that high
_FLOOR = 1e-7  # probability of a character that the sample does not have
_FAR = 6.0  # standard deviations at which a feature ends, so that its square stays tame
_ELSEWHERE = 0.25  # how much commonness counts beyond what the sample teaches: later text is never quite of its kind
_ROWS = 1 << 14  # tokens of a kind that are learned from, and tokens scored at once

Features = NDArray[np.float64]


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


def chances(
    tokenizer: TokenizerFile,
    texts: Sequence[str],
    encoded: Sequence[Sequence[int]],
    coordinates: Vectors | None = None,
) -> NDArray[np.float64]:
    """How likely more text of the same kind uses each token.

    Parameters
    ----------
    tokenizer : TokenizerFile
    texts : list of str
        The sample.
    encoded : list of list of int
        Its tokens.
    coordinates : float32 ndarray of shape (v, k), optional
        What the model knows of each token: see `sememe.vocab.principal`.

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
    strings = [spelled[number] or "" for number in rows.tolist()]
    fixed = _fixed_features(tokenizer, strings, rows)
    stretches = Stretches(strings)
    counts = [_counted(encoded[half::2], len(spelled))[rows] for half in (0, 1)]
    more = np.zeros((len(rows), 0), dtype=np.float32) if coordinates is None else coordinates[rows]
    halves = [_features(Spelling(texts[half::2]), stretches, fixed) for half in (0, 1)]
    centre, scale = halves[0].mean(axis=0), halves[0].std(axis=0) + 1e-9

    def expanded(features: NDArray[np.float64], count: NDArray[np.int64], some: NDArray[np.int64]) -> Features:
        plain = np.clip((features[some] - centre) / scale, -_FAR, _FAR)
        one, other = np.triu_indices(plain.shape[1])
        steps = np.column_stack([count[some] >= least for least in (1, 2, 3, 5)])
        return np.column_stack([plain, plain[:, one] * plain[:, other], steps, np.log1p(count[some]), more[some]])

    known, targets = [], []
    for here, there, features in ((counts[0], counts[1], halves[0]), (counts[1], counts[0], halves[1])):
        # Thinning the used and the unused apart shifts the constant only, and so no order (case-control sampling).
        some = np.concatenate([_thinned(there > 0), _thinned(there == 0)])
        known.append(expanded(features, here, some))
        targets.append(there[some] > 0)
    weights = _logistic(np.concatenate(known), np.concatenate(targets).astype(np.float64))
    whole, both = _features(Spelling(texts), stretches, fixed), counts[0] + counts[1]
    for start in range(0, len(rows), _ROWS):
        some = np.arange(start, min(start + _ROWS, len(rows)))
        out[rows[some]] = expanded(whole, both, some) @ weights[1:] + weights[0]
    out[rows] += _ELSEWHERE * _commonness(tokenizer, rows)
    return out


def _thinned(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Evenly spaced places among those chosen, at most `_ROWS`."""
    places = np.flatnonzero(chosen)
    return places[:: max(-(-len(places) // _ROWS), 1)]


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


def _counted(encoded: Sequence[Sequence[int]], size: int) -> NDArray[np.int64]:
    """How often each token occurs, ``(size,)``."""
    counts = Counter(number for ids in encoded for number in ids)
    out = np.zeros(size, dtype=np.int64)
    out[list(counts)] = list(counts.values())
    return out


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
