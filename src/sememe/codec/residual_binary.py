"""Recurrent residual binary codes: signs of what the signs so far have missed, with halving weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec import straight_through
from sememe.codec.base import BlockScorer, Quantizer, blocks, choice
from sememe.codec.moments import Moments
from sememe.codec.straight_through import F32, Maps
from sememe.contracts import Codes, Vectors
from sememe.errors import InputError
from sememe.kernels import bits as packing
from sememe.kernels import dots
from sememe.kernels.symbols import SymbolScan

# Of a normal variable with 1 to 4 rounds: the weight of the first sign for least squared error, and that error.
_FIRST = {1: 0.7979, 2: 0.9957, 3: 1.1720, 4: 1.3408}
_ERROR = {1: 0.3634, 2: 0.1188, 3: 0.03744, 4: 0.01154}
_FACTOR = 2  # bytes of the length factor of a row


@register(
    "residual-binary",
    room="codec",
    kind="quantizer",
    summary="signs of what the signs so far have missed, any number of bits a dimension, with symmetric scores",
    paper=Paper("Binary Embedding-based Retrieval at Tencent", 2023, "2302.08714"),
    claim="2 bits a dimension: nDCG@10 at least 0.97 of float, recall@10 at least 10 points above plain signs.",
)
class ResidualBinary(Quantizer):
    """A composition of binary vectors: ``b = r_0 + r_1 / 2 + r_2 / 4 ...`` with every ``r_j`` in ``{-1, 1}**dims``.

    The rounds are those of ``straight_through``. They start at a closed form: the ``dims`` principal axes of the
    corpus, turned at random so that every place carries the same variance, and scaled for least squared error.
    Training, where it is asked for, then moves all maps. Where the paper has small residual perceptrons for its maps,
    these are linear, so that a float query is multiplied with the code directly.

    Exactly ``ceil(d * bits_per_dim / 8) + 2`` bytes a vector. One place is always full, so that a scan adds the mean's
    share without a special case. The last two bytes hold a float16 factor that gives the decoded row the length of the
    original: inner products are then not drawn towards rows that happen to decode long.

    Parameters
    ----------
    bits_per_dim : float
        Bits for each dimension of the *input*, over 0 and at most 4; 0.5 or 1.5 are fine.
    depth : int, optional
        Rounds, 1 to 4. There are as many principal axes as then fit the bytes, at most ``d``. When not given, the depth
        of least expected squared error, from the spectrum of the corpus.
    seconds : float
        Time for training; 0, the default, keeps the closed form, which training has not reliably improved on sentence
        vectors (``sememe reproduce residual-binary``). The time is turned into a number of steps by counting
        multiply-adds (a machine of 8 billion a second needs that long), so the result does not depend on the clock.
        Training stops at 12 passes over the corpus.
    seed : int
        Of the starting rotation and of the batches.

    Attributes
    ----------
    mean_ : ndarray of shape (d,)
    encoder_ : ndarray of shape (depth, d, dims), or (1, d, dims) for the closed form
        ``T_j``; all equal in the closed form.
    feedback_ : ndarray of shape (depth - 1, dims, d), or (0, dims, d) for the closed form
        ``R_j``; equal to ``decoder_`` in the closed form.
    decoder_ : ndarray of shape (dims, d)
    depth_, steps_ : int
        Rounds, and training steps done.
    scale_ : float
        Rows are multiplied by this power of two first, so that squares neither overflow nor vanish.
    """

    mean_: Vectors
    encoder_: NDArray[np.float32]
    feedback_: NDArray[np.float32]
    decoder_: NDArray[np.float32]
    scale_: float
    depth_: int
    steps_: int

    rank = 4

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """One and two bits a dimension, in closed form."""
        return ["residual-binary:1", "residual-binary:2"] if dim >= 8 else []

    def learning_seconds(self, rows: int, dim: int) -> float:
        """``seconds``: the closed form takes next to no time."""
        return float(self.seconds)

    def __init__(self, bits_per_dim: float = 2, depth: int | None = None, seconds: float = 0.0, seed: int = 0) -> None:
        self.bits_per_dim = bits_per_dim
        self.depth = depth
        self.seconds = seconds
        self.seed = seed

    def _budget(self, d: int) -> int:
        bits = self.bits_per_dim
        if isinstance(bits, (bool, str)) or not 0 < bits <= 4:
            raise InputError(
                f"bits_per_dim={bits!r} is not possible for ResidualBinary", fix="give a number over 0, at most 4"
            )
        return int(np.ceil(d * bits / 8))

    def bytes_per_vector(self, d: int) -> int:
        """``ceil(d * bits_per_dim / 8) + 2``."""
        return self._budget(d) + _FACTOR

    def _places(self, d: int, depth: int) -> int:
        """The most axes that fit the budget with ``depth`` bits each and one place for the mean; at most ``d``."""
        budget = self._budget(d)
        dims = min(d, 8 * budget // depth - 1)
        while dims > 0 and packing.packed_bytes(dims + 1, depth) > budget:
            dims -= 1
        return max(dims, 0)

    def _depth_for(self, values: NDArray[np.float64]) -> int:
        """The number of rounds with the least expected error: of the places kept, and of the axes left out."""
        d = len(values)
        if self.depth is not None:
            depth = int(choice(self, "depth", (1, 2, 3, 4)))
            if not self._places(d, depth):
                raise InputError(
                    f"depth={depth} does not fit {self._budget(d)} bytes", fix="give fewer rounds or more bits_per_dim"
                )
            return depth

        def error(depth: int) -> float:
            dims = self._places(d, depth)
            return float(_ERROR[depth] * values[:dims].sum() + values[dims:].sum())

        return min((depth for depth in _ERROR if self._places(d, depth)), key=error)

    def _learn(self, X: Vectors) -> None:
        if isinstance(self.seconds, (bool, str)) or not 0 <= self.seconds < np.inf:
            raise InputError(
                f"seconds={self.seconds!r} is not possible for ResidualBinary", fix="give 0 or more seconds"
            )
        largest = float(np.abs(X).max())
        self.scale_ = float(2.0 ** np.clip(-np.floor(np.log2(largest)), -126, 126)) if largest > 0 else 1.0
        rows = X * np.float32(self.scale_)
        moments = Moments().update(rows)
        values, vectors = moments.spectrum()
        values = np.maximum(values, 0.0)
        self.depth_ = self._depth_for(values)
        dims = self._places(X.shape[1], self.depth_)
        self.mean_ = moments.mean.astype(np.float32)
        generator = np.random.default_rng(self.seed)
        turn = np.linalg.qr(generator.standard_normal((dims, dims)))[0]
        axes = turn @ vectors[:dims]  # (dims, d), orthonormal rows
        reach = np.sqrt(turn**2 @ values[:dims]) * _FIRST[self.depth_]
        inverse = np.divide(1.0, reach, out=np.zeros_like(reach), where=reach > 0)
        self.encoder_ = np.ascontiguousarray((axes * inverse[:, None]).T, dtype=np.float32)[None]
        self.decoder_ = np.ascontiguousarray(axes * reach[:, None], dtype=np.float32)
        self.feedback_ = np.zeros((0, *self.decoder_.shape), dtype=np.float32)
        self.steps_ = 0
        if self.seconds and values[0] > 0:
            self._train(rows, float(values.sum()) + float(moments.mean @ moments.mean))

    def _train(self, rows: Vectors, square: float) -> None:
        """Move all maps by gradient; inside, rows have a mean square length of 1."""
        unit = np.float32(np.sqrt(square))
        n, d = rows.shape
        dims, depth = len(self.decoder_), self.depth_
        decode = self.decoder_ / unit
        encode = [self.encoder_[0] * unit for _ in range(depth)]
        maps = Maps(encode, [decode.copy() for _ in range(depth - 1)], decode)
        self.steps_ = straight_through.steps_for(float(self.seconds), n, d, dims, depth)
        straight_through.train(maps, rows / unit, self.mean_ / unit, steps=self.steps_, seed=self.seed)
        self.encoder_ = np.stack(maps.encode) / unit
        self.feedback_ = np.array(maps.feedback, dtype=np.float32).reshape(depth - 1, dims, d) * unit
        self.decoder_ = maps.decode * unit

    def _integers(self, rows: F32) -> NDArray[np.uint8]:
        """Signs of centred rows as integers of ``depth_`` bits, ``(n, dims)``, the first sign in the highest.

        A round needs ``(f - b R) T = f T - b (R T)``; in the closed form ``R T`` is the identity.
        """
        places = np.zeros((len(rows), len(self.decoder_)), dtype=np.uint8)
        levels = np.zeros(places.shape, dtype=np.float32)
        first = rows @ self.encoder_[0]
        for number in range(self.depth_):
            if number and len(self.encoder_) > 1:
                encode = self.encoder_[number]
                drive = rows @ encode - levels @ (self.feedback_[number - 1] @ encode)
            else:
                drive = first - levels
            sign = drive >= 0
            levels += np.where(sign, np.float32(2.0**-number), np.float32(-(2.0**-number)))
            places = (places << np.uint8(1)) | sign
        return places

    def _levels(self, places: NDArray[np.uint8]) -> F32:
        """``b`` of the integers, float32."""
        top, half = (1 << self.depth_) - 1, 1 << (self.depth_ - 1)
        return (places.astype(np.float32) * 2 - top) / np.float32(half)

    def _encode(self, X: Vectors) -> Codes:
        with np.errstate(over="ignore"):  # a row far outside the corpus keeps its direction only
            scaled = np.clip(X * np.float32(self.scale_), -1e6, 1e6)
        places = self._integers(scaled - self.mean_)
        decoded = self._levels(places) @ self.decoder_ + self.mean_
        wanted, given = _lengths(scaled), _lengths(decoded)
        factor = np.divide(wanted, given, out=np.zeros_like(wanted), where=given > 0)
        out = np.zeros((len(X), self.code_bytes_), dtype=np.uint8)
        full = np.full((len(X), 1), (1 << self.depth_) - 1, dtype=np.uint8)
        packed = packing.pack(np.hstack([places, full]), self.depth_)
        out[:, : packed.shape[1]] = packed
        out[:, -_FACTOR:] = np.minimum(factor, 65504).astype(np.float16)[:, None].view(np.uint8)
        return out

    def _split(self, codes: Codes) -> tuple[Codes, NDArray[np.float32]]:
        """The packed integers, and the length factors ``(n,)``."""
        packed = codes[:, : packing.packed_bytes(len(self.decoder_) + 1, self.depth_)]
        factor = np.ascontiguousarray(codes[:, -_FACTOR:]).view(np.float16)[:, 0].astype(np.float32)
        return np.ascontiguousarray(packed), factor

    def _centred(self, codes: Codes) -> tuple[F32, NDArray[np.float32]]:
        packed, factor = self._split(codes)
        places = packing.unpack(packed, self.depth_, len(self.decoder_) + 1)
        return self._levels(places[:, :-1]), factor

    def _decode(self, codes: Codes) -> Vectors:
        levels, factor = self._centred(codes)
        return (levels @ self.decoder_ + self.mean_) * (factor * np.float32(1 / self.scale_))[:, None]

    def _row_scratch(self, queries: int) -> int:
        return 8 * self.n_features_in_

    def _prepare(self, Q: Vectors) -> BlockScorer:
        return self._scan(self.native_scan(Q))

    def native_scan(self, Q: Vectors) -> SymbolScan:
        """The levels are those of the signs; the mean's share stands at the last place, which is the same in all codes.

        So it is scaled with the row's factor like all others.
        """
        wide = self._check_input(Q).astype(np.float64) / self.scale_
        return self._symbols(wide @ self.decoder_.T.astype(np.float64), wide @ self.mean_.astype(np.float64))

    def _symbols(self, turned: NDArray[np.float64], shift: NDArray[np.float64]) -> SymbolScan:
        """A scan that scores ``(turned . b + shift) * factor``."""
        levels = self._levels(np.arange(1 << self.depth_, dtype=np.uint8)).astype(np.float64)
        return SymbolScan(
            weights=np.hstack([turned, shift[:, None] / levels[-1]]),
            constants=np.zeros(len(turned)),
            levels=levels,
            bits=self.depth_,
            tail="half",
            tail_offset=self.code_bytes_ - _FACTOR,
        )

    def _scan(self, symbols: SymbolScan) -> BlockScorer:
        """The scores of a block, from the packed integers: levels are evenly spaced, so one product does."""
        weights, layout = symbols.weights, packing.layout(symbols.weights.shape[1], self.depth_)
        step = symbols.levels[1] - symbols.levels[0]
        constant = (weights.sum(axis=1) * symbols.levels[0]).astype(np.float32)[:, None]
        score = dots.integer_dots(weights * step, layout)

        def run(codes: Codes) -> NDArray[np.float32]:
            packed, factor = self._split(codes)
            planes = packing.planes(packed, self.depth_, weights.shape[1])
            return (score([plane.view(np.int8) for plane in planes]) + constant) * factor

        return run

    def symmetric_scan(self, codes: Codes) -> SymbolScan:
        """Codes ``(q, code_bytes_)`` in the place of queries: a scan that scores what both sides decode to.

        Neither side is decoded: ``decode(a) . decode(b)`` is the product of the two codes' levels with the matrix
        ``D D'`` between them, which is multiplied into the levels of ``codes`` once.
        """
        levels, factor = self._centred(self._check_codes(codes))
        decoder, mean = self.decoder_.astype(np.float64), self.mean_.astype(np.float64)
        weight = factor.astype(np.float64) / self.scale_**2
        own = levels * weight[:, None]
        turned = own @ (decoder @ decoder.T) + weight[:, None] * (decoder @ mean)
        return self._symbols(turned, own @ (decoder @ mean) + weight * (mean @ mean))

    def symmetric(self, left: Codes, right: Codes) -> NDArray[np.float32]:
        """Inner products of what codes ``(q, code_bytes_)`` and ``(n, code_bytes_)`` decode to, float32 ``(q, n)``.

        The scan runs over the packed integers of the right side, block by block.
        """
        run = self._scan(self.symmetric_scan(left))
        checked = self._check_codes(right)
        out = np.empty((len(left), len(checked)), dtype=np.float32)
        for part in blocks(len(checked), self._row_scratch(len(left))):
            out[:, part] = run(checked[part])
        return out


def _lengths(rows: F32) -> NDArray[np.float64]:
    return np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
