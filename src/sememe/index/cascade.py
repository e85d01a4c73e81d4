"""Flat search in two steps: a scan of a bit or two a dimension, then exact scores for the rows that it leaves.

At batch one a scan is as fast as memory delivers its bytes, so the first step reads a thirty-second of the floats. The
second reads a few hundred rows, each requested before it is needed. `Cascade` is that over an array in memory or
mapped; `cascade_kind.py` is the same inside an index.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors, as_vectors
from sememe.index.sketch import Sketch, Sketches
from sememe.kernels.rescore import rescore
from sememe.kernels.select import best_selected

CANDIDATES = 64  # times k: rows of the first step that may be read in the second


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
    sketches : Sketches
    blocks : NibbleBlocks
        ``blocks.nbytes`` is what a scan reads.
    """

    def __init__(self, vectors: NDArray[np.float32] | NDArray[np.float16], *, bits: int = 1, seed: int = 0) -> None:
        self.vectors = vectors
        self.sketches = Sketches.of(Sketch.fit(vectors, bits=bits, seed=seed), [vectors])
        self.blocks = self.sketches.blocks

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
        coarse, rows = self.sketches.candidates(Q, wanted, allow=allow)
        scores, found, _ = rescore(self.vectors, Q, rows, k, coarse=coarse, margin=margin)
        return scores, found

    def _few(self, wanted: int) -> int:
        """Rows up to which a filter's rows are all scored exactly, without the sketches.

        A row in memory takes as long as a block of sketches, and about that many blocks hold a row that passes; a
        row on disk takes longer, so no more are read there than a search without a filter would read.
        """
        return wanted if isinstance(self.vectors, np.memmap) else max(wanted, len(self.blocks.words))
