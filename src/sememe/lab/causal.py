"""A causal language model of transformers behind the two methods that training and scoring use."""

from __future__ import annotations

import math
from typing import Any

from sememe.errors import InputError, MissingDependency
from sememe.lab.model import Shape

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a language model") from None


class Causal(nn.Module):  # type: ignore[misc]
    """A transformers model with ``nll``, which begins every context with its begin-of-text token.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With logits ``(b, l, v)`` for ``input_ids``.
    start : int, optional
        Id put in front of every context. Without one the first symbol costs ``ln v`` nats, as a uniform guess does.
    """

    def __init__(self, model: Any, start: int | None = None) -> None:
        super().__init__()
        kind, config = type(model).__name__, getattr(model, "config", None)
        output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        if output is None or getattr(config, "is_encoder_decoder", False) or "MaskedLM" in kind:
            raise InputError(f"{kind} is not a causal language model", fix="give one of transformers, or a SmallLM")
        self.model = model
        self.vocabulary = int(output.weight.shape[0])
        if start is not None and not 0 <= start < self.vocabulary:
            raise InputError(f"the start id {start} is outside the vocabulary of {self.vocabulary}")
        self.start = start
        most = getattr(config, "max_position_embeddings", None)
        self.context = int(most) - (start is not None) if most else None

    @classmethod
    def of(cls, model: Any, tokenizer: Any) -> Causal:
        """Wrap a model; the start is the tokenizer's, else the configuration's begin-of-text token, else none."""
        start = getattr(tokenizer, "bos_token_id", None)
        if start is None:
            start = getattr(getattr(model, "config", None), "bos_token_id", None)
        return cls(model, start)

    def nll(self, ids: Any) -> Any:
        """Negative natural log-probability of each symbol given those before it, ``(b, l)``."""
        if self.start is None:
            logits = self.model(input_ids=ids, use_cache=False).logits[:, :-1]
            first = torch.full_like(ids[:, :1], 0, dtype=logits.dtype) + math.log(self.vocabulary)
            return torch.cat((first, _surprise(logits, ids[:, 1:])), dim=1)
        begun = torch.cat((torch.full_like(ids[:, :1], self.start), ids), dim=1)
        return _surprise(self.model(input_ids=begun, use_cache=False).logits[:, :-1], ids)


def small_llama(vocabulary: int, shape: Shape | None = None, *, tied: bool = True, start: int | None = None) -> Causal:
    """An untrained Llama of transformers, about a `SmallLM`'s equal: where a comparison needs a model folder.

    Parameters
    ----------
    vocabulary : int
        Rows of the tables, the start's among them.
    shape : Shape, optional
    tied : bool
        One table for input and output.
    start : int, optional
        Id that begins every context.
    """
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        raise MissingDependency("transformers", extra="torch", need="a small Llama") from None
    shape = (shape or Shape()).checked()
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.dim,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.context + 1,
        tie_word_embeddings=tied,
        bos_token_id=start,
        eos_token_id=None,
        pad_token_id=None,
    )
    return Causal(LlamaForCausalLM(config), start)


def _surprise(logits: Any, ids: Any) -> Any:
    return F.cross_entropy(logits.flatten(0, 1).float(), ids.flatten(), reduction="none").view(ids.shape)
