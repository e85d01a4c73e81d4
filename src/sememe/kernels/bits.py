"""Packing small unsigned integers into bytes, in planes: what unpacks together lies together.

A row of ``d`` values of ``b`` bits is cut into parts of 4, 2 and 1 bits (``b=7`` is 4 + 2 + 1). A part of ``w`` bits
takes ``L = ceil(d * w / 8)`` bytes, and value ``j`` sits in byte ``j % L`` at bit ``w * (j // L)``. Unpacking is then
one mask and shift over whole rows, and the result is written once, contiguously. Eight bits are stored as they are,
single bits as ``np.packbits`` lays them out (the first value in the highest bit), which the rest of the field reads.
Ternary digits go five to a byte in the same layout (3**5 = 243 <= 256): 1.6 bits a value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
TRITS = 5


@dataclass(frozen=True, slots=True)
class Plane:
    """Where a slice of the packed bits belongs: dimensions ``first`` to ``stop``, worth ``2**shift``."""

    first: int
    stop: int
    shift: int = 0


def _parts(bits: int) -> list[tuple[int, int]]:
    """``(width, shift)`` of each part, the high bits first."""
    parts, left = [], bits
    for width in (8, 4, 2, 1):
        if left >= width:
            left -= width
            parts.append((width, left))
    return parts


def _length(d: int, width: int) -> int:
    return -(-d * width // 8)


def packed_bytes(d: int, bits: int) -> int:
    """Bytes that ``d`` values of ``bits`` (1 to 8) bits take; ``d * bits / 8`` when ``d`` is a multiple of 8."""
    return sum(_length(d, width) for width, _ in _parts(bits))


def pack(values: Bytes, bits: int) -> Bytes:
    """Pack uint8 ``(n, d)``, each below ``2**bits``, into uint8 ``(n, packed_bytes(d, bits))``."""
    n, d = values.shape
    out = np.zeros((n, packed_bytes(d, bits)), dtype=np.uint8)
    start = 0
    for width, shift in _parts(bits):
        length = _length(d, width)
        part = (values >> np.uint8(shift)) & np.uint8((1 << width) - 1)
        target = out[:, start : start + length]
        start += length
        if width == 1:
            target[...] = np.packbits(part, axis=1)
            continue
        for slot, first in enumerate(range(0, d, length)):
            chunk = part[:, first : first + length]
            target[:, : chunk.shape[1]] |= chunk << np.uint8(width * slot)
    return out


def layout(d: int, bits: int) -> list[Plane]:
    """What each array of ``planes`` stands for: a value is the sum of its entries times ``2**shift``."""
    out = []
    for width, shift in _parts(bits):
        length = d if width == 1 else _length(d, width)
        out += [Plane(first, min(first + length, d), shift) for first in range(0, d, length)]
    return out


def planes(codes: Bytes, bits: int, d: int) -> list[Bytes]:
    """Packed rows taken apart by masks and shifts: for each plane of ``layout``, uint8 ``(n, stop - first)``.

    This is what scans multiply with; writing the planes side by side, as ``unpack`` does, costs twice as much.
    """
    out: list[Bytes] = []
    start = 0
    for width, _ in _parts(bits):
        length = _length(d, width)
        part = codes[:, start : start + length]
        start += length
        if width == 8:
            out.append(part)
            continue
        part = np.ascontiguousarray(part)
        if width == 1:
            out.append(np.unpackbits(part, axis=1, count=d))
        else:
            mask = np.uint8((1 << width) - 1)
            for slot, first in enumerate(range(0, d, length)):
                plane = part >> np.uint8(width * slot) if slot else part
                if width * (slot + 1) < 8:
                    plane = plane & mask
                out.append(plane[:, : d - first])
    return out


def unpack(codes: Bytes, bits: int, d: int) -> Bytes:
    """The inverse of ``pack``: uint8 ``(n, d)``."""
    parts = planes(codes, bits, d)
    if len(parts) == 1:
        return parts[0]
    out = np.zeros((len(codes), d), dtype=np.uint8)
    for place, plane in zip(layout(d, bits), parts, strict=True):
        out[:, place.first : place.stop] |= plane << np.uint8(place.shift) if place.shift else plane
    return out


def trit_bytes(d: int) -> int:
    """Bytes that ``d`` ternary digits take: ``ceil(d / 5)``."""
    return -(-d // TRITS)


def pack_trits(digits: Bytes) -> Bytes:
    """Pack digits 0, 1, 2 of shape ``(n, d)`` into uint8 ``(n, ceil(d / 5))``."""
    n, d = digits.shape
    length = trit_bytes(d)
    out = np.zeros((n, length), dtype=np.uint8)
    for slot, first in enumerate(range(0, d, length)):
        chunk = digits[:, first : first + length]
        out[:, : chunk.shape[1]] += chunk * np.uint8(3**slot)
    return out


def trit_layout(d: int) -> list[Plane]:
    """``layout`` of packed trits."""
    length = trit_bytes(d)
    return [Plane(first, min(first + length, d)) for first in range(0, d, length)]


def trit_planes(codes: Bytes, d: int) -> list[Bytes]:
    """``planes`` of packed trits, as ``pack_trits`` made them."""
    length = codes.shape[1]
    out: list[Bytes] = []
    rest = np.ascontiguousarray(codes)
    for slot, first in enumerate(range(0, d, length)):
        if slot == TRITS - 1:
            out.append(rest[:, : d - first])
            break
        quotient = rest // np.uint8(3)  # NumPy divides by a constant with a vectorised multiplication
        digit = quotient * np.uint8(3)
        np.subtract(rest, digit, out=digit)
        out.append(digit[:, : d - first])
        rest = quotient
    return out


def unpack_trits(codes: Bytes, d: int) -> Bytes:
    """The inverse of ``pack_trits``: uint8 digits ``(n, d)``."""
    return np.hstack(trit_planes(codes, d))
