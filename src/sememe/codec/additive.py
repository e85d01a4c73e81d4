"""Additive quantization: a vector is the sum of learned centres, each of the whole space; a code is their numbers."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec import additive_fit, factors
from sememe.codec.additive_search import SumSearch
from sememe.codec.axes import balanced_axes
from sememe.codec.base import BlockScorer, Quantizer, choice
from sememe.contracts import Codes, Vectors
from sememe.errors import InputError
from sememe.kernels import dots
from sememe.kernels.additive import CHOICES
from sememe.kernels.tables import TableScan, table_sums

SWEPT_FROM = 20_000  # passages: with fewer, learning takes longer than all other measuring, and holds less well
_MOST_ROWS = 1 << 16  # that codebooks are learned from
_MOST_BOOKS = 256
_WHOLE = 48  # codebooks up to which all of them span the whole space
_GROUP = 24  # codebooks of a group of dimensions, where there are more
_SAMPLE = 4096  # rows that levels of the length are learned from
_JUDGED = 2048  # rows that say whether fitting codebooks together did any good
_HALF = 16  # centres of the codebook, and levels of the length, that share a byte
_SPEED = 2e9  # products of rows, centres and dimensions a second of learning, one core
_WIDEST = 8.0  # a decoded row is made at most so many times longer or shorter

F32 = NDArray[np.float32]


@register(
    "additive",
    room="codec",
    kind="quantizer",
    summary="additive quantization: the sum of m centres of the whole space, by beam search; best at 8 to 96 bytes",
    paper=Paper("Additive Quantization for Extreme Vector Compression", 2014),
    claim="At equal bytes, a lower error than product quantization and than residual quantization.",
    slow=True,
)
class Additive(Quantizer):
    """``x = mean + centre + centre + ...``, one of 256 from each of ``m`` codebooks: exactly ``m`` bytes a vector.

    Unlike groups of dimensions (``pq``), whole-space centres need not share the variance out beforehand; the price is
    that choosing them is a search. It goes as in residual quantization with a beam ("Approximate Nearest Neighbor
    Search by Residual Vector Quantization", 2010; "Approximate search with quantized sparse representations", 2016),
    then a quarter of the code is chosen anew while the rest is held, quarter after quarter, which is what local search
    does one place at a time ("LSQ++: Lower Running Time and Higher Recall in Multi-Codebook Quantization", 2018).
    Codebooks start as residual k-means and are then fitted together by ridge regression on the codes, where rows then
    come out better: of up to some 24 codebooks they do.

    Sums of least squared error are too short, and the shorter the less of a row they catch, so the rows that are coded
    worst fall back in the ranking, whatever the query. Half a byte for a row's length puts that right: it raises
    recall by more than the half codebook it costs, and raises the squared error.

    Beyond 48 codebooks the space is turned to its principal axes, which are dealt to groups of 24 codebooks each, as
    in product quantization. While rows are encoded, inner products of all centres of a group with each other take
    ``4 (256 m)**2`` bytes: 64 MiB for 16 codebooks, 576 MiB for 48.

    Parameters
    ----------
    m : int, optional
        Codebooks, 1 to 256; one for every 16 dimensions (rounded up) when not given.
    norm : {"length", "none"}
        ``length``: the last codebook has 16 centres, and 16 levels share its byte; the sum is made as long as the row.
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
    centres_ : ndarray of shape (m, 256, widest group)
        float32, of rows multiplied by ``scale_`` and turned; narrower groups and the short codebook are padded with
        zeros.
    rotation_ : ndarray of shape (d, d)
        Only with groups: rows are multiplied by its transpose before they are cut.
    levels_ : ndarray of shape (16,)
        Only with lengths: what the sum is multiplied by, ascending.
    scale_ : float
        The power of two that brings the corpus' largest entry near 1, so that squares neither overflow nor vanish.
    """

    rank = 9

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Where so few bytes may beat product codes, and there are passages enough to be worth the learning."""
        if passages < SWEPT_FROM:
            return []
        return [f"additive:{size}" for size in (16, 32) if 8 * size <= dim]

    def learning_seconds(self, rows: int, dim: int) -> float:
        """K-means and a search for each codebook; no more than ``seconds``."""
        return float(min(min(rows, _MOST_ROWS) * CHOICES * self.bytes_per_vector(dim) * dim / _SPEED, self.seconds))

    centres_: F32
    mean_: F32
    levels_: F32
    rotation_: F32
    scale_: float

    def __init__(
        self, m: int | None = None, norm: str = "length", beam: int = 8, seconds: float = 120.0, seed: int = 0
    ) -> None:
        self.m = m
        self.norm = norm
        self.beam = beam
        self.seconds = seconds
        self.seed = seed

    def bytes_per_vector(self, d: int) -> int:
        """``m``."""
        return min(-(-d // 16), _MOST_BOOKS) if self.m is None else self._whole("m", _MOST_BOOKS)

    def _whole(self, name: str, most: int) -> int:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= most:
            raise InputError(
                f"{name}={value!r} is not possible for Additive", fix=f"give a whole number from 1 to {most}"
            )
        return int(value)

    def _has_lengths(self) -> bool:
        return bool(choice(self, "norm", ("length", "none")) == "length")

    def _groups(self, books: int, d: int) -> list[tuple[slice, slice]]:
        """Codebooks and columns of each group."""
        count = 1 if books <= _WHOLE else min(-(-books // _GROUP), d)
        edges = [np.linspace(0, all_, count + 1).astype(int).tolist() for all_ in (books, d)]
        return [(slice(*book), slice(*column)) for book, column in zip(pairwise(edges[0]), pairwise(edges[1]))]

    def _learn(self, X: Vectors) -> None:
        begun, d = time.monotonic(), X.shape[1]
        books = self.bytes_per_vector(d)
        self._whole("beam", 1024)
        if not isinstance(self.seconds, (int, float)) or not self.seconds > 0:
            raise InputError(f"seconds={self.seconds!r} is not a time", fix="give more than 0")
        for name in ("rotation_", "levels_", "_kept"):
            vars(self).pop(name, None)
        generator = np.random.default_rng(self.seed)
        X = X[generator.permutation(len(X))[:_MOST_ROWS]]
        self.scale_ = factors.power_of_two(X)
        X = X * np.float32(self.scale_)
        self.mean_ = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        X -= self.mean_
        groups = self._groups(books, d)
        if len(groups) > 1:
            self.rotation_ = balanced_axes(X, [c.stop - c.start for _, c in groups])
            X = X @ self.rotation_.T
        self.centres_ = np.zeros((books, CHOICES, max(c.stop - c.start for _, c in groups)), dtype=np.float32)
        for place, (part, columns) in enumerate(groups):
            until = begun + self.seconds * (place + 1) / len(groups)
            rows = np.ascontiguousarray(X[:, columns])
            self.centres_[part, :, : rows.shape[1]] = self._learn_group(rows, part, until, last=part.stop == books)
        if self._has_lengths():
            sample = X[:_SAMPLE]
            ratios = self._ratios(sample, self._sums(self._numbers(sample)))
            ratios = ratios[ratios > 0]
            self.levels_ = additive_fit.length_levels(ratios if len(ratios) else np.ones(1, np.float32), _HALF)

    def _learn_group(self, X: Vectors, part: slice, until: float, *, last: bool) -> F32:
        """Codebooks of one group of columns."""
        begun, books, choices = time.monotonic(), part.stop - part.start, self._choices(last)
        allowed = max(until - begun, 1e-9)

        def late(share: float) -> bool:
            return time.monotonic() - begun > allowed * share

        pull = additive_fit.pull_for(len(X))
        # Learning one after another is to take half of the time, the rest is for all together.
        centres = additive_fit.start(
            X, books, pull, self.seed + part.start, lambda done: late(0.1 + done / 2), last_choices=choices
        )
        spent = (time.monotonic() - begun) / allowed
        if books == 1 or late(1 - max(0.2, spent)):
            return centres
        codes = SumSearch(centres, choices).codes(X, self.beam)
        fitted = additive_fit.refit(X, codes, centres, pull)
        # Of many codebooks that lean on each other the search misses the best sums, and the rows come out worse.
        again = SumSearch(fitted, choices).codes(X[:_JUDGED], self.beam)
        gaps = [
            np.square(X[:_JUDGED] - additive_fit.decode(*pair)).sum()
            for pair in ((codes[:_JUDGED], centres), (again, fitted))
        ]
        return fitted if gaps[1] < gaps[0] else centres

    def _choices(self, last: bool) -> int:
        """Centres of the last codebook of a group."""
        return _HALF if last and self._has_lengths() else CHOICES

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_kept"}

    def _searches(self) -> list[SumSearch]:
        """A search for each group, kept while the centres are the same."""
        kept: tuple[F32, list[SumSearch]] | None = vars(self).get("_kept")
        if kept is None or kept[0] is not self.centres_:
            groups = self._groups(len(self.centres_), self.n_features_in_)
            searches = [
                SumSearch(
                    np.ascontiguousarray(self.centres_[part, :, : columns.stop - columns.start]),
                    self._choices(place == len(groups) - 1),
                )
                for place, (part, columns) in enumerate(groups)
            ]
            kept = self._kept = (self.centres_, searches)
        return kept[1]

    def _turned(self, rows: Vectors) -> Vectors:
        return rows @ self.rotation_.T if hasattr(self, "rotation_") else rows

    def _numbers(self, rows: Vectors) -> NDArray[np.uint8]:
        """Of the centres that stand for rows, turned and without the mean; uint8 ``(n, m)``."""
        groups = self._groups(len(self.centres_), rows.shape[1])
        return np.hstack(
            [
                search.codes(np.ascontiguousarray(rows[:, columns]), self.beam)
                for search, (_, columns) in zip(self._searches(), groups)
            ]
        )

    def _sums(self, numbers: NDArray[np.uint8]) -> Vectors:
        """Sums of centres, turned, without the mean."""
        groups = self._groups(numbers.shape[1], self.mean_.shape[0])
        parts = [
            additive_fit.decode(numbers[:, part], self.centres_[part, :, : columns.stop - columns.start])
            for part, columns in groups
        ]
        return parts[0] if len(parts) == 1 else np.hstack(parts)

    def _ratios(self, rows: Vectors, sums: Vectors) -> F32:
        """How many times longer rows are than the sums that stand for them, both turned and without the mean."""
        mean = self._turned(self.mean_[None])
        long, short = (np.linalg.norm(each + mean, axis=1) for each in (rows, sums))
        ratio = np.divide(long, short, out=np.full_like(long, _WIDEST), where=short > 0)
        return np.where(long > 0, np.clip(ratio, 1 / _WIDEST, _WIDEST), 0).astype(np.float32)

    def _encode(self, X: Vectors) -> Codes:
        with np.errstate(over="ignore"):  # a row far outside the corpus lands on the outermost centres
            rows = np.clip(X * np.float32(self.scale_), -1e6, 1e6)
        rows -= self.mean_
        rows = self._turned(rows)
        numbers = self._numbers(rows)
        if not self._has_lengths():
            return numbers
        edges = np.sqrt(self.levels_[1:] * self.levels_[:-1])
        level = np.searchsorted(edges, self._ratios(rows, self._sums(numbers))).astype(np.uint8)
        # The shared byte comes first, where a scan looks for the factor of a row.
        return np.hstack([(numbers[:, -1] + _HALF * level)[:, None], numbers[:, :-1]])

    def _decode(self, codes: Codes) -> Vectors:
        numbers = np.hstack([codes[:, 1:], codes[:, :1] % _HALF]) if self._has_lengths() else codes
        rows = self._sums(numbers)
        if hasattr(self, "rotation_"):
            rows = rows @ self.rotation_
        rows += self.mean_
        rows *= np.float32(1 / self.scale_)
        if self._has_lengths():
            rows *= self.levels_.take(codes[:, 0] // _HALF)[:, None]
        return rows

    def _row_scratch(self, queries: int) -> int:
        return 2 * self.code_bytes_ if queries <= dots.FEW else 2 * super()._row_scratch(queries)

    def native_scan(self, Q: Vectors) -> TableScan:
        """A look-up a byte."""
        tables, shift = self._tables(self._check_input(Q))
        nothing = np.zeros(len(shift), dtype=np.float32)
        if not self._has_lengths():
            return TableScan(tables, nothing, shift)
        return TableScan(tables, shift, nothing, scales=np.repeat(self.levels_, _HALF))

    def _tables(self, Q: Vectors) -> tuple[F32, F32]:
        """What each byte adds to a score, ``(q, m, 256)``, and what is added to all, ``(q,)``."""
        scaled = Q * np.float32(1 / self.scale_)
        turned = self._turned(scaled)
        tables = np.empty((len(Q), self.code_bytes_, CHOICES), dtype=np.float32)
        for part, columns in self._groups(self.code_bytes_, self.n_features_in_):
            width = columns.stop - columns.start
            flat = self.centres_[part, :, :width].reshape(-1, width)
            tables[:, part] = (turned[:, columns] @ flat.T).reshape(len(Q), part.stop - part.start, CHOICES)
        if self._has_lengths():
            shared = np.tile(tables[:, -1:, :_HALF], (1, 1, CHOICES // _HALF))
            tables = np.ascontiguousarray(np.concatenate([shared, tables[:, :-1]], axis=1))
        return tables, (scaled @ self.mean_).astype(np.float32)

    def _prepare(self, Q: Vectors) -> BlockScorer:
        if len(Q) > dots.FEW:
            score = dots.float_dots(Q)
            return lambda codes: score(self._decode(codes))
        tables, shift = self._tables(Q)

        def few(codes: Codes) -> F32:
            sums = table_sums(tables, codes)
            sums += shift[:, None]
            if self._has_lengths():
                sums *= self.levels_.take(codes[:, 0] // _HALF)
            return sums

        return few
