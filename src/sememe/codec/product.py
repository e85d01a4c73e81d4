"""Product quantization: each group of dimensions becomes the number of its nearest learned centre."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec import factors
from sememe.codec.axes import balanced_axes
from sememe.codec.base import BlockScorer, Quantizer, choice, width
from sememe.contracts import Codes, Vectors
from sememe.kernels import bits as packing
from sememe.kernels import dots
from sememe.kernels.kmeans import kmeans
from sememe.kernels.product import encode_subspaces
from sememe.kernels.tables import TableScan, byte_tables, table_sums

_ROWS_A_CENTRE = 64  # training rows for each centre; more gain less than a percent of error
_ITERATIONS = 12
_ROUNDS = 6  # of learning the rotation
_SPEED = 4e9  # products of rows, centres and dimensions a second of k-means, one core


@register(
    "pq",
    room="codec",
    kind="quantizer",
    summary="product quantization: m groups of dimensions, one learned centre each, optionally rotated first",
    paper=Paper("Product Quantization for Nearest Neighbor Search", 2011),
    claim="Reconstruction error within a few percent of faiss with the same m and bits.",
)
class ProductQuantizer(Quantizer):
    """The dimensions are cut into ``m`` consecutive groups; a group is stored as the number of its nearest centre.

    Exactly ``m`` bytes a vector with 8 bits, ``ceil(m / 2)`` with 4, and one more with a norm. Where ``m`` does not
    divide the width, groups differ by one dimension. The rotation follows Optimized Product Quantization (Ge, He, Ke
    and Sun, 2013).

    Parameters
    ----------
    m : int, optional
        Groups; one for every 8 dimensions (rounded up) when not given.
    bits : {8, 4}
        256 or 16 centres a group.
    rotate : bool
        Learn an orthogonal rotation first: principal axes dealt out so that groups share the variance evenly, then
        alternating improvement. Costs ``4 d**2`` bytes of side data.
    norm : {"none", "length", "score"}
        Code the direction of each row from the corpus mean, and beside it one byte: its length (FastText.zip, 2016,
        arXiv 1612.03651), or the factor that makes the decoded row agree with the row itself, which scores best.
    seed : int
        Of the training sample and the starting centres.

    Attributes
    ----------
    mean_, levels_ : ndarrays of shape (d,) and (256,)
        Only with a norm: the corpus mean, of rows multiplied by ``scale_``, and what the norm's byte stands for.
    centres_ : ndarray of shape (m, 2**bits, widest group)
        float32, of rows multiplied by ``scale_``; narrower groups are padded with zeros.
    scale_ : float
        The power of two that brings the corpus' largest entry near 1, so that squares neither overflow nor vanish.
    rotation_ : ndarray of shape (d, d)
        Only with ``rotate=True``: rows are multiplied by it before they are cut.
    """

    rank = 2

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Half a byte a dimension down to an eighth, and fewer with norms, where there are enough passages."""
        if passages < 39 * 256 // 4:  # learned centres need enough vectors to learn from
            return []
        plain = [f"pq:{m}" for m in (dim // 2, 3 * dim // 8, dim // 4, dim // 8) if m]
        return plain + [f"pq:{m},norm=score" for m in (3 * dim // 16 - 1, dim // 8 - 1, dim // 16 - 1) if m >= 4]

    def learning_seconds(self, rows: int, dim: int) -> float:
        """K-means in every group over a sample."""
        return min(rows, self._most_rows()) * (dim + self._groups(dim)) * (1 << self.bits) / _SPEED

    def __init__(
        self, m: int | None = None, bits: int = 8, rotate: bool = False, norm: str = "none", seed: int = 0
    ) -> None:
        self.m = m
        self.bits = bits
        self.rotate = rotate
        self.norm = norm
        self.seed = seed

    centres_: NDArray[np.float32]
    rotation_: NDArray[np.float32]
    scale_: float
    mean_: NDArray[np.float32]
    levels_: NDArray[np.float32]

    def _norm_bytes(self) -> int:
        return 0 if choice(self, "norm", ("none", "length", "score")) == "none" else 1

    def _groups(self, d: int) -> int:
        return width(self, self.m if self.m is not None else -(-d // 8), d, name="m")

    def bytes_per_vector(self, d: int) -> int:
        """``m`` for 8 bits, ``ceil(m / 2)`` for 4; one more with a norm."""
        return packing.packed_bytes(self._groups(d), choice(self, "bits", (8, 4))) + self._norm_bytes()

    def _cuts(self) -> list[slice]:
        d = self.n_features_in_
        edges = np.linspace(0, d, self._groups(d) + 1).astype(int)
        return [slice(int(a), int(b)) for a, b in pairwise(edges)]

    def _most_rows(self) -> int:
        """How many rows are worth learning from."""
        return _ROWS_A_CENTRE << self.bits

    def _learn(self, X: Vectors) -> None:
        most = self._most_rows()
        if len(X) > most:
            chosen = np.random.default_rng(self.seed).choice(len(X), most, replace=False)
            X = X[np.sort(chosen)]
        self.scale_ = factors.power_of_two(X)
        for name in ("rotation_", "mean_", "levels_"):
            vars(self).pop(name, None)
        if self._norm_bytes():
            self.mean_ = (X * np.float32(self.scale_)).mean(axis=0, dtype=np.float64).astype(np.float32)
            X, length = factors.directions(X, self.mean_, self.scale_)
        else:
            X = X * np.float32(self.scale_)
        if self.rotate:
            self.rotation_ = balanced_axes(X, [cut.stop - cut.start for cut in self._cuts()])
            for round_ in range(_ROUNDS):
                turned = X @ self.rotation_.T
                self._train(turned, iterations=2, resume=round_ > 0)
                # The rotation that brings the rows closest to what their codes decode to (orthogonal Procrustes).
                left, _, right = np.linalg.svd(self._centres_of(self._nearest(turned)).T.astype(np.float64) @ X)
                self.rotation_ = np.ascontiguousarray(left @ right, dtype=np.float32)
            X = X @ self.rotation_.T
        self._train(X, iterations=_ITERATIONS, resume=False)
        if self._norm_bytes():
            self.levels_ = factors.levels(self._norms(X, length, self._nearest(X)))

    def _norms(self, turned: Vectors, length: NDArray[np.float32], numbers: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The factor of each row, before it is rounded to a level."""
        return length if self.norm == "length" else factors.score_factors(length, turned, self._centres_of(numbers))

    def _train(self, X: Vectors, *, iterations: int, resume: bool) -> None:
        cuts = self._cuts()
        centres = np.zeros((len(cuts), 1 << self.bits, max(c.stop - c.start for c in cuts)), dtype=np.float32)
        for group, cut in enumerate(cuts):
            part = np.ascontiguousarray(X[:, cut])
            start = self.centres_[group, :, : part.shape[1]] if resume else None
            found = kmeans(part, 1 << self.bits, iterations=iterations, seed=self.seed + group, start=start)
            centres[group, :, : part.shape[1]] = found
        self.centres_ = centres

    def _nearest(self, X: Vectors) -> NDArray[np.uint8]:
        """Numbers of the centres, uint8 ``(n, m)``."""
        cuts = self._cuts()
        return encode_subspaces(X, [self.centres_[g, :, : cut.stop - cut.start] for g, cut in enumerate(cuts)])

    def _centres_of(self, numbers: NDArray[np.uint8]) -> Vectors:
        out = np.empty((len(numbers), self.n_features_in_), dtype=np.float32)
        for group, cut in enumerate(self._cuts()):
            out[:, cut] = self.centres_[group, :, : cut.stop - cut.start].take(numbers[:, group], axis=0)
        return out

    def _encode(self, X: Vectors) -> Codes:
        if self._norm_bytes():
            rows, length = factors.directions(X, self.mean_, self.scale_)
        else:
            with np.errstate(over="ignore"):  # a row far outside the corpus lands on the outermost centres
                rows = np.clip(X * np.float32(self.scale_), -1e6, 1e6)
        turned = rows @ self.rotation_.T if self.rotate else rows
        numbers = self._nearest(turned)
        packed = packing.pack(numbers, self.bits)
        if not self._norm_bytes():
            return packed
        return np.hstack([factors.encode(self._norms(turned, length, numbers), self.levels_)[:, None], packed])

    def _rows_of(self, codes: Codes) -> Vectors:
        """Decoded rows before they are turned back, with their norms."""
        packed = codes[:, self._norm_bytes() :]
        rows = self._centres_of(packing.unpack(packed, self.bits, len(self.centres_)))
        if self._norm_bytes():
            rows *= factors.decode(codes, self.levels_)[:, None]
        return rows

    def _decode(self, codes: Codes) -> Vectors:
        rows = self._rows_of(codes)
        turned = rows @ self.rotation_ if self.rotate else rows
        if self._norm_bytes():
            turned = turned + self.mean_
        return turned * np.float32(1 / self.scale_)

    def _row_scratch(self, queries: int) -> int:
        return 2 * self.code_bytes_ if queries <= dots.FEW else super()._row_scratch(queries)

    def native_scan(self, Q: Vectors) -> TableScan | None:
        """A look-up a byte; for many queries one matrix product with decoded rows is cheaper."""
        if len(Q) > dots.FEW:
            return None
        turned, shift = self._turned(self._check_input(Q))
        nothing = np.zeros(len(turned), dtype=np.float32)
        if shift is None:
            return TableScan(self._tables(turned), nothing, nothing)
        return TableScan(self._tables(turned), nothing, shift, first=1, scales=self.levels_)

    def _turned(self, Q: Vectors) -> tuple[Vectors, NDArray[np.float32] | None]:
        """Queries as the centres see them, and with a norm what is added to every score, ``(q,)``."""
        turned = Q * np.float32(1 / self.scale_)
        shift = (turned @ self.mean_).astype(np.float32) if self._norm_bytes() else None
        return np.asarray(turned @ self.rotation_.T if self.rotate else turned, dtype=np.float32), shift

    def _tables(self, turned: Vectors) -> NDArray[np.float32]:
        values = np.empty((len(turned), len(self.centres_), 1 << self.bits), dtype=np.float32)
        for group, cut in enumerate(self._cuts()):
            values[:, group] = turned[:, cut] @ self.centres_[group, :, : cut.stop - cut.start].T
        return values if self.bits == 8 else byte_tables(values, self.bits)

    def _prepare(self, Q: Vectors) -> BlockScorer:
        turned, added = self._turned(Q)
        shift = None if added is None else added[:, None]
        if len(Q) > dots.FEW:
            score = dots.float_dots(turned)
            if shift is None:
                return lambda codes: score(self._rows_of(codes))
            return lambda codes: np.add(score(self._rows_of(codes)), shift, dtype=np.float32)
        tables = self._tables(turned)
        if shift is None:
            return lambda codes: table_sums(tables, codes)

        def scaled(codes: Codes) -> NDArray[np.float32]:
            sums = table_sums(tables, codes[:, 1:])
            sums *= factors.decode(codes, self.levels_)
            sums += shift
            return sums

        return scaled
