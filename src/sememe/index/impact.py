"""Impact-ordered lists: learned sparse weights of one byte, searched in two steps or exactly.

The aim is that of Seismic (Bruch, Nardini, Rulli, Venturini, 2024, arXiv 2404.18812): read little of the inverted
lists, and score what looks good in full from a forward index. Seismic cuts each list into clusters with summaries and
skips whole clusters. Here a list is ordered by weight instead, its light end is left out for a query, and passages
whose rough totals are high are scored in full. That builds in the time of a sort, and the same lists give exact
answers: ``kernels/impact.py`` says how.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.errors import CorruptIndex, InputError
from sememe.index.arrays import OFFSETS, Packed, narrow
from sememe.index.inverted import Inverted
from sememe.index.postings import Arrays, Postings
from sememe.kernels.impact import BLOCK, ImpactLists, order


@register(
    "impact",
    room="index",
    kind="index",
    summary="Lists of 8-bit learned weights, the heaviest first; what does well there is scored in full.",
    paper=Paper(
        "Efficient Inverted Indexes for Approximate Retrieval over Learned Sparse Representations", 2024, "2404.18812"
    ),
    claim="Scoring a small part of the passages finds at least 95 % of the exact top 10, several times faster than "
    "exhaustive search of the inverted lists.",
    exact=False,
    sparse=True,
)
class Impact(Inverted):
    """Impact-ordered lists as an index kind, ``impact[:share=0.15][,slack=0.8]``.

    Parameters
    ----------
    share : float
        Postings that add less than this share of the most that one can add to the query's scores are left out of the
        first step. 0 gives the exact top for the stored weights, and so do a ``where`` and a query that would find too
        few passages; without the native core every answer is exact.
    slack : float
        Passages with at least this share of the ``k``-th highest rough total are scored in full.
    """

    def __init__(self, *, share: float = 0.15, slack: float = 0.8) -> None:
        for name, value in (("share", share), ("slack", slack)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise InputError(f"impact {name} must be a number from 0 to 1, got {value!r}")
        super().__init__()
        self.share, self.slack, self.weights = float(share), float(slack), "impact"

    def posting_bytes(self, postings: int, terms: int, passages: int, *, counts: bool = False) -> int:
        """Bytes of that many postings, without the names of the terms."""
        own = 2 if terms <= 1 << 16 else 4
        blocks = -(-passages // BLOCK)
        return postings * (4 + own) + 4 * passages + 4 * (blocks * terms + 1) + 4 * terms


def impact_arrays(
    rows: NDArray[np.int64], terms: NDArray[np.int64], values: NDArray[np.float32], *, count: int, passages: int
) -> Arrays:
    """Postings, rows ascending and terms ascending within a row, as the arrays to store.

    Raises
    ------
    InputError
        A negative weight.
    """
    if len(values) and not values.min() >= 0:
        raise InputError("impact keeps no negative weights, and the encoder gave one", fix="use inverted")
    codes, scales, places, starts = order(rows, terms, values, count=count, passages=passages)
    return {
        "starts": narrow(starts),
        "rows": (rows[places] % BLOCK).astype(np.uint16),
        "codes": codes[places],
        "scales": scales,
        "own": terms.astype(np.uint16 if count <= 1 << 16 else np.uint32),
        "own_codes": codes,
    }


class ImpactPostings(Postings):
    """The impact-ordered lists of one segment of ``passages`` passages."""

    def _open(self, packed: Packed) -> None:
        self._starts, self._scale = packed.get("starts", *OFFSETS), packed.get("scales", np.float32)
        self._rows, self._codes = packed.get("rows", np.uint16), packed.get("codes", np.uint8)
        self._own = packed.get("own", np.uint16 if self.count <= 1 << 16 else np.uint32)
        self._own_codes = packed.get("own_codes", np.uint8)
        self._blocks = -(-self.passages // BLOCK)
        sizes = {len(part) for part in (self._rows, self._codes, self._own, self._own_codes)}
        if len(self._starts) != self._blocks * self.count + 1 or len(self._scale) != self.count or len(sizes) != 1:
            raise CorruptIndex("the postings do not fit their segment", fix="run: sememe verify")
        self._impacts: ImpactLists | None = None

    def postings(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The passages of a term, ascending, and its weights there."""
        rows, codes = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.uint8)]
        for block in range(self._blocks):
            at = block * self.count + number
            start, stop = self._starts.slice(at, at + 2).tolist()
            here = self._rows.slice(start, stop).astype(np.int64)
            if len(here) and int(here.max()) >= self.passages - block * BLOCK:
                raise CorruptIndex("a posting names a passage that is not there", fix="run: sememe verify")
            ascending = np.argsort(here, kind="stable")
            rows.append(here[ascending] + block * BLOCK)
            codes.append(self._codes.slice(start, stop)[ascending])
        return np.concatenate(rows), np.concatenate(codes).astype(np.float32) * self._scale.slice(number, number + 1)[0]

    def whole(self, numbers: NDArray[np.int64]) -> ImpactLists | None:
        """All lists as the compiled loops take them, every byte verified; None where there are more than 2**32."""
        if self._impacts is None and self._starts.dtype == np.uint32:
            rows, codes, starts, own = (part.all() for part in (self._rows, self._codes, self._starts, self._own))
            first = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])
            last = rows[int(starts[-self.count - 1]) :] if self.count else rows
            if (
                not starts[0] == 0 <= starts[-1] == len(rows) == first[-1]
                or (np.diff(starts.astype(np.int64)) < 0).any()
                or (len(own) and int(own.max()) >= self.count)
                or (len(last) and int(last.max()) >= self.passages - (self._blocks - 1) * BLOCK)
            ):
                raise CorruptIndex("the postings contradict each other", fix="run: sememe verify")
            self._impacts = ImpactLists(rows, codes, starts, self._scale.all(), first, own, self._own_codes.all())
        return self._impacts


def open_postings(packed: Packed, info: dict[str, Any], passages: int) -> Postings:
    """The lists of a segment, of whichever sort it has."""
    return (ImpactPostings if info["weights"] == "impact" else Postings)(packed, info, passages)
