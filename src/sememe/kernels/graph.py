"""A graph of neighbours over int8 rows, built and walked by the native core.

One level of links, not several: a walk sets out from a fixed sample of rows and keeps to the best it has met. Links are
chosen as in DiskANN's Vamana (Subramanya et al. 2019): a near row is left out where a nearer one already leads to it.
They are found in portions, each against the graph of those before, as in ParlayANN (2023, arXiv 2305.04359), so the
graph is the same for any number of threads and at every dispatch level.

A walk among the rows of a filter meets only rows that pass: where a row's neighbours are refused it looks at theirs,
after ACORN (2024, arXiv 2403.04871).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError, MissingDependency
from sememe.kernels import native

STARTS = 64  # rows that a walk sets out from
SLACK = 70  # a row leads to another that is nearer to it by 64 / 70 of the squared distance
MOST_DIM = 16_384  # squared distances of int8 rows stay within 32 bits
_NEVER = 1 << 62


@dataclass(frozen=True, eq=False)
class LinkGraph:
    """Links between the rows of a table.

    Attributes
    ----------
    links : ndarray of shape (n, degree)
        uint32 rows; a link of a row to itself ends its list.
    starts : ndarray of shape (s,)
        uint32 rows that a walk sets out from.
    """

    links: NDArray[np.uint32]
    starts: NDArray[np.uint32]

    @classmethod
    def build(cls, table: NDArray[np.int8], degree: int, wide: int, *, seed: int = 0) -> LinkGraph:
        """Link the rows of a table ``(n, d)`` by squared distance.

        Parameters
        ----------
        table : ndarray of shape (n, d)
            int8, at least one row, at most 16384 columns.
        degree : int
            Links of a row, at most.
        wide : int
            Rows that are kept on the way to a new row's neighbours.
        seed : int
            Of the order in which rows are linked; the first ones are where walks set out.

        Raises
        ------
        MissingDependency
            Without the native core.
        InputError
            More columns than that.
        """
        n, d = table.shape
        if d > MOST_DIM:
            raise InputError(f"a graph over {d} columns is not possible", fix=f"use at most {MOST_DIM}")
        order = np.random.default_rng(seed).permutation(n).astype(np.uint32)
        count = min(STARTS, n)
        links = _core().graph_build(
            np.ascontiguousarray(table), order, degree, wide, SLACK, count, native.threads()
        )  # fmt: skip
        return cls(links, order[:count])

    @property
    def sound(self) -> bool:
        """Whether all links and starts name rows that are there; a walk may only be made where they do."""
        n = len(self.links)
        return bool(
            len(self.starts) and (self.starts < n).all() and self.links.shape[1] and int(self.links.max(initial=0)) < n
        )

    def search(
        self,
        rows: NDArray[Any],
        weights: NDArray[np.float64],
        k: int,
        wide: int,
        *,
        constants: NDArray[np.float64] | None = None,
        allow: NDArray[np.uint64] | None = None,
        widest: int = _NEVER,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The ``k`` best rows that a walk meets, for each query.

        Parameters
        ----------
        rows : ndarray of shape (n, stride)
            int8, or bytes that hold it; the first ``d`` columns count. May be memory-mapped.
        weights : ndarray of shape (q, d)
            float64: the score of a row is its product with these. A walk rounds them to int8.
        k, wide : int
            Rows that are given back, and rows that are kept on the way: ``wide`` is at least ``k``.
        constants : ndarray of shape (q,), optional
            float64, added to every score. Where they are given, all kept rows are scored again with the weights as
            they are; otherwise scores are those of the walk, in a unit of their own.
        allow : ndarray of shape (ceil(n / 64),), optional
            uint64, a bit for each row that may be found, as ``kernels.select`` makes them.
        widest : int
            With ``allow`` a walk is made up to four times as wide where the rows that pass lie far from the query;
            where that would be more than ``widest``, nothing is found.

        Returns
        -------
        scores : ndarray of shape (q, k')
            float32, best first; -inf where a line is shorter.
        rows : ndarray of shape (q, k')
            int64; ties go to the lower row, -1 where a line is shorter.
        """
        found: tuple[NDArray[np.float32], NDArray[np.int64]] = _core().graph_search(
            rows.view(np.uint8), self.links, self.starts, weights, constants, wide, k, allow, widest, native.threads()
        )
        return found


def _core() -> Any:
    core = native.core()
    if core is None:
        raise MissingDependency(
            "sememe's native core",
            command="pip install --no-binary sememe sememe (with a C++ compiler)",
            need="a graph",
        )
    return core
