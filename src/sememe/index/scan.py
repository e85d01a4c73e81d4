"""The flat scan: every code is scored, block by block, and the best ``k`` are kept.

Exact for the codes it reads. A scan reads memory in order, so at batch one its speed is bytes over bandwidth: the fewer
bytes a vector takes, the faster it is. Blocks are sized so that scratch memory stays at a few megabytes whatever ``n``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import register
from sememe.contracts import Vectors, as_vectors
from sememe.errors import InputError
from sememe.index.best import NO_ROW, TopK, stacked
from sememe.index.code_rows import CodeRows
from sememe.kernels import native
from sememe.kernels.select import select
from sememe.kernels.symbols import SymbolScan

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from sememe.index.storage.blockfile import BlockFile

SCRATCH = 2 << 20  # bytes that the scores, or the gathered codes, of a block may take
MOST_ROWS = 1 << 15  # rows in a block at most: a top k that was found early spares later blocks
FEW = 8  # queries up to which rows that are plain numbers are multiplied where they lie, for each query anew
FEW_PICKED = 2  # the same for rows that are picked out: each query reads them from memory
COPIED = 1024  # rows of a file that are read rather than mapped, where that was asked for; more are mapped
CHECKED = 64 << 10  # bytes under one checksum: what a gather verifies at least

Ensure = Callable[[int, int], None]
Mask = NDArray[np.bool_] | NDArray[np.uint64]  # over all rows: a byte or a bit each, as `kernels.select` takes them
Allowed = NDArray[np.int64] | Mask  # ascending rows that may be found, or a mask


def is_mask(rows: Allowed) -> TypeIs[Mask]:
    """Whether a filter is a mask rather than a list of rows."""
    return rows.dtype.kind != "i"


def topk(
    chain: Any,
    Q: Vectors,
    codes: NDArray[np.uint8],
    k: int,
    rows: NDArray[np.int64] | None = None,
    ensure: Ensure | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``k`` best rows of ``codes`` for each query.

    Parameters
    ----------
    chain : Chain
        The fitted codec that wrote the codes.
    Q : float32 array of shape (q, d)
        Queries in the encoder's space.
    codes : uint8 array of shape (n, code_bytes)
        May be memory-mapped.
    k : int
        At least 1; larger than the number of rows gives them all.
    rows : sorted int64 array, optional
        Only these rows are scored.
    ensure : callable, optional
        Called with a range of bytes of ``codes`` before it is read (checksums are verified there).

    Returns
    -------
    scores : float32 array of shape (q, k'), best first
    rows : int64 array of shape (q, k'); ties go to the lower row

    Raises
    ------
    InputError
        For ``k`` below one, or queries with NaN or infinity.
    """
    if k <= 0:
        raise InputError(f"k must be at least 1, got {k}")
    return scan(chain.quantizer, chain.project(as_vectors(Q, name="queries")), codes, k, rows, ensure)


def scan(
    quantizer: Any,
    Q: Vectors,
    codes: NDArray[np.uint8],
    k: int,
    rows: Allowed | None = None,
    ensure: Ensure | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """``topk`` for queries that are already projected, over the codes of one quantizer; ``rows`` may be a mask."""
    n, width = codes.shape
    core = native.core()
    compiled = quantizer.native_scan(Q) if core is not None and n and len(Q) else None
    if rows is not None and is_mask(rows):
        if ensure is None and isinstance(compiled, SymbolScan):
            return compiled.topk(codes, k, None, core, allow=rows)
        rows = select(rows, n).rows
    if compiled is not None:
        verify(codes, rows, ensure)
        found: tuple[NDArray[np.float32], NDArray[np.int64]] = compiled.topk(codes, k, rows, core)
        return found
    if core is not None and n and 0 < len(Q) <= (FEW if rows is None else FEW_PICKED):
        numbers = CodeRows.of(quantizer, Q, codes)
        if numbers is not None:
            verify(codes, rows, ensure)
            if rows is None:
                return numbers.best_of_all(k)
            return numbers.best(np.broadcast_to(rows, (len(Q), len(rows))), k)
    best = TopK(len(Q), min(k, n if rows is None else len(rows)))
    score = quantizer.scorer(Q)
    if not best.k:
        return best.result()
    # Quantizers widen codes a megabyte at a time, so only scores and gathered codes count here.
    if rows is None:
        block = min(MOST_ROWS, max(256, SCRATCH // (4 * max(1, len(Q)))))
        for start in range(0, n, block):
            stop = min(start + block, n)
            if ensure is not None:
                ensure(start * width, stop * width)
            best.add(score(codes[start:stop]), np.arange(start, stop))
    else:
        block = min(MOST_ROWS, max(256, SCRATCH // max(4 * len(Q), width, 1)))
        for start in range(0, len(rows), block):
            chosen = rows[start : start + block]
            best.add(score(gather(codes, chosen, ensure)), chosen)
    return best.result()


def rescored(
    fine: Any, Q: Vectors, codes: NDArray[np.uint8], file: BlockFile, rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``k`` best of each query's ``rows`` ``(q, s)`` by finer codes in a file: scores and rows ``(q, k')``."""
    if 0 < rows.size <= COPIED and file.copies_rows:
        listed = np.sort(rows, axis=1)  # ties go to the lower row, so to the earlier copy
        copies = file.copied_rows(listed.reshape(-1), codes.shape[1])
        scores, places = _scored(fine, Q, copies, np.arange(rows.size).reshape(rows.shape), k)
        return scores, np.where(places >= 0, listed.reshape(-1)[places], NO_ROW)
    file.ensure_rows(rows.reshape(-1), codes.shape[1])
    return _scored(fine, Q, codes, rows, k)


def _scored(
    fine: Any, Q: Vectors, codes: NDArray[np.uint8], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    numbers = CodeRows.of(fine, Q, codes)
    if numbers is not None:
        return numbers.best(rows, k)
    return stacked([scan(fine, Q[at : at + 1], codes, k, np.sort(some)) for at, some in enumerate(rows)])


def gather(codes: NDArray[np.uint8], rows: NDArray[np.int64], ensure: Ensure | None) -> NDArray[np.uint8]:
    """``codes[rows]`` for ascending rows, verified first."""
    verify(codes, rows, ensure)
    return codes[rows]


def verify(codes: NDArray[np.uint8], rows: NDArray[np.int64] | None, ensure: Ensure | None) -> None:
    """Have every checksum block verified that holds one of the ascending ``rows`` (None: all) of ``codes``."""
    if ensure is None:
        return
    if rows is None:
        ensure(0, codes.size)
    elif len(rows):
        width = codes.shape[1]
        first, last = rows * width // CHECKED, (rows * width + width - 1) // CHECKED
        breaks = np.flatnonzero(first[1:] > last[:-1] + 1)
        for begin, end in zip(first[np.r_[0, breaks + 1]].tolist(), last[np.r_[breaks, len(rows) - 1]].tolist()):
            ensure(begin * CHECKED, min((end + 1) * CHECKED, codes.size))


@register(
    "flat",
    room="index",
    kind="index",
    summary="Score every code: exact for its codec, and fast while the codes are small.",
    exact=True,
)
class Flat:
    """The flat scan as an index kind: it stores nothing beside the codes."""

    sparse = False
    masks = True  # ``search`` takes a filter as a mask as well

    def build(self, blocks: Iterable[Vectors], dim: int) -> None:
        """Nothing to build."""
        return None

    def graph_bytes(self, n: int, dim: int) -> int:
        """No bytes beside the codes."""
        return 0

    def search(
        self,
        segment: Any,
        quantizer: Any,
        Q: Vectors,
        k: int,
        rows: Allowed | None,
        filtered: bool,
        effort: int | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scan the segment's codes; ``rows`` are the passages allowed (None: all), or a mask over them."""
        return scan(quantizer, Q, segment.codes, k, rows, segment.ensure_codes)
