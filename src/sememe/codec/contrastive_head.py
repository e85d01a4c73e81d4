"""A linear head over frozen vectors, tuned on pairs: what means the same moves together, near misses apart."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sememe.catalog import Paper, register
from sememe.codec.descent import F32, Adam, check_training, schedule
from sememe.contracts import Vectors, unit_rows
from sememe.errors import InputError
from sememe.estimator import Estimator

_RATE = 0.002


@register(
    "contrastive-head",
    room="codec",
    kind="head",
    summary="a linear map of frozen vectors tuned on labelled pairs with the online contrastive loss",
    paper=Paper(
        "Advancing Semantic Caching for LLMs with Domain-Specific Embeddings and Synthetic Data", 2025, "2504.02268"
    ),
)
class ContrastiveHead(Estimator):
    """``x -> W x`` with unit rows, starting from the identity.

    With ``d = 1 - cosine`` the contrastive loss of Hadsell, Chopra and LeCun ("Dimensionality Reduction by Learning an
    Invariant Mapping", 2006) is ``d**2`` for a pair that means the same and ``max(margin - d, 0)**2`` for one that does
    not. Online means that in each batch only hard pairs count: same pairs farther apart than the closest different
    pair, and different pairs closer than the farthest same pair.

    The paper tunes a whole small encoder for one epoch. This head is the light version: it can weigh and mix what the
    frozen vectors hold, but not read the words anew.

    Parameters
    ----------
    margin : float
        Distance from which different pairs are left alone.
    epochs : int
        Passes over the pairs.
    batch : int
        Pairs at a time: the more there are, the harder the hardest.
    seconds : float
        Time budget of ``fit``. What needs less than half of it is the same on every machine.
    seed : int

    Attributes
    ----------
    weight_ : ndarray of shape (d, d)
        float32, applied as ``x @ weight_``.
    """

    def __init__(
        self, margin: float = 0.8, epochs: int = 10, batch: int = 128, seconds: float = 60.0, seed: int = 0
    ) -> None:
        self.margin = margin
        self.epochs = epochs
        self.batch = batch
        self.seconds = seconds
        self.seed = seed

    weight_: F32

    def fit(self, left: Vectors, right: Vectors, same: ArrayLike) -> Self:
        """Learn from pairs of rows ``(n, d)`` and whether each pair means the same, ``(n,)``.

        Raises
        ------
        InputError
            Sides of different shape, labels that are not true or false, or pairs of one sort only.
        """
        a = self._check_fit_input(left)
        b = self._check_input(right) if len(a) else a
        labels = np.asarray(same)
        if a.shape != b.shape or labels.shape != (len(a),):
            raise InputError(f"left {a.shape}, right {b.shape} and same {labels.shape} do not belong together")
        if not np.isin(labels, (0, 1)).all() or labels.astype(bool).all() or not labels.astype(bool).any():
            raise InputError("same must hold both true and false, and nothing else", fix="give pairs of both sorts")
        check_training(self, margin=0.0, epochs=1, batch=2, seconds=0.01, seed=0)
        a, b, truth = unit_rows(a), unit_rows(b), labels.astype(bool)
        generator = np.random.default_rng(self.seed)
        self.weight_ = np.eye(a.shape[1], dtype=np.float32)
        optimizer = Adam([self.weight_], [_RATE])
        per_epoch = -(-len(a) // self.batch)
        order = np.zeros(0, dtype=np.int64)
        for share in schedule(self.epochs * per_epoch, self.seconds):
            if not len(order):
                order = generator.permutation(len(a))
            rows, order = order[: self.batch], order[self.batch :]
            optimizer.step([_gradient(a[rows], b[rows], truth[rows], self.weight_, self.margin)], share)
        return self

    def transform(self, X: Vectors) -> Vectors:
        """Unit float32 rows ``(n, d)``; zero rows stay zero."""
        return unit_rows(self._check_input(X) @ self.weight_)


def hard(distance: NDArray[np.floating], same: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pairs of a batch count, bool ``(b,)``: those on the wrong side of the best of the other sort.

    In a batch of one sort only, all do.
    """
    nearest_other = distance[~same].min(initial=np.inf if same.any() and (~same).any() else -np.inf)
    farthest_same = distance[same].max(initial=-np.inf if same.any() and (~same).any() else np.inf)
    return np.where(same, distance > nearest_other, distance < farthest_same)


def loss(a: F32, b: F32, same: NDArray[np.bool_], weight: F32, margin: float) -> float:
    """The online contrastive loss of a batch of pairs ``(b, d)``, divided by their number."""
    distance = 1 - np.einsum("ij,ij->i", unit_rows(a @ weight), unit_rows(b @ weight))
    each = np.where(same, distance**2, np.maximum(margin - distance, 0) ** 2)
    return float((each * hard(distance, same)).sum() / len(a))


def _gradient(a: F32, b: F32, same: NDArray[np.bool_], weight: F32, margin: float) -> F32:
    """The gradient of ``loss`` by ``weight``; which pairs are hard is held fixed."""
    left, right = a @ weight, b @ weight
    lengths = [np.maximum(np.linalg.norm(side, axis=1, keepdims=True), np.float32(1e-12)) for side in (left, right)]
    u, v = left / lengths[0], right / lengths[1]
    cosine = np.einsum("ij,ij->i", u, v)
    distance = 1 - cosine
    by_distance = np.where(same, 2 * distance, -2 * np.maximum(np.float32(margin) - distance, 0))
    by_cosine = (-by_distance * hard(distance, same) / np.float32(len(a))).astype(np.float32)[:, None]
    by_left = by_cosine * (v - u * cosine[:, None]) / lengths[0]
    by_right = by_cosine * (u - v * cosine[:, None]) / lengths[1]
    gradient: F32 = a.T @ by_left + b.T @ by_right
    return gradient
