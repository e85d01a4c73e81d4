"""Words from bytes by cross-attention, a language model over words, and subwords predicted from the words' states."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.lab.model import Shape, Trunk
from sememe.tokens.base import checked_ids
from sememe.tokens.byte_attention import ByteCrossAttention
from sememe.tokens.byte_words import kinds
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a word model") from None

_NOTHING = 256  # the byte that stands for no bytes (see ByteCrossAttention)


@register(
    "byte-to-word",
    room="tokens",
    kind="byte model",
    summary="one vector a word by attention over its bytes; subwords of the next word predicted from the word's state",
    paper=Paper("Word-Level Representation From Bytes For Language Modeling", 2022, "2211.12677"),
    claim="A model over words made from bytes is on par with one over subwords with a tenth of the embedding, and "
    "suffers less from noise.",
)
class ByteToWord(nn.Module):  # type: ignore[misc]
    """A model of words that needs no table of words at either end.

    A text comes as the ids of a subword tokenizer, which are used for what is predicted only. Ids are joined to words:
    one begins at white space, and where letters and other signs meet. A word's bytes, up to ``limit``, give one vector
    (`ByteCrossAttention`); a causal transformer reads one vector a word. The state behind a word predicts the subwords
    of the next one after another: a small network sees the state and what the bytes of that word so far read as, and a
    linear layer gives logits of all subwords and of the word's end. Since words are some 1.3 subwords long, the
    backbone has fewer places than a subword model's; the softmax is over subwords, so no word is unknown.

    The paper predicts the subwords of masked words from one state; how later subwords know earlier ones in a model that
    writes is ours. Probabilities are proper: `nll` charges the end of a word to the subword behind it.

    Parameters
    ----------
    vocabulary : Vocabulary
        Subwords.
    shape : Shape, optional
        Of the backbone; ``context`` counts subwords.
    width, heads : int
        Of the attention over bytes; see `ByteCrossAttention`.
    limit : int
        Bytes of a word that are read.
    longest : int
        Subwords of a word; a longer one is cut.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        shape: Shape | None = None,
        *,
        width: int = 64,
        heads: int = 4,
        limit: int = 24,
        longest: int = 16,
    ) -> None:
        super().__init__()
        if longest < 1:
            raise InputError(f"longest={longest}", where="byte-to-word", fix="give a positive number")
        self.shape, self.limit, self.longest = (shape or Shape()).checked(), limit, longest
        self.vocabulary, dim = len(vocabulary), self.shape.dim
        spelled, lengths = vocabulary.bytes(limit)
        kind = kinds().numpy()
        first = np.array([kind[piece[0]] if piece else -1 for piece in vocabulary.pieces])
        last = np.array([kind[piece[-1]] if piece else -1 for piece in vocabulary.pieces])
        for name, values in (("spelled", spelled), ("lengths", lengths), ("first", first), ("last", last)):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)
        self.reader = ByteCrossAttention(Vocabulary([b""]), dim, width, heads, limit)
        self.start = nn.Parameter(0.02 * torch.randn(dim))
        self.backbone = Trunk(self.shape, "rotary")
        self.join = nn.Linear(2 * dim, 2 * dim)
        self.out = nn.Linear(2 * dim, dim)
        self.head = nn.Linear(dim, len(vocabulary) + 1, bias=False)  # the last is the end of a word
        nn.init.normal_(self.head.weight, std=0.02)

    @property
    def context(self) -> int:
        """The most subwords scored together."""
        return self.shape.context

    @property
    def input_parameters(self) -> int:
        """Of what stands in place of an input table."""
        return sum(parameter.numel() for parameter in self.reader.parameters())

    def begins(self, ids: Any) -> Any:
        """Where words of subwords ``(b, l)`` begin, bool; it follows from a subword and those before it."""
        first, last = self.first[ids], self.last[ids]
        before = F.pad(last, (1, 0), value=-1)[:, :-1]
        # 0 is white space (see byte_words.kinds): one that stands in front of a word belongs to it
        found = (first == 0) | (first < 0) | ((first != before) & (before != 0))
        found[:, :1] = True
        place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        start = torch.where(found, place, 0).cummax(1).values
        return found | ((place - start) % self.longest == 0)

    def _read(self, ids: Any, owner: Any, begin: Any, count: int) -> Any:
        """Vectors ``(count, d)`` of texts that subwords ``(n,)`` make: whose each is, and at which byte it begins."""
        place = torch.arange(self.limit, device=ids.device)
        to = begin[:, None] + place
        there = (place < self.lengths[ids][:, None]) & (to < self.limit)
        rows = torch.full((count, self.limit), _NOTHING, dtype=torch.int64, device=ids.device)
        rows[owner[:, None].expand_as(to)[there], to[there]] = self.spelled[ids][there].long()
        many = torch.zeros(count, dtype=torch.int64, device=ids.device).index_add(0, owner, self.lengths[ids])
        many = many.clamp(1, self.limit)  # a text without bytes reads as the byte that stands for nothing
        return self.reader.read(rows, place < many[:, None])

    def predicted(self, ids: Any) -> tuple[Any, Any, Any]:
        """Logits of every subword and of every word's end, in the order of the text.

        Returns logits ``(n, v + 1)`` of the ``n = b l`` subwords, each given all before it and that its word goes on;
        logits ``(m, v + 1)`` behind each of the ``m`` words; and the word of each subword ``(n,)``.
        """
        flat, start = ids.flatten(), self.begins(ids)
        word = start.flatten().cumsum(0) - 1
        heads = start.flatten().nonzero()[:, 0]
        words, device = len(heads), ids.device
        size = self.lengths[flat]
        ends = size.cumsum(0)
        offset = ends - size - (ends - size)[heads][word]  # bytes of the word before each subword
        vectors = self._read(flat, word, offset, words)
        row = heads // ids.shape[1]
        per_row = start.sum(1)
        place = torch.arange(words, device=device) - (per_row.cumsum(0) - per_row)[row]
        known = vectors.new_zeros(len(ids), int(per_row.max()), self.shape.dim).index_put((row, place), vectors)
        begun = torch.cat((self.start.expand(len(ids), 1, -1), known[:, :-1]), dim=1)
        states = self.backbone(begun, causal=True)[row, place]
        # what the word so far reads as: before each subword, and behind the last one
        inside = torch.arange(len(flat), device=device) - heads[word]
        earlier = torch.repeat_interleave(torch.arange(len(flat), device=device), inside)
        ahead = inside.cumsum(0) - inside
        source = heads[word][earlier] + torch.arange(len(earlier), device=device) - ahead[earlier]
        so_far = self._read(flat[source], earlier, offset[source], len(flat))
        logits = self._said(states[word], so_far)
        behind = self._said(states, vectors)
        return logits, behind, word

    def _said(self, states: Any, so_far: Any) -> Any:
        inner = F.gelu(self.join(torch.cat((states, so_far), dim=1)))
        return self.head(states + self.out(inner))

    def nll(self, ids: Any) -> Any:
        """Negative natural log-probability of each subword given those before it, ``(b, l)``.

        The first subword of a word pays for the end of the word before, too.
        """
        if ids.ndim != 2:
            raise InputError(f"ids of shape {tuple(ids.shape)}", where="byte-to-word", fix="give sequences, (b, l)")
        checked_ids(ids, self.vocabulary)
        if not ids.numel():
            return self.start.new_zeros(ids.shape)
        logits, behind, word = self.predicted(ids)
        cost = F.cross_entropy(logits, ids.flatten().long(), reduction="none")
        end = F.cross_entropy(behind, torch.full((len(behind),), self.vocabulary, device=ids.device), reduction="none")
        first = F.pad(word, (1, 0), value=-1).diff() > 0
        first &= torch.arange(len(word), device=ids.device) % ids.shape[1] != 0  # a row's first word follows none
        bill = torch.zeros_like(cost)
        bill[first] = end[word[first] - 1]
        return (cost + bill).view(ids.shape)
