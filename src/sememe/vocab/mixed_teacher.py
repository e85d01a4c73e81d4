"""What a student of another vocabulary learns from: an encoder's states, word by word, and the gaps that it fills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError, MissingDependency
from sememe.vocab.mixed_words import TwoWays, WordBatch, written

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="training a student") from None

_KEPT = 1 << 28  # bytes of states that are remembered
_HIDDEN = 0.15  # of the words, for models that fill gaps


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model makes of a batch.

    Attributes
    ----------
    words : tensor of shape (w, d)
        Mean of the last layer over the tokens of each word.
    texts : tensor of shape (n, d)
        Mean over all tokens of each text.
    before_head : tensor of shape (n, l, e) or None
        What a masked model's head multiplies with its output table.
    """

    words: Any
    texts: Any
    before_head: Any


def read(model: Any, rows: Any, batch: WordBatch) -> Reading:
    """Let a model read.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        An encoder, bare or with a masked head, that takes ``inputs_embeds``.
    rows : tensor of shape (v, d)
        Rows that ``batch.numbers`` point to.
    batch : WordBatch
    """
    keep = torch.from_numpy(batch.keep)
    vectors = rows[torch.from_numpy(batch.numbers)] * keep[:, :, None]
    head = output_of(model)
    seen: list[Any] = []
    hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0])) if head is not None else None
    try:
        found = model(inputs_embeds=vectors, attention_mask=keep.long(), output_hidden_states=head is not None)
    finally:
        if hook is not None:
            hook.remove()
    states = found.last_hidden_state if head is None else found.hidden_states[-1]
    flat = states[keep]
    owner = torch.from_numpy(batch.words[batch.keep])
    count = len(batch.fixed)
    sums = torch.zeros(count, flat.shape[1]).index_add(0, owner, flat)
    sizes = torch.bincount(owner, minlength=count).clamp_min(1)
    weight = keep[:, :, None].to(states.dtype)
    texts = (states * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)
    return Reading(sums / sizes[:, None], texts, seen[0] if seen else None)


def output_of(model: Any) -> Any:
    """The output layer of a model that fills gaps; None for a bare encoder."""
    return model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None


class Teacher:
    """An encoder that does not change, its states remembered as far as memory is set aside for them.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    texts : sequence of TwoWays
        Those without a word say nothing, and are left out.
    """

    def __init__(self, model: Any, texts: Sequence[TwoWays]) -> None:
        self.model = model
        self.texts = [way for way in texts if not all(way.fixed)]
        if not self.texts:
            raise InputError("a student learns from text, and there is none", fix="give a sample of text")
        self.rows = model.get_input_embeddings().weight.detach().float()
        self._known: dict[int, tuple[NDArray[np.float16], NDArray[np.float32]]] = {}
        self._left = _KEPT
        self._nobody = np.random.default_rng(0)  # nothing is drawn where all words are written in one way

    def states(self, chosen: Sequence[int]) -> tuple[Any, Any]:
        """States of the words ``(w, d)`` and texts ``(n, d)`` of some texts, in the teacher's own tokens."""
        fresh = [number for number in chosen if number not in self._known]
        made: dict[int, tuple[Any, Any]] = {}
        if fresh:
            batch = written([self.texts[number] for number in fresh], 0, 0.0, self._nobody)
            with torch.no_grad():
                found = read(self.model, self.rows, batch)
            parts = found.words.split([len(self.texts[number].large) for number in fresh])
            for number, words, text in zip(fresh, parts, found.texts, strict=True):
                made[number] = words, text
                size = 2 * words.numel() + 4 * text.numel()
                if size <= self._left:
                    self._known[number] = words.half().numpy(), text.numpy()
                    self._left -= size
        for number in chosen:
            if number not in made:
                words, text = self._known[number]
                made[number] = torch.from_numpy(words).float(), torch.from_numpy(text)
        return torch.cat([made[n][0] for n in chosen]), torch.stack([made[n][1] for n in chosen])


def unlike(found: tuple[Any, Any], wanted: tuple[Any, Any]) -> Any:
    """One minus the cosine, averaged over words, and the same over texts, added."""
    pairs = zip(found, wanted, strict=True)
    return sum((1 - F.cosine_similarity(one, other, dim=1)).mean() for one, other in pairs)


def hide(batch: WordBatch, base: int, masks: tuple[int, int], generator: np.random.Generator) -> WordBatch:
    """The batch with some words, at least one, in gaps: the mask of the vocabulary that the word is written in.

    Parameters
    ----------
    batch : WordBatch
    base : int
        Tokens of the large tokenizer.
    masks : (int, int)
        Mask of the large and of the small tokenizer, each by its own ids.
    generator : numpy.random.Generator
    """
    ordinary = np.flatnonzero(~batch.fixed)
    if not len(ordinary):
        raise InputError("there is no word to hide", fix="give texts with words")
    gone = np.zeros(len(batch.fixed), dtype=bool)
    gone[ordinary] = generator.random(len(ordinary)) < _HIDDEN
    gone[generator.choice(ordinary)] = True
    gaps = batch.keep & gone[batch.words]
    numbers = batch.numbers.copy()
    numbers[gaps] = np.where(numbers[gaps] < base, masks[0], base + masks[1])
    return WordBatch(numbers, batch.words, batch.fixed)


def gap_cost(before_head: Any, rows: Any, bias: Any, hidden: WordBatch, whole: WordBatch) -> Any:
    """Mean cross-entropy of the tokens in gaps.

    Parameters
    ----------
    before_head : tensor of shape (n, l, e)
    rows : tensor of shape (v, e)
        Output rows that the numbers of ``whole`` point to.
    bias : tensor of shape (v,)
    hidden, whole : WordBatch
        With gaps and without.
    """
    gaps = torch.from_numpy(hidden.numbers != whole.numbers)
    wanted = torch.from_numpy(whole.numbers)[gaps]
    return F.cross_entropy(before_head[gaps] @ rows.T + bias, wanted)
