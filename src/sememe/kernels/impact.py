"""Search over impact-ordered lists of one segment, in the compiled core: exact, or leaving out what counts for little.

Each posting is a passage and a code of one byte; ``code * scale`` of its term is its weight, and a passage's score is
the sum of query weight times weight over the terms that both have. Two steps, after

- J. Lin and A. Trotman, "Anytime Ranking for Impact-Ordered Indexes" (2015): a list begins with its heaviest postings,
  so that the ones that matter are read and the others are not;
- C. Lassance et al., "Two-Step SPLADE: Simple, Efficient and Effective Approximation of SPLADE" (2024, arXiv
  2404.13357): a rough ranking by part of the postings, then full scores of the passages that did well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.kernels import native

BLOCK = 1 << 16  # passages whose numbers fit two bytes
MOST_TERMS = 1 << 14  # of a query
Ranked = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class ImpactLists:
    """Postings by term, heaviest first, and by passage.

    Attributes
    ----------
    rows : uint16 ndarray of shape (postings,)
        Passages within their block of ``BLOCK``; the lists of all terms in the first block, then those in the second.
    codes : uint8 ndarray of shape (postings,)
        Falling within a list, where rows of equal codes ascend.
    starts : uint32 ndarray of shape (blocks * v + 1,)
        Where the list of term ``t`` in block ``b`` begins: ``starts[b * v + t]``.
    scales : float32 ndarray of shape (v,)
    first : int64 ndarray of shape (n + 1,)
        Passage ``p`` has the terms ``first[p]`` to ``first[p + 1]`` of the next two.
    own : uint16 ndarray of shape (postings,), uint32 where there are more than 65,536 terms
        Term numbers, ascending within a passage.
    own_codes : uint8 ndarray of shape (postings,)
    """

    rows: NDArray[np.uint16]
    codes: NDArray[np.uint8]
    starts: NDArray[np.uint32]
    scales: NDArray[np.float32]
    first: NDArray[np.int64]
    own: NDArray[Any]
    own_codes: NDArray[np.uint8]

    def topk(
        self,
        numbers: NDArray[np.int64],
        weights: NDArray[np.float64],
        queries: NDArray[np.int64],
        k: int,
        *,
        share: float = 0.0,
        slack: float = 0.7,
        allowed: NDArray[np.bool_] | None = None,
        core: Any = None,
    ) -> Ranked:
        """The ``k`` best passages for each query: scores and rows ``(q, k')``, best first, ties to the lower row.

        Parameters
        ----------
        numbers : ndarray of shape (t,)
            The terms of all queries, -1 for one that no passage holds.
        weights : ndarray of shape (t,)
            None negative.
        queries : ndarray of shape (q + 1,)
            Query ``i`` has the terms ``queries[i]`` to ``queries[i + 1]``, at most ``MOST_TERMS``.
        share : float
            Postings that add less than this share of what the heaviest one can add are left out of the rough totals;
            0 for the exact answer. A query that finds fewer than ``k`` passages so is answered exactly.
        slack : float
            Passages whose rough total is at least this share of the ``k``-th highest are scored in full.
        allowed : bool ndarray of shape (n,), optional
            The passages that may be found; all by default.
        core : module, optional
            ``native.core()``, which must be there.

        Returns
        -------
        scores, rows
            Only passages with a score above zero; shorter lines end in -inf and -1.
        """
        core = core or native.core()
        return core.search_impacts(
            self.rows, self.codes, self.starts, self.scales, self.first, self.own.view(np.uint8), self.own_codes,
            numbers, weights, queries, None if allowed is None else np.packbits(allowed, bitorder="little"),
            share, slack, k, native.threads(),
        )  # fmt: skip


def order(
    rows: NDArray[np.int64], terms: NDArray[np.int64], values: NDArray[np.float32], *, count: int, passages: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.intp], NDArray[np.int64]]:
    """Codes, scales, and the order of impact-ordered lists.

    Parameters
    ----------
    rows, terms, values : ndarrays of shape (postings,)
        Rows ascending; values are not negative.
    count, passages : int
        Different terms and passages.

    Returns
    -------
    codes : uint8 ndarray of shape (postings,)
        In the order given; at least 1 where the value is above zero, and at most half a scale from it otherwise.
    scales : float32 ndarray of shape (count,)
    places : ndarray of shape (postings,)
        Which posting comes first, second ... in the lists.
    starts : int64 ndarray of shape (blocks * count + 1,)
    """
    tops = np.zeros(count, dtype=np.float32)
    np.maximum.at(tops, terms, values)
    scales = tops / np.float32(255)
    steps = np.divide(values, scales[terms], out=np.zeros_like(values), where=scales[terms] > 0)
    codes = np.clip(np.rint(steps), values > 0, 255).astype(np.uint8)
    # Stable sorts of two-byte keys are radix sorts: lighter last, then by term, then by block.
    narrow = np.uint16 if count <= 1 << 16 else np.int64
    places = np.argsort(255 - codes, kind="stable")
    places = places[np.argsort(terms.astype(narrow)[places], kind="stable")]
    blocks = rows // BLOCK
    if passages > BLOCK:
        places = places[np.argsort(blocks.astype(np.uint16)[places], kind="stable")]
    sizes = np.bincount(blocks * count + terms, minlength=-(-passages // BLOCK) * count)
    return codes, scales, places, np.concatenate([[0], np.cumsum(sizes)])
