"""BM25, the lexical baseline: a passage is found by the query's own words, the rare ones counting most.

An index keeps the terms of its passages and weighs them by the statistics of the whole collection when it is searched
(``sememe.index.inverted``). This file says what a term is, and holds ``BM25Scorer``, the same weights in memory.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import Kind, Vectors
from sememe.encode.base import check_kind, check_texts, fingerprint
from sememe.errors import InputError, MissingDependency

K1, B = 1.2, 0.75  # Lucene's defaults

# Scripts written without spaces: each character is a term. In the others a term is a run of letters, digits and the
# combining marks that belong to them (which Python's \w leaves out).
_CJK = "\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U000323af"
_MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0df3\u0e31-\u0e4e\u0f00-\u0fff"
)
_TERM = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[\w{_MARKS}])+")
_ASCII = re.compile(r"[a-z0-9_]+")

_WORDS = """a an and are as at be but by for from has have if in into is it its no not of on or such that the
their then there these they this to was were which will with"""
ENGLISH = frozenset(_WORDS.split())
STOP_LISTS: dict[str, frozenset[str]] = {"none": frozenset(), "english": ENGLISH}
STEMMERS = ("none", "plural")


@register(
    "bm25",
    room="encode",
    kind="encoder",
    summary="Words and their counts, weighed by BM25 when searched; exact matches, no model.",
    paper=Paper("The Probabilistic Relevance Framework: BM25 and Beyond", 2009),
    sparse=True,
)
class BM25:
    """What a term is: lowercased words of any script, without the commonest, plural endings taken off.

    Parameters
    ----------
    stop : {"english", "none"}
        Terms left out.
    stem : {"plural", "none"}
        ``plural`` takes English plural endings off (Harman, "How effective is suffixing?", 1991).

    Notes
    -----
    The vocabulary is open: ``terms`` is what indexes store. ``encode_sparse`` hashes terms to 2**20 columns. There
    are no dense vectors, and ``encode`` says so.
    """

    name = "bm25"
    dim = 2**20
    asymmetric = True
    max_tokens: int | None = None

    def __init__(self, *, stop: str = "english", stem: str = "plural") -> None:
        if stop not in STOP_LISTS:
            raise InputError(f"bm25 has no stop list {stop!r}", fix=f"use one of {', '.join(STOP_LISTS)}")
        if stem not in STEMMERS:
            raise InputError(f"bm25 has no stemmer {stem!r}", fix=f"use one of {', '.join(STEMMERS)}")
        self.stop, self.stem = stop, stem
        self.digest = f"bm25-{fingerprint('terms-1', stop, stem)}"
        self._stop_list = STOP_LISTS[stop]

    def terms(self, text: str) -> list[str]:
        """The terms of a text in order, repeated as often as they occur."""
        if text.isascii():
            words = _ASCII.findall(text.lower())
        else:
            words = _TERM.findall(unicodedata.normalize("NFC", text).lower())
        words = [word for word in words if word not in self._stop_list]
        return words if self.stem == "none" else [_singular(word) for word in words]

    def encode_sparse(self, texts: Sequence[str], *, kind: Kind = "passage") -> Any:
        """Term counts of passages, or 1 for each term of a query: scipy CSR, float32 ``(n, dim)``.

        Terms are hashed to columns: of a vocabulary of 100,000 terms, about one in ten shares its column with another.
        Indexes store the terms themselves instead.
        """
        check_kind(kind)
        try:
            from scipy.sparse import csr_array
        except ImportError:
            raise MissingDependency("scipy", extra="torch", need="encode_sparse") from None
        from xxhash import xxh3_64_intdigest

        indptr, indices, data = [0], [], []
        for text in check_texts(texts):
            counts = Counter(xxh3_64_intdigest(term.encode("utf-8")) % self.dim for term in self.terms(text))
            for column in sorted(counts):
                indices.append(column)
                data.append(1.0 if kind == "query" else float(counts[column]))
            indptr.append(len(indices))
        parts = (np.array(data, np.float32), np.array(indices, np.int64), np.array(indptr, np.int64))
        return csr_array(parts, shape=(len(texts), self.dim))

    def encode(
        self, texts: Sequence[str], *, kind: Kind = "passage", batch_size: int = 64, progress: bool = False
    ) -> Vectors:
        """Refused: words have no dense vectors.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError(
            "bm25 gives no dense vectors", fix="use bm25 | inverted, or add | hybrid:bm25 to a dense recipe"
        )

    def __repr__(self) -> str:
        return f"BM25(stop={self.stop!r}, stem={self.stem!r})"


def _singular(word: str) -> str:
    """Harman's S-stemmer: three rules, the first that fits."""
    if len(word) < 4 or word[-1] != "s":
        return word
    if word.endswith("ies"):
        return word if word.endswith(("eies", "aies")) else word[:-3] + "y"
    if word.endswith("es"):
        return word if word.endswith(("aes", "ees", "oes")) else word[:-1]
    return word if word.endswith(("us", "ss")) else word[:-1]


class BM25Scorer:
    """BM25 over texts in memory.

    Each term of a query adds ``idf * tf / (tf + k1 * (1 - b + b * length / mean length))`` to the passages that hold
    it, with ``idf = ln(1 + (n - df + 0.5) / (df + 0.5))``: Lucene's form.

    Parameters
    ----------
    texts : sequence of str
        The ``n`` passages.
    k1, b : float
        How fast repetition saturates, and how much length counts.
    encoder : BM25, optional
        What a term is.

    Attributes
    ----------
    vocabulary : dict of str to int
        The number of each term.
    rows : ndarray of int32
        The passages that hold each term, one list after another, ascending within a list.
    weights : ndarray of float32
        What each posting adds to a score.
    starts : ndarray of int64, shape (v + 1,)
        Where each term's list begins.
    """

    def __init__(self, texts: Sequence[str], k1: float = K1, b: float = B, *, encoder: BM25 | None = None) -> None:
        if not k1 >= 0 or not 0 <= b <= 1:
            raise InputError(f"k1 is {k1} and b is {b}", fix="use k1 of at least 0 and b between 0 and 1")
        self.encoder = encoder if encoder is not None else BM25()
        self.n = len(texts)
        self.vocabulary: dict[str, int] = {}
        terms: list[int] = []
        counts: list[int] = []
        different = np.zeros(self.n, dtype=np.int64)
        lengths = np.zeros(self.n, dtype=np.float64)
        for row, text in enumerate(check_texts(texts)):
            found = Counter(self.encoder.terms(text))
            different[row], lengths[row] = len(found), found.total()
            terms += [self.vocabulary.setdefault(term, len(self.vocabulary)) for term in found]
            counts += found.values()
        numbers = np.array(terms, dtype=np.int64)
        order = np.argsort(numbers, kind="stable")
        frequency = np.bincount(numbers, minlength=len(self.vocabulary))
        self.starts = np.r_[0, np.cumsum(frequency)]
        rows = np.repeat(np.arange(self.n), different)[order]
        tf = np.array(counts, dtype=np.float64)[order]
        idf = np.log1p((self.n - frequency + 0.5) / (frequency + 0.5))
        norm = k1 * (1 - b + b * lengths / (lengths.mean() or 1.0)) if self.n else lengths
        self.rows = rows.astype(np.int32)
        self.weights = (np.repeat(idf, frequency) * tf / (tf + norm[rows])).astype(np.float32)

    def scores(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Scores of every passage for each query, float32 ``(q, n)``; zero where no term is shared."""
        out = np.zeros((len(queries), self.n), dtype=np.float32)
        for total, query in zip(out, check_texts(queries)):
            for term, times in Counter(self.encoder.terms(query)).items():
                number = self.vocabulary.get(term)
                if number is not None:
                    postings = slice(self.starts[number], self.starts[number + 1])
                    total[self.rows[postings]] += times * self.weights[postings]
        return out

    def topk(self, queries: Sequence[str], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best ``min(k, n)`` passages: scores and rows, both ``(q, k)``; equal scores in order of rows."""
        if k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        scores = self.scores(queries)
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, rows, axis=1), rows
