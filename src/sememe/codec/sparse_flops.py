"""FLOPs-regularised sparse codes: dense vectors become a few non-zeros, spread evenly over many dimensions."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec.base import blocks, choice
from sememe.codec.descent import F32, Adam, check_training, schedule, shares, unit_scale
from sememe.contracts import Vectors
from sememe.errors import InputError, MissingDependency
from sememe.estimator import Estimator

_BATCH = 256
_TEMPERATURE = 0.05
_RATE = 0.003
_GAIN = 0.1  # how fast the strength of the penalty follows the number of non-zeros
_SETTLED = 0.9  # share of the training after which the strength stays
_FINE = np.float32(1e-6)


@register(
    "sparse-flops",
    room="codec",
    kind="sparse",
    summary="a rectified layer of many dimensions, few non-zeros a vector, spread evenly; for inverted lists",
    paper=Paper("Minimizing FLOPs to Learn Efficient Sparse Representations", 2020, "2004.05665"),
    claim="Dimensions are used more evenly than under L1, and at most half the postings are read at equal recall.",
)
class SparseFlops(Estimator):
    """``a = relu(W x + b)`` with unit rows, trained so that ``a_i . a_j`` ranks as ``x_i . x_j`` does.

    A query reads the inverted list of each of its non-zero dimensions. Over a collection that is ``n sum_j p_j**2``
    products, ``p_j`` being the share of rows that use dimension ``j``: least where all are used alike. The penalty of
    the paper is the smooth form of it, ``sum_j (mean_i a_ij)**2``; the usual ``sum_j mean_i |a_ij|`` also makes rows
    sparse, but lets them share the same few dimensions.

    The metric loss needs no labels: in each batch, the shares of similarity (softmax at temperature 0.05) that a row
    gives to the others shall be those that its dense vector gives. The paper warms its strength ``lambda`` up over
    training; here it also follows the non-zeros, so that ``nonzeros`` is what comes out, within about a tenth.

    The rows are sparse, so this is not a transform that a quantizer could follow. `sememe.encode.sparse` makes an
    encoder of it, which a recipe can end in ``inverted``.

    Parameters
    ----------
    v : int
        Dimensions of the sparse rows.
    nonzeros : int
        How many of them a row of the corpus shall use, on average.
    penalty : {"flops", "l1"}
        ``l1`` is the baseline.
    steps : int
        Batches of 256 rows.
    seconds : float
        Time budget of ``fit``. What needs less than half of it is the same on every machine.
    seed : int

    Attributes
    ----------
    weight_ : ndarray of shape (d, v)
    bias_ : ndarray of shape (v,)
        float32.
    scale_ : float
        What rows are multiplied by first.
    strength_ : float
        The ``lambda`` that gave this number of non-zeros.
    """

    def __init__(
        self,
        v: int = 1024,
        nonzeros: int = 32,
        penalty: str = "flops",
        steps: int = 500,
        seconds: float = 120.0,
        seed: int = 0,
    ) -> None:
        self.v = v
        self.nonzeros = nonzeros
        self.penalty = penalty
        self.steps = steps
        self.seconds = seconds
        self.seed = seed

    weight_: F32
    bias_: F32
    scale_: float
    strength_: float

    def fit(self, X: Vectors, y: object = None) -> Self:
        """Learn from float rows ``(n, d)`` of the corpus; ``y`` is ignored."""
        rows = self._check_fit_input(X)
        check_training(self, v=1, nonzeros=1, steps=1, seconds=0.01, seed=0)
        choice(self, "penalty", ("flops", "l1"))
        if self.nonzeros > self.v:
            raise InputError(f"nonzeros={self.nonzeros} is more than v={self.v}", fix="give fewer non-zeros")
        generator = np.random.default_rng(self.seed)
        self.scale_ = unit_scale(rows)
        rows = rows * np.float32(self.scale_)
        self._start(rows, generator)
        optimizer = Adam([self.weight_, self.bias_], [_RATE, _RATE])
        strength = 10.0 if self.penalty == "flops" else 2.0
        size = min(_BATCH, len(rows))
        for share in schedule(self.steps, self.seconds):
            x = rows[generator.choice(len(rows), size, replace=False, shuffle=False)]
            gradients, used = self._gradients(x, strength)
            optimizer.step(gradients, min(1.0, 3 * share))
            if share > 1 - _SETTLED:
                strength *= float(np.exp(_GAIN * np.clip(np.log(max(used, 1e-3) / self.nonzeros), -1, 1)))
        self.strength_ = strength
        return self

    def _start(self, X: Vectors, generator: np.random.Generator) -> None:
        """Each dimension begins as one row of the corpus, and answers to the ``2 nonzeros / v`` rows most like it."""
        centred = X[generator.integers(len(X), size=self.v)] - X.mean(axis=0)
        noise = generator.standard_normal(centred.shape).astype(np.float32) * np.float32(1e-3)
        weight = (centred + noise).T
        self.weight_ = np.ascontiguousarray(weight / np.maximum(np.linalg.norm(weight, axis=0), _FINE))
        sample = X[generator.choice(len(X), min(len(X), 2048), replace=False)] @ self.weight_
        self.bias_ = -np.quantile(sample, max(0.0, 1 - 2 * self.nonzeros / self.v), axis=0).astype(np.float32)

    def _gradients(self, x: F32, strength: float) -> tuple[list[F32], float]:
        """Gradients of the penalised loss by weight and bias, and the mean number of non-zeros in the batch."""
        a, unit, length = self._forward(x)
        pull = shares(unit, _TEMPERATURE) - shares(x, _TEMPERATURE)
        back = (pull + pull.T) @ unit
        back *= np.float32(1 / (_TEMPERATURE * len(x)))
        if self.penalty == "flops":
            back += np.float32(2 * strength / len(x)) * unit.mean(axis=0)
        else:
            back += np.float32(strength / (len(x) * np.sqrt(self.v)))
        # Through the division by the length, which a step along the row does not change, and the rectifier.
        back -= unit * np.einsum("ij,ij->i", back, unit)[:, None]
        back /= length
        active = a > 0
        back *= active
        return [x.T @ back, back.sum(axis=0)], float(np.count_nonzero(active)) / len(x)

    def _loss(self, x: F32, strength: float) -> float:
        """What ``_gradients`` is the gradient of: cross-entropy of shares, and the penalty."""
        _, unit, _ = self._forward(x)
        metric = -(shares(x, _TEMPERATURE) * np.log(np.maximum(shares(unit, _TEMPERATURE), 1e-30))).sum() / len(x)
        used = unit.mean(axis=0)
        penalty = (used**2).sum() if self.penalty == "flops" else used.sum() / np.sqrt(self.v)
        return float(metric + strength * penalty)

    def _forward(self, x: F32) -> tuple[F32, F32, F32]:
        """Activations, unit rows, and the lengths between them."""
        a = x @ self.weight_
        a += self.bias_
        np.maximum(a, 0, out=a)
        length = np.maximum(np.sqrt(np.einsum("ij,ij->i", a, a))[:, None], _FINE)
        return a, a / length, length

    def encode_sparse(self, X: Vectors) -> Any:
        """Unit sparse rows: scipy CSR, float32 ``(n, v)``, columns ascending. A row may have no entry at all.

        Raises
        ------
        MissingDependency
            Where scipy is not installed.
        """
        try:
            from scipy.sparse import csr_array
        except ImportError:
            raise MissingDependency("scipy", command="pip install scipy", need="encode_sparse") from None
        rows = self._check_input(X)
        columns: list[NDArray[np.int32]] = [np.zeros(0, dtype=np.int32)]
        values: list[F32] = [np.zeros(0, dtype=np.float32)]
        counts = np.zeros(len(rows) + 1, dtype=np.int64)
        for part in blocks(len(rows), 4 * self.v):
            with np.errstate(over="ignore"):  # a row far outside the corpus saturates
                scaled = np.clip(rows[part] * np.float32(self.scale_), -1e6, 1e6)
            unit = self._forward(scaled)[1]
            row, column = np.nonzero(unit)
            counts[part.start + 1 : part.stop + 1] = np.bincount(row, minlength=len(unit))
            columns.append(column.astype(np.int32))
            values.append(unit[row, column])
        table = (np.concatenate(values), np.concatenate(columns), np.cumsum(counts))
        return csr_array(table, shape=(len(rows), self.v))


def postings_read(queries: Any, passages: Any) -> NDArray[np.int64]:
    """How many postings each sparse query reads: the lengths of the lists of its non-zero columns, ``(q,)``.

    Parameters
    ----------
    queries, passages : scipy.sparse.csr_array of shape (q, v) and (n, v)
    """
    lists = np.bincount(passages.indices, minlength=passages.shape[1])
    ends = np.concatenate([[0], np.cumsum(lists[queries.indices])])
    read: NDArray[np.int64] = ends[queries.indptr[1:]] - ends[queries.indptr[:-1]]
    return read


def gini(usage: NDArray[Any]) -> float:
    """How unevenly dimensions are used: 0 where all alike, near 1 where few have all; ``usage`` is ``(v,)``, >= 0."""
    ordered = np.sort(np.asarray(usage, dtype=np.float64))
    v, total = len(ordered), ordered.sum()
    return float((2 * np.arange(1, v + 1) - v - 1) @ ordered / (v * total)) if total > 0 else 0.0
