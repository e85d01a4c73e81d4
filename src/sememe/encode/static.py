"""Static embeddings: one vector a token, a text is their mean. No PyTorch, no layers.

The weights are those of the wordllama package (l2_supercat: token embeddings of large language models, distilled to
256 dimensions and trained so that any prefix of 64, 128 or 256 dimensions stands alone, after "Matryoshka
Representation Learning", 2022, 2205.13147). The loader, the tokenization and the pooling are ours.

The tokenizer is a byte-pair encoder over the whole text, and its vocabulary holds no token in which a space follows
another character. No merge can therefore reach across the beginning of a word, and each word has its own tokens
whatever stands around it. ``kernels/bags.py`` splits and adds; without the compiled core ``wordwise.py`` splits and
NumPy adds; the vectors are the same to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.contracts import Kind, Ragged, Vectors
from sememe.encode.base import DenseEncoder, check_kind, check_texts, fingerprint
from sememe.encode.weights import WeightFile
from sememe.encode.wordwise import WordTable
from sememe.errors import InputError, WeightsError
from sememe.kernels import bags, native

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

MARKERS = ["<unk>", "<s>", "</s>"]  # tokens 0, 1 and 2, which the tokenizer finds wherever they are written
_BLOCK = 1 << 20  # characters worked on at once
_TEXTS = 4096  # texts that the compiled core gets at once


@register(
    "static",
    room="encode",
    kind="encoder",
    summary="Mean of static token vectors (wordllama weights); no torch, hundreds of thousands of texts a second.",
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
    A text without tokens (the empty text) gives a zero row. There is no limit on the length of a text. The weights are
    mapped, not read: processes share their memory.
    """

    def __init__(self, dim: int = 256, *, normalize: bool = True) -> None:
        if dim not in DIMS or isinstance(dim, bool):
            raise InputError(f"static has no width {dim!r}", fix=f"use one of {', '.join(map(str, DIMS))}")
        self.name = ("static" if dim == SHAPE[1] else f"static:{dim}") if normalize else f"static:{dim},normalize=false"
        self.dim, self.normalize = int(dim), bool(normalize)
        self.digest = f"static-{fingerprint(WEIGHTS.sha256, TOKENIZER.sha256, self.dim, self.normalize, 'mean')}"
        WEIGHTS.path()  # say at once what is missing

    @cached_property
    def _table(self) -> NDArray[np.float16]:
        return _map_table()

    @cached_property
    def _whole(self) -> bags.Whole:
        return bags.whole(self._table[:, : self.dim])

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(TOKENIZER.read().decode("utf-8"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _words(self) -> WordTable:
        return WordTable(self._tokenizer, MARKERS)

    @cached_property
    def _compiled(self) -> Any:
        model = json.loads(TOKENIZER.read())["model"]
        tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
        markers = [model["vocab"][marker] for marker in MARKERS]
        return bags.compiled(native.core(), self._table, self.dim, tokens, model["merges"], markers)

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        return self._words.tokenize(texts) if native.core() is None else self._compiled.tokenize(texts)

    def _embed(self, texts: list[str], kind: Kind, batch_size: int) -> Iterator[tuple[slice, Vectors]]:
        if native.core() is not None:
            for start in range(0, len(texts), _TEXTS):
                block = texts[start : start + _TEXTS]
                yield slice(start, start + len(block)), self._compiled.encode(block, self.normalize, native.threads())
            return
        for start, stop in _blocks(texts, max(batch_size, 1024)):
            yield slice(start, stop), bags.rows(self._whole, self._words.tokenize(texts[start:stop]), self.normalize)

    def _finish(self, vectors: Vectors) -> Vectors:
        return vectors  # already of unit length, or not to be

    def encode_tokens(self, texts: list[str], *, kind: Kind = "passage") -> Ragged:
        """The vector of every token, with the characters it came from; not normalized."""
        check_kind(kind)
        encodings = self._tokenizer.encode_batch(check_texts(texts), add_special_tokens=False)
        offsets = np.zeros(len(encodings) + 1, dtype=np.int64)
        np.cumsum([len(e.ids) for e in encodings], out=offsets[1:])
        ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), dtype=np.int64, count=offsets[-1])
        spans = np.array([span for e in encodings for span in e.offsets], dtype=np.int64).reshape(-1, 2)
        return Ragged(self._table[ids, : self.dim].astype(np.float32), offsets, spans)


def _map_table() -> NDArray[np.float16]:
    """The table of the verified file, mapped: float16 ``(32000, 256)``."""
    path = WEIGHTS.verified()
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        tensors = json.loads(file.read(length))
    tensors.pop("__metadata__", None)
    tensor = next(iter(tensors.values()))
    if len(tensors) != 1 or tensor["dtype"] != "F16" or tuple(tensor["shape"]) != SHAPE:
        raise WeightsError(f"expected one half-precision table of shape {SHAPE}", where=WEIGHTS.file)
    return np.memmap(path, dtype="<f2", mode="r", offset=8 + length + tensor["data_offsets"][0], shape=SHAPE)


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
