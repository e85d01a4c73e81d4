"""A masked language model of transformers: trained by filling gaps, and measured by what hidden words cost it.

Models that see both sides give no probability of a text. What can be compared across tokenizers is the cost of a word
that is hidden with all of its tokens: the same words for every tokenizer, in bits a byte of those words. How many
tokens a word has, the model is told by the number of gaps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sememe import progress
from sememe.errors import InputError, MissingDependency
from sememe.lab.data import Ids, byte_length
from sememe.lab.score import Score, ratio_interval

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a language model") from None

Span = tuple[int, int]
_BATCH = 16


class Masked(nn.Module):  # type: ignore[misc]
    """A model with ``nll``, which hides symbols at random (of PyTorch's generator) and says what they cost.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With logits ``(b, l, v)`` for ``input_ids``.
    mask : int
        Id that stands for a hidden symbol.
    first, last : int, optional
        Ids around every window.
    share : float
        Of the symbols that are hidden.
    """

    def __init__(
        self, model: Any, mask: int, *, first: int | None = None, last: int | None = None, share: float = 0.15
    ) -> None:
        super().__init__()
        output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        if output is None:
            raise InputError(f"{type(model).__name__} predicts no tokens", fix="give a masked language model")
        self.model, self.mask, self.first, self.last, self.share = model, mask, first, last, share
        self.vocabulary = int(output.weight.shape[0])
        most = getattr(model.config, "max_position_embeddings", None)
        self.context = int(most) - 4 if most else None  # some count positions from 2, and two symbols stand around

    def nll(self, ids: Any) -> Any:
        """Negative natural log-probabilities of the hidden symbols, ``(hidden,)``, at least one."""
        hidden = torch.rand(ids.shape, device=ids.device) < self.share
        hidden[0, 0] |= ~hidden.any()
        seen = torch.where(hidden, self.mask, ids)
        ends = [torch.full_like(ids[:, :1], end) for end in (self.first, self.last) if end is not None]
        parts = [*ends[: self.first is not None], seen, *ends[int(self.first is not None) :]]
        start = int(self.first is not None)
        logits = self.model(input_ids=torch.cat(parts, dim=1)).logits[:, start : start + ids.shape[1]]
        return F.cross_entropy(logits[hidden].float(), ids[hidden], reduction="none")


def hidden_words(words: Sequence[Sequence[Span]], *, share: float, seed: int) -> list[list[Span]]:
    """Which words of each text are hidden: a seeded share of them, at least one."""
    generator = np.random.default_rng(seed)
    out = []
    for spans in words:
        count = max(1, round(share * len(spans)))
        out.append([spans[place] for place in sorted(generator.permutation(len(spans))[:count])])
    return out


def gap_loss(
    model: Masked, tokenizer: Any, texts: Sequence[str], hidden: Sequence[Sequence[Span]], *, seed: int = 0
) -> Score:
    """What hidden words cost, in bits a byte of these words.

    Parameters
    ----------
    model : Masked
    tokenizer : tokenizers.Tokenizer
        Its special tokens are added.
    texts : sequence of str
    hidden : sequence of sequences of (int, int)
        For each text, beginnings and ends of the words to hide, in characters, at least one.
    seed : int
        Of the interval.

    Raises
    ------
    InputError
        A text that is longer than the model's context.
    """
    encodings = tokenizer.encode_batch(list(texts))
    limit = None if model.context is None else model.context + 2
    longest = max((len(encoding.ids) for encoding in encodings), default=0)
    if limit is not None and longest > limit:
        raise InputError(f"a text of {longest} tokens does not fit a context of {limit}", fix="give shorter ones")
    bits = np.zeros(len(texts))
    sizes: Ids = np.array(
        [sum(byte_length(text[a:b]) for a, b in spans) for text, spans in zip(texts, hidden, strict=True)],
        dtype=np.int64,
    )
    order = sorted(range(len(texts)), key=lambda place: -len(encodings[place].ids))
    was_training = model.training
    model.eval()
    try:
        with progress.task("scoring", total=len(order), unit="texts") as step, torch.inference_mode():
            for start in range(0, len(order), _BATCH):
                rows = order[start : start + _BATCH]
                bits[rows] = _cost(model, [encodings[row] for row in rows], [hidden[row] for row in rows])
                step(len(rows))
    finally:
        model.train(was_training)
    if not np.isfinite(bits).all():
        raise InputError("the model gives a loss that is not finite", fix="look for NaN weights")
    low, high = ratio_interval(bits, sizes, seed)
    return Score(float(bits.sum() / sizes.sum()), low, high, bits, sizes, sum(len(e.ids) for e in encodings))


def _cost(model: Masked, encodings: Sequence[Any], hidden: Sequence[Sequence[Span]]) -> Any:
    """Bits of the hidden words of each text."""
    longest = max(len(encoding.ids) for encoding in encodings)
    ids = torch.zeros(len(encodings), longest, dtype=torch.long)
    there = torch.zeros_like(ids)
    gaps = torch.zeros_like(ids, dtype=torch.bool)
    for row, (encoding, spans) in enumerate(zip(encodings, hidden, strict=True)):
        ids[row, : len(encoding.ids)] = torch.tensor(encoding.ids)
        there[row, : len(encoding.ids)] = 1
        for place, ((a, b), special) in enumerate(zip(encoding.offsets, encoding.special_tokens_mask, strict=True)):
            gaps[row, place] = not special and any(a < end and begin < b for begin, end in spans)
    device = next(model.parameters()).device
    seen = torch.where(gaps, model.mask, ids).to(device)
    logits = model.model(input_ids=seen, attention_mask=there.to(device)).logits[gaps.to(device)]
    nats = F.cross_entropy(logits.float(), ids.to(device)[gaps.to(device)], reduction="none").double().cpu()
    costs = torch.zeros(len(encodings), dtype=torch.float64)
    costs.index_add_(0, gaps.nonzero()[:, 0], nats)
    return costs.numpy() / math.log(2)
