"""Supertokens: tokens of several words, for phrases that a text repeats."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.errors import InputError
from sememe.estimator import Estimator
from sememe.vocab.merging import MergeList, learn
from sememe.vocab.new_tokens import NewTokens, segmented
from sememe.vocab.pairs import flat
from sememe.vocab.tokenizer_extend import plain_merges

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile


@register(
    "supertokens",
    room="vocab",
    kind="surgery",
    summary="tokens of several words, learned from random chunks of a text",
    paper=Paper(
        "Achieving Tokenizer Flexibility in Language Models through Heuristic Adaptation and Supertoken Learning",
        2025,
        "2505.09738",
    ),
    claim="Multi-word tokens make texts shorter than tokens inside words do.",
)
class Supertokens(Estimator):
    """Learns phrases by byte-pair encoding over words.

    The text is cut at random into chunks of one to ``words`` words, so that no phrase is memorised because its
    neighbours never change, and neighbouring words of a chunk are joined as byte-pair encoding joins characters. Only
    words that are one token and begin with a space take part: punctuation, line ends and rare words end a chunk.

    Parameters
    ----------
    words : int
        Most words in a token.
    least : int
        How often a phrase must stand in the text.
    seed : int
        Of the chunks.
    """

    def __init__(self, words: int = 4, least: int = 2, seed: int = 0) -> None:
        self.words = words
        self.least = least
        self.seed = seed

    def learn(self, tokenizer: TokenizerFile, texts: Sequence[str], count: int) -> NewTokens:
        """Learn at most ``count`` phrases.

        Parameters
        ----------
        tokenizer : TokenizerFile
            Its tokens are what phrases are made of.
        texts : list of str
        count : int

        Returns
        -------
        NewTokens
            With merges where the tokenizer's own merges may reach across words.
        """
        if self.words < 2:
            raise InputError(f"a supertoken of at most {self.words} words is none", fix="give two or more")
        runs = self._runs(tokenizer, texts)
        base = len(tokenizer.tokens)
        chunks = self._chunks(runs)
        symbols, offsets = flat([np.array(chunk, dtype=np.int64) for chunk in chunks])
        weights = np.fromiter(chunks.values(), np.int64, len(chunks))
        native = tokenizer.across and plain_merges(tokenizer)
        size = base + 2 * count  # not all are needed where the text is no longer in chunks
        found = learn(symbols, offsets, weights, base=base, size=size, least=self.least, longest=self.words)
        raws = [_text(tokenizer, spelled) for spelled in found.spelled[base:]]
        whole, _ = found.apply(*flat([np.array(run, dtype=np.int64) for run in runs]))
        standing = np.bincount(whole, minlength=found.size)[base:]
        if native:
            return self._merges(tokenizer, found, raws, standing)
        # Each phrase is matched by itself, so those that always grow into longer ones are not needed.
        saved = standing * (np.array([len(spelled) for spelled in found.spelled[base:]]) - 1)
        order = [int(n) for n in np.argsort(-saved, kind="stable") if standing[n] >= self.least][:count]
        return NewTokens(tuple(raws[n] for n in order), tuple(float(saved[n]) for n in order))

    def _merges(
        self, tokenizer: TokenizerFile, found: MergeList, raws: list[bytes], standing: NDArray[np.int64]
    ) -> NewTokens:
        """Merges in their order, of phrases that stand in the text and of steps to them.

        A pair is inside a chunk by a chance that is the same for all of them, which the counts are corrected for.
        """
        assert found.counts is not None
        needed = {found.base + int(n) for n in np.flatnonzero(standing)}
        for left, right, made in reversed(found.merges.tolist()):
            if made in needed:
                needed |= {left, right}
        order = sorted(n for n in needed if n >= found.base)
        places = {number: place for place, number in enumerate(order)}
        tokens = [*tokenizer.tokens, *("" for _ in raws)]
        saved = [0.0] * len(order)
        merges = []
        inside = (self.words - 1) / (self.words + 1)
        for (left, right, made), times in zip(found.merges.tolist(), found.counts.tolist(), strict=True):
            tokens[made] = tokens[left] + tokens[right]
            if made in places:
                saved[places[made]] += times / inside
                merges.append(((tokens[left], tokens[right]), places[made]))
        return NewTokens(tuple(raws[number - found.base] for number in order), tuple(saved), tuple(merges))

    def _runs(self, tokenizer: TokenizerFile, texts: Sequence[str]) -> list[list[int]]:
        """Stretches of words that may be joined."""
        usable = {}
        runs: list[list[int]] = []
        for words in segmented(tokenizer, texts):
            run: list[int] = []
            for word, following in zip(words, [*words[1:], (-1,)], strict=True):
                if len(word) == 1 and following:  # before an empty one, the word may go on
                    if word[0] not in usable:
                        usable[word[0]] = _is_word(tokenizer.text_of(word[0]))
                    if usable[word[0]]:
                        run.append(word[0])
                        continue
                runs.append(run)
                run = []
            runs.append(run)
        return [run for run in runs if len(run) > 1]

    def _chunks(self, runs: Sequence[Sequence[int]]) -> Counter[tuple[int, ...]]:
        generator = np.random.default_rng(self.seed)
        total = sum(map(len, runs))
        lengths = iter(generator.integers(1, self.words + 1, size=total + len(runs)).tolist())
        chunks: Counter[tuple[int, ...]] = Counter()
        for run in runs:
            start = 0
            while start < len(run):
                stop = start + next(lengths)
                if stop > start + 1:
                    chunks[tuple(run[start:stop])] += 1
                start = stop
        return chunks


def _is_word(raw: bytes | None) -> bool:
    """Whether a token is a word with the space before it."""
    if not raw or not raw.startswith(b" ") or raw.startswith(b"  "):
        return False
    try:
        return raw[1:].decode("utf-8").isalpha()
    except UnicodeDecodeError:
        return False


def _text(tokenizer: TokenizerFile, spelled: tuple[int, ...]) -> bytes:
    return b"".join(tokenizer.text_of(number) or b"" for number in spelled)


def uncut(tokenizer: TokenizerFile, texts: Sequence[str]) -> TokenizerFile:
    """The tokenizer without the cut into words, where its own tokens come out the same without it; else as it is.

    That can be so for SentencePiece's way of writing a space: ``▁`` begins a word, and no token holds one inside. Then
    tokens across words are tokens of the model like others.
    """
    cutter = tokenizer.spec.get("pre_tokenizer")
    if not isinstance(cutter, dict) or cutter.get("type") != "Metaspace" or tokenizer.kind not in ("bpe", "unigram"):
        return tokenizer
    spec = copy.deepcopy(tokenizer.spec)
    spec["pre_tokenizer"]["split"] = False
    changed = tokenizer.with_spec(spec)
    changed.check()
    return changed if changed.encode_batch(texts) == tokenizer.encode_batch(texts) else tokenizer
