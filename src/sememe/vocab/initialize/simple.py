"""Initializers that look at no helper: zero, the mean, the mean of a token's pieces, and normal draws."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.vocab.initialize.rows import Ids, Initializer, Problem


@register("zero-init", room="vocab", kind="initializer", summary="new rows are zero")
class Zero(Initializer):
    """Rows of zeros."""

    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        return np.zeros((len(ids), table.shape[1]), dtype=np.float32)


@register("mean-init", room="vocab", kind="initializer", summary="new rows are the mean of the old rows")
class Mean(Initializer):
    """Every new row is the mean of all old ones."""

    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        return np.repeat(table.mean(axis=0, dtype=np.float64)[None], len(ids), axis=0).astype(np.float32)


@register("subword-mean", room="vocab", kind="initializer", summary="the mean of the old rows that spell the new token")
class SubwordMean(Initializer):
    """The mean of the old tokens into which the old tokenizer cuts the new one; one that occurs twice counts twice."""

    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        from scipy.sparse import csr_array

        pieces = [problem.pieces(int(number)) for number in ids]
        lengths = np.array([len(found) for found in pieces], dtype=np.int64)
        flat = np.array([piece for found in pieces for piece in found], dtype=np.int64)
        weights = np.repeat(1 / np.maximum(lengths, 1), lengths)
        out = csr_array((weights, flat, np.concatenate(([0], np.cumsum(lengths)))), shape=(len(ids), len(table)))
        out.sum_duplicates()
        return out


@register(
    "gaussian-init",
    room="vocab",
    kind="initializer",
    summary="draws from a normal distribution with the mean and covariance of the old rows",
    paper=Paper(
        "An Empirical Comparison of Vocabulary Expansion and Initialization Approaches for Language Models",
        2024,
        "2407.05841",
    ),
)
class Gaussian(Initializer):
    """Draws from ``N(mean, scale**2 covariance)`` of the old rows.

    Parameters
    ----------
    scale : float
        1 draws rows as different from each other as the old ones are; nearly 0 gives the mean.
    diagonal : bool
        Draw each dimension for itself.
    """

    def __init__(self, scale: float = 1.0, diagonal: bool = False) -> None:
        self.scale = scale
        self.diagonal = diagonal

    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        if not self.scale >= 0:
            raise InputError(f"scale={self.scale!r} is not possible for Gaussian", fix="give 0 or more")
        return normal_rows(table, len(ids), problem.generator, scale=self.scale, diagonal=self.diagonal)


def normal_rows(
    table: Vectors, count: int, generator: np.random.Generator, *, scale: float = 1.0, diagonal: bool = True
) -> Vectors:
    """Draws from a normal distribution fitted to the rows of ``table``, float32 ``(count, d)``."""
    mean = table.mean(axis=0, dtype=np.float64)
    drawn = generator.standard_normal((count, table.shape[1]))
    if diagonal:
        drawn *= table.std(axis=0, dtype=np.float64)
    else:
        centred = table - mean
        # The covariance may be singular, so its root is taken from its eigenvectors.
        values, vectors = np.linalg.eigh(centred.T @ centred / max(len(table), 1))
        drawn = (drawn * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return (mean + scale * drawn).astype(np.float32)
