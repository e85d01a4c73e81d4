"""RaBitQ: random rotation, an even grid of 1 to 8 bits a dimension, unbiased scores with a bound on their error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec.planes import FACTOR, PlaneCode
from sememe.contracts import Codes, Vectors, as_vectors
from sememe.errors import InputError

_ROUNDS = 4


@register(
    "rabitq",
    room="codec",
    kind="quantizer",
    summary="random rotation and an even grid, 1 to 8 bits a dimension, unbiased scores with an error bound",
    paper=Paper(
        "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate Nearest Neighbor "
        "Search",
        2024,
        "2405.12497",
    ),
    claim="Unbiased inner products with an error of O(1/sqrt(d)); better recall than plain codes of the same bytes.",
)
class RaBitQ(PlaneCode):
    """Each row, less the mean, is turned at random, so that its coordinates are alike, and rounded to an even grid.

    Several bits follow extended RaBitQ (Gao, Gou, Xu, Yang, Long and Wong, 2024, arXiv 2409.09913): the scale of the
    grid is searched for each row, so that the grid point lies as close in angle as can be. TurboQuant (Zandieh,
    Daliri, Hadian and Mirrokni, 2025, arXiv 2504.19874) turns in the same way and uses uneven levels; the even ones
    here allow scores by table look-up from any number of bit planes. The rotation is drawn from the seed whenever it is
    needed and takes no bytes.

    Exactly ``bits * ceil(d / 8) + 1`` bytes a vector: one byte is the factor. The first ``k * ceil(d / 8) + 1`` bytes
    are a code of ``k`` bits (`coarse`).

    Parameters
    ----------
    bits : int
        1 to 8 a dimension.
    seed : int
        Of the rotation.

    Attributes
    ----------
    mean_ : ndarray of shape (d,)
        The corpus mean, about which rows are coded; of rows multiplied by ``scale_``, a power of two.
    levels_ : ndarray of shape (256,)
        What each factor byte stands for.
    coarse_ : ndarray of shape (9,)
        Mean factor of the code of so many bits, in units of that of the whole code.
    octets_, step_ : ndarrays of shape (ceil(d / 8),) and (8 * ceil(d / 8),)
        Bits, and steps of the grid.
    slack_ : float
        The largest error of a corpus row in units of its decoded length, for `error_bound`.
    """

    slack_: float

    rank = 4

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """One and two bits: with four, int4 is a byte smaller and klt truer."""
        return ["rabitq:1", "rabitq:2"]

    def __init__(self, bits: int = 4, seed: int = 0) -> None:
        self.bits = bits
        self.seed = seed

    def _width(self) -> int:
        if isinstance(self.bits, bool) or not isinstance(self.bits, (int, np.integer)) or not 1 <= self.bits <= 8:
            raise InputError(f"bits={self.bits!r} is not possible for RaBitQ", fix="give 1 to 8")
        return int(self.bits)

    def bytes_per_vector(self, d: int) -> int:
        """``bits * ceil(d / 8) + 1``."""
        return self._width() * -(-d // 8) + FACTOR

    def _allocate(self, X: Vectors) -> NDArray[np.float64]:
        octets = -(-X.shape[1] // 8)
        self.octets_ = np.full(octets, self._width(), dtype=np.uint8)
        return np.full(8 * octets, (8 * octets) ** -0.5)

    def _rotation(self) -> NDArray[np.float32]:
        key = (self.seed, self.n_features_in_)
        if vars(self).get("_turn_key") != key:
            self._turn_key, self._turn = key, hadamard_rotation(self.n_features_in_, self.seed)
        return self._turn

    def _learn(self, X: Vectors) -> None:
        super()._learn(X)
        rows = X[np.linspace(0, len(X) - 1, min(len(X), 4096)).astype(np.intp)]
        units = rows * np.float32(self.scale_) - self.mean_
        found = self._unpacked(self._encode(rows), 8)
        gap = np.linalg.norm(found - units @ self._rotation().T, axis=1)
        size = np.linalg.norm(found, axis=1)
        self.slack_ = float(np.max(gap / np.where(size > 0, size, 1.0), initial=0.0))

    def error_bound(self, Q: Vectors, codes: Codes, epsilon: float = 3.0) -> NDArray[np.float32]:
        """How far scores may be from the exact inner products, float32 ``(q, n)``.

        Over random rotations the error lies in a uniformly random direction orthogonal to the row, so a score is
        within ``epsilon / sqrt(d - 1)`` times the lengths of query and error with probability at least ``1 - 2 exp(-
        epsilon**2 / 2)`` (0.978 for 3; seen: 0.997). The error's length is taken as the largest share of the decoded
        length on the corpus that was fitted. Half a step of the factor is added.

        Parameters
        ----------
        Q : ndarray of shape (q, d)
        codes : ndarray of shape (n, code_bytes_)
        epsilon : float
            At least 0.
        """
        if not epsilon >= 0:
            raise InputError(f"epsilon={epsilon!r} is not possible for error_bound", fix="give 0 or more")
        self._check_fitted()
        queries = as_vectors(Q, name="queries", dim=self.n_features_in_)
        checked = self._check_codes(codes)
        length = np.empty(len(checked))
        for start in range(0, len(checked), 4096):
            part = self._unpacked(checked[start : start + 4096], 8)
            length[start : start + 4096] = np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64))
        ratio = float(self.levels_[2] / self.levels_[1]) if self.levels_[1] > 0 else 1.0
        share = self.slack_ * epsilon / np.sqrt(max(8 * len(self.octets_) - 1, 1)) + (np.sqrt(ratio) - 1)
        size = np.linalg.norm(queries.astype(np.float64) / self.scale_, axis=1)
        return (share * size[:, None] * length[None]).astype(np.float32)


def hadamard_rotation(d: int, seed: int) -> NDArray[np.float32]:
    """A random orthogonal map of ``d`` to ``D = 8 ceil(d / 8)`` dimensions, ``(D, d)`` with orthonormal columns.

    Rounds of random signs, a random order, and Walsh-Hadamard transforms of the first and of the last ``p``
    coordinates, ``p`` the largest power of two up to ``D``. Only additions and one factor: the same on every machine.
    """
    D = 8 * -(-d // 8)
    p = 1 << (D.bit_length() - 1)
    generator = np.random.default_rng(seed)
    rows = np.eye(D)[:, :d]
    for _ in range(_ROUNDS):
        rows = rows[generator.permutation(D)] * generator.choice([-1.0, 1.0], size=D)[:, None]
        rows[:p] = _walsh(rows[:p])
        if p < D:
            rows[-p:] = _walsh(rows[-p:])
    return np.ascontiguousarray(rows, dtype=np.float32)


def _walsh(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The orthonormal Walsh-Hadamard transform along the first axis, whose length is a power of two."""
    n = len(rows)
    half = 1
    while half < n:
        pair = rows.reshape(n // (2 * half), 2, half, -1)
        rows = np.stack([pair[:, 0] + pair[:, 1], pair[:, 0] - pair[:, 1]], axis=1).reshape(n, -1)
        half *= 2
    return rows * n**-0.5
