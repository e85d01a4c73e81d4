"""Floating-point storage: fp32, fp16, bf16 and 8-bit floats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.codec.base import BlockScorer, Quantizer, as_bytes, choice
from sememe.contracts import Codes, Vectors
from sememe.kernels import dots, floats
from sememe.kernels.maxsim import TokenCodes
from sememe.kernels.symbols import SymbolScan

_STORAGE = Paper(
    "Optimization of embeddings storage for RAG systems using quantization and dimensionality reduction techniques",
    2025,
    "2505.00105",
)


@register("fp32", room="codec", kind="quantizer", summary="plain float32: exact, 4 bytes a dimension")
class FP32(Quantizer):
    """Plain float32. Exactly ``4 d`` bytes a vector; decoding is exact."""

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """None: it is what all others are compared with."""
        return []

    def bytes_per_vector(self, d: int) -> int:
        """``4 d``."""
        return 4 * d

    def _encode(self, X: Vectors) -> Codes:
        return as_bytes(X)

    def _decode(self, codes: Codes) -> Vectors:
        return np.ascontiguousarray(codes).view(np.float32)

    def native_maxsim(self, Q: Vectors) -> TokenCodes:
        """The numbers themselves."""
        return TokenCodes(self._check_input(Q), "single")

    def _prepare(self, Q: Vectors) -> BlockScorer:
        score = dots.float_dots(Q)
        return lambda codes: score(self._decode(codes))


@register("fp16", room="codec", kind="quantizer", summary="float16, 2 bytes a dimension", paper=_STORAGE)
class FP16(Quantizer):
    """IEEE float16, rounded to nearest even, saturating at 65504. Exactly ``2 d`` bytes a vector."""

    rank = 1

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Itself."""
        return ["fp16"]

    def bytes_per_vector(self, d: int) -> int:
        """``2 d``."""
        return 2 * d

    def _encode(self, X: Vectors) -> Codes:
        return as_bytes(floats.encode_half(X))

    def _decode(self, codes: Codes) -> Vectors:
        return floats.decode_half(np.ascontiguousarray(codes).view(np.float16))

    def native_maxsim(self, Q: Vectors) -> TokenCodes:
        """The numbers themselves."""
        return TokenCodes(self._check_input(Q), "half")

    def _row_scratch(self, queries: int) -> int:
        return 64 if queries <= dots.FEW else super()._row_scratch(queries)

    def _prepare(self, Q: Vectors) -> BlockScorer:
        score = dots.half_dots(Q)
        return lambda codes: score(np.ascontiguousarray(codes).view(np.float16))


@register("bf16", room="codec", kind="quantizer", summary="bfloat16, 2 bytes a dimension")
class BF16(Quantizer):
    """bfloat16: the range of float32 with 8 significant bits, round to nearest even. Exactly ``2 d`` bytes a vector."""

    rank = 1

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Itself."""
        return ["bf16"]

    def bytes_per_vector(self, d: int) -> int:
        """``2 d``."""
        return 2 * d

    def _encode(self, X: Vectors) -> Codes:
        return as_bytes(floats.encode_bfloat16(X))

    def _decode(self, codes: Codes) -> Vectors:
        return floats.decode_bfloat16(np.ascontiguousarray(codes).view(np.uint16))

    def _row_scratch(self, queries: int) -> int:
        return 64 if queries <= dots.FEW else super()._row_scratch(queries)

    def _prepare(self, Q: Vectors) -> BlockScorer:
        score = dots.bfloat16_dots(Q)
        return lambda codes: score(np.ascontiguousarray(codes).view(np.uint16))


@register(
    "fp8",
    room="codec",
    kind="quantizer",
    summary="8-bit float (e4m3, e5m2 or e3m4), 1 byte a dimension",
    paper=_STORAGE,
    claim="nDCG@10 within 0.5 % of float32 at a quarter of the bytes.",
)
class FP8(Quantizer):
    """8-bit floating point. Exactly ``d`` bytes a vector.

    Codes are those of a cast to ``float8_e4m3fn``, ``float8_e5m2`` or ``float8_e3m4`` of ``X * scale_``, saturating
    at the largest finite value (448, 57344, 15.5).

    Parameters
    ----------
    format : {"e4m3", "e5m2", "e3m4"}
        Exponent and mantissa bits. ``e3m4`` has the smallest error on unit rows.
    scale : bool
        Multiply by a power of two fitted on the corpus, so that its largest entry lies in the second highest binade:
        unit rows would otherwise lie among the subnormals. A power of two leaves mantissas as they are. Without it, a
        plain cast.

    Attributes
    ----------
    scale_ : float
        The power of two; 1 with ``scale=False``.
    """

    rank = 1

    @classmethod
    def sweep(cls, dim: int, passages: int) -> list[str]:
        """Itself, with the usual format."""
        return ["fp8"]

    def __init__(self, format: str = "e4m3", scale: bool = True) -> None:
        self.format = format
        self.scale = scale

    def bytes_per_vector(self, d: int) -> int:
        """``d``."""
        return d

    def _form(self) -> floats.Minifloat:
        return floats.MINIFLOATS[choice(self, "format", tuple(floats.MINIFLOATS))]

    def _learn(self, X: Vectors) -> None:
        form = self._form()
        largest = float(np.abs(X).max())
        self.scale_ = 1.0
        if self.scale and largest > 0:
            exponent = np.floor(np.log2(form.largest)) - 1 - np.floor(np.log2(largest))
            self.scale_ = float(2.0 ** np.clip(exponent, -120, 120))

    def _encode(self, X: Vectors) -> Codes:
        return floats.encode_minifloat(self._scaled(X), self._form())

    def _scaled(self, X: Vectors) -> Vectors:
        largest = self._form().largest
        # Clipping before scaling keeps the product finite.
        return np.clip(X, -largest / self.scale_, largest / self.scale_) * np.float32(self.scale_)

    def _decode(self, codes: Codes) -> Vectors:
        return floats.decode_minifloat(codes, self._form()) * np.float32(1 / self.scale_)

    def native_scan(self, Q: Vectors) -> SymbolScan | None:
        """Each of the 256 codes stands for a level; those that are never written, for zero."""
        queries = self._check_input(Q).astype(np.float64)
        form = self._form()
        levels = floats.decode_minifloat(np.arange(256, dtype=np.uint8), form).astype(np.float64) / self.scale_
        levels[np.arange(256) & 0x7F > form.top] = 0.0
        return SymbolScan(weights=queries, constants=np.zeros(len(queries)), levels=levels, bits=8)

    def _row_scratch(self, queries: int) -> int:
        return 2 * self.n_features_in_ if queries <= dots.FEW else super()._row_scratch(queries)

    def _prepare(self, Q: Vectors) -> BlockScorer:
        form = self._form()
        if len(Q) > dots.FEW:
            widened = dots.float_dots(Q / np.float32(self.scale_))
            return lambda codes: widened(floats.decode_minifloat(codes, form))
        queries: NDArray[np.float64] = Q.astype(np.float64) * (form.half_factor / self.scale_)
        score = dots.half_dots(queries)
        return lambda codes: score(floats.minifloat_to_half(codes, form))
