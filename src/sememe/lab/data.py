"""Real text as documents, documents as token streams, streams as batches: the same order for every contender.

The unit of a loss is the byte of the original text, which no tokenizer changes. Streams of other symbols (notes,
quantised series) bring sizes of their own, and losses are then for each of those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sememe.errors import InputError

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents to train on, and others to measure on.

    Attributes
    ----------
    train, held_out : tuple of str
        No document, and no two equal ones, on both sides.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    @classmethod
    def split(cls, documents: Iterable[str], *, share: float = 0.1, seed: int = 0) -> Corpus:
        """Hold out a seeded ``share`` of the distinct documents, at least one; blank ones and repeats are left out."""
        distinct = list(dict.fromkeys(text for text in documents if text.strip()))
        if len(distinct) < 2:
            raise InputError(f"{len(distinct)} distinct documents cannot be split", fix="give more, or use pack()")
        if not 0 < share < 1:
            raise InputError(f"share={share} cannot be held out", fix="give a number between 0 and 1")
        order = np.random.default_rng(seed).permutation(len(distinct))
        held = min(max(1, round(share * len(distinct))), len(distinct) - 1)
        return cls(
            tuple(distinct[row] for row in sorted(order[held:])), tuple(distinct[row] for row in sorted(order[:held]))
        )

    @property
    def train_bytes(self) -> int:
        """UTF-8 bytes of the documents to train on."""
        return sum(map(byte_length, self.train))

    @property
    def held_out_bytes(self) -> int:
        """UTF-8 bytes of the documents to measure on."""
        return sum(map(byte_length, self.held_out))

    @property
    def digest(self) -> str:
        """Names exactly these documents in this order."""
        digest = hashlib.sha256()
        for side in (self.train, self.held_out):
            digest.update(len(side).to_bytes(8, "little"))
            for text in side:
                data = text.encode("utf-8", "surrogatepass")
                digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()[:32]


def byte_length(text: str) -> int:
    """UTF-8 bytes of a text; a lone surrogate counts as the three that it would take."""
    return len(text.encode("utf-8", "surrogatepass"))


def pack(text: str, size: int = 2_000) -> list[str]:
    """Cut one long text into documents of at least ``size`` characters that end with a line.

    Nothing is lost: the documents joined are the text. The last may be shorter; one line is never cut.
    """
    if size < 1:
        raise InputError(f"documents of {size} characters are not possible", fix="give a positive size")
    documents, held, length = [], [], 0
    for line in text.splitlines(keepends=True):
        held.append(line)
        length += len(line)
        if length >= size:
            documents.append("".join(held))
            held, length = [], 0
    return [*documents, "".join(held)] if held else documents


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Documents as symbols, one after the other.

    Attributes
    ----------
    ids : int64 ndarray of shape (t,)
    offsets : int64 ndarray of shape (n + 1,)
        Document ``i`` is ``ids[offsets[i]:offsets[i + 1]]``.
    sizes : int64 ndarray of shape (n,)
        Bytes of each document before it was tokenized, or whatever else a loss shall be divided by.
    """

    ids: Ids
    offsets: Ids
    sizes: Ids

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, document: int) -> Ids:
        return self.ids[self.offsets[document] : self.offsets[document + 1]]

    @property
    def tokens_per_byte(self) -> float:
        """Symbols over sizes."""
        return len(self.ids) / max(int(self.sizes.sum()), 1)

    def steps_for(self, size: int, batch: int, length: int) -> int:
        """Batches that hold about ``size`` bytes of this stream, at least one."""
        return max(1, round(size * self.tokens_per_byte / (batch * length)))


def encode(tokenizer: Any, texts: Sequence[str]) -> list[Ids]:
    """Ids of each text without special tokens.

    ``tokenizer`` is one of the tokenizers or transformers packages, an object whose ``encode_batch(texts)`` or
    ``encode(text)`` gives ids, or a function from text to ids.
    """
    if hasattr(tokenizer, "encode_batch") and hasattr(tokenizer, "no_truncation"):
        whole = tokenizer
        if tokenizer.truncation or tokenizer.padding:  # files of sentence encoders cut and pad unless told not to
            whole = type(tokenizer).from_str(tokenizer.to_str())
            whole.no_truncation()
            whole.no_padding()
        found = [encoding.ids for encoding in whole.encode_batch(list(texts), add_special_tokens=False)]
    elif hasattr(tokenizer, "convert_ids_to_tokens"):
        found = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"] if texts else []
    elif hasattr(tokenizer, "encode_batch"):
        found = list(tokenizer.encode_batch(list(texts)))
    else:
        one = getattr(tokenizer, "encode", tokenizer)
        if not callable(one):
            raise InputError(f"{type(tokenizer).__name__} is no tokenizer", fix="it needs encode(text) -> ids")
        found = [one(text) for text in texts]
    return [np.asarray(ids, dtype=np.int64).reshape(-1) for ids in found]


def stream_of(
    tokenizer: Any, texts: Sequence[Any], sizes: ArrayLike | None = None, *, vocabulary: int | None = None
) -> Stream:
    """Tokenize documents into a stream.

    Parameters
    ----------
    tokenizer
        As for `encode`; None where ``texts`` are sequences of ids already.
    texts : sequence of str, or of id sequences
    sizes : array-like of shape (n,), optional
        What losses are divided by. UTF-8 bytes for texts, the number of ids for ids.
    vocabulary : int, optional
        Where given, an id outside it is an InputError.
    """
    if tokenizer is None:
        documents = [np.asarray(ids, dtype=np.int64).reshape(-1) for ids in texts]
        counted = [len(ids) for ids in documents]
    else:
        documents = encode(tokenizer, texts)
        counted = [byte_length(text) for text in texts] if sizes is None else []
    lengths = np.array([len(ids) for ids in documents], dtype=np.int64)
    measured = np.asarray(counted if sizes is None else sizes, dtype=np.int64)
    if measured.shape != lengths.shape:
        raise InputError(f"{len(lengths)} documents with sizes of shape {measured.shape}", fix="one size a document")
    ids = np.concatenate([np.zeros(0, dtype=np.int64), *documents])
    if len(ids) and (ids.min() < 0 or (vocabulary is not None and ids.max() >= vocabulary)):
        raise InputError(
            f"the tokenizer gives ids from {ids.min()} to {ids.max()}, the model has {vocabulary or 'no negative'} ids",
            fix="give the tokenizer that belongs to the model",
        )
    return Stream(ids, np.concatenate(([0], np.cumsum(lengths))), measured)


def batches(stream: Stream, batch: int, length: int, *, seed: int = 0) -> Iterator[Ids]:
    """Endless int64 batches ``(batch, length)``.

    Each pass shuffles the documents, joins them and cuts windows; what does not fill the last batch of a pass is left
    out. The order depends on the seed and the number of documents only, so streams of the same documents by different
    tokenizers go through them in the same order.

    Raises
    ------
    InputError
        A stream that does not fill one batch.
    """
    if batch < 1 or length < 1:
        raise InputError(f"batches of {batch} x {length} are not possible", fix="give positive numbers")
    full = len(stream.ids) // (batch * length)
    if not full:
        raise InputError(
            f"{len(stream.ids):,} symbols do not fill one batch of {batch} x {length}", fix="give more text"
        )
    passes = 0
    while True:
        order = np.random.default_rng([seed, passes]).permutation(len(stream))
        joined = np.concatenate([stream[document] for document in order])
        windows = joined[: full * batch * length].reshape(batch, full, length)  # rows of a batch lie far apart
        for number in range(full):
            yield np.ascontiguousarray(windows[:, number])
        passes += 1
