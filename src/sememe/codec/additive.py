"""Additive quantization: a vector is the sum of learned centres, each of the whole space; a code is their numbers."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec import additive_fit, factors
from sememe.codec.base import BlockScorer, Quantizer
from sememe.contracts import Codes, Vectors
from sememe.errors import InputError
from sememe.kernels import dots
from sememe.kernels.additive import CHOICES, cross_products, own_costs, search_sums
from sememe.kernels.tables import TableScan, table_sums

SWEPT_FROM = 20_000  # passages: with fewer, learning takes longer than all other measuring, and holds less well
_MOST_ROWS = 1 << 16  # that codebooks are learned from
_MOST_BOOKS = 64  # beyond, the products of all centres take more than a GiB
_PULL = 5.0  # rows at zero that each centre is drawn by
_ROUNDS = 1  # of learning all codebooks together
_PARTS = 4  # a code is searched again a part at a time
_TABLES = 8 << 20  # bytes of a block's own tables while it is encoded


@register(
    "additive",
    room="codec",
    kind="quantizer",
    summary="additive quantization: the sum of m centres of the whole space, by beam search; best at 8 to 32 bytes",
    paper=Paper("Additive Quantization for Extreme Vector Compression", 2014),
    claim="At equal bytes, a lower error than product quantization and than residual quantization.",
)
class Additive(Quantizer):
    """``x = mean + centre + centre + ...``, one of 256 from each of ``m`` codebooks: exactly ``m`` bytes a vector.

    Unlike groups of dimensions (``pq``), whole-space centres need not share the variance out beforehand; the price is
    that choosing them is a search. It goes as in residual quantization with a beam ("Approximate Nearest Neighbor
    Search by Residual Vector Quantization", 2010; "Approximate search with quantized sparse representations", 2016),
    then a quarter of the code is chosen anew while the rest is held, quarter after quarter, which is what local search
    does one place at a time ("LSQ++: Lower Running Time and Higher Recall in Multi-Codebook Quantization", 2018).
    Codebooks start as residual k-means and are then fitted together by ridge regression on the codes.

    While rows are encoded, inner products of all centres with each other take ``4 (256 m)**2`` bytes: 64 MiB for 16
    codebooks, 256 MiB for 32.

    Parameters
    ----------
    m : int, optional
        Codebooks, 1 to 64; one for every 16 dimensions (rounded up) when not given.
    beam : int
        Beginnings of a code that the search keeps. More lower the error and take as many times longer.
    seconds : float
        Time that learning should take at most. Where it runs short, k-means takes its last steps only and codebooks
        are not fitted together any more; what is learned then depends on the machine.
    seed : int
        Of the training sample and the starting centres.

    Attributes
    ----------
    mean_ : ndarray of shape (d,)
        float32, of rows multiplied by ``scale_``.
    centres_ : ndarray of shape (m, 256, d)
        float32, of rows multiplied by ``scale_``.
    scale_ : float
        The power of two that brings the corpus' largest entry near 1, so that squares neither overflow nor vanish.
    """

    centres_: NDArray[np.float32]
    mean_: NDArray[np.float32]
    scale_: float

    rank = 9

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Where so few bytes may beat product codes, and there are passages enough to be worth the learning."""
        if passages < SWEPT_FROM:
            return []
        return [f"additive:{size}" for size in (16, 32) if 8 * size <= dim]

    def __init__(self, m: int | None = None, beam: int = 8, seconds: float = 60.0, seed: int = 0) -> None:
        self.m = m
        self.beam = beam
        self.seconds = seconds
        self.seed = seed

    def bytes_per_vector(self, d: int) -> int:
        """``m``."""
        if self.m is None:
            return min(-(-d // 16), _MOST_BOOKS)
        return self._whole("m", _MOST_BOOKS)

    def _whole(self, name: str, most: int) -> int:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= most:
            raise InputError(
                f"{name}={value!r} is not possible for Additive", fix=f"give a whole number from 1 to {most}"
            )
        return int(value)

    def _learn(self, X: Vectors) -> None:
        begun, books = time.monotonic(), self.code_bytes_
        self._whole("beam", 1024)
        if not isinstance(self.seconds, (int, float)) or not self.seconds > 0:
            raise InputError(f"seconds={self.seconds!r} is not a time", fix="give more than 0")

        def late(share: float) -> bool:
            return time.monotonic() - begun > self.seconds * share

        generator = np.random.default_rng(self.seed)
        X = X[generator.permutation(len(X))[:_MOST_ROWS]]
        self.scale_ = factors.power_of_two(X)
        X = X * np.float32(self.scale_)
        self.mean_ = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        X -= self.mean_
        # With few rows a centre they say more of than the pull supposes; such a collection is not worth 256 centres.
        pull = min(_PULL, len(X) / (8 * CHOICES))
        # Learning one after another is to take half of the time, the rest is for all together.
        self.centres_ = additive_fit.start(X, books, pull, self.seed, lambda done: late(0.1 + done / 2))
        spent = time.monotonic() - begun
        codes = None
        rounds = _ROUNDS if books > 1 else 0
        while rounds and not late(1 - max(0.2, spent / self.seconds)):
            codes = self._search(X, codes)
            self.centres_ = additive_fit.refit(X, codes, self.centres_, pull)
            rounds -= 1

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_products"}

    def _cross(self) -> NDArray[np.float32]:
        """Products of all centres, kept while the centres are the same."""
        kept: tuple[NDArray[np.float32], NDArray[np.float32]] | None = getattr(self, "_products", None)
        if kept is None or kept[0] is not self.centres_:
            kept = self._products = (self.centres_, cross_products(self.centres_))
        return kept[1]

    def _search(self, rows: Vectors, codes: Codes | None = None) -> Codes:
        """Codes of centred rows; from given ``codes``, only a part at a time is chosen anew."""
        cross, books = self._cross(), len(self.centres_)
        out = np.empty((len(rows), books), dtype=np.uint8)
        parts = np.array_split(np.random.default_rng(books).permutation(books), min(_PARTS, books))
        step = max(64, _TABLES // (4 * CHOICES * books))
        for first in range(0, len(rows), step):
            block = slice(first, first + step)
            own = own_costs(rows[block], self.centres_)
            if codes is None:
                held = search_sums(own, cross, np.zeros((len(own), books), dtype=np.uint8), range(books), self.beam)
            else:
                held = codes[block]
            for part in parts if books > 1 else ():
                held = search_sums(own, cross, held, part.tolist(), self.beam)
            out[block] = held
        return out

    def _encode(self, X: Vectors) -> Codes:
        with np.errstate(over="ignore"):  # a row far outside the corpus lands on the outermost centres
            rows = np.clip(X * np.float32(self.scale_), -1e6, 1e6)
        rows -= self.mean_
        return self._search(rows)

    def _decode(self, codes: Codes) -> Vectors:
        rows = additive_fit.decode(codes, self.centres_)
        rows += self.mean_
        rows *= np.float32(1 / self.scale_)
        return rows

    def _row_scratch(self, queries: int) -> int:
        return 2 * self.code_bytes_ if queries <= dots.FEW else 2 * super()._row_scratch(queries)

    def native_scan(self, Q: Vectors) -> TableScan:
        """A look-up a byte."""
        tables, shift = self._tables(self._check_input(Q))
        return TableScan(tables, np.zeros(len(shift), dtype=np.float32), shift)

    def _tables(self, Q: Vectors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What each byte adds to a score, ``(q, m, 256)``, and what is added to all, ``(q,)``."""
        turned = Q * np.float32(1 / self.scale_)
        products = turned @ self.centres_.reshape(-1, self.n_features_in_).T
        tables = np.asarray(products, dtype=np.float32).reshape(len(Q), self.code_bytes_, CHOICES)
        return tables, (turned @ self.mean_).astype(np.float32)

    def _prepare(self, Q: Vectors) -> BlockScorer:
        if len(Q) > dots.FEW:
            score = dots.float_dots(Q)
            return lambda codes: score(self._decode(codes))
        tables, shift = self._tables(Q)

        def few(codes: Codes) -> NDArray[np.float32]:
            sums = table_sums(tables, codes)
            sums += shift[:, None]
            return sums

        return few
