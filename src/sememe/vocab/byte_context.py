"""Vectors of bytes and byte-level symbols that know their neighbours before the model reads them."""

from __future__ import annotations

from typing import Any, Literal

from sememe.catalog import Paper, register


@register(
    "byte-context",
    room="vocab",
    kind="input-layer",
    summary="byte-level vectors mixed with their neighbours by a depth-wise convolution or a recurrent network",
    paper=Paper("Neural Machine Translation with Byte-Level Subwords", 2020, "1909.03341"),
    claim="Symbols that are parts of characters resolve before the model, which lowers its loss.",
    measured_in="byte-bpe",
)
def byte_context(
    vocabulary: int, dim: int, kind: Literal["conv", "gru"] = "conv", width: int = 5, causal: bool = True
) -> Any:
    """An input layer ``ids (b, l) -> (b, l, dim)`` over ``vocabulary`` symbols; needs PyTorch.

    The paper's encoder reads both sides (``causal=False``: a centred convolution, a bidirectional network). A model
    that predicts the next symbol must not see it, so there the context ends with the symbol itself.

    Parameters
    ----------
    vocabulary, dim : int
    kind : {"conv", "gru"}
        A depth-wise convolution has ``(width + 1) * dim`` weights, a recurrent network about ``6 * dim**2``.
    width : int
        Symbols that the convolution reads.
    causal : bool

    Returns
    -------
    sememe.lab.context.ContextualEmbedding
    """
    from sememe.lab.context import ContextualEmbedding
    from sememe.lab.model import table

    return ContextualEmbedding(table(vocabulary, dim), dim, kind, width, causal)
