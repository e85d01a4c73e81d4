"""Float vectors to fewer bytes: transforms, quantizers, and the chain of them. Names are imported when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sememe.faces import lazy

_LAZY = {
    "BF16": "floating",
    "FP8": "floating",
    "FP16": "floating",
    "FP32": "floating",
    "PCA": "pca",
    "Additive": "additive",
    "Binary": "binary",
    "Center": "linear",
    "Chain": "chain",
    "ContrastiveHash": "contrastive_hash",
    "ContrastiveHead": "contrastive_head",
    "Coupled": "coupled",
    "CrossLayerEqualizer": "weights",
    "Int4": "integer",
    "Int8": "integer",
    "KLT": "klt",
    "Moments": "moments",
    "Normalize": "linear",
    "Power": "power",
    "ProductQuantizer": "product",
    "Project": "project",
    "Quantizer": "base",
    "RaBitQ": "rabitq",
    "Residual": "residual_cells",
    "ResidualBinary": "residual_binary",
    "SparseFlops": "sparse_flops",
    "Ternary": "ternary",
    "Transform": "base",
    "Truncate": "linear",
    "Uniform": "uniform",
    "UnembedFilter": "unembed_filter",
    "Whiten": "whiten",
}
__all__ = [
    "BF16",
    "FP8",
    "FP16",
    "FP32",
    "KLT",
    "PCA",
    "Additive",
    "Binary",
    "Center",
    "Chain",
    "ContrastiveHash",
    "ContrastiveHead",
    "Coupled",
    "CrossLayerEqualizer",
    "Int4",
    "Int8",
    "Moments",
    "Normalize",
    "Power",
    "ProductQuantizer",
    "Project",
    "Quantizer",
    "RaBitQ",
    "Residual",
    "ResidualBinary",
    "SparseFlops",
    "Ternary",
    "Transform",
    "Truncate",
    "UnembedFilter",
    "Uniform",
    "Whiten",
]  # fmt: skip

if TYPE_CHECKING:
    from sememe.codec.additive import Additive
    from sememe.codec.base import Quantizer, Transform
    from sememe.codec.binary import Binary
    from sememe.codec.chain import Chain
    from sememe.codec.contrastive_hash import ContrastiveHash
    from sememe.codec.contrastive_head import ContrastiveHead
    from sememe.codec.coupled import Coupled
    from sememe.codec.floating import BF16, FP8, FP16, FP32
    from sememe.codec.integer import Int4, Int8
    from sememe.codec.klt import KLT
    from sememe.codec.linear import Center, Normalize, Truncate
    from sememe.codec.moments import Moments
    from sememe.codec.pca import PCA
    from sememe.codec.power import Power
    from sememe.codec.product import ProductQuantizer
    from sememe.codec.project import Project
    from sememe.codec.rabitq import RaBitQ
    from sememe.codec.residual_binary import ResidualBinary
    from sememe.codec.residual_cells import Residual
    from sememe.codec.sparse_flops import SparseFlops
    from sememe.codec.ternary import Ternary
    from sememe.codec.unembed_filter import UnembedFilter
    from sememe.codec.uniform import Uniform
    from sememe.codec.weights import CrossLayerEqualizer
    from sememe.codec.whiten import Whiten

__getattr__, __dir__ = lazy(__name__, _LAZY)
