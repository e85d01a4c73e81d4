"""What all transforms share (unit rows) and what all quantizers share (blocks, checks, scores).

A quantizer writes four short methods: ``_learn``, ``_encode``, ``_decode`` on one block, and ``_prepare``, which
turns float queries into a function that scores a block of codes. This class checks input and walks over blocks, so
that nothing ever holds more than about a MiB of widened rows.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Codes, Vectors, unit_rows
from sememe.errors import InputError
from sememe.estimator import Estimator
from sememe.kernels.maxsim import TokenCodes
from sememe.kernels.symbols import SymbolScan
from sememe.kernels.tables import TableScan

_SCRATCH = 1 << 20  # bytes of widened rows at a time: what stays in a core's cache
_MOST_ROWS = 1 << 14
BlockScorer = Callable[[Codes], NDArray[np.float32]]


def blocks(n: int, row_bytes: int) -> Iterator[slice]:
    """Slices that cut ``n`` rows into blocks whose scratch of ``row_bytes`` a row fits the cache."""
    step = min(max(64, _SCRATCH // max(row_bytes, 1)), _MOST_ROWS)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def choice(owner: Estimator, parameter: str, allowed: Sequence[Any]) -> Any:
    """The value of a parameter, or an InputError that lists what is allowed."""
    value = getattr(owner, parameter)
    if value not in allowed or isinstance(value, bool) != any(isinstance(a, bool) for a in allowed):
        near = difflib.get_close_matches(str(value), [str(a) for a in allowed], n=1)
        hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(str(a) for a in allowed)}"
        raise InputError(f"{parameter}={value!r} is not possible for {type(owner).__name__}", fix=hint)
    return value


def width(owner: Estimator, value: object, d: int, *, name: str = "d") -> int:
    """An output width between 1 and ``d`` (``None`` means ``d``), or an InputError."""
    if value is None:
        return d
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value <= d:
        raise InputError(
            f"{name}={value!r} is not possible for {type(owner).__name__} on vectors of {d} columns",
            fix=f"give a whole number from 1 to {d}",
        )
    return int(value)


NARROW = ("int8", "int4", "power:3")  # codes worth measuring behind a transform that narrows


def widths(dim: int) -> list[int]:
    """Three quarters, a half, three eighths, a quarter and an eighth of ``dim``, in multiples of eight."""
    return [w for w in (dim * 3 // 4, dim // 2, dim * 3 // 8, dim // 4, dim // 8) if w >= 16 and w % 8 == 0]


class Swept:
    """What a codec tells the planner: what of it is worth measuring, and what learning it costs.

    A codec that says nothing is measured as its name alone stands for it; a transform, before int8.

    Attributes
    ----------
    rank : int
        Codecs of low rank are measured first: what is cheap and informative. A planner that runs out of time stops
        anywhere.
    keeps_scores : bool
        False for what changes inner products on purpose, such as whitening: how far they are from the exact ones then
        says nothing.
    """

    rank: ClassVar[int] = 5
    keeps_scores: ClassVar[bool] = True

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Recipe stages with this codec that are worth measuring, such as ``pca:128 | int8``; may be none.

        A subclass speaks for itself: what it inherits is not asked.

        Parameters
        ----------
        dim : int
            Width of the vectors.
        passages : int
            That will be measured.
        """
        return []

    @classmethod
    def sweep_tokens(cls, dim: int, vectors: int) -> list[str]:
        """The same for indexes of token vectors, ``vectors`` in all; none by default."""
        return []

    def learning_seconds(self, rows: int, dim: int) -> float:
        """About how long ``fit`` takes on one core; 0 for what is learned in next to no time.

        Parameters
        ----------
        rows : int
            That are given to ``fit``.
        dim : int
            Their width.
        """
        return 0.0


class Transform(Swept, Estimator, ABC):
    """A map of vectors ``(n, d) -> (n, d')``. Subclasses write ``_learn`` and ``_apply``."""

    def fit(self, X: Vectors, y: object = None) -> Self:
        """Learn from float rows ``(n, d)``; ``y`` is ignored."""
        self._learn(self._check_fit_input(X))
        return self

    def transform(self, X: Vectors) -> Vectors:
        """Map ``(n, d)`` to float32 ``(n, dim_out(d))``."""
        rows = self._check_input(X)
        out = self._apply(rows)
        if getattr(self, "renormalize", False):
            return unit_rows(out)
        return np.ascontiguousarray(out, dtype=np.float32)

    def fit_transform(self, X: Vectors, y: object = None) -> Vectors:
        """``fit(X).transform(X)``."""
        return self.fit(X).transform(X)

    def dim_out(self, d: int) -> int:
        """The width of the result for input of width ``d``; known before fitting."""
        return d

    def _learn(self, X: Vectors) -> None:
        """Set the learned attributes."""

    @abstractmethod
    def _apply(self, X: Vectors) -> Vectors:
        """Map checked float32 rows ``(n, d)``; ``renormalize`` is seen to afterwards."""


class Quantizer(Swept, Estimator, ABC):
    """Vectors to codes of ``code_bytes_`` bytes. ``scores`` equals ``Q @ decode(codes).T`` within float32 rounding."""

    code_bytes_: int

    def fit(self, X: Vectors, y: object = None) -> Self:
        """Learn from float rows ``(n, d)``; ``y`` is ignored."""
        rows = self._check_fit_input(X)
        self.code_bytes_ = self.bytes_per_vector(self.n_features_in_)
        self._learn(rows)
        return self

    @abstractmethod
    def bytes_per_vector(self, d: int) -> int:
        """Exact bytes a vector of width ``d`` takes; known before fitting."""

    def encode(self, X: Vectors) -> Codes:
        """Codes, uint8 ``(n, code_bytes_)``, of float rows ``(n, d)``."""
        rows = self._check_input(X)
        out = np.empty((len(rows), self.code_bytes_), dtype=np.uint8)
        for part in blocks(len(rows), 4 * self.n_features_in_):
            out[part] = self._encode(rows[part])
        return out

    def decode(self, codes: Codes) -> Vectors:
        """Approximate float32 rows ``(n, d)``."""
        checked = self._check_codes(codes)
        out = np.empty((len(checked), self.n_features_in_), dtype=np.float32)
        for part in blocks(len(checked), 4 * self.n_features_in_):
            out[part] = self._decode(checked[part])
        return out

    def scorer(self, Q: Vectors) -> BlockScorer:
        """Prepare float queries ``(q, d)`` once; the result maps codes ``(n, code_bytes_)`` to scores ``(q, n)``."""
        queries = self._check_input(Q)
        score = self._prepare(queries)
        row_bytes = self._row_scratch(len(queries))

        def run(codes: Codes) -> NDArray[np.float32]:
            checked = self._check_codes(codes)
            out = np.empty((len(queries), len(checked)), dtype=np.float32)
            for part in blocks(len(checked), row_bytes):
                out[:, part] = score(checked[part])
            return out

        return run

    def scores(self, Q: Vectors, codes: Codes) -> NDArray[np.float32]:
        """Inner products of float queries ``(q, d)`` with the decoded codes, float32 ``(q, n)``, block by block."""
        return self.scorer(Q)(codes)

    def native_scan(self, Q: Vectors) -> SymbolScan | TableScan | None:
        """Queries ``(q, d)`` prepared for the compiled scan of these codes; None where there is none.

        Its scores are those of ``scores``, to float32 rounding.
        """
        return None

    def native_maxsim(self, Q: Vectors) -> TokenCodes | None:
        """Queries ``(q, d)`` prepared for the compiled MaxSim over these codes; None where there is none."""
        scan = self.native_scan(Q)
        return TokenCodes.of_scan(scan) if isinstance(scan, SymbolScan) else None

    def _row_scratch(self, queries: int) -> int:
        """Bytes a row takes while it is scored against so many queries: float32 values, unless a kernel avoids that."""
        return 4 * self.n_features_in_

    def _check_codes(self, codes: Codes) -> Codes:
        self._check_fitted()
        array = np.asarray(codes)
        if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != self.code_bytes_:
            raise InputError(
                f"codes must be uint8 of shape (n, {self.code_bytes_}), got {array.dtype} {array.shape}",
                fix="pass what encode of the same fitted quantizer returned",
            )
        return array if array.strides[1] == 1 else np.ascontiguousarray(array)

    def _learn(self, X: Vectors) -> None:
        """Set the learned attributes."""

    @abstractmethod
    def _encode(self, X: Vectors) -> NDArray[Any]:
        """Codes ``(b, code_bytes_)`` of a block of float32 rows."""

    @abstractmethod
    def _decode(self, codes: Codes) -> NDArray[Any]:
        """Approximate rows ``(b, d)`` of a block of codes."""

    @abstractmethod
    def _prepare(self, Q: Vectors) -> BlockScorer:
        """From float32 queries ``(q, d)``, what scores a block of codes: ``(b, code_bytes_) -> (q, b)``."""


def as_bytes(values: NDArray[Any]) -> Codes:
    """A C-contiguous ``(n, d)`` array of fixed-size numbers as its bytes, ``(n, d * itemsize)``."""
    return np.ascontiguousarray(values).view(np.uint8)
