"""New tokens from text: byte-pair encoding goes on where the tokenizer's own segmentation ends.

What stands in the text are the tokens that the model has; the most frequent neighbours inside a word become one token,
again and again. For byte-pair tokenizers that is their own training continued, and the merges are entered as they are
learned. WordPiece takes the longest token and Unigram the best-scored ones, however they came about, so tokens that
were only steps on the way are left out there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sememe.errors import InputError
from sememe.vocab.merging import MergeList, learn
from sememe.vocab.pairs import flat
from sememe.vocab.token_text import byte_token
from sememe.vocab.tokenizer_extend import extend_merges, plain_merges

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile

_BATCH = 1024


@dataclass(frozen=True, slots=True)
class NewTokens:
    """Tokens to add, the most useful first.

    Attributes
    ----------
    texts : tuple of bytes
        What each stands for, as `TokenizerFile.text_of` says it.
    saved : tuple of float
        About how many tokens of the text each saves, falling.
    merges : tuple of ((str, str), int)
        For byte-pair tokenizers: merges in their order, each with the place in ``texts`` of what it makes.
    """

    texts: tuple[bytes, ...]
    saved: tuple[float, ...]
    merges: tuple[tuple[tuple[str, str], int], ...] = ()

    def first(self, count: int) -> NewTokens:
        """The first ``count`` of them."""
        return NewTokens(self.texts[:count], self.saved[:count], tuple(m for m in self.merges if m[1] < count))

    def enter(self, tokenizer: TokenizerFile) -> TokenizerFile:
        """The tokenizer with these tokens behind its own."""
        if self.merges:
            return extend_merges(tokenizer, [pair for pair, _ in self.merges])
        return tokenizer.extend(self.texts) if self.texts else tokenizer


def word_tokens(tokenizer: TokenizerFile, texts: Sequence[str], count: int, *, least: int = 2) -> NewTokens:
    """Learn at most ``count`` tokens that stay inside a word.

    Parameters
    ----------
    tokenizer : TokenizerFile
    texts : list of str
    count : int
    least : int
        How often a pair must stand in the text to become a token.

    Raises
    ------
    InputError
        A word-level tokenizer: it knows whole words only, and has no pieces to join.
    """
    if tokenizer.kind == "wordlevel":
        raise InputError(
            "a word-level tokenizer has no pieces that could be joined",
            where=tokenizer.where,
            fix="transplant one that has",
        )
    base = len(tokenizer.tokens)
    pieces = _writes(tokenizer)
    words = {word: n for word, n in counted_words(tokenizer, texts).items() if len(word) > 1}
    symbols, offsets = flat([np.array(word, dtype=np.int64) for word in words])
    weights = np.fromiter(words.values(), np.int64, len(words))
    merging = plain_merges(tokenizer)
    # Steps on the way are dropped where they are not needed, so twice as many are learned.
    size = base + (count if merging else 2 * count)
    learned = learn(symbols, offsets, weights, base=base, size=size, least=max(least, 1), texts=pieces)
    written = [_joined(pieces, spelled) for spelled in learned.spelled[base:]]
    if merging:
        return _in_order(tokenizer, learned, written)
    merged, ends = learned.apply(symbols, offsets)
    standing = np.bincount(merged, weights=np.repeat(weights, np.diff(ends)), minlength=learned.size)
    saved = standing[base:] * (np.array([len(spelled) for spelled in learned.spelled[base:]]) - 1)
    order = [int(n) for n in np.argsort(-saved, kind="stable") if standing[base + n] >= least][:count]
    raws = [_raw(tokenizer, written[n]) for n in order]
    return NewTokens(tuple(raws), tuple(float(saved[n]) for n in order))


def _in_order(tokenizer: TokenizerFile, learned: MergeList, written: list[Any]) -> NewTokens:
    """Merges as they were learned; a pair that came twice counts at its first place."""
    tokens = [*tokenizer.tokens, *written]
    assert learned.counts is not None
    base, seen = learned.base, set()
    saved = [0.0] * len(written)
    merges = []
    for (left, right, made), count in zip(learned.merges.tolist(), learned.counts.tolist(), strict=True):
        if (left, right) not in seen:
            seen.add((left, right))
            saved[made - base] += count
            merges.append(((tokens[left], tokens[right]), made - base))
    return NewTokens(tuple(_raw(tokenizer, token) for token in written), tuple(saved), tuple(merges))


def _writes(tokenizer: TokenizerFile) -> list[Any]:
    """What each token writes, such that joined tokens write the parts behind one another."""
    if tokenizer.kind != "wordpiece":
        return list(tokenizer.tokens)
    return [tokenizer.text_of(number) or b"" for number in range(len(tokenizer.tokens))]


def _joined(pieces: Sequence[Any], spelled: tuple[int, ...]) -> Any:
    parts = [pieces[number] for number in spelled]
    return b"".join(parts) if isinstance(parts[0], bytes) else "".join(parts)


def _raw(tokenizer: TokenizerFile, token: Any) -> bytes:
    """The bytes of a token as the vocabulary writes it."""
    from sememe.vocab.tokenizer import BYTE_OF, MARKER

    if isinstance(token, bytes):
        return token
    if tokenizer.kind == "byte-bpe":
        return bytes(BYTE_OF[character] for character in token)
    plain: str = token.replace(MARKER, " ") if tokenizer.metaspace else token
    return plain.encode("utf-8", "surrogatepass")


def counted_words(tokenizer: TokenizerFile, texts: Sequence[str]) -> Counter[tuple[int, ...]]:
    """How often each word stands in the texts, as its tokens."""
    return Counter(word for words in segmented(tokenizer, texts) for word in words if word)


def segmented(tokenizer: TokenizerFile, texts: Sequence[str]) -> Iterator[list[tuple[int, ...]]]:
    """The words of each text as their tokens. An empty word marks what no new token may take in or cross.

    A word is what the tokenizer looks at by itself; where it looks at whole texts, what begins with a space.
    """
    from sememe.vocab.tokenizer import MARKER

    fixed = set(tokenizer.special) | set(tokenizer.added_ids)
    if tokenizer.unknown is not None:
        fixed.add(tokenizer.unknown)
    if tokenizer.model.get("byte_fallback"):
        fixed |= {number for number, token in enumerate(tokenizer.tokens) if byte_token(token) is not None}
    begins = {n for n, token in enumerate(tokenizer.tokens) if token.startswith(MARKER)} if tokenizer.across else set()
    for start in range(0, len(texts), _BATCH):
        # Lone surrogates cannot be handed to the library.
        batch = [text.encode("utf-8", "replace").decode() for text in texts[start : start + _BATCH]]
        for encoding in tokenizer.backend.encode_batch(batch, add_special_tokens=False):
            out: list[tuple[int, ...]] = []
            word: list[int] = []
            last = None
            for number, place in zip(encoding.ids, encoding.word_ids, strict=True):
                if number in fixed or place != last or number in begins:
                    if word:
                        out.append(tuple(word))
                    word = []
                if number in fixed:
                    out.append(())
                else:
                    word.append(number)
                last = place
            if word:
                out.append(tuple(word))
            yield out
