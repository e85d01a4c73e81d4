"""Words by their character trigrams: a sparse pattern over a few thousand rows, going in and coming out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.tokens.bag_sums import bag_sums
from sememe.tokens.hashing import Bags, HashedEmbedding, gather_bags
from sememe.tokens.ngrams import Strings, distinct, mix
from sememe.tokens.vocabulary import Vocabulary

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a token layer") from None

_WORDS = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_|\s")
_LOWER = 1 << 32  # salts of the hashes of lower-cased trigrams


def split_words(text: str) -> list[str]:
    """Runs of letters, single digits, single marks and single white-space characters: joined they are the text.

    A space before anything else belongs to nothing and is left out, since words are joined by spaces: `join_words`
    puts it back.
    """
    found = _WORDS.findall(text)
    return [w for place, w in enumerate(found) if w != " " or not _joined(found, place)]


def join_words(words: Sequence[str]) -> str:
    """The text that `split_words` came from."""
    return "".join(f"{' ' if place and _lettered(words[place - 1], w) else ''}{w}" for place, w in enumerate(words))


def _joined(found: Sequence[str], place: int) -> bool:
    return 0 < place < len(found) - 1 and _lettered(found[place - 1], found[place + 1])


def _lettered(before: str, behind: str) -> bool:
    """Whether a space is understood between these two: between two runs of letters, which cannot touch."""
    return before[0].isalpha() and behind[0].isalpha()


def trigram_bags(texts: Sequence[bytes | str], rows: int, hashes: int, lower: int, salt: int) -> Bags:
    """Rows of the trigrams of each string; see `TrigramHashEmbedding`."""
    padded = Strings.of(texts).padded()
    owner, grams, starts = padded.grams(3, 3)
    kept = distinct(owner, grams)
    owner, grams, starts = owner[kept], grams[kept], starts[kept]
    found = np.empty((len(owner), hashes), dtype=np.int64)
    for number in range(hashes - lower):
        found[:, number] = (mix(grams, salt + number) % np.uint64(rows)).astype(np.int64)
    if lower:
        small = padded.lower().points
        folded = Strings(small[starts[:, None] + np.arange(3)].reshape(-1), 3 * np.arange(len(starts) + 1)).hashes()
        for number in range(lower):
            found[:, hashes - lower + number] = (mix(folded, _LOWER + salt + number) % np.uint64(rows)).astype(np.int64)
    return Bags(owner, found, len(texts))


@register(
    "trigram-hash",
    room="tokens",
    kind="layer",
    summary="sums of hashed rows of a word's character trigrams: no vocabulary, and spelled alike is near",
    paper=Paper(
        "T-FREE: Tokenizer-Free Generative LLMs via Sparse Representations for Memory-Efficient Embeddings",
        2024,
        "2406.19223",
    ),
    claim="85 % fewer parameters in embedding and head, at competitive quality.",
)
class TrigramHashEmbedding(HashedEmbedding):
    """``v(w)``: the sum over the distinct trigrams of `` w `` of ``hashes`` rows each, times a constant.

    A string is taken with a space before and behind, so a word of ``n`` letters has ``n`` trigrams (of characters; the
    paper's program takes bytes, which differ for letters that are no ASCII). Each trigram has ``hashes`` hashes into
    the table, of which ``lower`` are those of the trigram in lower case: so ``House`` and ``house`` share rows. Words
    that share trigrams share rows, in proportion. The empty string has no trigram, and the zero vector.

    A word costs ``hashes x letters`` gathered rows, some seventy, instead of one; each distinct trigram and each
    distinct word of a batch is summed once.

    Parameters
    ----------
    vocabulary : Vocabulary
        Words; `split_words` cuts a text into those of the paper. Pieces of any other tokenizer do as well.
    dim : int
    rows : int
        Of the table, the paper's ``v`` of about 8,000.
    hashes, lower : int
        For each trigram; how many of them are blind to case.
    salt : int
        Which hash functions.
    """

    def __init__(
        self, vocabulary: Vocabulary, dim: int, rows: int = 8_000, hashes: int = 10, lower: int = 2, salt: int = 0
    ) -> None:
        super().__init__(vocabulary, dim, rows)
        check_hashes(hashes, lower, salt)
        self.hashes, self.lower, self.salt = hashes, lower, salt
        self._prepare()
        # trigrams of the vocabulary by number: words share them, so a batch adds up the rows of each once
        asked = self.bag_rows.numpy().reshape(-1, hashes)
        keys = (asked.astype(np.uint64) * (mix(np.arange(hashes, dtype=np.uint64), salt) | np.uint64(1))).sum(axis=1)
        _, first, numbers = np.unique(keys, return_index=True, return_inverse=True)
        self.register_buffer("gram_rows", torch.from_numpy(asked[first].astype(np.int64)), persistent=False)
        self.register_buffer("grams", torch.from_numpy(numbers.reshape(-1)), persistent=False)
        self.register_buffer("gram_offsets", self.bag_offsets // hashes, persistent=False)

    def vectors(self, ids: Any) -> Any:
        """Scaled sums of rows, trigram by trigram."""
        grams, begins = gather_bags(self.grams, self.gram_offsets, ids)
        if not len(grams):
            return self.weight.new_zeros(len(ids), self.embedding_dim)
        found, place = torch.unique(grams, return_inverse=True)
        rows = self.gram_rows[found].reshape(-1)
        sums = bag_sums(self.weight, rows, torch.arange(0, len(rows), self.hashes, device=rows.device))
        return self.scale * bag_sums(sums, place, begins)

    def bags(self, texts: Sequence[bytes | str]) -> Bags:
        """Rows of each string."""
        return trigram_bags(texts, self.rows, self.hashes, self.lower, self.salt)


def check_hashes(hashes: int, lower: int, salt: int) -> None:
    """An InputError where the numbers do not fit together."""
    if not 1 <= hashes <= 64 or not 0 <= lower <= hashes or not 0 <= salt < 1 << 31:
        raise InputError(
            f"hashes={hashes}, lower={lower}, salt={salt}",
            where="trigram-hash",
            fix="give 1 to 64 hashes, at most as many blind to case, and a salt that is not negative",
        )


@register(
    "trigram-head",
    room="tokens",
    kind="output layer",
    summary="predicts which hashed trigrams the next word has, and decodes by a dictionary of patterns",
    paper=Paper(
        "T-FREE: Tokenizer-Free Generative LLMs via Sparse Representations for Memory-Efficient Embeddings",
        2024,
        "2406.19223",
    ),
)
class TrigramHead(nn.Module):  # type: ignore[misc]
    """A head of ``rows`` yes-or-no questions: which rows does the next word's pattern hold?

    The pattern of a word is the set of rows that its trigrams hash to (`TrigramHashEmbedding`). Training is binary
    cross-entropy over all rows (`loss`). Decoding scores a dictionary of words, any that one likes, by the sum of the
    logits of each pattern's rows (`scores`): the head has ``rows x dim`` weights whatever the dictionary, and words can
    be added to it at any time (`set_dictionary`). `forward` gives the same scores times a trained number, so that the
    head can stand in any language model and learn from a softmax over the dictionary instead.

    The sum is the likelihood: for independent answers the log-probability of a pattern is the sum of its logits plus
    the same number for all patterns. (The paper's program takes the mean of probabilities, by which a word ties with
    every word whose pattern contains its own.) It is linear, too: a word's score is the product of the state with the
    sum of its rows.

    Parameters
    ----------
    dim : int
        Width of the states.
    dictionary : sequence of str or bytes
        Words that can be decoded.
    rows, hashes, lower, salt : int
        As for `TrigramHashEmbedding`: equal numbers give equal patterns.
    """

    def __init__(
        self,
        dim: int,
        dictionary: Sequence[bytes | str],
        rows: int = 8_000,
        hashes: int = 10,
        lower: int = 2,
        salt: int = 0,
    ) -> None:
        super().__init__()
        check_hashes(hashes, lower, salt)
        if rows < 1 or dim < 1:
            raise InputError(f"rows={rows}, dim={dim}", where="trigram-head", fix="give positive numbers")
        self.rows, self.hashes, self.lower, self.salt = rows, hashes, lower, salt
        self.weight = nn.Parameter(0.02 * torch.randn(rows, dim))
        self.bias = nn.Parameter(torch.zeros(rows))
        self.scale = nn.Parameter(torch.ones(()))  # of scores, for softmax
        self.set_dictionary(dictionary)

    def set_dictionary(self, dictionary: Sequence[bytes | str]) -> None:
        """Decode into these words from now on."""
        found = trigram_bags(dictionary, self.rows, self.hashes, self.lower, self.salt)
        owner = torch.repeat_interleave(torch.arange(len(dictionary)), found.offsets.diff())
        pairs = torch.unique(torch.stack((owner, found.rows.long())), dim=1)  # a set: each row of a pattern once
        counts = torch.bincount(pairs[0], minlength=len(dictionary))
        if len(dictionary) < 1 or (counts == 0).any():
            raise InputError("a dictionary needs words, none of them empty", where="trigram-head", fix="leave them out")
        device = self.weight.device
        self.words = [w if isinstance(w, str) else w.decode("utf-8", "surrogateescape") for w in dictionary]
        self.register_buffer("pattern_rows", pairs[1].to(device), persistent=False)
        self.register_buffer("offsets", F.pad(counts.cumsum(0), (1, 0)).to(device), persistent=False)

    @property
    def out_features(self) -> int:
        """Words of the dictionary."""
        return len(self.words)

    def patterns(self, ids: Any) -> Any:
        """Zeros and ones ``(n, rows)``: the patterns of dictionary words ``(n,)``."""
        rows, begins = gather_bags(self.pattern_rows, self.offsets, ids)
        counts = F.pad(begins, (0, 1), value=len(rows)).diff()
        owner = torch.repeat_interleave(torch.arange(len(ids), device=ids.device), counts)
        out = torch.zeros(len(ids), self.rows, dtype=self.weight.dtype, device=ids.device)
        return out.index_put_((owner, rows), torch.ones((), dtype=out.dtype, device=ids.device))

    def logits(self, states: Any) -> Any:
        """``(..., dim)`` to ``(..., rows)``."""
        return F.linear(states, self.weight, self.bias)

    def loss(self, states: Any, ids: Any) -> Any:
        """Binary cross-entropy of each state ``(n, dim)`` with the pattern of its word ``(n,)``, mean over rows.

        Shape ``(n,)``, nats. Distinct words are expanded once.
        """
        found, place = torch.unique(ids, return_inverse=True)
        wanted = F.embedding(place, self.patterns(found))
        return F.binary_cross_entropy_with_logits(self.logits(states), wanted, reduction="none").mean(-1)

    def scores(self, states: Any) -> Any:
        """Sum of the logits of the pattern of every dictionary word, ``(..., dim)`` to ``(..., words)``."""
        both = torch.cat((self.weight, self.bias[:, None]), dim=1)
        sums = F.embedding_bag(self.pattern_rows, both, self.offsets[:-1], mode="sum")
        return F.linear(states, sums[:, :-1], sums[:, -1])

    def forward(self, states: Any) -> Any:
        """Scaled scores, as logits over the dictionary."""
        return self.scale * self.scores(states)

    def decode(self, states: Any) -> list[str]:
        """The best word of each state ``(n, dim)``."""
        with torch.no_grad():
            return [self.words[place] for place in self.scores(states).argmax(-1).tolist()]
