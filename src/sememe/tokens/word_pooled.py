"""Words as pooled bytes: several summary vectors a word, side by side, into a language model of words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError
from sememe.lab.model import Shape
from sememe.tokens.byte_words import ByteWordModel


@register(
    "word-pooled",
    room="tokens",
    kind="byte model",
    summary="each word's bytes pooled into a few vectors side by side; a model of words; bytes spelled word by word",
    paper=Paper("Learn Your Tokens: Word-Pooled Tokenization for Language Modeling", 2023, "2310.11628"),
    claim="Words pooled from their characters make the next word right far more often than subwords or characters do, "
    "most of all rare ones.",
)
class WordPooledTokens(ByteWordModel):
    """`ByteWordModel` with ``slots`` summary vectors of ``dim / slots``, which side by side are the word's vector.

    Parameters
    ----------
    shape : Shape, optional
        Of the model of words; ``context`` counts bytes.
    slots : int
        Summary vectors a word; they divide the width.
    inner_layers : int
        Blocks of each of the two small transformers, whose width is ``shape.dim / slots``.
    longest : int
        Bytes of a word.
    backbone : nn.Module, optional
        The model of words: ``forward(x (b, n, shape.dim), causal=True)``.
    """

    def __init__(
        self,
        shape: Shape | None = None,
        *,
        slots: int = 4,
        inner_layers: int = 1,
        longest: int = 16,
        backbone: Any = None,
    ) -> None:
        shape = (shape or Shape()).checked()
        if slots < 1 or shape.dim % slots:
            raise InputError(
                f"{slots} slots in {shape.dim} dimensions", where="word-pooled", fix="slots divide the dim"
            )
        width = shape.dim // slots
        heads = max(h for h in (1, 2, 4) if h <= shape.heads and width % (2 * h) == 0) if width % 2 == 0 else 0
        if not heads:
            raise InputError(f"{slots} slots in {shape.dim} dimensions", where="word-pooled", fix="give an even width")
        inner = replace(shape, dim=width, layers=inner_layers, heads=heads, hidden=0)
        super().__init__(shape, inner, slots, longest, backbone)
