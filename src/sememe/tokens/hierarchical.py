"""Bytes in words, words in a text: an autoregressive model on two levels without a vocabulary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sememe.catalog import Paper, register
from sememe.lab.model import Shape
from sememe.tokens.byte_words import ByteWordModel


@register(
    "hierarchical-bytes",
    room="tokens",
    kind="byte model",
    summary="a small byte encoder a word, a causal model over words, a small byte decoder: no vocabulary",
    paper=Paper(
        "Hierarchical Autoregressive Transformers: Combining Byte- and Word-Level Processing for Robust, Adaptable "
        "Language Models",
        2025,
        "2501.10322",
    ),
    claim="A model of bytes within words within text matches subword models, is more robust to spelling errors and "
    "learns a new language almost twice as fast.",
)
class HierarchicalByteWord(ByteWordModel):
    """`ByteWordModel` with one summary vector a word, projected to and from the width of the backbone.

    `nll` takes bytes, so `sememe.lab.train` and `sememe.lab.score` take the model as it is. Compared with a model of
    subwords of the same backbone it has no tables, and pays with two small transformers over all bytes.

    Parameters
    ----------
    shape : Shape, optional
        Of the backbone over words; ``context`` counts bytes.
    inner : Shape, optional
        Of the byte encoder and the byte decoder; half the width and one block when not given.
    longest : int
        Bytes of a word.
    backbone : nn.Module, optional
        ``forward(x (b, n, shape.dim), causal=True)``.
    """

    def __init__(
        self,
        shape: Shape | None = None,
        inner: Shape | None = None,
        *,
        longest: int = 16,
        backbone: Any = None,
    ) -> None:
        shape = (shape or Shape()).checked()
        super().__init__(shape, inner or replace(shape, dim=shape.dim // 2, layers=1, hidden=0), 1, longest, backbone)
