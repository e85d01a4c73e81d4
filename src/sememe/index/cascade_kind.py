"""The cascade as an index kind: sketches of a bit or two a dimension lie beside the codes and are scanned instead.

The codes are read for the most promising rows only, a few hundred a query, so they may be as exact as wanted (floats,
halves, int8) and the scan stays as fast as 32 or 64 bytes a row. What `cascade.py` does over an array, with checksums,
filters, deletions and segments.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import Vectors
from sememe.errors import CorruptIndex, InputError
from sememe.index.arrays import Layout, layout_of
from sememe.index.best import stacked
from sememe.index.cascade import CANDIDATES
from sememe.index.code_rows import CodeRows, Found
from sememe.index.scan import Allowed, is_mask, scan
from sememe.index.sketch import SAMPLE, Sketch, Sketches, check_bits, places_of, words_shape
from sememe.index.spool import VectorSpool
from sememe.kernels.fastscan import BLOCK, NibbleBlocks
from sememe.kernels.select import select

SKETCHES_FROM = 20_000  # passages from which sketches are worth a look: below, any scan is short
WIDER = 4  # times the bytes of a sketch: codes that are worth scanning sketches instead
FEWEST = 4096  # rows from which a segment has sketches: scanning the codes of fewer takes as long as the second step


@register(
    "cascade",
    room="index",
    kind="index",
    summary="Scan sketches of a bit or two a dimension, then score the codes of the most promising rows.",
    paper=Paper(
        "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate Nearest Neighbor "
        "Search",
        2024,
        "2405.12497",
    ),
    claim="A bit a dimension and a second look at few rows find nearly all exact neighbours, faster than a scan.",
    exact=False,
)
class CascadeKind:
    """Sketches in front of the codes, ``cascade[:bits][,candidates=64][,margin=5][,seed=0]``.

    Parameters
    ----------
    bits : {1, 2}
        Of a sketch, a dimension. One is faster; two need fewer candidates, which pays where reading a code is dear.
    candidates : int
        Times ``k``: rows whose code may be read.
    margin : float
        A candidate is read if its expected score plus so many standard deviations reaches the k-th best of the first
        ones (``kernels.rescore``), for codes that are plain numbers: ``fp32``, ``fp16``, ``int8``.
    seed : int
        Of the sketches' rotation.
    """

    sparse = False
    masks = True  # ``search`` takes a filter as a mask as well
    shortlists = True  # codes are read for the most promising rows only

    def __init__(self, bits: int = 1, *, candidates: int = CANDIDATES, margin: float = 5.0, seed: int = 0) -> None:
        self.bits = check_bits(bits)
        for name, value, low, high in (("candidates", candidates, 1, 100_000), ("seed", seed, 0, 1 << 62)):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"cascade {name} must be a whole number from {low} to {high}, got {value!r}")
        if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not margin >= 0:
            raise InputError(f"cascade margin must be at least 0, got {margin!r}")
        self.candidates, self.margin, self.seed = candidates, float(margin), seed

    # -- what lies in the segment ---------------------------------------------------------------------------------

    def build(self, blocks: Iterable[Vectors], dim: int) -> NDArray[np.uint8] | None:
        """Sketches of projected vectors as one array of bytes; None for fewer than ``FEWEST``."""
        with VectorSpool() as spool:
            for block in blocks:
                spool.append(block)
            if len(spool) < FEWEST:
                return None
            sketch = Sketch.fit(spool.sample(SAMPLE, self.seed), bits=self.bits, seed=self.seed)
            made = Sketches.of(sketch, spool.blocks())
        arrays = {"mean": sketch.mean, "spread": sketch.spread, "words": made.blocks.words.reshape(-1)}
        layout, size = layout_of(arrays)
        out = np.zeros(size, dtype=np.uint8)
        for name, (_, _, start) in layout.items():
            out[start : start + arrays[name].nbytes] = arrays[name].view(np.uint8)
        return out

    def graph_bytes(self, n: int, dim: int) -> int:
        """Bytes of the sketches of ``n`` vectors."""
        return self._layout(n, dim)[1] if n >= FEWEST else 0

    def _layout(self, n: int, dim: int) -> tuple[Layout, int]:
        """Where the arrays of ``n`` sketches lie, and the bytes of the whole."""
        one_float, one_word = np.zeros(1, dtype=np.float32), np.zeros(1, dtype=np.uint32)
        width = places_of(dim, self.bits) * 4 // self.bits
        return layout_of({
            "mean": np.broadcast_to(one_float, (dim,)),
            "spread": np.broadcast_to(one_float, (width,)),
            "words": np.broadcast_to(one_word, (int(np.prod(words_shape(n, dim, self.bits))),)),
        })  # fmt: skip

    def open(self, buffer: NDArray[np.uint8], n: int, dim: int) -> Sketches:
        """The sketches in verified bytes."""
        layout, size = self._layout(n, dim)
        if len(buffer) != size:
            raise CorruptIndex("the sketches do not fit their segment", fix="run: sememe compact to build them again")
        arrays = {
            name: buffer[start : start + np.dtype(kind).itemsize * length].view(kind)
            for name, (kind, length, start) in layout.items()
        }
        words = arrays["words"].reshape(words_shape(n, dim, self.bits))
        sketch = Sketch(self.bits, self.seed, arrays["mean"], arrays["spread"])
        return Sketches(sketch, NibbleBlocks(words, n, sketch.places))

    # -- what the planner asks ------------------------------------------------------------------------------------

    @classmethod
    def sweep(cls, rows: int, measured: int, dim: int, code_bytes: int) -> list[str]:
        """As ``index.structure.Structure.sweep``: where there are many codes, of several times a sketch's bytes."""
        worth = measured >= SKETCHES_FROM and measured * code_bytes >= WIDER * cls().graph_bytes(measured, dim)
        return ["cascade"] if worth else []

    def reached(self, opened: Any, quantizer: Any, codes: NDArray[np.uint8], Q: Vectors, k: int) -> NDArray[np.int64]:
        """As ``index.structure.Structure.reached``."""
        rows: NDArray[np.int64] = opened.candidates(Q, self.candidates * k)[1]
        return rows

    def growth(self, rows: int, factor: float) -> float:
        """As ``index.structure.Structure.growth``: sketches are scanned."""
        return factor

    # -- search ---------------------------------------------------------------------------------------------------

    def search(
        self,
        segment: Any,
        quantizer: Any,
        Q: Vectors,
        k: int,
        rows: Allowed | None,
        filtered: bool,
        effort: int | None = None,
    ) -> Found:
        """The ``k`` best by their codes among the candidates; ``effort`` is how many there are.

        ``rows`` are ascending rows that may be found, or a mask over all of them. Where they are few, every one of
        them is scored: a row takes as long as a block of sketches, and about that many blocks hold a row that passes.
        """
        n = segment.passages
        wanted = max(k, self.candidates * k if effort is None else effort)
        few = n if n < FEWEST else min(n, max(wanted, n // BLOCK))
        codes = CodeRows.of(quantizer, Q, segment.codes)
        bits: NDArray[np.uint64] | None
        if rows is not None and is_mask(rows) and codes is not None:
            bits, best = codes.best_allowed(rows, k, few, segment.codes_file)
            if best is not None:
                return best
        else:
            bits, listed = _chosen(rows, n, few)
            if listed is not None or n <= few:
                return _scored(segment, quantizer, Q, k, listed, codes)
        coarse, found = segment.graph(self).candidates(Q, wanted, allow=bits)
        if codes is not None:
            segment.ensure_code_rows(found.reshape(-1))
            return codes.best(found, k, coarse, self.margin)
        return stacked([
            scan(quantizer, Q[query : query + 1], segment.codes, k, np.sort(some), segment.ensure_codes)
            for query, some in enumerate(found)
        ])  # fmt: skip


def _chosen(rows: Allowed | None, n: int, few: int) -> tuple[NDArray[np.uint64] | None, NDArray[np.int64] | None]:
    """A filter as bits, or as rows where they are ``few``; neither without a filter."""
    if rows is None:
        return None, None
    if is_mask(rows):
        chosen = select(rows, n, few)
        return chosen.bits, chosen.rows
    if len(rows) <= few:
        return None, rows
    mask = np.zeros(n, dtype=bool)
    mask[rows] = True
    return select(mask, n, 0).bits, None


def _scored(
    segment: Any, quantizer: Any, Q: Vectors, k: int, rows: NDArray[np.int64] | None, codes: CodeRows | None
) -> Found:
    """The ``k`` best of ``rows``, or of all, by their codes."""
    if rows is None or codes is None:
        return scan(quantizer, Q, segment.codes, k, rows, segment.ensure_codes)
    segment.ensure_code_rows(rows)
    return codes.best(np.broadcast_to(rows, (len(Q), len(rows))), k)
