"""Which tensors of a model have a row for every token, by the names that architectures give them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sememe.errors import InputError
from sememe.vocab.tensors import FLOATS, Tensor

_INPUTS = (
    "embed_tokens.weight",  # Llama, Qwen, Mistral, Gemma, OPT, Phi, BART
    "word_embeddings.weight",  # BERT and its kin, BLOOM, Falcon
    "word_embedding.weight",  # XLNet
    "tok_embeddings.weight",  # ModernBERT
    "wte.weight",  # GPT-2, GPT-J
    "embed_in.weight",  # GPT-NeoX
    "shared.weight",  # T5, BART
    "embeddings.weight",  # Mamba, XLM
)
_OUTPUTS = (
    "lm_head.weight",
    "lm_head.decoder.weight",  # RoBERTa
    "embed_out.weight",  # GPT-NeoX
    "predictions.decoder.weight",  # BERT, ALBERT
    "vocab_projector.weight",  # DistilBERT
    "generator_lm_head.weight",  # ELECTRA
    "lm_loss.weight",  # XLNet
    "pred_layer.proj.weight",  # XLM
)
_BIASES = (
    "lm_head.bias",
    "lm_head.decoder.bias",
    "embed_out.bias",
    "predictions.bias",
    "predictions.decoder.bias",
    "vocab_projector.bias",
    "generator_lm_head.bias",
    "final_logits_bias",  # BART, of shape (1, v)
    "lm_loss.bias",
    "pred_layer.proj.bias",
)
_BARE_OUTPUTS = {"decoder.weight": "weight", "decoder.bias": "bias"}  # ModernBERT's head, at the top level only
_HEADS = ("ForCausalLM", "LMHead", "ForMaskedLM", "ForConditionalGeneration", "ForPreTraining", "WithLMHead")
_INSIDE = re.compile(r"(^|\.)(layers?|h|blocks?|block|layer_groups)\.\d+\.")  # a numbered block holds no vocabulary


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the vocabulary lies in a model.

    Attributes
    ----------
    input : Tensor
        ``(v, d)``.
    output : Tensor or None
        ``(v, d)``; None where it is tied to the input, or the model has no head.
    tied : bool
        The head multiplies by the input table.
    head : bool
        The model predicts tokens.
    copies : tuple of Tensor
        Further copies of the input table that the file holds under other names.
    output_copies : tuple of Tensor
        The same for an output table of its own.
    biases : tuple of Tensor
        Biases of the head, ``(v,)`` or ``(1, v)``.
    """

    input: Tensor
    output: Tensor | None
    tied: bool
    head: bool
    copies: tuple[Tensor, ...]
    output_copies: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    @property
    def all(self) -> tuple[Tensor, ...]:
        """Every tensor with a row a token."""
        return tuple(
            t for t in (self.input, self.output, *self.copies, *self.output_copies, *self.biases) if t is not None
        )


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that speaks of the language model: it may be nested."""
    for key in ("text_config", "llm_config", "language_config"):
        inner = config.get(key)
        if isinstance(inner, dict) and "vocab_size" in inner:
            return inner
    return config


def find_layout(tensors: Mapping[str, Tensor], config: Mapping[str, Any], where: str) -> Layout:
    """Find the tables among a model's tensors.

    Raises
    ------
    InputError
        Where no table is known, tables do not match, or another tensor has a side as long as the vocabulary and
        nobody knows what it is.
    """
    inputs = [t for name, t in tensors.items() if _ends(name, _INPUTS) and len(t.shape) == 2]
    if not inputs:
        raise InputError(
            "no input table is known in this layout", where=where, fix="it needs a tensor such as embed_tokens.weight"
        )
    table = max(inputs, key=lambda t: t.shape[0])
    size, names = table.shape[0], {t.name for t in inputs}
    outputs, biases = [], []
    for name, tensor in tensors.items():
        bare = _BARE_OUTPUTS.get(name)
        if len(tensor.shape) == 2 and (_ends(name, _OUTPUTS) or (bare == "weight" and size in tensor.shape)):
            outputs.append(tensor)
        elif (_ends(name, _BIASES) or bare == "bias") and size in tensor.shape:
            biases.append(tensor)
    for tensor in [*inputs, *outputs, *biases]:
        if tensor.dtype not in FLOATS:
            raise InputError(
                f"{tensor.name} is stored as {tensor.dtype}: quantized tables cannot be changed", where=where
            )
    for tensor in [*inputs, *outputs]:
        if tensor.shape[0] != size:
            raise InputError(f"{tensor.name} has {tensor.shape[0]} rows and {table.name} has {size}", where=where)
    known = names | {t.name for t in outputs} | {t.name for t in biases}
    for name, tensor in tensors.items():
        strange = name not in known and size in tensor.shape and not _INSIDE.search(name)
        if strange and "position" not in name and not _ordinary(tensor, config, size):
            raise InputError(
                f"{name} {list(tensor.shape)} has a side as long as the vocabulary ({size}) and is not a known part",
                where=where,
                fix="this layout is not supported",
            )
    declared = text_config(config).get("vocab_size")
    if isinstance(declared, int) and declared != size:
        raise InputError(f"config.json says vocab_size {declared} and {table.name} has {size} rows", where=where)
    return _tie(table, inputs, outputs, biases, config, where)


def _ends(name: str, endings: tuple[str, ...]) -> bool:
    return any(name == ending or name.endswith("." + ending) for ending in endings)


def _ordinary(tensor: Tensor, config: Mapping[str, Any], size: int) -> bool:
    """A side that is only by chance as long as the vocabulary: the width of the model, of a tiny one say."""
    widths = {value for key, value in text_config(config).items() if isinstance(value, int) and key != "vocab_size"}
    return size in widths


def _tie(
    table: Tensor,
    inputs: list[Tensor],
    outputs: list[Tensor],
    biases: list[Tensor],
    config: Mapping[str, Any],
    where: str,
) -> Layout:
    copies = [t for t in inputs if t is not table]
    for copy in copies:
        if not same_values(table, copy):
            raise InputError(f"{table.name} and {copy.name} are two different input tables", where=where)
    declared = config.get("tie_word_embeddings", text_config(config).get("tie_word_embeddings"))
    architectures = config.get("architectures") or []
    head = bool(outputs or biases) or any(mark in str(a) for a in architectures for mark in _HEADS)
    if len(outputs) > 1 and not all(same_values(outputs[0], other) for other in outputs[1:]):
        raise InputError(f"{outputs[0].name} and {outputs[1].name} are two different output tables", where=where)
    # transformers ties where the configuration says so, whatever the file holds beside it; unsaid means yes.
    tied = head and declared is not False
    if outputs and declared is None and not same_values(table, outputs[0]):
        tied = False
    if head and not tied and not outputs:
        raise InputError("the output table is missing, and config.json says it is not tied", where=where)
    if tied:
        return Layout(table, None, True, True, (*copies, *outputs), (), tuple(biases))
    output = outputs[0] if outputs else None
    return Layout(table, output, False, head, tuple(copies), tuple(outputs[1:]), tuple(biases))


def same_values(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of the same shape hold the same bytes."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return all(np.array_equal(x, y) for (_, x), (_, y) in zip(a.blocks(), b.blocks(), strict=True))
