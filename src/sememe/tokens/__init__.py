"""Token layers: every way to turn a symbol into a vector, as a drop-in for ``torch.nn.Embedding``.

`build` makes a layer by name and budget, `save` and `load` keep it, `names` lists what there is; `compare` trains them
all in the same small model, `compress` puts one into a real model. Names are imported when first used; what needs
PyTorch says so when it is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sememe.faces import lazy

_LAZY = {
    "Fit": "base",
    "RowwiseAdagrad": "rowwise",
    "RowwiseAdam": "rowwise",
    "TokenEmbedding": "base",
    "Vocabulary": "vocabulary",
    "build": "factory",
    "compare": "comparison",
    "compare_features": "feature_comparison",
    "compress": "compression",
    "load": "factory",
    "names": "factory",
    "open_model": "compression",
    "save": "factory",
}
__all__ = [
    "Fit",
    "RowwiseAdagrad",
    "RowwiseAdam",
    "TokenEmbedding",
    "Vocabulary",
    "build",
    "compare",
    "compare_features",
    "compress",
    "load",
    "names",
    "open_model",
    "save",
]

if TYPE_CHECKING:
    from sememe.tokens.base import Fit, TokenEmbedding
    from sememe.tokens.comparison import compare
    from sememe.tokens.compression import compress, open_model
    from sememe.tokens.factory import build, load, names, save
    from sememe.tokens.feature_comparison import compare_features
    from sememe.tokens.rowwise import RowwiseAdagrad, RowwiseAdam
    from sememe.tokens.vocabulary import Vocabulary

__getattr__, __dir__ = lazy(__name__, _LAZY)
