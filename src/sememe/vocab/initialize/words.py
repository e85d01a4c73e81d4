"""Word vectors of two languages in one space, and from words to tokens."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sememe.contracts import Vectors, as_vectors
from sememe.errors import InputError
from sememe.vocab.initialize.rows import Vocabulary


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words with vectors and, where known, how often they occur.

    Attributes
    ----------
    words : tuple of str
    vectors : ndarray of shape (n, e)
        float32.
    counts : ndarray of shape (n,)
        float64; all 1 where nothing is known.
    """

    words: tuple[str, ...]
    vectors: Vectors
    counts: NDArray[np.float64]

    @classmethod
    def of(cls, words: Sequence[str], vectors: object, counts: object = None) -> WordVectors:
        """Checked: as many vectors as words, no NaN, no negative count."""
        table = as_vectors(vectors, name="word vectors")
        numbers = np.ones(len(words)) if counts is None else np.asarray(counts, dtype=np.float64)
        if len(table) != len(words) or numbers.shape != (len(words),) or (numbers < 0).any():
            raise InputError(
                f"{len(words)} words, vectors {table.shape} and counts {numbers.shape} do not fit together"
            )
        return cls(tuple(words), table, numbers)

    @classmethod
    def read(cls, path: str | os.PathLike[str], most: int = 400_000) -> WordVectors:
        """Read the text format of word2vec, fastText and GloVe: a word and its numbers a line, most frequent first.

        A first line of two numbers is skipped. Counts follow Zipf's law: the word of rank ``r`` counts ``1 / r``.
        ``.gz`` is unpacked.

        Raises
        ------
        InputError
            A file that cannot be read, or a line of another width, with its number.
        """
        words, rows, width = [], [], 0
        try:
            with (gzip.open if str(path).endswith(".gz") else open)(path, "rt", encoding="utf-8", newline="\n") as file:
                for number, line in enumerate(file, 1):
                    word, *values = line.rstrip("\r\n ").split(" ")
                    if number == 1 and len(values) == 1:
                        continue
                    width = width or len(values)
                    try:
                        row = np.array(values, dtype=np.float32)
                    except ValueError:
                        row = np.empty(0, dtype=np.float32)
                    if len(row) != width or not width:
                        raise InputError(f"has {len(values)} values, not {width} numbers", where=f"{path}:{number}")
                    words.append(word)
                    rows.append(row)
                    if len(words) == most:
                        break
        except (OSError, UnicodeDecodeError, EOFError) as error:
            raise InputError(f"these word vectors cannot be read ({error})", where=str(path)) from None
        if not words:
            raise InputError("there are no word vectors here", where=str(path))
        return cls.of(words, np.stack(rows), 1 / np.arange(1, len(words) + 1))


def subword_vectors(vocabulary: Vocabulary, words: WordVectors, *, weighted: bool = True) -> Vectors:
    """A vector for each token: the mean of the words in whose spelling it occurs, weighted by their counts.

    A word is spelled both alone and after a space, as tokenizers that mark beginnings see it.

    Parameters
    ----------
    vocabulary : Vocabulary
    words : WordVectors
    weighted : bool
        False for a mean in which every word counts once.

    Returns
    -------
    ndarray of shape (v, e)
        float32; zero for a token that occurs in no word.
    """
    from scipy.sparse import csr_array

    size, n = len(vocabulary.tokens), len(words.words)
    tokens: list[int] = []
    owners: list[int] = []
    for texts in (words.words, [" " + word for word in words.words]):
        for word, ids in enumerate(vocabulary.encode_batch(texts)):
            distinct = set(ids)
            tokens += distinct
            owners += [word] * len(distinct)
    counts = words.counts if weighted else np.ones(n)
    values = counts[np.array(owners, dtype=np.int64)]
    spread = csr_array((values, (np.array(tokens, dtype=np.int64), np.array(owners, dtype=np.int64))), shape=(size, n))
    total = np.asarray(spread.sum(axis=1)).ravel()
    sums = spread @ words.vectors.astype(np.float64)
    out = np.divide(sums, total[:, None], out=np.zeros_like(sums), where=total[:, None] > 0)
    out[list(vocabulary.special)] = 0
    return out.astype(np.float32)


def align(
    source: WordVectors, target: WordVectors, pairs: Iterable[tuple[str, str]]
) -> tuple[WordVectors, WordVectors]:
    """Turn the source's vectors into the target's space by the rotation that fits a dictionary best (Procrustes).

    Each pair is tried as it is, in lower case and with a capital.

    Raises
    ------
    InputError
        Spaces of different width, or a dictionary of which no pair is known.
    """
    if source.vectors.shape[1] != target.vectors.shape[1]:
        raise InputError(
            f"word vectors of {source.vectors.shape[1]} and {target.vectors.shape[1]} dimensions cannot be aligned",
            fix="give two of the same width",
        )
    left, right = ({word: row for row, word in reversed(list(enumerate(side.words)))} for side in (source, target))
    rows = {
        (left[a], right[b])
        for one, other in pairs
        for a in {one, one.lower(), one.title()}
        for b in {other, other.lower(), other.title()}
        if a in left and b in right
    }
    if not rows:
        raise InputError("no pair of the dictionary is known to both sets of word vectors")
    places = np.array(sorted(rows))
    cross = source.vectors[places[:, 0]].astype(np.float64).T @ target.vectors[places[:, 1]]
    u, _, vt = np.linalg.svd(cross)
    turned = (source.vectors @ (u @ vt)).astype(np.float32)
    return WordVectors(source.words, turned, source.counts), target


def parallel_vectors(
    old: Sequence[str], new: Sequence[str], *, dim: int = 128, least: int = 2, seed: int = 0
) -> tuple[WordVectors, WordVectors]:
    """Word vectors of two languages from sentences that translate each other, in one space from the start.

    A word is the sentences in which it occurs; words of both languages are rows over the same sentences, weighted by
    positive pointwise mutual information and reduced together by a truncated singular value decomposition.

    Parameters
    ----------
    old, new : sequence of str
        As many sentences; the i-th of both say the same.
    dim : int
    least : int
        A word occurs in at least so many sentences.
    seed : int
        Of the decomposition's random start.
    """
    from scipy.sparse import csr_array, vstack

    from sememe.vocab.initialize.cooccurrence import positive_information, reduced

    if len(old) != len(new) or not len(old):
        raise InputError(f"{len(old)} and {len(new)} sentences are not translations of each other")
    sides, tables, counts = [], [], []
    for sentences in (old, new):
        split = [spoken_words(sentence) for sentence in sentences]
        number = Counter(word for words in split for word in set(words))
        kept = [word for word, count in number.most_common() if count >= least]
        place = {word: row for row, word in enumerate(kept)}
        pairs = [(place[word], column) for column, words in enumerate(split) for word in set(words) if word in place]
        rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        tables.append(csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(kept), len(sentences))))
        sides.append(kept)
        counts.append([number[word] for word in kept])
    if not all(sides):
        raise InputError("these sentences hold too few words", fix="give more, or a smaller least")
    vectors = reduced(positive_information(vstack(tables).tocsr()), dim, seed)
    split_at = len(sides[0])
    return (
        WordVectors.of(sides[0], vectors[:split_at], counts[0]),
        WordVectors.of(sides[1], vectors[split_at:], counts[1]),
    )


def spoken_words(text: str) -> list[str]:
    """Runs of letters and digits, as they are written."""
    out, start = [], -1
    for place, character in enumerate(text + " "):
        if character.isalnum():
            start = place if start < 0 else start
        elif start >= 0:
            out.append(text[start:place])
            start = -1
    return out
