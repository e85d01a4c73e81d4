"""Layers without a vocabulary: tokens by the bucket, or by the bits, that their spelling hashes to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding, largest
from sememe.tokens.hashing import Bags, HashedEmbedding
from sememe.tokens.ngrams import Hashes, Strings, mix, raw
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

LEAST, MOST = 2, 4  # characters of the n-grams whose hashes are compared
_SHARED = 5  # symbols for each row, above which rows are made narrower to have more of them
_DIGEST = 128  # bits of MD5
_SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)  # bits set in a byte


@register(
    "hash-bucket",
    room="tokens",
    kind="layer",
    summary="a token's string hashed into the rows of a small table, by MD5 or so that similar strings meet",
    paper=Paper("HashFormers: Towards Vocabulary-independent Pre-trained Transformers", 2022, "2210.07904"),
    claim="A table of a fixed small size serves any vocabulary, at little loss of accuracy.",
)
class HashBucketEmbedding(HashedEmbedding):
    """Each string adds up ``hashes`` rows of a table of ``rows``.

    ``md5``: the digest of the string, as a number, modulo ``rows``; further hashes mix the digest's last
    64 bits. Any two strings meet by chance only.

    ``lsh``: the smallest hash among the string's character n-grams (2 to 4 characters, the string's ends marked),
    modulo ``rows``. Two strings get the same row with the probability that their sets of n-grams overlap (Jaccard),
    so inflections and typing errors share rows. The paper leaves the hash open beyond "locality-sensitive, over
    n-grams"; signs of random projections need many of them to agree and tell similar from different strings worse at
    few buckets, so min-hashing is used.

    Two strings that share all their rows have the same vector: with one hash, as in the paper, as many as fall into a
    bucket; with four, practically none by chance, which costs four gathers instead of one and no parameter.

    Few rows must serve many symbols each. Rows narrower than the vectors, with a trained matrix behind their sum, are
    more rows for as many parameters, as a low-rank table is; `sized` takes them as wide as it can with one row for
    every five symbols, so small budgets get narrow rows and large ones whole rows.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    rows : int
        Of the table.
    method : {"md5", "lsh"}
    hashes : int
        Rows that each string adds up.
    rank : int
        Width of the rows, brought to ``dim`` by a trained matrix; 0 for rows of ``dim`` and no matrix.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        dim: int,
        rows: int = 4_096,
        method: Literal["md5", "lsh"] = "md5",
        hashes: int = 4,
        rank: int = 0,
    ) -> None:
        super().__init__(vocabulary, dim, rows, rank)
        if method not in ("md5", "lsh"):
            raise InputError(f"there is no hash called {method!r}", where="hash-bucket", fix="use md5 or lsh")
        if not 1 <= hashes <= 64:
            raise InputError(f"hashes={hashes}", where="hash-bucket", fix="give 1 to 64")
        self.method, self.hashes = method, hashes
        self._prepare()

    def buckets(self, texts: Sequence[bytes | str]) -> NDArray[np.int64]:
        """Rows of each string, ``(n, hashes)``."""
        if self.method == "md5":
            return _md5_buckets(texts, self.rows, self.hashes)
        smallest = min_hashes(Strings.of(texts).padded(), self.hashes)
        return (smallest % np.uint64(self.rows)).astype(np.int64)

    def bags(self, texts: Sequence[bytes | str]) -> Bags:
        """Rows of each string."""
        return Bags(np.arange(len(texts)), self.buckets(texts), len(texts))

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int, **given: Any) -> dict[str, Any]:
        """Rows as wide as the budget allows with one of them for every `_SHARED` symbols, at most ``dim`` wide."""
        rank = given.get("rank")
        if rank is None:
            rank = max(1, round(budget / (len(vocabulary) / _SHARED + dim)))
            rank = rank if budget < dim * len(vocabulary) / _SHARED and rank < dim else 0
        width, matrix = rank or dim, rank * dim
        most = max(2 * len(vocabulary), 1)
        return {"rank": rank, "rows": largest(lambda rows: rows * width + matrix, budget, 1, most)}


def _digests(texts: Sequence[bytes | str]) -> Hashes:
    """MD5 of each string as two numbers, the high half first, ``(n, 2)``."""
    joined = b"".join(hashlib.md5(text, usedforsecurity=False).digest() for text in raw(texts))
    return np.frombuffer(joined, dtype=">u8").astype(np.uint64).reshape(-1, 2)


def _md5_buckets(texts: Sequence[bytes | str], rows: int, hashes: int) -> NDArray[np.int64]:
    """MD5 of each string modulo ``rows``, and further hashes, ``(n, hashes)``."""
    halves = _digests(texts)
    size = np.uint64(rows)
    # the 128-bit number is high 2^64 + low; rows are below 2^32, so nothing overflows
    first = (halves[:, 0] % size * np.uint64((1 << 64) % rows) + halves[:, 1] % size) % size
    return np.stack(
        [first, *(mix(halves[:, 1], number) % size for number in range(1, hashes))],
        axis=1,
        dtype=np.int64,
        casting="unsafe",
    )


def min_hashes(padded: Strings, count: int, least: int = LEAST, most: int = MOST) -> Hashes:
    """The smallest of ``count`` hashes of the n-grams of each string, ``(n, count)``; the largest number where none."""
    owner, grams, _ = padded.grams(least, most)
    out = np.full((len(padded), count), np.iinfo(np.uint64).max, dtype=np.uint64)
    there, begins = np.unique(owner, return_index=True)
    if len(there):
        for number in range(count):
            out[there, number] = np.minimum.reduceat(mix(grams, number), begins)
    return out


@register(
    "hash-digest",
    room="tokens",
    kind="layer",
    summary="no table: the bits of a token's hash projected, pooled, or added over its n-grams",
    paper=Paper("HashFormers: Towards Vocabulary-independent Pre-trained Transformers", 2022, "2210.07904"),
    claim="99.1 thousand parameters for embeddings instead of 12 to 38 million, at 0.4 points of GLUE.",
)
class HashDigestEmbedding(TokenEmbedding):
    """Vectors from hash bits, with +1 for a set bit and -1 for one that is not.

    ``project``: the first ``bits`` bits of the digest, times a trained matrix, plus a trained vector: ``(bits + 1) d``
    parameters whatever the vocabulary (with 128 bits and 768 dimensions the paper's 99,072). ``pool``: ``width d``
    bits, added in groups of ``width`` (over its root), each dimension then stretched and moved: ``2 d`` parameters.
    ``add``: ``d`` bits of every character n-gram (as in `HashBucketEmbedding`), added and divided by the root of their
    number, stretched and moved; tokens that are spelled alike get similar vectors.

    The digest is MD5's; more than 128 bits go on with mixtures of its last 64. The paper's abstract
    names three variants without a table and not their details: pool and add are ours.

    All that tells tokens apart is in the bits, and the projection is linear: what a table learns in its rows must be
    learned by the layers above.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    combine : {"project", "pool", "add"}
    bits : int
        Of the digest, for ``project``.
    width : int
        Bits for each dimension, for ``pool``, a multiple of 8.
    """

    distinct = True

    def __init__(
        self,
        vocabulary: Vocabulary,
        dim: int,
        combine: Literal["project", "pool", "add"] = "project",
        bits: int = _DIGEST,
        width: int = 8,
    ) -> None:
        super().__init__(vocabulary, dim)
        if combine not in ("project", "pool", "add"):
            raise InputError(f"combine={combine!r}", where="hash-digest", fix="use project, pool or add")
        if bits < 1 or width < 8 or width % 8:
            raise InputError(f"bits={bits}, width={width}", where="hash-digest", fix="give bits, and a multiple of 8")
        self.combine, self.bits, self.width = combine, bits, width
        if combine == "project":
            self.weight = nn.Parameter(0.02 * bits**-0.5 * torch.randn(bits, dim))
            self.bias = nn.Parameter(torch.zeros(dim))
        else:
            self.stretch = nn.Parameter(0.02 * (1 + 0.1 * torch.randn(dim)))
            self.move = nn.Parameter(torch.zeros(dim))
        self.register_buffer("features", self._features(vocabulary.pieces), persistent=False)

    def _features(self, texts: Sequence[bytes | str]) -> Any:
        """What is known of each string before anything is learned: int8 bits, or sums of bits as float32."""
        if self.combine == "add":
            return _gram_bits(texts, self.embedding_dim)
        wanted = self.bits if self.combine == "project" else self.width * self.embedding_dim
        packed = _packed(texts, wanted)
        if self.combine == "project":
            return torch.from_numpy(2 * np.unpackbits(packed, axis=1, count=wanted).astype(np.int8) - 1)
        groups = packed[:, : wanted // 8].reshape(len(texts), self.embedding_dim, self.width // 8)
        set_bits = _SET[groups].sum(axis=2, dtype=np.int64)
        return torch.from_numpy(((2 * set_bits - self.width) / self.width**0.5).astype(np.float32))

    def _of(self, features: Any) -> Any:
        if self.combine == "project":
            return F.linear(features.to(self.weight.dtype), self.weight.T, self.bias)
        return features.to(self.stretch.dtype) * self.stretch + self.move

    def vectors(self, ids: Any) -> Any:
        """Projected, or stretched and moved, bits."""
        return self._of(self.features[ids])

    def embed(self, texts: Sequence[bytes | str]) -> Any:
        """Vectors ``(n, d)`` of any strings: there is no unknown one."""
        return self._of(self._features(texts).to(next(self.parameters()).device))

    @property
    def multiply_adds(self) -> int:
        """Of the projection, or of the stretch."""
        return (self.bits if self.combine == "project" else 1) * self.embedding_dim

    @classmethod
    def sized(cls, vocabulary: Vocabulary, dim: int, budget: int) -> dict[str, Any]:
        """As many projected bits as the budget pays for, up to as many as there are symbols."""
        return {"bits": largest(lambda bits: (bits + 1) * dim, budget, 1, max(_DIGEST, min(len(vocabulary), 1 << 14)))}

    def _learn(self, table: Any, weights: Any) -> None:
        """Weighted least squares, of all dimensions together (``project``) or each alone."""
        weight = (torch.ones(len(table)) if weights is None else weights).double()[:, None]
        weight = weight / weight.sum().clamp_min(1e-300)
        known, wanted = self.features.double(), table.double()
        middle, mean = (weight * known).sum(0), (weight * wanted).sum(0)
        known, wanted = known - middle, wanted - mean
        with torch.no_grad():
            if self.combine == "project":
                normal = known.T @ (weight * known)
                normal.diagonal().add_(1e-4 * normal.diagonal().mean().clamp_min(1e-12))
                found = torch.linalg.solve(normal, known.T @ (weight * wanted))
                self.weight.copy_(found)
                self.bias.copy_(mean - middle @ found)
            else:
                slope = (weight * known * wanted).sum(0) / (weight * known.square()).sum(0).clamp_min(1e-12)
                self.stretch.copy_(slope)
                self.move.copy_(mean - middle * slope)


def _packed(texts: Sequence[bytes | str], count: int) -> NDArray[np.uint8]:
    """At least ``count`` bits of each string, highest first, eight a byte: the digest, then mixed words of its end."""
    halves = _digests(texts)
    more = [mix(halves[:, 1], number) for number in range(1, -(-(count - _DIGEST) // 64) + 1)]
    words = np.column_stack([halves, *more]) if more else halves
    return words.astype(">u8").view(np.uint8).reshape(len(texts), -1)


def _gram_bits(texts: Sequence[bytes | str], count: int) -> Any:
    """Sums over the n-grams of each string of ``count`` bits as -1 and +1, over the root of their number."""
    owner, grams, _ = Strings.of(texts).padded().grams(LEAST, MOST)
    number = np.bincount(owner, minlength=len(texts))
    begins = torch.from_numpy(np.cumsum(number) - number)
    parts = [torch.zeros(len(texts), 0)]
    for first in range(0, count, 64):
        words = mix(grams, first // 64).astype("<u8").view(np.uint8).reshape(-1, 8)
        bits = torch.from_numpy(np.unpackbits(words, axis=1, count=min(64, count - first), bitorder="little"))
        parts.append(F.embedding_bag(torch.arange(len(bits)), bits.float(), begins, mode="sum"))
    total = torch.from_numpy(number)[:, None].float()
    return (2 * torch.cat(parts, dim=1) - total) / total.clamp_min(1).sqrt()
