"""Inner products of a few float queries with many rows of narrow numbers, without widening the rows.

A query is split into three narrow parts that add up to it (24 bits): ``q = q1 + q2 + q3``. Each part is multiplied
with the rows by a kernel for narrow numbers (numkong: VNNI, bf16 and fp16 units where the machine has them), and the
parts are added up in float64. The scan is bound by memory, so three columns cost what one costs, and the result is as
exact as float32. From ``FEW`` queries on, widening a block once and one float32 matrix product are cheaper.

Every ``*_dots(Q)`` prepares float queries ``(q, d)`` and returns a function of a block ``(rows, d)`` to float32 ``(q,
rows)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.kernels.bits import Plane
from sememe.kernels.floats import decode_bfloat16, decode_half, encode_bfloat16

F32 = NDArray[np.float32]
Scorer = Callable[[NDArray[Any]], F32]
FEW = 8
_TOP = 127 * (65536 + 256 + 1)  # the largest integer of three balanced base-256 digits


def float_dots(Q: NDArray[Any]) -> Scorer:
    """Blocks of float32 rows: one matrix product."""
    queries = np.ascontiguousarray(Q, dtype=np.float32)
    return lambda block: queries @ block.T


def _normalised(Q: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows divided by their largest magnitude, and those magnitudes: no later step can overflow."""
    wide = np.asarray(Q, dtype=np.float64)
    size = np.abs(wide).max(axis=1, keepdims=True, initial=0.0)
    return np.divide(wide, size, out=np.zeros_like(wide), where=size > 0), size


def integer_dots(Q: NDArray[Any], layout: Sequence[Plane]) -> Callable[[Sequence[NDArray[np.int8]]], F32]:
    """Blocks of int8 planes, as ``bits.planes`` makes them: a row is the sum of its planes in the places of ``layout``.

    Planes may be strided views; whole int8 rows are one plane ``Plane(0, d)``.
    """
    unit, size = _normalised(Q)
    if len(unit) > FEW:
        narrow, scale = unit.astype(np.float32), size.astype(np.float32)
        return lambda parts: (narrow @ widened(parts, layout).T) * scale
    import numkong

    value = np.rint(unit * _TOP).astype(np.int64)
    digits = []
    for _ in range(3):
        digit = ((value + 128) & 255) - 128
        digits.append(digit.astype(np.int8))
        value = (value - digit) >> 8
    packed, merge = _columns(digits, [size / _TOP, size / _TOP * 256, size / _TOP * 65536])
    tables = [numkong.dots_pack(np.ascontiguousarray(packed[:, p.first : p.stop])) for p in layout]

    def score(parts: Sequence[NDArray[np.int8]]) -> F32:
        total: NDArray[np.int32] | None = None
        for place, part, table in zip(layout, parts, tables, strict=True):
            product = np.asarray(numkong.dots_packed(part, table))
            if place.shift:
                product = product << place.shift
            total = product if total is None else np.add(total, product, out=total)
        return _merged(total, merge)

    return score


def widened(parts: Sequence[NDArray[np.int8]], layout: Sequence[Plane]) -> F32:
    """Planes put together as float32 rows ``(rows, d)``."""
    if len(parts) == 1:
        return parts[0].astype(np.float32)
    out = np.empty((len(parts[0]), max(place.stop for place in layout)), dtype=np.float32)
    filled = 0
    for place, part in zip(layout, parts, strict=True):
        target = out[:, place.first : place.stop]
        weight = np.float32(1 << place.shift)
        if place.first >= filled:
            np.multiply(part, weight, out=target, dtype=np.float32)
            filled = place.stop
        else:
            target += part * weight
    return out


def half_dots(Q: NDArray[Any]) -> Scorer:
    """Blocks of float16 rows."""
    unit, size = _normalised(Q)
    if len(unit) > FEW:
        narrow, scale = unit.astype(np.float32), size.astype(np.float32)
        return lambda block: (narrow @ decode_half(np.ascontiguousarray(block)).T) * scale
    import numkong

    rest, parts = unit * 2.0**14, []  # lifted so that the small parts are not subnormal
    for _ in range(3):
        part = rest.astype(np.float16)
        parts.append(part)
        rest = rest - part.astype(np.float64)
    packed, merge = _columns(parts, [size * 2.0**-14] * 3)
    table = numkong.dots_pack(packed)
    return lambda block: _merged(numkong.dots_packed(block, table), merge)


def bfloat16_dots(Q: NDArray[Any]) -> Scorer:
    """Blocks of bfloat16 bit patterns, uint16."""
    unit, size = _normalised(Q)
    if len(unit) > FEW:
        narrow, scale = unit.astype(np.float32), size.astype(np.float32)
        return lambda block: (narrow @ decode_bfloat16(block).T) * scale
    import numkong

    rest, parts = unit, []
    for _ in range(3):
        part = encode_bfloat16(rest.astype(np.float32))
        parts.append(part)
        rest = rest - decode_bfloat16(part).astype(np.float64)
    packed, merge = _columns(parts, [size] * 3)
    table = numkong.dots_pack(numkong.Tensor(packed, dtype="bf16"))

    def score(block: NDArray[np.uint16]) -> F32:
        rows = np.ascontiguousarray(block)
        # A view: the constructor of Tensor would copy the block.
        view = numkong.from_pointer(rows.ctypes.data, rows.shape, "bf16", owner=rows)
        return _merged(numkong.dots_packed(view, table), merge)

    return score


def _columns(parts: list[NDArray[Any]], scales: list[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """All parts as rows of one table ``(columns, d)``, and the matrix ``(columns, q)`` that adds them up again.

    The number of columns is a multiple of four: the kernels' tile, half the time of three columns.
    """
    queries, d = parts[0].shape
    width = -(-len(parts) * queries // 4) * 4
    packed = np.zeros((width, d), dtype=parts[0].dtype)
    merge = np.zeros((width, queries))
    for number, (part, scale) in enumerate(zip(parts, scales, strict=True)):
        rows = slice(number * queries, (number + 1) * queries)
        packed[rows] = part
        merge[rows] = np.diag(scale[:, 0])
    return packed, merge


def _merged(products: Any, merge: NDArray[np.float64]) -> F32:
    return (np.asarray(products).astype(np.float64) @ merge).T.astype(np.float32)
