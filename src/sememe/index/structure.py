"""What the planner asks of an index kind that does not simply scan all codes.

A kind that has these three methods is measured by the planner, whoever wrote it: ``flat`` has none of them.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sememe import catalog
from sememe.contracts import Vectors


class Structure(Protocol):
    """An index kind with a way to search less than everything, and its cost model."""

    @classmethod
    def sweep(cls, rows: int, measured: int, dim: int, code_bytes: int) -> list[str]:
        """Index stages of this kind that are worth measuring, such as ``hnsw:16``; none where a scan is better.

        Parameters
        ----------
        rows : int
            Passages of the whole collection.
        measured : int
            Of which so many are measured.
        dim : int
            Width of the vectors after the recipe's transforms.
        code_bytes : int
            A code takes.
        """

    def reached(self, opened: Any, quantizer: Any, codes: NDArray[np.uint8], Q: Vectors, k: int) -> NDArray[np.int64]:
        """Rows whose codes a search for ``k`` scores: int64 ``(q, c)``, -1 where a query has fewer.

        ``opened`` is what the kind's ``open`` made of what its ``build`` returned; ``Q`` has passed the transforms.
        """

    def growth(self, rows: int, factor: float) -> float:
        """How many times as long a search takes in ``factor`` times as many ``rows``."""


def structures(rows: int, measured: int, dim: int, code_bytes: int) -> list[str]:
    """Stages of all kinds in the catalogue that are worth measuring instead of a scan; as for `Structure.sweep`."""
    kinds = [technique.make for technique in catalog.techniques(room="index", kind="index")]
    swept = [kind for kind in kinds if "sweep" in vars(kind)]
    return [stage for kind in swept for stage in kind.sweep(rows, measured, dim, code_bytes)]  # type: ignore[attr-defined]


def growth(kind: Any, rows: int, factor: float) -> float:
    """`Structure.growth` of any kind: that of a scan where it has none of its own."""
    model = getattr(kind, "growth", None)
    return factor if model is None else float(model(rows, factor))
