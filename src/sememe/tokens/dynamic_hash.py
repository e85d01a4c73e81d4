"""No table at all: every component of a vector is a hash of the token's character n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.hashing import gather_bags
from sememe.tokens.ngrams import Strings, mix
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_HIGH = 40  # bits of a hash that are dropped: the low bits of a product modulo 2^64 are not random
_CHUNK = 1 << 22  # numbers worked out at once


@register(
    "dynamic-hash",
    room="tokens",
    kind="layer",
    summary="no table: component i is the mean of the i-th hash of the token's character n-grams",
    paper=Paper("EELBERT: Tiny Models through Dynamic Embeddings", 2023, "2310.20144"),
    claim="A BERT without its input table is 15 times smaller than BERT-tiny, within 4 % of its GLUE score.",
)
class DynamicHashEmbedding(TokenEmbedding):
    """``v(t)_i = mean over n-grams g of h_i(g)``, hashes in [-1, 1), worked out when a token occurs.

    ``h_i`` is a polynomial of the n-gram's characters (each a random 64-bit number) modulo 2^64, at a random odd place
    ``b_i``: ``h_i(g) = c_1 b_i^(n-1) + ... + c_n``, whose highest 24 bits, with sign, are the value. N-grams have
    ``least`` to ``most`` characters, the token's ends marked by spaces; the empty string has none, and zeros. Tokens
    that share n-grams are near; nothing is trained and a checkpoint holds nothing. The layers above do all the
    learning.

    The paper leaves open which polynomial and which n-grams: single letters, which most tokens share, make vectors
    alike that should differ. Vectors are shorter the more n-grams a token has, as means
    of independent numbers are; models that do not normalise their input should.

    A token of ``g`` n-grams costs ``g most d`` integer multiply-adds, thousands of times a gathered row. ``cached``
    keeps the vectors in memory after they are made once (never in a checkpoint): as large as a table, and as fast.

    Parameters
    ----------
    vocabulary : Vocabulary
    dim : int
    least, most : int
        Characters of the n-grams, 1 to 8.
    cached : bool
    salt : int
        Which hash functions.
    """

    distinct = True

    def __init__(
        self, vocabulary: Vocabulary, dim: int, least: int = 3, most: int = 5, cached: bool = False, salt: int = 0
    ) -> None:
        super().__init__(vocabulary, dim)
        if not 1 <= least <= most <= 8 or not 0 <= salt < 1 << 31:
            raise InputError(
                f"least={least}, most={most}, salt={salt}",
                where="dynamic-hash",
                fix="give 1 to 8 characters, a salt >= 0",
            )
        self.least, self.most, self.cached, self.salt = least, most, cached, salt
        places = mix(np.arange(dim, dtype=np.uint64), salt) | np.uint64(1)
        self.register_buffer("places", torch.from_numpy(places.view(np.int64)), persistent=False)
        letters, offsets = self._letters(vocabulary.pieces)
        self.register_buffer("letters", letters, persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        made = self._of(self.letters, self.offsets.diff()) if cached else torch.zeros(0, dim)
        self.register_buffer("made", made, persistent=False)

    def _letters(self, texts: Sequence[bytes | str]) -> tuple[Any, Any]:
        """Random numbers for the characters of padded strings, and where each string begins."""
        padded = Strings.of(texts).padded()
        numbers = mix(padded.points.astype(np.uint64), self.salt)
        return torch.from_numpy(numbers.view(np.int64)), torch.from_numpy(padded.offsets)

    def _of(self, letters: Any, counts: Any) -> Any:
        """Mean hashes ``(n, d)`` of strings ``(n,)`` that lie one after the other, in parts that fit into a cache."""
        ends = counts.cumsum(0)
        parts, first = [], 0
        enough = max(_CHUNK // self.embedding_dim, 1)
        while first < len(counts):
            start = int(ends[first] - counts[first])
            last = max(int(torch.searchsorted(ends, start + enough, right=True)), first + 1)
            parts.append(self._means(letters[start : int(ends[last - 1])], counts[first:last]))
            first = last
        return torch.cat(parts) if parts else torch.zeros(0, self.embedding_dim, device=letters.device)

    def _means(self, letters: Any, counts: Any) -> Any:
        left = torch.repeat_interleave(counts.cumsum(0), counts) - torch.arange(len(letters), device=letters.device)
        # a row of sums for each place: those of the n-grams that begin there
        sums = torch.zeros(len(letters), self.embedding_dim, device=letters.device)
        folded = torch.zeros(len(letters), self.embedding_dim, dtype=torch.int64, device=letters.device)
        for size in range(1, min(self.most, len(letters)) + 1):
            room = len(letters) - size + 1
            folded = folded[:room] * self.places + letters[size - 1 :, None]
            if size < self.least:
                continue
            value = (folded >> _HIGH).to(sums.dtype)  # a shift keeps the sign
            sums[:room] += value * (left[:room] >= size)[:, None]
        begins = counts.cumsum(0) - counts
        total = F.embedding_bag(torch.arange(len(letters), device=letters.device), sums, begins, mode="sum")
        sizes = torch.arange(self.least, self.most + 1, device=letters.device)
        grams = (counts[:, None] - sizes + 1).clamp_min(0).sum(1).clamp_min(1)
        return total / (grams * 2.0 ** (63 - _HIGH))[:, None]

    def vectors(self, ids: Any) -> Any:
        """Mean hashes, made now or kept."""
        if self.cached:
            return F.embedding(ids, self.made)
        found, _ = gather_bags(torch.arange(len(self.letters), device=ids.device), self.offsets, ids)
        return self._of(self.letters[found], self.offsets.diff()[ids])

    def embed(self, texts: Sequence[bytes | str]) -> Any:
        """Vectors ``(n, d)`` of any strings: there is no unknown one."""
        letters, offsets = self._letters(texts)
        device = self.places.device
        return self._of(letters.to(device), offsets.diff().to(device))

    @property
    def multiply_adds(self) -> int:
        """Of the polynomials of the mean symbol, rounded up; none where vectors are kept."""
        each = -(-len(self.letters) // len(self.vocabulary))
        return 0 if self.cached else each * self.most * self.embedding_dim
