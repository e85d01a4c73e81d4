"""Flat search in two steps: a scan of a bit or two a dimension, then exact scores for the rows that it leaves.

At batch one a scan is as fast as memory delivers its bytes, so the first step reads a thirty-second of the floats. The
second reads a few hundred rows, each requested before it is needed. The sketch follows RaBitQ ("RaBitQ: Quantizing
High-Dimensional Vectors with a Theoretical Error Bound", 2024, 2405.12497): centred rows under a random rotation, whose
coordinates are then nearly Gaussian, each rounded to the levels of least squared error. Queries are not rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors, as_vectors
from sememe.errors import InputError
from sememe.kernels import bits as packing
from sememe.kernels.fastscan import NibbleBlocks
from sememe.kernels.rescore import multiply, rescore
from sememe.kernels.select import best_selected

# Levels of least squared error for a standard Gaussian ("Quantizing for Minimum Distortion", 1960).
_LEVELS = {1: (-0.797885, 0.797885), 2: (-1.510418, -0.452780, 0.452780, 1.510418)}
_SAMPLE = 1 << 14  # rows that the centre and the spread are measured on
_ROWS = 1 << 13  # rows encoded at a time
CANDIDATES = 64  # times k: rows of the first step that may be read in the second


@dataclass(frozen=True, eq=False)
class Sketch:
    """A random rotation and a few levels a coordinate, read four bits at a time.

    Attributes
    ----------
    bits : {1, 2}
        A coordinate.
    mean : ndarray of shape (d,)
        float32, subtracted before the rotation.
    rotation : ndarray of shape (d, places * 4 / bits)
        float32; orthonormal, with columns of zeros to fill the last place.
    spread : ndarray of shape (places * 4 / bits,)
        float32 standard deviation of each coordinate.
    """

    bits: int
    mean: NDArray[np.float32]
    rotation: NDArray[np.float32]
    spread: NDArray[np.float32]

    @classmethod
    def fit(cls, X: NDArray[np.floating], *, bits: int = 1, seed: int = 0) -> Sketch:
        """Measure the centre and spread of float rows ``(n, d)`` and draw the rotation."""
        if bits not in _LEVELS or X.ndim != 2 or not X.size:
            raise InputError(f"a sketch of {bits!r} bits of an array {X.shape} is not possible", fix="bits are 1 or 2")
        generator = np.random.default_rng(seed)
        n, d = X.shape
        chosen = np.sort(generator.choice(n, min(n, _SAMPLE), replace=False))
        sample = np.asarray(X[chosen], dtype=np.float32)
        mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        left, right = np.linalg.qr(generator.standard_normal((d, d)))
        depth = 4 // bits
        rotation = np.zeros((d, -(-d // depth) * depth), dtype=np.float32)
        rotation[:, :d] = left * np.sign(np.diag(right))  # uniform over all rotations
        return cls(bits, mean, rotation, ((sample - mean) @ rotation).std(axis=0))

    @property
    def places(self) -> int:
        """Numbers of four bits in a row."""
        return self.rotation.shape[1] * self.bits // 4

    @property
    def centres(self) -> NDArray[np.float32]:
        """What each number stands for, ``(places, 16, 4 / bits)``."""
        depth = 4 // self.bits
        symbol = (np.arange(16)[:, None] >> (self.bits * np.arange(depth))) & ((1 << self.bits) - 1)
        levels = np.array(_LEVELS[self.bits], dtype=np.float32)[symbol]
        return np.ascontiguousarray(levels[None] * self.spread.reshape(-1, 1, depth))

    def encode(self, X: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Rows ``(n, d)`` to numbers, packed: uint8 ``(n, ceil(places / 2))``."""
        out = np.empty((len(X), (self.places + 1) // 2), dtype=np.uint8)
        levels = np.array(_LEVELS[self.bits])
        edges = ((levels[1:] + levels[:-1]) / 2).astype(np.float32)
        for start in range(0, len(X), _ROWS):
            turned = (np.asarray(X[start : start + _ROWS], dtype=np.float32) - self.mean) @ self.rotation
            symbols = (turned > edges[0] * self.spread).view(np.uint8)
            for edge in edges[1:]:
                symbols = symbols + (turned > edge * self.spread)
            numbers = symbols[:, :: 4 // self.bits].copy()
            for j in range(1, 4 // self.bits):
                numbers |= symbols[:, j :: 4 // self.bits] << np.uint8(self.bits * j)
            out[start : start + _ROWS] = packing.pack(numbers, 4)
        return out


class Cascade:
    """Sketches of all rows in memory, and the rows themselves wherever they lie.

    Parameters
    ----------
    vectors : ndarray of shape (n, d)
        float32 or float16, C-contiguous; may be memory-mapped: a search reads only a few hundred rows.
    bits : {1, 2}
        Of the sketch, a dimension.
    seed : int
        Of its rotation.

    Attributes
    ----------
    sketch : Sketch
    blocks : NibbleBlocks
        ``blocks.nbytes`` is what a scan reads.
    """

    def __init__(self, vectors: NDArray[np.float32] | NDArray[np.float16], *, bits: int = 1, seed: int = 0) -> None:
        self.vectors = vectors
        self.sketch = Sketch.fit(vectors, bits=bits, seed=seed)
        self.blocks = NibbleBlocks.from_codes(self.sketch.encode(vectors), self.sketch.places)
        self._centres = self.sketch.centres
        self._turn = np.ascontiguousarray(self.sketch.rotation.T)

    def topk(
        self,
        Q: Vectors,
        k: int,
        *,
        candidates: int | None = None,
        margin: float = np.inf,
        allow: NDArray[np.bool_] | NDArray[np.uint64] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The ``k`` best rows by exact inner product among the ``candidates`` best by sketch.

        Parameters
        ----------
        Q : ndarray of shape (q, d)
            float32.
        k : int
            At least 1.
        candidates : int, optional
            Rows of the scan that may be read; ``64 k`` when not given.
        margin : float
            A candidate is read if its expected score plus so many standard deviations reaches the k-th best of the
            first ones (``kernels.rescore``); 3 loses about a percent of recall, 4 a tenth of that.
        allow : ndarray, optional
            Rows that count: bool ``(n,)``, or what ``blocks.bitmap`` made of it. Where few rows pass, all of them are
            scored exactly; otherwise the scan passes over blocks without any. Never fewer than ``k`` where ``k`` pass.

        Returns
        -------
        scores : ndarray of shape (q, k')
            float32, exact, best first.
        rows : ndarray of shape (q, k')
            int64; ties go to the lower row.
        """
        wanted = max(k, CANDIDATES * k if candidates is None else candidates)
        Q = as_vectors(Q, name="queries", dim=self.vectors.shape[1])
        if allow is not None:
            allow, best = best_selected(self.vectors, Q, allow, k, self._few(wanted))
            if best is not None:
                return best
        coarse, rows = self.blocks.topk(multiply(Q, self._turn), self._centres, wanted, allow=allow, ordered=False)
        scores, found, _ = rescore(self.vectors, Q, rows, k, coarse=coarse, margin=margin)
        return scores, found

    def _few(self, wanted: int) -> int:
        """Rows up to which a filter's rows are all scored exactly, without the sketches.

        A row in memory takes as long as a block of sketches, and about that many blocks hold a row that passes; a
        row on disk takes longer, so no more are read there than a search without a filter would read.
        """
        return wanted if isinstance(self.vectors, np.memmap) else max(wanted, len(self.blocks.words))
