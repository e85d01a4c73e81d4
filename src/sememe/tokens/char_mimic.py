"""Tokens from their bytes by a small network that learned to say what a table says: also for words it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.lab.model import Shape, Trunk
from sememe.tokens.base import TokenEmbedding, largest, roots
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_BYTES = 257  # and one that stands in front of every piece
_BATCH = 128  # rows of a step of fitting: small networks learn more from many small steps


class _Mimic(TokenEmbedding):
    """What both have: pieces as rows of bytes, and vectors of texts that are in no vocabulary."""

    distinct = True

    def __init__(self, vocabulary: Vocabulary, dim: int, limit: int, steps: int) -> None:
        super().__init__(vocabulary, dim)
        if not 1 <= limit <= 255 or steps < 0:
            raise InputError(
                f"limit={limit}, steps={steps}",
                where="char-mimic",
                fix="1 to 255 bytes; steps, or 0 for the usual ones",
            )
        self.limit, self.steps = limit, steps
        rows, there = _spelled(vocabulary, limit)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("there", there, persistent=False)
        # the network says rows of unit spread about zero, whatever the table's are
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(()))

    def read(self, rows: Any, there: Any) -> Any:
        """What the network says, ``(n, d)``, of bytes ``(n, 1 + limit)``, of which ``there`` says which are."""
        raise InputError(f"{type(self).__name__} reads nothing")

    def _say(self, rows: Any, there: Any) -> Any:
        return self.centre + self.spread * self.read(rows.long(), there)

    def vectors(self, ids: Any) -> Any:
        """What the network says of each piece."""
        there = self.there[ids]
        longest = int(there.sum(1).max())
        return self._say(self.rows[ids, :longest], there[:, :longest])

    def of(self, pieces: Sequence[bytes | str]) -> Any:
        """Vectors ``(n, d)`` of any spellings, without gradient: for words that no vocabulary has.

        A leading space counts, as it does in `Vocabulary`.
        """
        if not pieces:
            return torch.zeros(0, self.embedding_dim)
        rows, there = _spelled(Vocabulary(pieces), self.limit)
        with torch.no_grad():
            return self._say(rows, there)

    def _distill(self, table: Any, weights: Any, criterion: Any = None) -> None:
        from sememe.tokens.distill import distill

        self.centre.copy_(table.mean(0))
        self.spread.copy_(table.std().clamp_min(1e-12))
        batch = min(_BATCH, len(table))
        steps = self.steps or max(50, 20 * len(table) // batch)
        distill(self, table, weights, steps=steps, batch=batch, rate=3e-3 / float(self.spread), criterion=criterion)


def _spelled(vocabulary: Vocabulary, limit: int) -> tuple[Any, Any]:
    """Bytes ``(v, 1 + limit)`` behind one that begins every piece, and which of them are there."""
    spelled, lengths = vocabulary.bytes(limit)
    rows = np.concatenate((np.full((len(spelled), 1), _BYTES - 1, dtype=np.int16), spelled), axis=1)
    there = np.arange(limit + 1) <= lengths[:, None]
    return torch.from_numpy(rows), torch.from_numpy(there)


@register(
    "char-mimic",
    room="tokens",
    kind="layer",
    summary="a small transformer over a token's bytes that learned to say what a trained table says",
    paper=Paper(
        "Char2Subword: Extending the Subword Embedding Space Using Robust Character Compositionality",
        2020,
        "2010.12730",
    ),
    claim="Vectors read from characters replace the table of a trained model, and take misspelled words better.",
)
class CharMimic(_Mimic):
    """A bidirectional transformer over the bytes; the state in front of the first is projected to the vector.

    Fitting to a table (`from_pretrained`) minimises the squared error, plus one minus the cosine, plus the divergence
    between the likenesses that rows of a batch have to each other in the table and in the reconstruction (so that
    neighbours stay neighbours). The paper's fourth term, equal logits under the frozen model, is there where a
    ``metric`` is given (see `fit`): for the second moment ``E[h h']`` of the states that a model multiplies with its
    rows, an error ``e`` costs ``e M e' = E[(h . e)^2]``, which is how far logits move. `sememe tokens compress`
    measures that of the model, and of its input side.

    The size follows from the width only, about ``12 layers width^2``. Every distinct token of a batch costs some
    ``12 layers width^2`` multiply-adds a byte, so it is slow to train with; for a model that is done, `table` gives a
    plain one.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    width : int
        Of the transformer, a multiple of twice ``heads``.
    layers, heads : int
    limit : int
        Bytes of a token that are read.
    steps : int
        Of fitting, 128 rows each; 0 goes through the table twenty times.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        dim: int,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        limit: int = 16,
        steps: int = 0,
    ) -> None:
        super().__init__(vocabulary, dim, limit, steps)
        if min(width, layers, heads) < 1 or width % (2 * heads):
            raise InputError(
                f"width={width}, layers={layers}, heads={heads}",
                where="char-mimic",
                fix="positive numbers, and a width that is a multiple of twice heads",
            )
        self.width, self.layers, self.heads = width, layers, heads
        self.bytes = nn.Parameter(torch.randn(_BYTES, width))
        self.trunk = Trunk(
            Shape(dim=width, layers=layers, heads=heads, hidden=8 * -(-width // 3), context=limit + 1), "rotary"
        )
        self.out = nn.Linear(width, dim)

    def read(self, rows: Any, there: Any) -> Any:
        """Vectors of bytes."""
        return self.out(self.trunk(F.embedding(rows, self.bytes), causal=False, keep=there)[:, 0])

    @property
    def multiply_adds(self) -> int:
        """Products of the blocks for every byte, attention left out, and the way out."""
        blocks = sum(p.numel() for p in self.trunk.blocks.parameters() if p.ndim == 2)
        return (self.limit + 1) * blocks + self.width * self.embedding_dim

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """As wide as the budget pays for, with two blocks of four heads; other numbers where they come nearer."""

        def size(width: int, layers: int) -> int:
            inner = 8 * -(-width // 3)
            block = 4 * width * width + 3 * width * inner + 2 * width
            return layers * block + (_BYTES + 2) * width + (width + 2) * dim

        found = []
        for layers, heads in ((2, 4), (2, 2), (3, 4), (1, 4), (2, 1), (3, 2), (1, 2)):
            step = 2 * heads
            width = step * largest(lambda n: size(step * n, layers), budget, 1, 4_096 // step)  # noqa: B023
            found.append((abs(size(width, layers) - budget), {"width": width, "layers": layers, "heads": heads}))
        near = [options for off, options in found if off <= 0.045 * budget]
        return near[0] if near else min(found, key=lambda entry: entry[0])[1]

    metrics = True

    def _learn(self, table: Any, weights: Any) -> None:
        self._distill(table, weights, likeness)

    def _learn_for(self, table: Any, weights: Any, metric: Any) -> None:
        root = torch.from_numpy(roots(metric, self.embedding_dim)[0]).to(table.dtype)

        def criterion(found: Any, wanted: Any) -> Any:
            return likeness(found, wanted) + ((found - wanted) @ root).square().mean()

        self._distill(table, weights, criterion)


@register(
    "mimick",
    room="tokens",
    kind="layer",
    summary="a bidirectional LSTM over a token's bytes that learned to say what a trained table says",
    paper=Paper("Mimicking Word Embeddings using Subword RNNs", 2017, "1707.06961"),
    claim="A recurrent network over characters that learned a table's rows gives good vectors for words out of it.",
)
class MimickEmbedding(_Mimic):
    """``W2 tanh(W1 [h_forward; h_backward])`` of an LSTM over the bytes in both directions.

    It is fitted one vocabulary entry at a time, by the squared error to its row of a table; no text is needed.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    width : int
        Of the bytes, and of the states of each direction.
    limit : int
        Bytes of a token that are read.
    steps : int
        Of fitting, 128 rows each; 0 goes through the table twenty times.
    """

    def __init__(self, vocabulary: Vocabulary, dim: int, width: int = 64, limit: int = 16, steps: int = 0) -> None:
        super().__init__(vocabulary, dim, limit, steps)
        if width < 1:
            raise InputError(f"width={width}", where="mimick", fix="give a positive width")
        self.width = width
        self.bytes = nn.Parameter(torch.randn(_BYTES, width))
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.up, self.out = nn.Linear(2 * width, 2 * width), nn.Linear(2 * width, dim)

    def read(self, rows: Any, there: Any) -> Any:
        """Vectors of bytes."""
        packed = nn.utils.rnn.pack_padded_sequence(
            F.embedding(rows, self.bytes), there.sum(1).cpu(), batch_first=True, enforce_sorted=False
        )
        _, (last, _) = self.lstm(packed)
        return self.out(self.up(torch.cat((last[0], last[1]), dim=1)).tanh())

    @property
    def multiply_adds(self) -> int:
        """Both directions' gates for every byte, and the network behind them."""
        square = self.width * self.width
        return 16 * (self.limit + 1) * square + 4 * square + 2 * self.width * self.embedding_dim

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """As wide as the budget pays for."""

        def size(width: int) -> int:
            return 20 * width * width + (_BYTES + 16 + 2) * width + (2 * width + 2) * dim

        return {"width": largest(size, budget, 1, 4_096)}

    def _learn(self, table: Any, weights: Any) -> None:
        self._distill(table, weights)


def likeness(found: Any, wanted: Any) -> Any:
    """Squared error, one minus the cosine, and the divergence of likenesses, of rows ``(n, d)`` of unit spread.

    The likenesses are inner products of centred rows over ``sqrt(d)``, as shares over the other rows (of at most 128).
    """
    error = (found - wanted).square().mean() + 1 - F.cosine_similarity(found, wanted, dim=1).mean()
    some = min(_BATCH, len(found))
    if some < 3:
        return error
    alike = []
    for rows in (found[:some], wanted[:some]):
        centred = rows - rows.mean(0)
        scores = centred @ centred.T / rows.shape[1] ** 0.5
        scores = scores.masked_fill(torch.eye(some, dtype=torch.bool, device=rows.device), -1e9)
        alike.append(scores.log_softmax(1))
    return error + F.kl_div(alike[0], alike[1], log_target=True, reduction="batchmean")
