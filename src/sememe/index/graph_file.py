"""The file of a graph of our own: what it holds, where, and how it is made from vectors.

A header of 64 bytes (``SEMGRAPH``, version, links of a row, rows, columns of the table, starts), then the starts and
the links as uint32, then, unless walks read the segment's own codes, an int8 table of the vectors. Each part begins at
a multiple of 64 bytes, so the file is used as it is mapped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors
from sememe.errors import CorruptIndex, FormatError
from sememe.index.spool import VectorSpool
from sememe.kernels.graph import STARTS, LinkGraph
from sememe.kernels.select import Selection

MAGIC = b"SEMGRAPH"
VERSION = 1
_HEADER = struct.Struct("<8sIIQII")  # magic, version, degree, rows, columns of the table, starts
_ALIGN = 64
_SAMPLE = 20_000  # vectors that the scale of the table is learned from
_LIFT = 16  # columns that stand for what a row lacks in length
_UNEVEN = 1.1  # lengths that differ by more than this are evened out


@dataclass(eq=False)
class OpenGraph:
    """A graph as it lies in its file: its links, and its table ``(n, d)`` int8 where it has one of its own.

    ``kept`` is the last list of rows that a search was confined to, and what it selects.
    """

    graph: LinkGraph
    table: NDArray[np.int8] | None
    kept: tuple[NDArray[np.int64], Selection] | None = None


def is_ours(buffer: NDArray[np.uint8]) -> bool:
    """Whether verified bytes begin as such a file does."""
    return bytes(buffer[: len(MAGIC)]) == MAGIC


def _places(n: int, degree: int, columns: int, starts: int) -> tuple[int, int, int]:
    """Where the links begin, where the table begins, and the size of the file."""
    links = _ALIGN + _up(4 * starts)
    table = links + _up(4 * n * degree)
    return links, table, table + n * columns


def _up(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def size_of(n: int, degree: int, columns: int) -> int:
    """Bytes of the graph of ``n`` vectors with ``degree`` links each and a table of so many columns."""
    return _places(n, degree, columns, min(STARTS, n))[2] if n else 0


def write(blocks: Iterable[Vectors], degree: int, wide: int, *, own: bool) -> NDArray[np.uint8] | None:
    """The file over projected vectors; None where there are none. ``own``: with a table of its own."""
    with VectorSpool() as spool:
        for block in blocks:
            spool.append(block)
        if not len(spool):
            return None
        table = _narrowed(spool)
        graph = LinkGraph.build(table, degree, wide)
        columns = spool.dim if own else 0
    n, starts = len(table), graph.starts
    links_at, table_at, size = _places(n, degree, columns, len(starts))
    out = np.zeros(size, dtype=np.uint8)
    header = _HEADER.pack(MAGIC, VERSION, degree, n, columns, len(starts))
    out[: len(header)] = np.frombuffer(header, dtype=np.uint8)
    out[_ALIGN : _ALIGN + starts.nbytes] = starts.astype("<u4").view(np.uint8)
    out[links_at : links_at + graph.links.nbytes] = graph.links.astype("<u4", copy=False).reshape(-1).view(np.uint8)
    if own:
        out[table_at:].reshape(n, columns)[:] = table[:, :columns].view(np.uint8)
    return out


def read(buffer: NDArray[np.uint8], n: int, dim: int) -> OpenGraph:
    """The graph in verified bytes. Every link is looked at once: none may lead out of the rows.

    Raises
    ------
    FormatError
        Written by a later version.
    CorruptIndex
        Of another segment, or with links to rows that are not there.
    """
    wrong = CorruptIndex("the graph does not fit its segment", fix="run: sememe compact to build it again")
    if len(buffer) < _ALIGN:
        raise wrong
    magic, version, degree, rows, columns, starts = _HEADER.unpack(bytes(buffer[: _HEADER.size]))
    if magic != MAGIC or version > VERSION:
        raise FormatError("the graph was written by a later version of sememe", fix="upgrade sememe")
    if rows != n or not n or columns not in (0, dim) or not degree or not 1 <= starts <= n:
        raise wrong
    links_at, table_at, size = _places(n, degree, columns, starts)
    if len(buffer) != size:
        raise wrong
    first = buffer[_ALIGN : _ALIGN + 4 * starts].view("<u4")
    links = buffer[links_at : links_at + 4 * n * degree].view("<u4").reshape(n, degree)
    graph = LinkGraph(links, first)
    if not graph.sound:
        raise wrong
    return OpenGraph(graph, buffer[table_at:].view(np.int8).reshape(n, columns) if columns else None)


def _narrowed(spool: VectorSpool) -> NDArray[np.int8]:
    """The vectors about their mean as int8 ``(n, d)``, by one scale, so that squared distances keep their order.

    Where lengths differ, columns are added that even them out: then the nearest row is the one of largest inner product
    ("Speeding Up the Xbox Recommender System Using a Euclidean Transformation for Inner-Product Spaces", 2014).
    """
    sample = spool.sample(_SAMPLE, 0)
    norms = np.linalg.norm(sample, axis=1)
    longest = float(np.percentile(norms, 99))
    uneven = longest > _UNEVEN * float(np.percentile(norms, 1))
    mean, lift = sample.mean(axis=0, dtype=np.float64).astype(np.float32), np.float32(0.0)
    lacks = _lacking(sample, longest)
    if uneven:
        lift = np.float32(lacks.mean())
    reach = max(float(np.abs(sample - mean).max()), float(np.abs(lacks - lift).max()) if uneven else 0.0)
    inverse = np.float32(127 / reach) if reach > 127 / np.finfo(np.float32).max else np.float32(0.0)
    out = np.empty((len(spool), spool.dim + (_LIFT if uneven else 0)), dtype=np.int8)
    start = 0
    for block in spool.blocks():
        part = slice(start, start + len(block))
        out[part, : spool.dim] = np.clip(np.rint((block - mean) * inverse), -127, 127)
        if uneven:
            out[part, spool.dim :] = np.clip(np.rint((_lacking(block, longest) - lift) * inverse), -127, 127)[:, None]
        start = part.stop
    return out


def _lacking(X: Vectors, longest: float) -> NDArray[np.float32]:
    """What each of the added columns holds: their squares add up to what a row lacks of the squared length."""
    squares = np.einsum("ij,ij->i", X, X, dtype=np.float64)
    return np.sqrt(np.maximum(longest**2 - squares, 0.0) / _LIFT).astype(np.float32)
