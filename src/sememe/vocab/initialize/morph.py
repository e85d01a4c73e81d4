"""Rows for new tokens from tokens that are spelled alike, by attention that learned to rebuild rows it did not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.estimator import Estimator
from sememe.vocab.initialize.relatives import FEATURES, Family, Relatives
from sememe.vocab.initialize.rows import Ids, Initializer, Problem

if TYPE_CHECKING:
    from scipy.sparse import csr_array

VARIANTS = ("mean", "attention", "patch")
PAPER = Paper("Bridging Subword Gaps in Pretrain-Finetune Paradigm for Natural Language Generation", 2021, "2106.06125")
_PATCHES = 1_024  # n-grams that have a vector of their own
_SAMPLE = 4_000  # known tokens that are rebuilt in training
_APPLIED = 4_096  # tokens that get their rows at a time
_RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_PULL = 1e-3  # of the attention's parameters towards the ones it starts with
# Without training, parts count and everything else hardly does: close to the mean of pieces.
_START = np.array([1, 1, 4, 0, 0, 0, 0, 0, 0, 0], dtype=np.float64)


class MorphEmbeddingGenerator(Estimator):
    """A vector for any spelling, from the vectors of known tokens that are spelled alike.

    Relatives of a token are its parts (the fewest known tokens that spell it) and the ``k`` known tokens of the most
    similar n-grams. The variants are those of the paper: the plain mean of all relatives; attention over them by how
    they relate (n-grams, edit distance, part and place, common ends); and the same with token-internal information: a
    linear map of the attended vector and of the token's own n-grams is added. All is trained on known tokens, of which
    each is rebuilt without itself.

    Where the paper trains deep attention, this learns its ten weights by a quasi-Newton method and the linear map by
    ridge regression, whose strength a fifth of the tokens decides. It needs no PyTorch.

    Parameters
    ----------
    variant : {"mean", "attention", "patch"}
    k : int
        Relatives besides parts.
    sample : int
        Most known tokens that are rebuilt in training.
    seed : int
        Which.

    Attributes
    ----------
    attention_ : float64 ndarray of shape (10,)
    patch_ : float32 ndarray of shape (d + g + 1, d)
        What is added, by attended vector, n-grams and a constant; empty but for ``patch``.
    ridge_ : float
    """

    def __init__(self, variant: str = "patch", k: int = 12, sample: int = _SAMPLE, seed: int = 0) -> None:
        self.variant = variant
        self.k = k
        self.sample = sample
        self.seed = seed

    def fit(self, texts: Sequence[bytes], table: Vectors) -> Self:
        """Learn from known tokens.

        Parameters
        ----------
        texts : sequence of n distinct bytes
            What each stands for.
        table : float32 ndarray of shape (n, d)
        """
        if self.variant not in VARIANTS:
            raise InputError(f"there is no variant {self.variant!r}", fix=f"use {', '.join(VARIANTS)}")
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1 or self.sample < 0:
            raise InputError(f"k={self.k!r}, sample={self.sample!r} are not possible", fix="k of 1 or more")
        self._table, self._family = table, Family(texts, self.k)
        self.attention_, self.ridge_ = _START.copy(), 0.0
        self.patch_ = np.zeros((0, table.shape[1]), dtype=np.float32)
        generator = np.random.default_rng(self.seed)
        chosen = np.sort(generator.permutation(len(texts))[: self.sample])
        relatives = self._family.of([texts[number] for number in chosen], own=chosen)
        some = relatives.present.any(axis=1)
        chosen, relatives = chosen[some], relatives.rows(some)
        if self.variant != "mean" and len(chosen):
            self.attention_ = _attend(relatives, table, table[chosen])
        if self.variant == "patch" and len(chosen) >= 20:
            attended = self._attended(relatives)
            self.patch_, self.ridge_ = _ridge(
                self._inside(attended, [texts[number] for number in chosen]), table[chosen] - attended
            )
        return self

    def rows(self, texts: Sequence[bytes]) -> tuple[Vectors, NDArray[np.bool_]]:
        """Vectors of tokens, float32 ``(m, d)``, and for which there was something to build on, bool ``(m,)``."""
        self._check_fitted()
        out = np.zeros((len(texts), self._table.shape[1]), dtype=np.float32)
        found = np.zeros(len(texts), dtype=np.bool_)
        for start in range(0, len(texts), _APPLIED):
            part = slice(start, start + _APPLIED)
            relatives = self._family.of(texts[part])
            found[part] = relatives.present.any(axis=1)
            attended = self._attended(relatives)
            if len(self.patch_):
                attended += self._inside(attended, texts[part]) @ self.patch_
            out[part] = np.where(found[part, None], attended, 0)
        return out, found

    def weights(self, texts: Sequence[bytes]) -> csr_array:
        """The attention alone, as weights over the known tokens, ``(m, n)``."""
        from scipy.sparse import csr_array

        self._check_fitted()
        rows, columns, values = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for start in range(0, len(texts), _APPLIED):
            relatives = self._family.of(texts[start : start + _APPLIED])
            rows.append(start + np.nonzero(relatives.present)[0])
            columns.append(relatives.numbers[relatives.present])
            values.append(self._weights(relatives)[relatives.present])
        whole = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        out = csr_array(whole, shape=(len(texts), len(self._table)))
        out.sum_duplicates()
        return out

    def _weights(self, relatives: Relatives) -> NDArray[np.float64]:
        if self.variant == "mean":
            return relatives.attention(np.zeros(len(FEATURES)))
        return relatives.attention(self.attention_)

    def _attended(self, relatives: Relatives) -> NDArray[np.float64]:
        weights = self._weights(relatives)
        out = np.zeros((len(weights), self._table.shape[1]))
        for column in range(weights.shape[1]):  # one relative of all tokens at a time, to hold little at once
            out += weights[:, column, None] * self._table[relatives.numbers[:, column]]
        return out

    def _inside(self, attended: NDArray[np.float64], texts: Sequence[bytes]) -> NDArray[np.float64]:
        """Token-internal information: the attended vector in units of the table's spread, n-grams, and a constant."""
        spread = max(float(self._table.std()), 1e-12)
        patches = self._family.grams.rows(texts)[:, :_PATCHES].toarray()
        return np.concatenate((attended / spread, 4 * patches, np.ones((len(attended), 1))), axis=1)


def _attend(relatives: Relatives, table: Vectors, wanted: Vectors) -> NDArray[np.float64]:
    """The attention's weights that rebuild rows best in least squares."""
    from scipy.optimize import minimize

    loss = objective(relatives, table, wanted)
    return np.asarray(minimize(loss, _START, jac=True, method="L-BFGS-B", options={"maxiter": 60}).x)


def objective(
    relatives: Relatives, table: Vectors, wanted: Vectors
) -> Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]:
    """What training minimises, as a function of the attention's weights: its value and slope.

    The value is the squared error of rebuilt rows relative to the spread of the ``wanted`` ones, and a pull towards
    the weights that it starts with.
    """
    n, c = relatives.numbers.shape
    gram, cross = np.empty((n, c, c)), np.empty((n, c))
    for start in range(0, n, 256):  # after this, nothing depends on the width of the table
        part = slice(start, start + 256)
        values = table[relatives.numbers[part]].astype(np.float64)
        gram[part] = values @ values.transpose(0, 2, 1)
        cross[part] = np.einsum("ncd,nd->nc", values, wanted[part])
    scale = max(float(((wanted - wanted.mean(axis=0)) ** 2).sum()), 1e-12)
    square = float((wanted.astype(np.float64) ** 2).sum())

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        attention = relatives.attention(weights)
        met = np.einsum("ncd,nd->nc", gram, attention)
        error = float((attention * met).sum() - 2 * (attention * cross).sum() + square) / scale
        slope = 2 * (met - cross) / scale
        inner = attention * (slope - (attention * slope).sum(axis=1, keepdims=True))
        pull = weights - _START
        return error + _PULL * float(pull @ pull), np.einsum("nc,ncf->f", inner, relatives.features) + 2 * _PULL * pull

    return loss


def _ridge(inside: NDArray[np.float64], missing: NDArray[np.float64]) -> tuple[Vectors, float]:
    """The linear map from token-internal information to what attention misses, and its strength of shrinkage."""
    judged = np.arange(len(inside)) % 5 == 0

    def solve(rows: Any, ridge: float) -> NDArray[np.float64]:
        square = inside[rows].T @ inside[rows]
        square[np.diag_indices_from(square)] += ridge * np.trace(square) / len(square) / 10
        return np.asarray(np.linalg.solve(square, inside[rows].T @ missing[rows]))

    errors = [float(((missing[judged] - inside[judged] @ solve(~judged, r)) ** 2).sum()) for r in _RIDGES]
    best = _RIDGES[int(np.argmin(errors))]
    if min(errors) >= float((missing[judged] ** 2).sum()):  # nothing is better than something that does harm
        return np.zeros((0, missing.shape[1]), dtype=np.float32), 0.0
    return solve(slice(None), best).astype(np.float32), best


@register(
    "morph",
    room="vocab",
    kind="initializer",
    summary="attention over old tokens that are spelled alike, trained to rebuild rows it does not see",
    paper=PAPER,
    claim="Better and faster generation than with a fixed vocabulary.",
)
class Morph(Initializer):
    """Rows of `MorphEmbeddingGenerator`, trained on the old table.

    Parameters
    ----------
    variant : {"patch", "attention", "mean"}
    k : int
        Relatives besides parts.
    """

    def __init__(self, variant: str = "patch", k: int = 12) -> None:
        self.variant = variant
        self.k = k

    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        from scipy.sparse import csr_array

        numbers, texts = known_texts(problem)
        if len(texts) < 2:
            raise InputError("this vocabulary has no tokens that stand for text", fix="use mean")
        generator = MorphEmbeddingGenerator(self.variant, self.k, seed=problem.seed).fit(texts, table[numbers])
        wanted = [problem.new.text_of(number) or b"" for number in ids.tolist()]
        spelled = np.array([bool(text) and n not in problem.new.special for n, text in zip(ids.tolist(), wanted)])
        places = np.flatnonzero(spelled)
        asked = [wanted[place] for place in places]
        if len(generator.patch_):
            out = np.repeat(table.mean(axis=0, dtype=np.float64)[None], len(ids), axis=0)
            rows, found = generator.rows(asked)
            out[places[found]] = rows[found]
            return out
        weights = generator.weights(asked).tocoo()
        return csr_array((weights.data, (places[weights.row], numbers[weights.col])), shape=(len(ids), len(table)))


def known_texts(problem: Problem) -> tuple[Ids, list[bytes]]:
    """Old tokens that stand for text, one of each: their ids and texts."""
    texts: dict[bytes, int] = {}
    for number in range(len(problem.old.tokens)):
        text = problem.old.text_of(number)
        if text and number not in problem.old.special:
            texts.setdefault(text, number)
    return np.array(list(texts.values()), dtype=np.int64), list(texts)
