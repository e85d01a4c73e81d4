"""Orthogonal matching pursuit: a new token as a sparse sum of shared ones, in the donor's table and the model's."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from sememe import progress
from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import InputError
from sememe.kernels.pursuit import pursue
from sememe.vocab.initialize.rows import Ids, Initializer, Problem

_CHUNK = 1024  # targets between two reports of progress


@register(
    "omp",
    room="vocab",
    kind="initializer",
    summary="the donor's row as a sparse sum of rows of shared tokens, summed again over the model's rows",
    paper=Paper("Training-Free Tokenizer Transplantation via Orthogonal Matching Pursuit", 2025, "2506.06607"),
    claim="Of all methods without training it preserves most of what the model could do.",
)
class OMP(Initializer):
    """Weights of ``k`` shared tokens that rebuild the donor's row in least squares, taken one after another.

    The next token is the one whose row in the donor's table has the largest inner product with what is still missing;
    after each, all weights are fitted again. Weights may be negative and need not add up to 1.

    Parameters
    ----------
    k : int
        Most shared tokens in a sum; fewer where fewer are shared or they rebuild the row exactly.
    centre : bool
        Take rows of both tables from the mean of the shared ones, and put the model's mean back. Not in the paper: it
        keeps what all rows have in common, which weights that do not add up to 1 scale, and matters where the donor's
        table has another mean or is no language model's.
    """

    needs: ClassVar[tuple[str, ...]] = ("donor",)

    def __init__(self, k: int = 64, centre: bool = False) -> None:
        self.k = k
        self.centre = centre

    def _weigh(self, problem: Problem, table: Vectors, ids: Ids) -> Any:
        from scipy.sparse import csr_array

        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise InputError(f"k={self.k!r} is not possible for OMP", fix="give 1 or more")
        assert problem.donor is not None
        atoms = np.ascontiguousarray(problem.donor[problem.shared[:, 0]])
        mean = atoms.mean(axis=0, dtype=np.float64).astype(np.float32) if self.centre else np.float32(0)
        atoms = atoms - mean
        k = min(self.k, len(atoms))
        numbers, weights = np.empty((len(ids), k), dtype=np.int32), np.empty((len(ids), k))
        with progress.task("orthogonal matching pursuit", total=len(ids), unit="tokens") as step:
            for start in range(0, len(ids), _CHUNK):
                part = slice(start, start + _CHUNK)
                numbers[part], weights[part], _ = pursue(problem.donor[ids[part]] - mean, atoms, k)
                step(len(numbers[part]))
        taken = numbers >= 0
        out = csr_array(
            (weights[taken], (np.nonzero(taken)[0], problem.shared[numbers[taken], 1])), shape=(len(ids), len(table))
        )
        out.sum_duplicates()
        if self.centre:
            common = table[problem.shared[:, 1]].mean(axis=0, dtype=np.float64)
            return out @ table.astype(np.float64) + np.outer(1 - out.sum(axis=1), common)
        return out
