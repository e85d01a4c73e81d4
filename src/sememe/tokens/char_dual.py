"""A second channel of characters beside the tokens, and an exchange between both in every layer."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.lab.model import Shape, Trunk, make_head
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_BLANK = 256  # stands for a symbol without bytes


@register(
    "char-dual",
    room="tokens",
    kind="context layer",
    summary="a recurrent network over all characters of the text, as a second channel beside the tokens",
    paper=Paper("CharBERT: Character-aware Pre-trained Language Model", 2020, "2011.01513"),
    claim="A channel of characters that meets the tokens in every layer makes encoders robust to misspelled text, and "
    "no worse on clean text.",
)
class CharDualChannel(TokenEmbedding):
    """The second channel: for each token, the states of a two-way GRU at its first and at its last byte.

    The GRU runs over the bytes of the whole text, token after token, so the vector of a token depends on its
    neighbours. It takes a step a byte, one after the other: this, and not the number of multiply-adds, is what it
    costs. `DualEncoder` is a small encoder with both channels.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
        A multiple of 4: four states of ``dim / 4`` make a vector.
    width : int
        Of the vectors of bytes.
    limit : int
        Bytes of a token that are read.
    """

    def __init__(self, vocabulary: Vocabulary, dim: int, width: int = 32, limit: int = 16) -> None:
        super().__init__(vocabulary, dim)
        if dim % 4 or width < 1 or limit < 1:
            raise InputError(
                f"dim={dim}, width={width}, limit={limit}",
                where="char-dual",
                fix="positive numbers, dim a multiple of 4",
            )
        self.width, self.limit = width, limit
        spelled, lengths = vocabulary.bytes(limit)
        rows = torch.from_numpy(spelled).short()
        rows[torch.from_numpy(lengths) == 0, 0] = _BLANK
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("lengths", torch.from_numpy(lengths).clamp_min(1), persistent=False)
        self.bytes = nn.Parameter(torch.randn(_BLANK + 1, width))
        self.gru = nn.GRU(width, dim // 4, batch_first=True, bidirectional=True)

    def forward(self, ids: Any, keep: Any = None, noisy: Any = None) -> Any:
        """Vectors ``(b, l, d)`` of ids ``(b, l)``.

        Parameters
        ----------
        ids : int Tensor of shape (b, l)
        keep : bool Tensor of shape (b, l), optional
            Which places are text; the others get zeros.
        noisy : bool Tensor of shape (b, l), optional
            Tokens that are read with two neighbouring bytes swapped, or one byte replaced, at random.
        """
        if ids.ndim != 2:
            raise InputError(f"ids of shape {tuple(ids.shape)}", where="char-dual", fix="give sequences, (b, l)")
        if not ids.numel():
            return self._empty(ids.shape)
        spelled, lengths = self.rows[self.checked(ids)].long(), self.lengths[ids]
        if noisy is not None:
            spelled = torch.where(noisy[..., None], _disturbed(spelled, lengths), spelled)
        if keep is not None:
            lengths = lengths * keep
        ends = lengths.cumsum(1)
        whole = ends[:, -1].clamp_min(1)
        there = torch.arange(self.limit, device=ids.device) < lengths[..., None]  # (b, l, limit)
        line = torch.full((len(ids), int(whole.max())), _BLANK, device=ids.device)
        line[torch.arange(line.shape[1], device=ids.device) < ends[:, -1:]] = spelled[there]
        packed = nn.utils.rnn.pack_padded_sequence(
            F.embedding(line, self.bytes), whole.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        first, last = (ends - lengths).clamp_max(line.shape[1] - 1), (ends - 1).clamp_min(0)
        both = [states.gather(1, place[..., None].expand(-1, -1, states.shape[-1])) for place in (first, last)]
        return torch.cat(both, dim=-1) * (lengths > 0)[..., None]

    def vectors(self, ids: Any) -> Any:
        """Vectors ``(n, d)`` of symbols on their own, each its own text."""
        return self(ids[:, None])[:, 0]

    def table(self) -> Any:
        """There is none: a token's vector depends on the text around it."""
        raise InputError("a character channel has no table: vectors depend on their neighbours", fix="call it with ids")

    def fit(self, table: Any, *, weights: Any = None, metric: Any = None, seed: int = 0) -> Any:
        """Impossible: its vectors depend on their neighbours."""
        raise InputError("a character channel cannot be fitted to a table", fix="train an encoder with it")

    @property
    def multiply_adds(self) -> int:
        """Of the GRU, for the most bytes that a token may have."""
        state = self.embedding_dim // 4
        return self.limit * 6 * state * (self.width + state)


def _disturbed(spelled: Any, lengths: Any) -> Any:
    """Each piece with two neighbouring bytes swapped, or, by the toss of a coin, one byte replaced by a letter."""
    shape = lengths.shape
    at = (torch.rand(shape, device=spelled.device) * lengths).long()
    other = torch.where(at + 1 < lengths, at + 1, (at - 1).clamp_min(0))
    place = torch.stack((at, other), dim=-1)
    swapped = spelled.scatter(-1, place, spelled.gather(-1, place.flip(-1)))
    letters = torch.randint(97, 123, (*shape, 1), device=spelled.device)
    replaced = spelled.scatter(-1, at[..., None], letters)
    return torch.where((torch.rand(shape, device=spelled.device) < 0.5)[..., None], swapped, replaced)


class Exchange(nn.Module):  # type: ignore[misc]
    """What both channels tell each other after a layer (the paper's heterogeneous interaction).

    Both are projected, stand side by side, and a convolution reads each place with its neighbours; what it says is
    projected for each channel, added to it and normalised.
    """

    def __init__(self, dim: int, kernel: int = 3) -> None:
        super().__init__()
        self.tokens, self.characters = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.mix = nn.Conv1d(2 * dim, dim, kernel, padding=kernel // 2)
        self.to_tokens, self.to_characters = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.after_tokens, self.after_characters = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, tokens: Any, characters: Any, keep: Any = None) -> tuple[Any, Any]:
        """Both ``(b, l, d)`` to the same; what is not kept, bool ``(b, l)``, is as if the text ended before it."""
        both = torch.cat((self.tokens(tokens), self.characters(characters)), dim=-1)
        if keep is not None:
            both = both * keep[..., None]
        mixed = torch.tanh(self.mix(both.transpose(1, 2)).transpose(1, 2))
        return (
            self.after_tokens(tokens + F.gelu(self.to_tokens(mixed))),
            self.after_characters(characters + F.gelu(self.to_characters(mixed))),
        )


class DualEncoder(nn.Module):  # type: ignore[misc]
    """A `SmallEncoder` with the second channel; the blocks are shared by both channels, so depth costs time, not size.

    `nll` is the paper's training: tokens become gaps and are filled from the first channel, and others are misspelled
    in the second channel, which must say what they were. (In the paper the misspelled word is also split into subwords
    anew for the first channel; here that channel sees a gap, so that places stay aligned.)

    Parameters
    ----------
    embedding : nn.Module
        ``forward(ids (b, l)) -> (b, l, d)``, the channel of tokens.
    channel : CharDualChannel
    shape : Shape, optional
    share : float
        Of tokens that become gaps, and of those that are misspelled.
    """

    def __init__(
        self, embedding: nn.Module, channel: CharDualChannel, shape: Shape | None = None, share: float = 0.15
    ) -> None:
        super().__init__()
        shape = (shape or Shape()).checked()
        if not 0 < share <= 0.5:
            raise InputError(f"share={share} of gaps is not possible", fix="give a number above 0, at most 0.5")
        if channel.embedding_dim != shape.dim:
            raise InputError(f"a channel of {channel.embedding_dim} dimensions in a model of {shape.dim}")
        self.embedding, self.channel, self.share = embedding, channel, share
        self.trunk = Trunk(shape, "rotary")
        self.of_characters = nn.RMSNorm(shape.dim)
        self.exchanges = nn.ModuleList(Exchange(shape.dim) for _ in range(shape.layers))
        self.gap = nn.Parameter(0.02 * torch.randn(shape.dim))
        self.heads = nn.ModuleList(make_head("free", embedding, len(channel.vocabulary), shape.dim) for _ in range(2))

    @property
    def context(self) -> int:
        """The most symbols looked at together."""
        return self.trunk.shape.context

    def states(self, ids: Any, keep: Any = None, gaps: Any = None, noisy: Any = None) -> tuple[Any, Any]:
        """The last layer of both channels, each ``(b, l, d)``; ``keep``, ``gaps`` and ``noisy`` are bool ``(b, l)``.

        A gap is hidden from both channels, a misspelled token from the first only: it would give the answer away.
        """
        tokens = self.embedding(ids)
        hidden = None if gaps is None else ~gaps if keep is None else keep & ~gaps
        characters = self.channel(ids, keep if hidden is None else hidden, noisy)
        for unseen in (gaps, noisy):
            if unseen is not None:
                tokens = torch.where(unseen[..., None], self.gap, tokens)
        tokens, characters = self.trunk.first(tokens), self.of_characters(characters)
        bias = None
        if keep is not None:
            bias = torch.zeros(keep.shape, dtype=tokens.dtype, device=keep.device)
            bias = bias.masked_fill(~keep, torch.finfo(tokens.dtype).min)[:, None, None, :]
        for block, exchange in zip(self.trunk.blocks, self.exchanges):
            tokens, characters = (block(x, self.trunk.positions, causal=False, bias=bias) for x in (tokens, characters))
            tokens, characters = exchange(tokens, characters, keep)
        return self.trunk.last(tokens), self.trunk.last(characters)

    def pooled(self, ids: Any, keep: Any = None) -> Any:
        """Means of both channels over the places kept, side by side, ``(b, 2 d)``: a vector of the text."""
        states = torch.cat(self.states(ids, keep), dim=-1)
        if keep is None:
            return states.mean(dim=1)
        weight = keep[..., None].to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1).clamp_min(1)

    def nll(self, ids: Any) -> Any:
        """Costs of the gaps and of the misspelled tokens, ``(both,)``, of PyTorch's generator."""
        drawn = torch.rand(ids.shape, device=ids.device)
        gaps = drawn < self.share
        gaps[:, 0] |= ~gaps.any(dim=1)  # a row without a gap would teach nothing
        noisy = ~gaps & (drawn < 2 * self.share)
        states = self.states(ids, gaps=gaps, noisy=noisy)
        costs = [
            F.cross_entropy(head(found[chosen]), ids[chosen], reduction="none")
            for head, found, chosen in zip(self.heads, states, (gaps, noisy))
        ]
        return torch.cat(costs)
