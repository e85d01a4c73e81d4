"""Learning the codebooks of an additive code: one after another on what the earlier ones left, then all together.

A centre is the mean of its rows drawn towards zero, as if it had a few more rows that lie there. Without that a handful
of rows far out take centres for themselves, and the codes of rows that were not learned from come out a tenth worse.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sememe.kernels.additive import CHOICES
from sememe.kernels.kmeans import nearest

F32 = NDArray[np.float32]
_PULL = 5.0  # rows at zero that each centre is drawn by
_STEPS = 8  # of Lloyd's algorithm a codebook
_FEWER = 1 << 15  # rows that all but the last two of them use
_DESCENTS = 10  # steps of conjugate gradients a refit


def pull_for(rows: int) -> float:
    """How many rows at zero draw a centre, where ``rows`` are learned from.

    With few rows a centre they say more of than the pull supposes; such a collection is not worth 256 centres.
    """
    return min(_PULL, rows / (8 * CHOICES))


def drawn_means(X: F32, owner: NDArray[np.intp], pull: float, choices: int = CHOICES) -> F32:
    """For each of ``choices`` owners the sum of its rows ``(n, d)`` over their number plus ``pull``; zero without."""
    sums, count = _sums(X, owner, choices)
    return np.divide(sums, (count + pull)[:, None], out=sums, where=count[:, None] > 0)


def _sums(X: F32, owner: NDArray[np.intp], choices: int = CHOICES) -> tuple[F32, NDArray[np.float32]]:
    count = np.bincount(owner, minlength=choices)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    held = np.flatnonzero(count)
    sums = np.zeros((choices, X.shape[1]), dtype=np.float32)
    sums[held] = np.add.reduceat(X[np.argsort(owner, kind="stable")], first[held], axis=0)
    return sums, count.astype(np.float32)


def start(
    X: F32, books: int, pull: float, seed: int, late: Callable[[float], bool], last_choices: int = CHOICES
) -> F32:
    """Codebooks ``(books, 256, d)`` by residual quantization: each by k-means on what the ones before it left.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Rows around zero, in random order.
    books : int
    pull : float
        See ``drawn_means``.
    seed : int
        Of the starting centres.
    late : callable
        Given the share of the work that is done, whether more time went by; then k-means takes two steps only.
    last_choices : int
        Centres of the last codebook; its other rows stay zero.
    """
    rest = X.copy()
    out = np.zeros((books, CHOICES, X.shape[1]), dtype=np.float32)
    for book in range(books):
        choices = CHOICES if book < books - 1 else last_choices
        generator = np.random.default_rng((seed, book))
        centres = rest[np.resize(generator.permutation(min(len(rest), _FEWER)), choices)]
        for step in range(_STEPS):
            last = step >= _STEPS - 2
            if not last and late(book / books):
                continue
            rows = rest if last else rest[:_FEWER]
            owner = nearest(rows, centres)
            centres = drawn_means(rows, owner, pull, choices)
            if not last:
                _reuse(centres, np.bincount(owner, minlength=choices), generator)
        rest -= centres[nearest(rest, centres)]
        out[book, :choices] = centres
    return out


def _reuse(centres: F32, count: NDArray[np.int64], generator: np.random.Generator) -> None:
    """Put each centre without rows beside a crowded one, so that the next step splits the crowd."""
    empty = np.flatnonzero(count == 0)
    crowded = np.argsort(-count, kind="stable")[: len(empty)]
    crowded = crowded[count[crowded] > 1]
    sign = generator.choice(np.array([-1.0, 1.0], dtype=np.float32), size=(len(crowded), centres.shape[1]))
    centres[empty[: len(crowded)]] = centres[crowded] * (1 + np.float32(0.01) * sign)


def refit(X: F32, codes: NDArray[np.uint8], centres: F32, pull: float) -> F32:
    """All codebooks at once for given codes: those of least ``|X - decoded|**2 + pull * |centres|**2``.

    The normal equations hold how often two centres meet in a code; a few steps of conjugate gradients from the present
    centres solve them, each one matrix product.
    """
    books, choices, d = centres.shape
    meet = _meetings(codes, books)
    present = centres.reshape(books * choices, d)
    gap = X - decode(codes, centres)
    gradient = np.concatenate([_sums(gap, codes[:, book].astype(np.intp))[0] for book in range(books)])
    gradient -= np.float32(pull) * present
    own = (np.diag(meet) + np.float32(max(pull, 1e-3)))[:, None]
    meet[np.diag_indices(len(meet))] += np.float32(pull)
    change, steepest = np.zeros_like(gradient), gradient / own
    direction = steepest.copy()
    size = np.einsum("ij,ij->j", gradient, steepest)
    for _ in range(_DESCENTS):
        image = meet @ direction
        along = np.einsum("ij,ij->j", direction, image)
        length = np.divide(size, along, out=np.zeros_like(size), where=along > 0)
        change += length * direction
        gradient -= length * image
        steepest = gradient / own
        now = np.einsum("ij,ij->j", gradient, steepest)
        direction = steepest + np.divide(now, size, out=np.zeros_like(size), where=size > 0) * direction
        size = now
    return np.asarray(centres + change.reshape(centres.shape), dtype=np.float32)


def _meetings(codes: NDArray[np.uint8], books: int) -> F32:
    """How many rows hold centre ``b`` of book ``j`` and centre ``c`` of book ``m``: ``(256 books, 256 books)``."""
    out = np.empty((books, CHOICES, books, CHOICES), dtype=np.float32)
    wide = codes.astype(np.intp)
    for one in range(books):
        for two in range(one + 1):
            pairs = np.bincount(wide[:, one] * CHOICES + wide[:, two], minlength=CHOICES * CHOICES)
            table = pairs.reshape(CHOICES, CHOICES)
            out[one, :, two], out[two, :, one] = table, table.T
    return out.reshape(books * CHOICES, books * CHOICES)


def decode(codes: NDArray[np.uint8], centres: F32) -> F32:
    """Sums of centres, float32 ``(n, d)``."""
    out = centres[0].take(codes[:, 0], axis=0)
    for book in range(1, len(centres)):
        out += centres[book].take(codes[:, book], axis=0)
    return out


def length_levels(ratios: F32, count: int) -> F32:
    """``count`` values, ascending, that stand for the given positive ratios: k-means of their logarithms."""
    logs = np.sort(np.log(ratios.astype(np.float64)))
    levels = np.quantile(logs, (np.arange(count) + 0.5) / count)
    for _ in range(_STEPS):
        edges = np.searchsorted(logs, (levels[1:] + levels[:-1]) / 2)
        for place, part in enumerate(np.split(logs, edges)):
            if len(part):
                levels[place] = part.mean()
    return np.exp(levels).astype(np.float32)
