"""Symbols by the bits of their number: an input layer that has nothing to train and nothing to store."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None


@register(
    "binary-codes",
    room="tokens",
    kind="layer",
    summary="the bits of a token's id as -1 and 1, repeated to the width of the model: no parameters",
    paper=Paper(
        "Language Models Without a Trainable Input Embedding Table: Learning from Fixed Minimal Binary Token Codes",
        2026,
        "2605.09751",
    ),
    claim="Fixed codes of as many bits as it takes to tell the tokens apart do as well as a trained input table.",
)
class BinaryCodeEmbedding(TokenEmbedding):
    """``K = ceil(log2 v)`` bits of the id, as -1 and 1, repeated until the width is full.

    Nothing is trained and nothing is stored: the vectors are worked out from the ids. Every symbol has a code of its
    own. The model above needs an output table of its own, since there is no input table to tie.

    The paper leaves open whether a bit is 0 or 1, or -1 or 1. It is -1 or 1 here: all vectors are then of one length
    (``sqrt(d)``), and the symbol with number 0 is not the zero vector. Where ``d`` is no multiple of ``K``, the last
    repetition is cut.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
        At least ``K``, or two symbols would share a vector.
    """

    def __init__(self, vocabulary: Vocabulary, dim: int) -> None:
        super().__init__(vocabulary, dim)
        self.bits = bits_of(len(vocabulary))
        if dim < self.bits:
            raise InputError(
                f"{dim} dimensions for codes of {self.bits} bits", where="dim", fix=f"give at least {self.bits}"
            )
        self.register_buffer("places", torch.arange(dim) % self.bits, persistent=False)
        self.register_buffer("one", torch.ones(()), persistent=False)  # knows the type and the device

    def codes(self, ids: Any) -> Any:
        """The bits of each id ``(n,)``, int64 0 or 1 ``(n, K)``, the lowest first."""
        return (ids.long()[:, None] >> torch.arange(self.bits, device=ids.device)) & 1

    def ids(self, codes: Any) -> Any:
        """The number ``(n,)`` that each code ``(n, K)`` is of: `codes` backwards."""
        return (codes.long() << torch.arange(self.bits, device=codes.device)).sum(-1)

    def vectors(self, ids: Any) -> Any:
        """-1 and 1, ``(n, d)``."""
        return (2 * self.codes(ids) - 1).to(self.one.dtype)[:, self.places]

    @property
    def multiply_adds(self) -> int:
        """A shift and a sign a bit; the rest is copying."""
        return 2 * self.bits

    def _empty(self, shape: Any) -> Any:
        return self.one.new_zeros(*shape, self.embedding_dim)


@register(
    "affine-codes",
    room="tokens",
    kind="layer",
    summary="binary codes sent through a random invertible map over two elements: no parameters",
    paper=Paper(
        "Language Models Without a Trainable Input Embedding Table: Learning from Fixed Minimal Binary Token Codes",
        2026,
        "2605.09751",
    ),
    claim="The codes need no order that means anything: a random affine recoding of them does about as well.",
    measured_in="binary-codes",
)
class AffineBinaryCodes(BinaryCodeEmbedding):
    """Codes ``A x + b`` over the field of two elements, of the bits ``x`` of the id: `BinaryCodeEmbedding` shuffled.

    ``A`` is a random invertible matrix, so different ids keep different codes. Neighbouring ids lose their likeness,
    which matters where a tokenizer numbers its symbols by frequency or by spelling. ``A`` and ``b`` (``K^2 + K`` bits)
    follow from the key and are not stored.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    key : int
        Seed of the map; layers with equal keys and as many bits have equal codes.
    """

    def __init__(self, vocabulary: Vocabulary, dim: int, key: int = 0) -> None:
        super().__init__(vocabulary, dim)
        self.key = key
        generator = np.random.default_rng(key)
        matrix = random_invertible(self.bits, generator)
        shift = generator.integers(2, size=self.bits)
        self.register_buffer("matrix", torch.from_numpy(matrix), persistent=False)
        self.register_buffer("back", torch.from_numpy(inverse(matrix)), persistent=False)
        self.register_buffer("shift", torch.from_numpy(shift), persistent=False)

    def codes(self, ids: Any) -> Any:
        """``A x + b`` of each id ``(n,)``, int64 0 or 1 ``(n, K)``."""
        return (_times(super().codes(ids), self.matrix) + self.shift) & 1

    def ids(self, codes: Any) -> Any:
        """The number ``(n,)`` that each code ``(n, K)`` is of: ``A^-1 (c + b)``."""
        return super().ids(_times(codes + self.shift, self.back))

    @property
    def multiply_adds(self) -> int:
        """One for each entry of the matrix, and one for the sign."""
        return self.bits * (self.bits + 2)


def _times(bits: Any, matrix: Any) -> Any:
    """``M x`` for rows ``x`` ``(n, K)``, modulo 2."""
    return (bits[:, None, :] & matrix).sum(-1) & 1


def bits_of(symbols: int) -> int:
    """Bits that tell so many symbols apart, at least one."""
    return max(1, (symbols - 1).bit_length())


def random_invertible(size: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """A matrix ``(size, size)`` of 0 and 1 that is invertible modulo 2, all such matrices being equally likely.

    Random matrices are drawn until one is invertible; more than one in four is.
    """
    while True:
        matrix = generator.integers(2, size=(size, size))
        if np.trace(_reduced(matrix)[0]) == size:
            return matrix


def inverse(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """Inverse of an invertible matrix of 0 and 1, modulo 2.

    Raises
    ------
    InputError
        A matrix that has none.
    """
    identity, made = _reduced(matrix)
    if np.trace(identity) < len(matrix):
        raise InputError("this matrix has no inverse modulo 2")
    return made


def _reduced(matrix: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Gauss and Jordan: the echelon form, whose diagonal is full only for invertible matrices, and what led to it."""
    size = len(matrix)
    work = np.concatenate((matrix & 1, np.eye(size, dtype=np.int64)), axis=1)
    row = 0
    for column in range(size):
        found = np.flatnonzero(work[row:, column])
        if not len(found):
            continue
        work[[row, row + found[0]]] = work[[row + found[0], row]]
        others = np.flatnonzero(work[:, column])
        work[others[others != row]] ^= work[row]
        row += 1
    return work[:, :size], work[:, size:]
