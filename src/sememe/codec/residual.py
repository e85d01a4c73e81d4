"""Residual quantization: a row is a sum of centres, each from its own codebook of the whole width."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec import factors
from sememe.codec.base import BlockScorer, Quantizer, choice
from sememe.codec.clip import sample_rows
from sememe.contracts import Codes, Vectors
from sememe.errors import InputError
from sememe.kernels import dots
from sememe.kernels.kmeans import kmeans, nearest
from sememe.kernels.tables import table_sums

_CENTRES = 256
_ROWS = 160 * _CENTRES  # training rows: with few, late codebooks learn noise
_ITERATIONS = 5  # of k-means for each codebook
_MOST = 64
_BLOCK = 1 << 19  # candidates weighed at a time

F32 = NDArray[np.float32]


@register(
    "rq",
    room="codec",
    kind="quantizer",
    summary="residual quantization: the sum of m learned centres, found by beam search; for very few bytes",
    paper=Paper("Approximate Nearest Neighbor Search by Residual Vector Quantization", 2010),
)
class ResidualQuantizer(Quantizer):
    """Codebook after codebook is trained on what the ones before it leave over; encoding keeps the best few sums.

    Rows are coded as directions from the corpus mean, with the factor of `sememe.codec.factors` beside them. Late
    codebooks explain little, so a centre is pulled towards zero by the noise in it; with few training rows
    a product code is better, and training and encoding are far slower than a product code's.
    Exactly ``m + 1`` bytes a vector.

    Parameters
    ----------
    m : int, optional
        Codebooks of 256 centres, 1 to 64; one for every 16 dimensions (rounded up) when not given.
    beam : int
        Sums kept while encoding: more are slower and a little nearer.
    seed : int
        Of the starting centres.

    Attributes
    ----------
    centres_ : ndarray of shape (m, 256, d)
        float32.
    mean_, scale_, levels_
        As in `ProductQuantizer` with a norm.
    """

    centres_: F32
    mean_: F32
    levels_: F32
    scale_: float

    def __init__(self, m: int | None = None, beam: int = 4, seed: int = 0) -> None:
        self.m = m
        self.beam = beam
        self.seed = seed

    def _books(self, d: int) -> int:
        m = -(-d // 16) if self.m is None else self.m
        if isinstance(m, bool) or not isinstance(m, (int, np.integer)) or not 1 <= m <= _MOST:
            raise InputError(f"m={m!r} is not possible for {type(self).__name__}", fix=f"give 1 to {_MOST}")
        return int(m)

    def bytes_per_vector(self, d: int) -> int:
        """``m + 1``: a byte for each codebook, and the factor."""
        return self._books(d) + 1

    def _learn(self, X: Vectors) -> None:
        choice(self, "beam", range(1, 65))
        X = sample_rows(X, _ROWS)
        self.scale_ = factors.power_of_two(X)
        self.mean_ = (X * np.float32(self.scale_)).mean(axis=0, dtype=np.float64).astype(np.float32)
        units, length = factors.directions(X, self.mean_, self.scale_)
        self.centres_ = np.zeros((self._books(X.shape[1]), _CENTRES, X.shape[1]), dtype=np.float32)
        rest = units.copy()
        for book, centres in enumerate(self.centres_):
            centres[:] = kmeans(rest, _CENTRES, iterations=_ITERATIONS, seed=self.seed + book)
            owner = nearest(rest, centres)
            centres *= _shrinkage(rest, centres, owner)[:, None]
            owner = nearest(rest, centres)
            rest -= centres.take(owner, axis=0)
        numbers = self._search(units, self.centres_, self.beam)
        self.levels_ = factors.levels(factors.score_factors(length, units, _sums(self.centres_, numbers)))

    @staticmethod
    def _search(units: F32, centres: F32, beam: int) -> NDArray[np.uint8]:
        """Numbers ``(n, m)`` of the sum of centres nearest to each row, by beam search."""
        m, k, d = centres.shape
        flat = centres.reshape(m * k, d)
        gram = 2 * (flat @ flat.T)
        half = np.diagonal(gram).reshape(m, k) / 2
        out = np.empty((len(units), m), dtype=np.uint8)
        step = max(1, _BLOCK // (beam * k))
        for start in range(0, len(units), step):
            block = units[start : start + step]
            alone = half - 2 * (block @ flat.T).reshape(len(block), m, k)  # what each centre adds to the squared error
            out[start : start + step] = _beam(alone, gram.reshape(m * k, m, k), beam)
        return out

    def _encode(self, X: Vectors) -> Codes:
        units, length = factors.directions(X, self.mean_, self.scale_)
        numbers = self._search(units, self.centres_, self.beam)
        factor = factors.score_factors(length, units, _sums(self.centres_, numbers))
        return np.hstack([factors.encode(factor, self.levels_)[:, None], numbers])

    def _rows_of(self, codes: Codes) -> F32:
        return _sums(self.centres_, codes[:, 1:]) * factors.decode(codes, self.levels_)[:, None]

    def _decode(self, codes: Codes) -> NDArray[Any]:
        return (self._rows_of(codes) + self.mean_) * np.float32(1 / self.scale_)

    def _row_scratch(self, queries: int) -> int:
        return 2 * self.code_bytes_ if queries <= dots.FEW else 8 * self.n_features_in_

    def _prepare(self, Q: Vectors) -> BlockScorer:
        queries = Q * np.float32(1 / self.scale_)
        shift = (queries @ self.mean_)[:, None]
        few = len(Q) <= dots.FEW
        turned = np.einsum("qd,mkd->qmk", queries, self.centres_, optimize=True) if few else queries
        tables: F32 = np.ascontiguousarray(turned, dtype=np.float32)

        def score(codes: Codes) -> F32:
            if not few:
                sums: F32 = np.asarray(queries @ self._rows_of(codes).T, dtype=np.float32)
            else:
                sums = table_sums(tables, codes[:, 1:])
                sums *= factors.decode(codes, self.levels_)
            sums += shift
            return sums

        return score


def _shrinkage(rest: F32, centres: F32, owner: NDArray[np.intp]) -> NDArray[np.float32]:
    """How much of each centre ``(k,)`` is more than the noise in a mean of so many rows (James and Stein, 1961)."""
    counts = np.bincount(owner, minlength=len(centres))
    power = np.bincount(owner, weights=np.einsum("ij,ij->i", rest, rest), minlength=len(centres))
    size = np.einsum("ij,ij->i", centres, centres, dtype=np.float64)
    spread = np.maximum(power / np.maximum(counts, 1) - size, 0)
    noise = np.where(counts > 1, spread / np.maximum(counts - 1, 1), 0.0)
    share = np.divide(size - noise, size, out=np.ones_like(size), where=size > 0)
    return np.clip(share, 0, 1).astype(np.float32)


def _sums(centres: F32, numbers: NDArray[np.uint8]) -> F32:
    """The sum of each row's centres, float32 ``(n, d)``."""
    out = centres[0].take(numbers[:, 0], axis=0)
    for book in range(1, len(centres)):
        out += centres[book].take(numbers[:, book], axis=0)
    return out


def _beam(alone: F32, gram: F32, beam: int) -> NDArray[np.uint8]:
    """Best numbers ``(n, m)`` from ``alone`` ``(n, m, k)`` and twice the products of centres, ``(m * k, m, k)``."""
    n, m, k = alone.shape
    rows = np.arange(n)[:, None]
    cost = np.zeros((n, 1), dtype=np.float32)
    chosen = np.zeros((n, 1, 0), dtype=np.intp)
    for book in range(m):
        total = np.repeat(alone[:, None, book], cost.shape[1], axis=1)
        total += cost[:, :, None]
        for before in range(book):
            total += gram[:, book].take(before * k + chosen[:, :, before], axis=0)
        width = beam if book < m - 1 else 1
        flat = total.reshape(n, -1)
        if width == 1:
            best = flat.argmin(axis=1)[:, None]
        else:
            best = np.argpartition(flat, min(width, flat.shape[1]) - 1, axis=1)[:, :width]
        cost = flat[rows, best]
        origin, number = best // k, best % k
        chosen = np.concatenate([chosen[rows, origin], number[:, :, None]], axis=2)
    return chosen[:, 0].astype(np.uint8)
