"""Static embeddings: one vector a token, a text is their mean. No PyTorch, no layers.

The weights are those of the wordllama package (l2_supercat: token embeddings of large language models, distilled to
256 dimensions and trained so that any prefix of 64, 128 or 256 dimensions stands alone, after "Matryoshka
Representation Learning", 2022, 2205.13147). The loader, the tokenization and the pooling are ours.

The tokenizer is a byte-pair encoder over the whole text, and its vocabulary holds no token in which a space follows
another character. No merge can therefore reach across the beginning of a word, each word has its own tokens whatever
stands around it, and words are looked up in a table that grows as they occur. Texts in which this does not hold
(runs of spaces, the tokenizer's own markers) go through the tokenizer as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import Kind, Ragged, Vectors
from sememe.encode.base import DenseEncoder, check_kind, check_texts, fingerprint
from sememe.encode.weights import WeightFile
from sememe.errors import InputError, WeightsError

_COMMAND = "pip install wordllama==0.4.0.post1"
WEIGHTS = WeightFile(
    "wordllama",
    "wordllama/weights/l2_supercat_256.safetensors",
    "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    _COMMAND,
    "the encoder static",
)
TOKENIZER = WeightFile(
    "wordllama",
    "wordllama/tokenizers/l2_supercat_tokenizer_config.json",
    "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
    _COMMAND,
    "the encoder static",
)
SHAPE = (32000, 256)
DIMS = (64, 128, 256)

_SPACE = "\u2581"  # what the tokenizer writes for a space
_MARKERS = ("<s>", "</s>", "<unk>")
_WORDS = 1 << 16  # words remembered before the table starts again, about 10 MB
_LONGEST = 64  # characters of a word that is worth remembering
_JOINED = 64  # words tokenized as one text
_BLOCK = 1 << 20  # characters tokenized at once
_GATHER = 4096  # token rows gathered at once


@register(
    "static",
    room="encode",
    kind="encoder",
    summary="Mean of static token vectors (wordllama weights); no torch, tens of thousands of texts a second.",
    paper=Paper("Matryoshka Representation Learning", 2022, "2205.13147"),
)
class Static(DenseEncoder):
    """Mean of static token vectors.

    Parameters
    ----------
    dim : {64, 128, 256}
        Leading dimensions kept.
    normalize : bool
        Unit rows. False gives the mean itself, whose length is what the package returns by default.

    Notes
    -----
    A text without tokens (the empty text) gives a zero row. There is no limit on the length of a text.
    """

    def __init__(self, dim: int = 256, *, normalize: bool = True) -> None:
        if dim not in DIMS or isinstance(dim, bool):
            raise InputError(f"static has no width {dim!r}", fix=f"use one of {', '.join(map(str, DIMS))}")
        self.name = ("static" if dim == SHAPE[1] else f"static:{dim}") if normalize else f"static:{dim},normalize=false"
        self.dim, self.normalize = int(dim), bool(normalize)
        self.digest = f"static-{fingerprint(WEIGHTS.sha256, TOKENIZER.sha256, self.dim, self.normalize, 'mean')}"
        WEIGHTS.path()  # say at once what is missing
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Vectors] | None = None
        self._begins = np.zeros(SHAPE[0], dtype=bool)  # whether a token begins a word
        self._words: dict[str, tuple[int, ...]] = {}

    def _load(self) -> tuple[Any, Vectors]:
        """The tokenizer and the table, float32 ``(32000, dim)``; read and checked on first use."""
        with self._lock:
            if self._loaded is None:
                tokenizer = _tokenizer()
                for token, number in tokenizer.get_vocab().items():
                    self._begins[number] = token.startswith(_SPACE)
                self._loaded = tokenizer, _table(self.dim)
            return self._loaded

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        tokenizer, _ = self._load()
        split = [None if _needs_whole(text) else text.split(" ") for text in texts]
        words = self._words
        if len(words) > _WORDS:
            words = self._words = {}  # a new one: another thread may be reading the old
        fresh = list({word for pieces in split if pieces is not None for word in pieces}.difference(words))
        found = self._tokenize_words(tokenizer, fresh)
        # Enormous words occur once and are not kept. The empty word is the empty text.
        passing = {word: ids for word, ids in found.items() if len(word) > _LONGEST}
        words.update((word, ids) for word, ids in found.items() if word not in passing)
        known: Any = {**words, **passing} if passing else words
        whole = iter(_ids(tokenizer, [text for text, pieces in zip(texts, split) if pieces is None]))
        return [
            next(whole) if pieces is None else list(chain.from_iterable(map(known.__getitem__, pieces)))
            for pieces in split
        ]

    def _tokenize_words(self, tokenizer: Any, words: list[str]) -> dict[str, tuple[int, ...]]:
        """The ids of each word. Words are joined, which saves most of the cost, and their ids cut apart again."""
        plain = [word for word in words if word and "<" not in word]
        groups = [plain[start : start + _JOINED] for start in range(0, len(plain), _JOINED)]
        found: dict[str, tuple[int, ...]] = {}
        for group, ids in zip(groups, _ids(tokenizer, [" ".join(group) for group in groups])):
            # Only the first token of a word begins with the space before it.
            cuts = [*np.flatnonzero(self._begins[ids]).tolist(), len(ids)]
            found.update((word, tuple(ids[a:b])) for word, (a, b) in zip(group, pairwise(cuts)))
        rest = [word for word in words if not word or "<" in word]
        return found | dict(zip(rest, map(tuple, _ids(tokenizer, rest))))

    def _embed(self, texts: list[str], kind: Kind, batch_size: int) -> Iterator[tuple[slice, Vectors]]:
        _, table = self._load()
        for start, stop in _blocks(texts, max(batch_size, 1024)):
            yield slice(start, stop), mean_rows(table, self.tokenize(texts[start:stop]))

    def _finish(self, vectors: Vectors) -> Vectors:
        return super()._finish(vectors) if self.normalize else vectors

    def encode_tokens(self, texts: list[str], *, kind: Kind = "passage") -> Ragged:
        """The vector of every token, with the characters it came from; not normalized."""
        check_kind(kind)
        tokenizer, table = self._load()
        encodings = tokenizer.encode_batch(check_texts(texts), add_special_tokens=False)
        offsets = np.zeros(len(encodings) + 1, dtype=np.int64)
        np.cumsum([len(e.ids) for e in encodings], out=offsets[1:])
        ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), dtype=np.int64, count=offsets[-1])
        spans = np.array([span for e in encodings for span in e.offsets], dtype=np.int64).reshape(-1, 2)
        return Ragged(table[ids], offsets, spans)


def _table(dim: int) -> Vectors:
    from safetensors.numpy import load

    tensors = load(WEIGHTS.read())
    table = next(iter(tensors.values()))
    if len(tensors) != 1 or table.shape != SHAPE:
        raise WeightsError(f"expected one table of shape {SHAPE}, found {table.shape}", where=WEIGHTS.file)
    return np.ascontiguousarray(table[:, :dim], dtype=np.float32)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(TOKENIZER.read().decode("utf-8"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def _needs_whole(text: str) -> bool:
    """Whether word by word would not give the tokens that the whole text has."""
    return (
        "  " in text
        or text[:1] == " "
        or text[-1:] == " "
        or ("<" in text and any(marker in text for marker in _MARKERS))
        or (not text.isascii() and _SPACE in text)
    )


def _blocks(texts: list[str], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most ``most`` texts and about ``_BLOCK`` characters."""
    start = size = 0
    for row, text in enumerate(texts):
        if row > start and (row - start >= most or size + len(text) > _BLOCK):
            yield start, row
            start, size = row, 0
        size += len(text)
    if start < len(texts):
        yield start, len(texts)


def mean_rows(table: Vectors, ids: list[list[int]]) -> Vectors:
    """Mean of the table's rows for each list of ids.

    Texts of equal length are summed together, token by token, so that the loop runs over positions and not over texts.
    Each row is added in the order of its tokens: a text gets the same vector in any company.

    Parameters
    ----------
    table : ndarray of shape (v, d), float32
    ids : list of list of int
        Rows of the table for each of ``n`` texts.

    Returns
    -------
    ndarray of shape (n, d), float32
        Zero where a text has no ids.
    """
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    starts = np.cumsum(lengths) - lengths
    flat = np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=int(lengths.sum()))
    out = np.zeros((len(ids), table.shape[1]), dtype=np.float32)
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order]
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    for first, last in pairwise([0, *changes.tolist(), len(ids)]):
        rows, length = order[first:last], int(ordered[first]) if first < last else 0
        if length == 0:
            continue
        if len(rows) < 4 or length > _GATHER:
            for row in rows:
                out[row] = _sum(table, flat[starts[row] : starts[row] + length])
        else:
            _add_columns(table, flat, starts, rows, length, out)
    out /= np.maximum(lengths, 1).astype(np.float32)[:, None]
    return out


def _add_columns(
    table: Vectors,
    flat: NDArray[np.int64],
    starts: NDArray[np.int64],
    rows: NDArray[np.int64],
    length: int,
    out: Vectors,
) -> None:
    for block in range(0, len(rows), 512):  # 512 rows of 256 floats stay in a second-level cache
        some = rows[block : block + 512]
        total = table.take(flat[starts[some]], axis=0)
        for position in range(1, length):
            total += table.take(flat[starts[some] + position], axis=0)
        out[some] = total


def _sum(table: Vectors, ids: NDArray[np.int64]) -> Vectors:
    total = np.zeros(table.shape[1], dtype=np.float32)
    for block in range(0, len(ids), _GATHER):
        total += table.take(ids[block : block + _GATHER], axis=0).sum(axis=0)
    return total
