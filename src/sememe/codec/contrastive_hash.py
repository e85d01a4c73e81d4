"""Contrastive hashing: short codes whose bits agree where labels, or the vectors themselves, agree."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sememe.catalog import Paper, register
from sememe.codec.base import Transform
from sememe.codec.descent import F32, Adam, check_training, schedule, shares, unit_scale
from sememe.contracts import Codes, Vectors
from sememe.errors import InputError, NotFittedError

_BATCH = 512
_TEMPERATURE = 0.1  # of bit agreement, with labels
_NEIGHBOUR_TEMPERATURE = 0.05  # of bit agreement and of cosines, without
_LOGIT = 1.0  # standard deviation of a bit's logit at the start: undecided, so that it can still choose its side
_FINE = 1e-12
_SPEED = 3e10  # multiply-adds a second of training, one core


@register(
    "hash",
    room="codec",
    kind="transform",
    summary="contrastive hashing: signs that agree where labels or neighbours agree; follow it with binary:zero",
    paper=Paper("To be Continuous, or to be Discrete, Those are Bits of Questions", 2024, "2406.07812"),
    claim="Codes of 12 to 24 bits replace a softmax over 77 labels within 1 point; random codes are 3 points worse.",
)
class ContrastiveHash(Transform):
    """Each output is the logit of a bit; passages keep its sign (``hash:64 | binary:zero``), queries all of it.

    A bit of row ``i`` is one with probability ``p = sigmoid(logit)``. Two rows are expected to agree in
    ``sum_k p_ik p_jk + (1 - p_ik)(1 - p_jk) = (b + t_i . t_j) / 2`` of ``b`` bits, with ``t = 2 p - 1``: the Hamming
    similarity made smooth. Training is contrastive over batches: of a row's total agreement with the batch, as much
    as possible shall go to its positives.

    With labels (``fit(X, y)``) the positives of a row are all rows of its label. The paper selects a single positive by
    similarity; over frozen vectors the most and the least similar one were 3 to 10 points worse on banking77.
    ``classify`` then gives the label whose code, the majority of its rows, is nearest.

    Without labels a row's positives are the others in proportion to ``exp(cosine / 0.05)``, so that agreement of bits
    follows the cosine where it is high. Taking the nearest neighbours as equal positives instead lost to the signs of
    principal components (39 against 41 % of the nearest ten, SciFact, 64 bits).

    Parameters
    ----------
    bits : int
        Length of the code.
    hidden : int
        Width of a layer of rectified units before the bits; 0 for none.
    epochs : int
        Passes over the rows.
    seconds : float
        Time budget of ``fit``. What needs less than half of it is the same on every machine.
    renormalize : bool
        Unit rows out; zero rows stay zero. Signs are the same either way.
    seed : int

    Attributes
    ----------
    weight_ : ndarray of shape (d or hidden, bits)
    bias_ : ndarray of shape (bits,)
        Of the logits, float32.
    hidden_weight_, hidden_bias_ : ndarrays of shape (d, hidden) and (hidden,)
        Only with ``hidden``.
    scale_ : float
        What rows are multiplied by first.
    label_codes_ : ndarray of shape (labels, bits)
        int8, -1 or 1. Only after ``fit(X, y)``.
    classes_ : ndarray of shape (labels,)
        The labels, sorted. Only after ``fit(X, y)``.
    """

    rank = 9
    keeps_scores = False

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """A bit, and half a bit, a dimension."""
        return [f"hash:{bits} | binary:zero" for bits in (dim, dim // 2) if bits >= 8]

    def learning_seconds(self, rows: int, dim: int) -> float:
        """Batches, each compared with itself; no more than ``seconds``."""
        batch, out = min(_BATCH, rows), self.dim_out(dim)
        first = self.hidden or dim
        step = batch * (2 * first * (out + (dim if self.hidden else 0)) + batch * (dim + 2 * out))
        return float(min(max(1, self.epochs * rows // _BATCH) * step / _SPEED, self.seconds))

    def __init__(
        self,
        bits: int = 64,
        hidden: int = 0,
        epochs: int = 30,
        seconds: float = 120.0,
        renormalize: bool = True,
        seed: int = 0,
    ) -> None:
        self.bits = bits
        self.hidden = hidden
        self.epochs = epochs
        self.seconds = seconds
        self.renormalize = renormalize
        self.seed = seed

    weight_: F32
    bias_: F32
    hidden_weight_: F32
    hidden_bias_: F32
    scale_: float
    label_codes_: NDArray[np.int8]

    def dim_out(self, d: int) -> int:
        """``bits``, whatever ``d`` is."""
        check_training(self, bits=1)
        return int(self.bits)

    def fit(self, X: Vectors, y: ArrayLike | None = None) -> Self:  # type: ignore[override]
        """Learn from float rows ``(n, d)``, and from a label for each, ``(n,)``, where there are any.

        Raises
        ------
        InputError
            Labels that are not one a row, or a parameter that is not possible.
        """
        rows = self._check_fit_input(X)
        check_training(self, bits=1, hidden=0, epochs=1, seconds=0.01, seed=0)
        for name in ("label_codes_", "classes_", "hidden_weight_", "hidden_bias_"):
            vars(self).pop(name, None)
        labels = None
        if y is not None:
            given = np.asarray(y)
            if given.shape != (len(rows),):
                raise InputError(f"y has shape {given.shape}, expected ({len(rows)},)", fix="give one label a row")
            self.classes_, labels = np.unique(given, return_inverse=True)
        self.scale_ = unit_scale(rows)
        self._train(rows * np.float32(self.scale_), labels)
        if labels is not None:
            votes = np.zeros((len(self.classes_), self.bits))
            np.add.at(votes, labels, np.where(self._logits(rows) > 0, 1, -1))
            self.label_codes_ = np.where(votes >= 0, 1, -1).astype(np.int8)
        return self

    def fit_transform(self, X: Vectors, y: ArrayLike | None = None) -> Vectors:  # type: ignore[override]
        """``fit(X, y).transform(X)``."""
        return self.fit(X, y).transform(X)

    def _train(self, X: Vectors, labels: NDArray[np.int64] | None) -> None:
        generator = np.random.default_rng(self.seed)
        parameters, rates = self._start(X, generator)
        optimizer = Adam(parameters, rates)
        size = min(_BATCH, len(X))
        temperature = self.bits * (_TEMPERATURE if labels is not None else _NEIGHBOUR_TEMPERATURE)
        steps = max(1, self.epochs * len(X) // _BATCH)
        for share in schedule(steps, self.seconds):
            chosen = generator.choice(len(X), size, replace=False, shuffle=False)
            x = X[chosen]
            if labels is None:
                target = shares(_unit(x), _NEIGHBOUR_TEMPERATURE)
            else:
                same = labels[chosen][:, None] == labels[chosen][None]
                np.fill_diagonal(same, False)
                target = same / np.maximum(same.sum(axis=1, keepdims=True), 1).astype(np.float32)
            optimizer.step(_gradients(x, parameters, target, temperature), share)

    def _start(self, X: Vectors, generator: np.random.Generator) -> tuple[list[F32], list[float]]:
        """Random directions, centred so that each bit halves the rows: the arrays to train, and their rates."""
        parameters: list[F32] = []
        rates: list[float] = []
        width = X.shape[1]
        if self.hidden:
            first = generator.standard_normal((width, self.hidden)) * np.sqrt(2)
            self.hidden_weight_ = first.astype(np.float32)
            self.hidden_bias_ = np.zeros(self.hidden, dtype=np.float32)
            parameters, rates, width = [self.hidden_weight_, self.hidden_bias_], [0.01, 0.01], self.hidden
        self.weight_ = generator.standard_normal((width, self.bits)).astype(np.float32)
        self.bias_ = np.zeros(self.bits, dtype=np.float32)
        # A sample is enough to centre by; with many rows the whole table of logits would not be small.
        sample = X[generator.choice(len(X), min(len(X), 4096), replace=False)]
        logits = _forward(sample, [*parameters, self.weight_, self.bias_])[-1].astype(np.float64)
        spread = logits.std(axis=0)
        self.weight_ *= np.float32(_LOGIT / max(float(np.sqrt(np.mean(spread**2))), 1e-3))
        self.bias_ -= _forward(sample, [*parameters, self.weight_, self.bias_])[-1].mean(axis=0)
        return [*parameters, self.weight_, self.bias_], [*rates, *([0.003] * 2 if self.hidden else [0.2] * 2)]

    def _logits(self, X: Vectors) -> F32:
        hidden = [self.hidden_weight_, self.hidden_bias_] if self.hidden else []
        with np.errstate(over="ignore"):  # a row far outside the corpus saturates
            scaled = np.clip(X * np.float32(self.scale_), -1e6, 1e6)
        return _forward(scaled, [*hidden, self.weight_, self.bias_])[-1]

    def _apply(self, X: Vectors) -> Vectors:
        return self._logits(X)

    def codes(self, X: Vectors) -> Codes:
        """The bits themselves, packed as ``np.packbits`` does: uint8 ``(n, ceil(bits / 8))``."""
        return np.packbits(self._logits(self._check_input(X)) > 0, axis=1)

    def classify(self, X: Vectors, *, soft: bool = True) -> NDArray[np.generic]:
        """The label whose code is nearest to each row ``(n, d)``: ``(n,)``.

        Parameters
        ----------
        soft : bool
            Weigh each bit by how sure it is (``t = 2 p - 1``); else count the bits that agree.

        Raises
        ------
        NotFittedError
            After ``fit`` without labels.
        """
        self._check_fitted()
        if not hasattr(self, "label_codes_"):
            raise NotFittedError(
                "this ContrastiveHash has seen no labels", fix="call fit(X, y) with a label for each row"
            )
        logits = self._logits(self._check_input(X))
        signs = np.tanh(logits / 2) if soft else np.where(logits > 0, np.float32(1), np.float32(-1))
        nearest: NDArray[np.generic] = self.classes_[np.argmax(signs @ self.label_codes_.T.astype(np.float32), axis=1)]
        return nearest


def _unit(x: F32) -> F32:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.float32(_FINE))


def _forward(x: F32, parameters: list[F32]) -> list[F32]:
    """Rows, hidden units where there are any, and logits."""
    layers = [x]
    for weight, bias in zip(parameters[::2], parameters[1::2]):
        if len(layers) > 1:
            np.maximum(layers[-1], 0, out=layers[-1])
        layers.append(layers[-1] @ weight + bias)
    return layers


def loss(x: F32, parameters: list[F32], target: F32, temperature: float) -> float:
    """Mean cross-entropy between ``target`` ``(b, b)`` and the shares of agreement in a batch ``(b, d)``."""
    found = shares(np.tanh(_forward(x, parameters)[-1] / 2), temperature)
    return float(-(target * np.log(np.maximum(found, 1e-30))).sum() / len(x))


def _gradients(x: F32, parameters: list[F32], target: F32, temperature: float) -> list[F32]:
    """The gradient of ``loss`` by each parameter, in their order."""
    layers = _forward(x, parameters)
    t = np.tanh(layers[-1] / 2)
    # A row without a positive in the batch asks for nothing.
    pull = (shares(t, temperature) * target.sum(axis=1, keepdims=True) - target) / np.float32(len(x))
    back = (pull + pull.T) @ t / np.float32(temperature) * (1 - t * t) / 2
    gradients: list[F32] = []
    for number in range(len(layers) - 2, -1, -1):
        gradients = [layers[number].T @ back, back.sum(axis=0), *gradients]
        if number:
            back = (back @ parameters[2 * number].T) * (layers[number] > 0)
    return gradients
