"""Words in a few classes by the places they take in sentences, and models that attend by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.lab.model import SmallLM
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_ROUNDS, _STARTS = 20, 4
Codes = NDArray[np.int64]


@register(
    "structure-vq",
    room="tokens",
    kind="layer",
    summary="a table whose words also have classes, learned from the places that words take",
    paper=Paper(
        "Inducing Systematicity in Transformers by Attending to Structurally Quantized Embeddings", 2024, "2402.06492"
    ),
    claim="Attention over classes of words generalises to new combinations of known words.",
)
class StructureVQ(TokenEmbedding):
    """A trained table; `quantized` gives, instead of a word's row, the mean row of its class.

    Classes come from a text (`learn_classes`): those for which a word's class is best predicted by the class before it.
    Words that can take each other's place share a class, even where one of them was seen in a single context. The
    abstract leaves the objective open; this one is the likelihood of a bigram model over classes, maximised by moving
    one word at a time, and needs no gradient. Class means follow the rows as these are trained, so that codes and
    centres cannot drift apart; `commitment` draws rows together, where that is wanted.

    `SystematicLM` attends by class and gathers words. As a plain layer it is an ordinary table, and cannot be smaller.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    classes : int
        The most there may be, up to 32,767.
    """

    def __init__(self, vocabulary: Vocabulary, dim: int, classes: int = 16) -> None:
        super().__init__(vocabulary, dim)
        if not 1 <= classes < 1 << 15:
            raise InputError(f"classes={classes}", where="structure-vq", fix="give 1 to 32,767")
        self.classes = classes
        self.weight = nn.Parameter(0.02 * torch.randn(len(vocabulary), dim))
        self.register_buffer("codes", torch.from_numpy(vocabulary.ranks % classes).to(torch.int16))

    def learn_classes(self, documents: Sequence[Sequence[int]]) -> StructureVQ:
        """Find the classes in documents of ids; see `slot_classes`."""
        found = slot_classes(documents, len(self.vocabulary), self.classes)
        self.codes.copy_(torch.from_numpy(found))
        return self

    def vectors(self, ids: Any) -> Any:
        """Rows of the table."""
        return F.embedding(ids, self.weight)

    def centres(self) -> Any:
        """Mean row of each class, ``(classes, d)``, zero where it is empty; gradients reach the rows."""
        codes = self.codes.long()
        counts = torch.bincount(codes, minlength=self.classes).clamp_min(1)[:, None]
        sums = torch.zeros(self.classes, self.embedding_dim, dtype=self.weight.dtype, device=self.weight.device)
        return sums.index_add(0, codes, self.weight) / counts.to(self.weight.dtype)

    def quantized(self, ids: Any) -> Any:
        """Class means ``(..., d)`` of ids ``(...)``."""
        return F.embedding(self.codes.long()[self.checked(ids)], self.centres())

    def commitment(self) -> Any:
        """Mean squared distance of rows from their class means, which stand still."""
        return (self.weight - self.centres().detach()[self.codes.long()]).square().mean()

    @property
    def multiply_adds(self) -> int:
        """None: a row is gathered."""
        return 0

    def _learn(self, table: Any, weights: Any) -> None:
        with torch.no_grad():
            self.weight.copy_(table)


def slot_classes(documents: Sequence[Sequence[int]], count: int, classes: int) -> Codes:
    """Classes of ids ``0 .. count - 1`` that make the class of each symbol best predicted by the one before.

    The ends of documents are a symbol with a class of its own. Each symbol moves, the most frequent first, to the class
    that makes the documents likeliest, until none wants to (or 20 rounds). This starts four times, from classes dealt
    out by frequency and from three random ones, and the likeliest end is kept. Symbols that do not occur get class 0.

    Parameters
    ----------
    documents : sequence of sequences of int
    count, classes : int

    Returns
    -------
    int64 ndarray of shape (count,)
    """
    from scipy import sparse

    end = np.array([count])
    joined = np.concatenate([end, *(np.concatenate((np.asarray(ids, dtype=np.int64), end)) for ids in documents)])
    if joined.min() < 0 or joined.max() > count:
        raise InputError(f"ids from {joined.min()} to {joined.max()} for {count:,} symbols", where="documents")
    shape = (count + 1, count + 1)
    after = sparse.coo_matrix((np.ones(len(joined) - 1), (joined[:-1], joined[1:])), shape=shape).tocsr()
    before, own = after.T.tocsr(), after.diagonal()
    often = np.bincount(joined, minlength=count + 1)[:count]
    order = np.argsort(-often, kind="stable")[: int((often > 0).sum())]
    generator = np.random.default_rng(0)
    best, value = np.zeros(count + 1, dtype=np.int64), -np.inf
    for start in range(_STARTS):
        codes = np.zeros(count + 1, dtype=np.int64)
        codes[order] = np.arange(len(order)) % classes if start == 0 else generator.integers(classes, size=len(order))
        codes[count] = classes
        reached = _climb(codes, order, after, before, own, classes)
        if reached > value + 1e-9:
            best, value = codes, reached
    return best[:count]


def _climb(codes: Codes, order: Codes, after: Any, before: Any, own: Any, classes: int) -> float:
    """Move words until none gains (codes are changed in place); what of the log-likelihood depends on the classes."""
    from scipy import sparse

    count = len(codes)
    member = sparse.csr_matrix((np.ones(count), (np.arange(count), codes)), shape=(count, classes + 1))
    pairs = np.asarray((member.T @ after @ member).toarray())
    for _ in range(_ROUNDS):
        moved = 0
        for word in order:
            out, into = _by_class(after, word, codes, classes), _by_class(before, word, codes, classes)
            home = int(codes[word])
            out[home] -= own[word]
            into[home] -= own[word]
            _add(pairs, home, out, into, own[word], -1)
            best = int(_gain(pairs, out, into, own[word])[:classes].argmax())
            moved += best != home
            codes[word] = best
            _add(pairs, best, out, into, own[word], 1)
        if not moved:
            break
    return float(_xlogx(pairs).sum() - _xlogx(pairs.sum(0)).sum() - _xlogx(pairs.sum(1)).sum())


def _xlogx(x: Any) -> Any:
    return x * np.log(np.maximum(x, 1e-300))


def _by_class(matrix: Any, word: int, codes: Codes, classes: int) -> NDArray[np.float64]:
    """How often each class stands beside a word, the word's own class included, ``(classes + 1,)``."""
    span = slice(matrix.indptr[word], matrix.indptr[word + 1])
    found = np.bincount(codes[matrix.indices[span]], weights=matrix.data[span], minlength=classes + 1)
    return found.astype(np.float64)


def _add(pairs: Any, place: int, out: Any, into: Any, own: float, sign: int) -> None:
    """Put a word's neighbours into (or take them out of) the pairs of a class."""
    pairs[place] += sign * out
    pairs[:, place] += sign * into
    pairs[place, place] += sign * own


def _gain(pairs: Any, out: Any, into: Any, own: float) -> NDArray[np.float64]:
    """What the log-likelihood gains by putting a word into each class."""
    f = _xlogx
    corner = np.diagonal(pairs)
    rows = (f(pairs + out) - f(pairs)).sum(1) - f(corner + out) + f(corner)
    columns = (f(pairs + into[:, None]) - f(pairs)).sum(0) - f(corner + into) + f(corner)
    both = f(corner + out + into + own) - f(corner)
    first, second = pairs.sum(1), pairs.sum(0)
    sizes = f(first + out.sum() + own) - f(first) + f(second + into.sum() + own) - f(second)
    return np.asarray(rows + columns + both - sizes)


class SystematicLM(SmallLM):
    """A small language model whose attention sees classes and gathers words.

    Two streams go through the same blocks: one of class vectors and one of word vectors. Queries and keys are those of
    the first, so sentences of the same structure are attended to in the same way; each stream gathers its own values.
    With ``strength`` the second stream attends by itself, and training adds ``strength`` times the Kullback-Leibler
    divergence of its attention from that of the first: the softer form.

    It costs about twice a `SmallLM` of the same parameters, and has no more of them.

    Parameters
    ----------
    embedding : StructureVQ
    head, shape, vocabulary, positions
        As for `SmallLM`.
    strength : float, optional
    """

    def __init__(
        self, embedding: StructureVQ, head: Any = "tied", *, strength: float | None = None, **options: Any
    ) -> None:
        super().__init__(embedding, head, **options)
        if strength is not None and not strength >= 0:
            raise InputError(f"strength={strength}", where="SystematicLM", fix="give a number that is not negative")
        self.strength = strength

    def states(self, ids: Any) -> Any:
        """The last layer, ``(b, l + 1, d)``: place ``t`` has seen the first ``t`` symbols."""
        return self._both(ids)[0]

    def nll(self, ids: Any) -> Any:
        """Negative natural log-probability of each symbol ``(b, l)``; in training with the divergence added."""
        states, gap = self._both(ids[:, :-1])
        logits = self.head(states)
        loss = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view(ids.shape)
        return loss + self.strength * gap if self.strength is not None and self.training else loss

    def _both(self, ids: Any) -> tuple[Any, Any]:
        start = self.start.expand(len(ids), 1, -1)
        words = torch.cat((start, self.embedding(ids)), dim=1) if ids.shape[1] else start
        slots = torch.cat((start, self.embedding.quantized(ids)), dim=1) if ids.shape[1] else start
        place, first = self.trunk.positions.place, self.trunk.first
        x, s = place(first(words)), place(first(slots))
        gap = x.new_zeros(())
        length = x.shape[1]
        hidden = torch.full((length, length), -torch.inf, dtype=x.dtype, device=x.device).triu(1)
        bias = self.trunk.positions.bias(length)
        bias = hidden if bias is None else bias + hidden
        for block in self.trunk.blocks:
            q, k, v = self._heads(block, s)
            by_slot = self._weights(q, k, bias)
            own_q, own_k, own_v = self._heads(block, x)
            weights = by_slot
            if self.strength is not None:
                weights = self._weights(own_q, own_k, bias)
                seen = by_slot.detach()
                ratio = seen.clamp_min(1e-9).log() - weights.clamp_min(1e-9).log()
                gap = gap + (seen * ratio).sum(-1).mean() / len(self.trunk.blocks)
            x, s = self._rest(block, x, weights @ own_v), self._rest(block, s, by_slot @ v)
        return self.trunk.last(x), gap

    @staticmethod
    def _heads(block: Any, x: Any) -> Any:
        b, length, _ = x.shape
        mixed = block.mix(block.before_attention(x)).view(b, length, 3, block.heads, block.width)
        return mixed.permute(2, 0, 3, 1, 4)

    def _weights(self, q: Any, k: Any, bias: Any) -> Any:
        q, k = self.trunk.positions.rotate(q, k)
        return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias).softmax(-1)

    @staticmethod
    def _rest(block: Any, x: Any, met: Any) -> Any:
        x = x + block.out(met.transpose(1, 2).reshape(x.shape))
        gate, value = block.up(block.before_feed(x)).chunk(2, dim=-1)
        return x + block.down(F.silu(gate) * value)
