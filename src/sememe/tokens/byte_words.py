"""Byte models that do most of their work once a word: where words are, and the machine that two papers share."""

from __future__ import annotations

from typing import Any, ClassVar

from sememe.errors import InputError, MissingDependency
from sememe.lab.model import Shape, Trunk

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a byte model") from None

END = 256  # of a word, to the decoder; in front of the bytes it stands for nothing
_SPACE, _LETTER, _SIGN = range(3)


def kinds() -> Any:
    """What each byte is, int64 ``(256,)``: white space, part of a word (all beyond ASCII are), or another sign."""
    found = torch.full((256,), _SIGN)
    found[[9, 10, 11, 12, 13, 32]] = _SPACE
    found[[*range(48, 58), *range(65, 91), *range(97, 123), *range(128, 256)]] = _LETTER
    return found


def begins(ids: Any, longest: int) -> Any:
    """Where words of bytes ``(b, l)`` begin, bool: at white space, and where letters and other signs meet.

    One white space belongs to the word behind it. A word of more than ``longest`` bytes is cut. Whether a byte begins a
    word follows from it and the bytes before it.
    """
    kind = kinds().to(ids.device)[ids]
    before = F.pad(kind, (1, 0), value=-1)[:, :-1]
    found = (kind == _SPACE) | ((kind != before) & (before != _SPACE))
    found[:, :1] = True
    place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    start = torch.where(found, place, 0).cummax(1).values
    return found | ((place - start) % longest == 0)


class ByteWordModel(nn.Module):  # type: ignore[misc]
    """Bytes to words, a causal transformer over words, words to bytes.

    A word's bytes are read by a small bidirectional transformer behind ``slots`` vectors of its own; their states, side
    by side, become the word's vector. The backbone reads the words so far; its state, cut into ``slots`` again, stands
    in front of a small causal transformer that spells the next word, and then says that it ends. All words of a batch
    are read and spelled at once.

    Probabilities are those of bytes and words' ends: `nll` charges the end of a word to the byte behind it, so the sum
    over a text is what an exact code of it would cost (the last word's end is not paid for).

    Parameters
    ----------
    shape : Shape
        Of the backbone; ``context`` counts bytes.
    inner : Shape
        Of the two small transformers.
    slots : int
    longest : int
        Bytes of a word.
    backbone : nn.Module, optional
        ``forward(x (b, n, shape.dim), causal=True)`` of the same shape; a transformer of ``shape`` when not given.
    """

    vocabulary: ClassVar[int] = 256

    def __init__(self, shape: Shape, inner: Shape, slots: int, longest: int, backbone: nn.Module | None) -> None:
        super().__init__()
        if slots < 1 or longest < 1:
            raise InputError(f"slots={slots}, longest={longest} are not possible", fix="give positive numbers")
        self.shape, self.inner, self.slots, self.longest = shape.checked(), inner.checked(), slots, longest
        self.bytes = nn.Parameter(0.02 * torch.randn(END + 1, inner.dim))
        self.ask = nn.Parameter(0.02 * torch.randn(slots, inner.dim))
        self.encoder, self.decoder = (Trunk(inner, "rotary") for _ in range(2))
        self.join = nn.Linear(slots * inner.dim, shape.dim, bias=False)
        self.split = nn.Linear(shape.dim, slots * inner.dim, bias=False)
        self.start = nn.Parameter(0.02 * torch.randn(shape.dim))
        self.backbone = backbone if backbone is not None else Trunk(shape, "rotary")
        self.head = nn.Linear(inner.dim, END + 1, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    @property
    def context(self) -> int:
        """The most bytes scored together."""
        return self.shape.context

    def words(self, ids: Any) -> tuple[Any, Any, Any, Any]:
        """Bytes ``(b, l)`` as words: ``(spelled (m, w), lengths (m,), row (m,), place (m,))``.

        Words are numbered row by row; ``row`` and ``place`` say which row of the batch a word is of, and which
        one it is there. ``spelled`` is filled up with `END`.

        Raises
        ------
        InputError
            What is no byte.
        """
        if ids.ndim != 2 or not ids.numel():
            raise InputError(f"bytes of shape {tuple(ids.shape)}", where="ids", fix="give at least one row of bytes")
        if not torch.compiler.is_compiling():
            low, high = (int(end) for end in torch.aminmax(ids))
            if low < 0 or high > 255:
                raise InputError(f"id {low if low < 0 else high} is no byte", where="ids", fix="give UTF-8 bytes")
        start = begins(ids, self.longest)
        word = start.flatten().cumsum(0) - 1  # of each byte; every row begins one
        first = start.flatten().nonzero()[:, 0]
        inside = torch.arange(word.numel(), device=ids.device) - first[word]
        lengths = torch.bincount(word)
        spelled = torch.full((len(first), int(lengths.max())), END, device=ids.device)
        spelled[word, inside] = ids.flatten()
        row = first // ids.shape[1]
        before = start.sum(1).cumsum(0) - start.sum(1)
        return spelled, lengths, row, torch.arange(len(first), device=ids.device) - before[row]

    def read(self, spelled: Any, lengths: Any) -> Any:
        """Vectors of words, ``(m, shape.dim)``, of their bytes ``(m, w)``."""
        x = torch.cat((self.ask.expand(len(spelled), -1, -1), F.embedding(spelled, self.bytes)), dim=1)
        keep = torch.arange(x.shape[1], device=x.device) < lengths[:, None] + self.slots
        return self.join(self.encoder(x, causal=False, keep=keep)[:, : self.slots].flatten(1))

    def predicted(self, ids: Any) -> tuple[Any, Any, Any]:
        """Logits of each word's bytes and of its end, ``(m, w + 1, 257)``; the words and their lengths.

        The logits of a word's place ``i`` know the words before it and its first ``i`` bytes.
        """
        spelled, lengths, row, place = self.words(ids)
        many = int(place.max()) + 1
        vectors = self.read(spelled, lengths)
        known = vectors.new_zeros(len(ids), many, self.shape.dim).index_put((row, place), vectors)
        start = self.start.expand(len(ids), 1, -1)
        states = self.backbone(torch.cat((start, known[:, :-1]), dim=1), causal=True)[row, place]
        lead = self.split(states).unflatten(1, (self.slots, -1))
        x = torch.cat((lead, F.embedding(spelled, self.bytes)), dim=1)
        return self.head(self.decoder(x, causal=True)[:, self.slots - 1 :]), spelled, lengths

    def nll(self, ids: Any) -> Any:
        """Negative natural log-probability of each byte given those before it, ``(b, l)``.

        The first byte of a word pays for the end of the one before, too.
        """
        if ids.ndim == 2 and not ids.numel():
            return self.start.new_zeros(ids.shape)
        logits, spelled, lengths = self.predicted(ids)
        wanted = F.pad(spelled, (0, 1), value=END)
        cost = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").view(wanted.shape)
        there = torch.arange(spelled.shape[1], device=ids.device) < lengths[:, None]
        out = cost[:, :-1][there]  # in the order of the text
        ends = cost.gather(1, lengths[:, None])[:, 0]
        first = lengths.cumsum(0) - lengths
        inside = first % ids.shape[1] != 0  # the first word of a row follows none
        inside[0] = False
        bill = torch.zeros_like(out).index_put((first[inside],), ends[inside.nonzero()[:, 0] - 1])
        return (out + bill).view(ids.shape)

    def exact(self, ids: Any) -> tuple[Any, Any]:
        """Whether each word would be spelled right, its end included, by always taking the likeliest byte.

        Returns bool ``(m,)``, and where each word begins in ``ids.flatten()``. The last word of a row has no end to be
        right about, and counts by its bytes.
        """
        logits, spelled, lengths = self.predicted(ids)
        wanted = F.pad(spelled, (0, 1), value=END)
        right = logits.argmax(-1) == wanted
        place = torch.arange(wanted.shape[1], device=ids.device)
        first = lengths.cumsum(0) - lengths
        last = (first + lengths) % ids.shape[1] == 0
        counted = place < (lengths + (~last).long())[:, None]
        return (right | ~counted).all(1), first
