"""Embeddings without a model: unit vectors optimised directly on the judgements.

What the best conceivable encoder of ``d`` dimensions could do: queries ``U (N, d)`` and documents ``V (n, d)`` are free
parameters, the loss is full batch, the gradient is written out, and Adam (Kingma and Ba, 2014, arXiv 1412.6980) moves
them, back to the unit sphere after each step. NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sememe.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Relevance = NDArray[np.bool_]

Loss = Literal["infonce", "sigmoid"]


@dataclass(frozen=True, slots=True)
class FreeEmbeddings:
    """What an optimisation found.

    Attributes
    ----------
    queries : float32 ndarray of shape (N, d)
        Unit rows.
    documents : float32 ndarray of shape (n, d)
        Unit rows.
    solved : bool
        Every query ranks all its relevant documents above all others.
    steps : int
        Adam steps taken.
    """

    queries: Floats
    documents: Floats
    solved: bool
    steps: int


class Adam:
    """Adam for one array, in place; the usual decay rates 0.9 and 0.999."""

    def __init__(self, rate: float) -> None:
        self.rate, self.step = rate, 0
        self._mean: Floats | None = None
        self._square: Floats | None = None

    def update(self, values: Floats, gradient: Floats) -> None:
        """Move ``values`` one step against ``gradient``."""
        if self._mean is None or self._square is None:
            self._mean, self._square = np.zeros_like(values), np.zeros_like(values)
        self.step += 1
        self._mean += np.float32(0.1) * (gradient - self._mean)
        self._square += np.float32(0.001) * (gradient * gradient - self._square)
        rate = np.float32(self.rate / (1 - 0.9**self.step))
        spread = np.sqrt(self._square / np.float32(1 - 0.999**self.step)) + np.float32(1e-8)
        values -= rate * self._mean / spread


def optimise(
    relevance: Relevance,
    d: int,
    *,
    loss: Loss = "infonce",
    scale: tuple[float, float] | None = (10.0, 10.0),
    rate: float = 0.01,
    max_steps: int = 20_000,
    patience: int = 1_000,
    for_margin: bool = False,
    seed: int = 0,
) -> FreeEmbeddings:
    """Fit free unit vectors to a relevance matrix.

    Parameters
    ----------
    relevance : bool ndarray of shape (N, n)
        True where document ``i`` answers query ``j``; every query has at least one.
    d : int
        Dimension.
    loss : {"infonce", "sigmoid"}
        ``infonce``: minus the mean log-softmax of the relevant documents over all documents. ``sigmoid``: the mean of
        ``log(1 + exp(-y s (<u, v> - t)))`` with ``y = +-1`` and a learned threshold ``t``, weighted so that relevant
        and irrelevant entries count the same in all.
    scale : (float, float) or None
        ``s``, the inverse temperature, at the first and at the last step, growing by a constant factor between; None
        learns it along with the vectors, starting from 10.
    rate : float
        Learning rate of Adam.
    max_steps, patience : int
        Steps in all, and steps without the loss falling by 1e-5 before giving up.
    for_margin : bool
        False: end as soon as every query is answered. True: use all steps, let the learning rate fall to zero along a
        cosine, and take from each gradient the part that leaves the sphere, without which Adam's second moments are
        dominated by it and the margin stays far from its optimum.
    seed : int
        Of the random start.
    """
    relevance = np.asarray(relevance, dtype=bool)
    if relevance.ndim != 2 or not relevance.size or not relevance.any(axis=1).all():
        raise InputError("relevance must be a table (queries, documents) with a relevant document for every query")
    if d < 1:
        raise InputError(f"d must be at least 1, got {d}")
    rows, _ = relevance.shape
    generator = np.random.default_rng(seed)
    points = generator.standard_normal((sum(relevance.shape), d), dtype=np.float32)
    _to_sphere(points)
    adam, extra_adam = Adam(rate), Adam(0.005)
    extra = np.array([np.log(scale[0] if scale else 10.0), 0.0], dtype=np.float32)  # log scale, threshold
    growth = np.log(scale[1] / scale[0]) / max_steps if scale else 0.0
    gradient_of = _infonce if loss == "infonce" else _sigmoid
    best, since, step, solved = np.inf, 0, 0, False
    for step in range(1, max_steps + 1):
        queries, documents = points[:rows], points[rows:]
        scores = queries @ documents.T
        if not for_margin and is_solved(scores, relevance):
            solved = True
            break
        value, slope, extra_slope = gradient_of(scores, relevance, extra)
        since = 0 if value < best - 1e-5 else since + 1
        best = value if since == 0 else best
        if since >= patience and not for_margin:
            break
        gradient = np.concatenate([slope @ documents, slope.T @ queries])
        if for_margin:
            gradient -= np.einsum("ij,ij->i", gradient, points)[:, None] * points
            adam.rate = rate * (1 + np.cos(np.pi * step / max_steps)) / 2
        adam.update(points, gradient)
        _to_sphere(points)
        if scale:
            extra_slope[0] = 0.0
        extra_adam.update(extra, extra_slope)
        extra[0] += growth
    queries, documents = points[:rows], points[rows:]
    return FreeEmbeddings(queries, documents, solved or is_solved(queries @ documents.T, relevance), step)


def is_solved(scores: Floats, relevance: Relevance) -> bool:
    """Whether each row's relevant scores all exceed its irrelevant ones; scores and relevance are ``(N, n)``."""
    worst = np.where(relevance, scores, np.inf).min(axis=1)
    rival = np.where(relevance, -np.inf, scores).max(axis=1)
    return bool((worst > rival).all())


def _infonce(scores: Floats, relevance: Relevance, extra: Floats) -> tuple[float, Floats, Floats]:
    """Loss, its gradient by the scores ``(N, n)``, and by (log scale, threshold)."""
    scale = np.exp(extra[0])
    logits = scale * scores
    logits -= logits.max(axis=1, keepdims=True)
    exponentials = np.exp(logits)
    totals = exponentials.sum(axis=1, keepdims=True)
    target = relevance / np.float32(relevance.sum())
    share = target.sum(axis=1, keepdims=True)
    value = float((share * np.log(totals)).sum() - (target * logits).sum())
    slope = share * (exponentials / totals) - target  # by the logits
    by_scale = float((slope * scores).sum()) * scale
    return value, scale * slope, np.array([by_scale, 0.0], dtype=np.float32)


def _sigmoid(scores: Floats, relevance: Relevance, extra: Floats) -> tuple[float, Floats, Floats]:
    """Loss, its gradient by the scores ``(N, n)``, and by (log scale, threshold)."""
    scale, distance = np.exp(extra[0]), scores - extra[1]
    sign = np.where(relevance, np.float32(1), np.float32(-1))
    relevant = relevance.mean()
    weight = np.where(relevance, 0.5 / relevant, 0.5 / max(1 - relevant, 1e-9)).astype(np.float32) / relevance.size
    negated = -sign * scale * distance
    value = float((weight * np.logaddexp(np.float32(0), negated)).sum())
    slope = -sign * weight / (1 + np.exp(-np.clip(negated, -60, 60)))  # by the logits
    by_extra = np.array([float((slope * distance).sum()), -float(slope.sum())], dtype=np.float32) * scale
    return value, scale * slope, by_extra


def _to_sphere(points: Floats) -> None:
    points /= np.sqrt(np.einsum("ij,ij->i", points, points))[:, None]
