"""Residual codes: the nearest of many learned centres, and what is left in a few bits a dimension."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec.base import BlockScorer, Quantizer, as_bytes
from sememe.contracts import Codes, Vectors, unit_rows
from sememe.errors import InputError
from sememe.kernels import bits as packing
from sememe.kernels import dots
from sememe.kernels.kmeans import kmeans, nearest
from sememe.kernels.maxsim import TokenCodes

_ROWS_A_CENTRE = 32  # training rows for each centre
_ITERATIONS = 8
_VALUES = 1 << 18  # residual values that the levels are learned from
_FEW = 64  # from so many queries on, putting rows together once is cheaper than a look-up for each query
_UNIT = 1e-3  # how far from 1 a unit vector's length may be
_ROUNDS = 24  # of the levels' own one-dimensional k-means
_SPEED = 3e10  # multiply-adds a second of k-means, one core
_FEW_CELLS = 256  # of codes for one vector a passage: their centres weigh as much as many codes


@register(
    "residual",
    room="codec",
    kind="quantizer",
    summary="the nearest of many learned centres plus 1 to 8 bits a dimension of what is left; made for token vectors",
    paper=Paper("ColBERTv2: Effective and Efficient Retrieval via Lightweight Late Interaction", 2021, "2112.01488"),
    claim="Token vectors in 2 bits a dimension rank as the uncompressed ones do, at a sixth to a tenth of the bytes.",
)
class Residual(Quantizer):
    """``x = centre + spread * level``: the number of the centre, then a packed level for each dimension.

    Exactly 2 bytes for the centre (1 with at most 256 centres) and ``d * bits / 8`` for the levels. Where the paper
    cuts the residuals of all dimensions at their quantiles, here each dimension has its own spread and the levels are
    those of least squared error (Lloyd's algorithm on the values).

    Sums of least squared error are too short, and the shorter the farther a row lies from its centre. Where all rows
    of the corpus have unit length, as token vectors do, decoded ones are given unit length too, as in the paper: that
    takes no bytes, and a scan adds up the squares of a row while it puts it together.

    Parameters
    ----------
    bits : int
        1 to 8 a dimension.
    cells : int
        Centres, 1 to 65,536. More make the residual smaller and searching through the centres finer, at ``4 d`` bytes
        of side data each; the paper uses about ``16 sqrt(n)``.
    seed : int
        Of the training sample and the starting centres.

    Attributes
    ----------
    centres_ : ndarray of shape (cells, d)
        float32, of rows multiplied by ``scale_``.
    spread_ : ndarray of shape (d,)
        float32 root mean square of the residual in each dimension.
    levels_ : ndarray of shape (2**bits,)
        float32, ascending, in units of the spread.
    scale_ : float
        The power of two that brings the corpus' largest entry near 1, so that squares neither overflow nor vanish.
    unit_ : bool
        Whether decoded rows are brought to unit length: where those learned from have it, or are zero. An index
        stored before there was this has none, and decodes as it did.
    """

    unit_: bool = False
    centres_: NDArray[np.float32]
    spread_: NDArray[np.float32]
    levels_: NDArray[np.float32]
    scale_: float

    rank = 4

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """One and two bits, where there are passages enough to learn centres from."""
        if passages < _ROWS_A_CENTRE * _FEW_CELLS // 4:
            return []
        return [f"residual:{bits},cells={_FEW_CELLS}" for bits in (1, 2)]

    @classmethod
    def sweep_tokens(cls, dim: int, vectors: int) -> list[str]:
        """Two, one and four bits, with centres by the number of vectors."""
        cells = 1024 if vectors >= 4 * _ROWS_A_CENTRE * 1024 else _FEW_CELLS
        return [f"residual:{bits},cells={cells}" if cells != 1024 else f"residual:{bits}" for bits in (2, 1, 4)]

    def learning_seconds(self, rows: int, dim: int) -> float:
        """K-means over a sample."""
        rows = min(rows, _ROWS_A_CENTRE * max(self.cells, 256))
        return rows * self.cells * dim * _ITERATIONS / _SPEED

    def __init__(self, bits: int = 2, cells: int = 1024, seed: int = 0) -> None:
        self.bits = bits
        self.cells = cells
        self.seed = seed

    def bytes_per_vector(self, d: int) -> int:
        """1 or 2 for the centre, and the packed levels."""
        return self._head() + packing.packed_bytes(d, self._bits())

    def _bits(self) -> int:
        return self._whole("bits", 8)

    def _head(self) -> int:
        return 1 if self._whole("cells", 1 << 16) <= 256 else 2

    def _whole(self, name: str, most: int) -> int:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= most:
            raise InputError(f"{name}={value!r} is not possible for Residual", fix=f"give a whole number, 1 to {most}")
        return int(value)

    def _learn(self, X: Vectors) -> None:
        generator = np.random.default_rng(self.seed)
        lengths = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64))
        self.unit_ = bool(lengths.any() and (np.abs(lengths[lengths > 0] - 1) < _UNIT).all())
        most = _ROWS_A_CENTRE * max(self.cells, 256)
        if len(X) > most:
            X = X[np.sort(generator.choice(len(X), most, replace=False))]
        largest = float(np.abs(X).max())
        self.scale_ = float(2.0 ** np.clip(-np.floor(np.log2(largest)), -126, 126)) if largest > 0 else 1.0
        X = X * np.float32(self.scale_)
        self.centres_ = kmeans(X, self.cells, iterations=_ITERATIONS, seed=self.seed)
        left = X - self.centres_[nearest(X, self.centres_)]
        spread = np.sqrt(np.einsum("ij,ij->j", left, left, dtype=np.float64) / len(left))
        self.spread_ = spread.astype(np.float32)
        values = (left[:, spread > 0] / self.spread_[spread > 0]).ravel()
        if len(values) > _VALUES:
            values = values[generator.choice(len(values), _VALUES, replace=False)]
        self.levels_ = _lloyd(values.astype(np.float64), 1 << self._bits())

    def cells_of(self, codes: Codes) -> NDArray[np.intp]:
        """The number of the centre in each code, ``(n,)``."""
        head = np.ascontiguousarray(self._check_codes(codes)[:, : self._head()])
        return head.view(np.uint8 if self._head() == 1 else "<u2")[:, 0].astype(np.intp)

    def cell_scores(self, Q: Vectors) -> NDArray[np.float32]:
        """Inner products of queries ``(q, d)`` with the centres, float32 ``(q, cells)``."""
        return np.asarray((self._check_input(Q) * np.float32(1 / self.scale_)) @ self.centres_.T)

    def _encode(self, X: Vectors) -> Codes:
        with np.errstate(over="ignore"):  # a row far outside the corpus gets the outermost levels
            scaled = np.clip(X * np.float32(self.scale_), -1e6, 1e6)
        cells = nearest(scaled, self.centres_)
        left = scaled - self.centres_[cells]
        edges = (self.levels_[1:] + self.levels_[:-1]) / 2
        if len(edges) < 16:
            # A few comparisons with the edges in the units of each dimension are faster than a search.
            numbers = np.zeros(X.shape, dtype=np.uint8)
            for edge in edges:
                numbers += left > edge * self.spread_
        else:
            unit = np.divide(left, self.spread_, out=np.zeros_like(left), where=self.spread_ > 0)
            numbers = np.searchsorted(edges, unit).astype(np.uint8)
        head = as_bytes(cells.astype(np.uint8 if self._head() == 1 else "<u2")[:, None])
        return np.concatenate([head, packing.pack(numbers, self._bits())], axis=1)

    def _decode(self, codes: Codes) -> Vectors:
        rows = self.levels_.take(packing.unpack(codes[:, self._head() :], self._bits(), self.n_features_in_))
        rows *= self.spread_
        rows += self.centres_[self.cells_of(codes)]
        if self.unit_:
            return unit_rows(rows)
        rows *= np.float32(1 / self.scale_)
        return rows

    def native_maxsim(self, Q: Vectors) -> TokenCodes:
        """A product with the centre, looked up, and one with the levels; or one with the whole at unit length."""
        weights, head = self._check_input(Q), self._head()
        if self.unit_:
            return TokenCodes(
                weights,
                "symbols",
                bits=self._bits(),
                levels=self.levels_,
                first=head,
                head=head,
                rows=self.centres_,
                spread=self.spread_,
            )
        weights = weights * (self.spread_ * np.float32(1 / self.scale_))
        return TokenCodes(
            weights,
            "symbols",
            bits=self._bits(),
            levels=self.levels_,
            first=head,
            head=head,
            centres=self.cell_scores(Q),
        )

    def _prepare(self, Q: Vectors) -> BlockScorer:
        if len(Q) > _FEW or self.unit_:
            product = dots.float_dots(Q)
            return lambda codes: product(self._decode(codes))
        # A product with the centre, looked up, and one with the levels: no row is put together.
        bits, d = self._bits(), self.n_features_in_
        centres = self.cell_scores(Q)
        scaled = Q.astype(np.float64) * (self.spread_ * np.float32(1 / self.scale_))
        if bits in (2, 4):
            # One look-up a byte delivers all its dimensions, side by side; the query's are put in the same order.
            slots, length = 8 // bits, packing.packed_bytes(d, bits)
            table = self.levels_[(np.arange(256)[:, None] >> (bits * np.arange(slots))) & ((1 << bits) - 1)]
            entry = (
                np.uint64 if slots == 2 else np.complex128
            )  # NumPy's own types of 8 and 16 bytes: take copies them whole
            whole = np.ascontiguousarray(table).view(entry)[:, 0]
            padded = np.zeros((len(Q), slots * length))
            padded[:, :d] = scaled
            ordered = padded.reshape(len(Q), slots, length).swapaxes(1, 2)  # (q, byte, slot)
            product = dots.float_dots(ordered.reshape(len(Q), slots * length))

            def levels(packed: Codes) -> NDArray[np.float32]:
                return whole.take(packed).view(np.float32)

        else:
            product = dots.float_dots(scaled)

            def levels(packed: Codes) -> NDArray[np.float32]:
                return self.levels_.take(packing.unpack(packed, bits, d))

        def score(codes: Codes) -> NDArray[np.float32]:
            out = product(levels(codes[:, self._head() :]))
            out += centres.take(self.cells_of(codes), axis=1)
            return out

        return score


def _lloyd(values: NDArray[np.float64], count: int) -> NDArray[np.float32]:
    """The ``count`` levels of least squared error for ``values`` ``(n,)``: k-means in one dimension, from quantiles."""
    if not len(values):
        return np.zeros(count, dtype=np.float32)
    ordered = np.sort(values)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    levels = np.quantile(ordered, (np.arange(count) + 0.5) / count)
    for _ in range(_ROUNDS):
        cuts = np.concatenate([[0], np.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2), [len(ordered)]])
        counts = np.diff(cuts)
        levels = np.where(counts > 0, np.diff(sums[cuts]) / np.maximum(counts, 1), levels)
    return levels.astype(np.float32)
