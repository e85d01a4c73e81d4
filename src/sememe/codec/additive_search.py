"""Finding codes that are sums of centres: a beam search, then a part of the code at a time chosen anew."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.kernels.additive import CHOICES, cross_products, own_costs, search_sums

F32 = NDArray[np.float32]
_PARTS = 4  # a code is searched again a part at a time
_TABLES = 8 << 20  # bytes of a block's own tables while it is encoded
_NEVER = np.float32(1e30)  # what a centre costs that is not there


class SumSearch:
    """The search over one set of codebooks, with the products of all its centres, ``4 (256 m)**2`` bytes.

    Parameters
    ----------
    centres : ndarray of shape (m, 256, d)
        float32.
    last_choices : int
        Centres that the last codebook has; its other rows are never chosen.
    """

    def __init__(self, centres: F32, last_choices: int = CHOICES) -> None:
        self.centres = centres
        self.last_choices = last_choices
        self._cross = cross_products(centres)

    def codes(self, rows: F32, beam: int, held: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Numbers of centres ``(n, m)`` for rows ``(n, d)``; from ``held``, only a part at a time is chosen anew."""
        books = len(self.centres)
        out = np.empty((len(rows), books), dtype=np.uint8)
        parts = np.array_split(np.random.default_rng(books).permutation(books), min(_PARTS, books))
        step = max(64, _TABLES // (4 * CHOICES * books))
        for first in range(0, len(rows), step):
            block = slice(first, first + step)
            own = own_costs(rows[block], self.centres)
            own[:, -1, self.last_choices :] = _NEVER
            if held is None:
                found = search_sums(own, self._cross, np.zeros((len(own), books), np.uint8), range(books), beam)
            else:
                found = held[block]
            for part in parts if books > 1 else ():
                found = search_sums(own, self._cross, found, part.tolist(), beam)
            out[block] = found
        return out
