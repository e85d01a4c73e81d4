"""Byte-pair encoding over UTF-8 bytes: no text is out of vocabulary, and broken output loses as little as possible."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from sememe.catalog import Paper, register
from sememe.errors import InputError
from sememe.estimator import Estimator
from sememe.vocab.bpe import _made, open_merges, save_merges
from sememe.vocab.merging import MergeList, learn
from sememe.vocab.pairs import Ids, flat

# Letters with their marks, digits, other signs, each with one space before it; then white space.
WORDS = r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
_ESCAPED = re.compile("([\udc80-\udcff])")


@register(
    "byte-bpe",
    room="vocab",
    kind="tokenizer",
    summary="byte-pair encoding over UTF-8 bytes at any size, with recovery of characters from broken output",
    paper=Paper("Neural Machine Translation with Byte-Level Subwords", 2020, "1909.03341"),
    claim="Vocabularies an eighth the size of character-based ones with comparable quality, and nothing out of them.",
)
class ByteBPE(Estimator):
    """256 bytes, then what the text makes of them.

    Any bytes are encoded and come back exactly; `decode` turns symbols that need not spell valid UTF-8 into the most
    characters that they hold. `sememe.vocab.byte_context` mixes the vectors of neighbouring symbols before a model, so
    that parts of a character know the whole.

    Parameters
    ----------
    size : int
        Symbols in the end, at least 256.
    words : bool
        Split text into words first, as most models do; merges then stay inside a word and its leading space.
    least : int
        Smallest count that is worth a symbol.
    longest : int
        Most bytes in a symbol; 0 is no limit.

    Attributes
    ----------
    merges_ : ndarray of shape (m, 3)
        int64: left, right and made symbol, in the order learned.
    """

    def __init__(self, size: int = 2048, words: bool = True, least: int = 2, longest: int = 0) -> None:
        self.size = size
        self.words = words
        self.least = least
        self.longest = longest

    def fit(self, texts: Iterable[str | bytes], y: object = None) -> Self:
        """Learn merges from texts."""
        counts: Counter[bytes] = Counter()
        for text in texts:
            counts.update(self._split(_raw(text)))
        if not counts:
            raise InputError("there is no text to learn from", fix="give at least one text that is not empty")
        words = sorted(counts)
        symbols, offsets = flat([_symbols(word) for word in words])
        weights = np.array([counts[word] for word in words], dtype=np.int64)
        found = learn(
            symbols, offsets, weights, base=256, size=self.size, least=max(1, self.least), longest=self.longest
        )
        return self._take(found)

    def _take(self, merges: MergeList) -> Self:
        self.merges_ = merges.merges
        for name in ("merge_list", "tokens"):
            self.__dict__.pop(name, None)
        return self

    @cached_property
    def merge_list(self) -> MergeList:
        """The learned merges, ready to be applied."""
        self._check_fitted()
        return MergeList(256, self.merges_)

    @cached_property
    def tokens(self) -> list[bytes]:
        """What each symbol spells."""
        return [bytes(spelled) for spelled in self.merge_list.spelled]

    @property
    def vocabulary(self) -> int:
        """Symbols that there are: ``size``, or fewer where the text gave no more."""
        return self.merge_list.size

    def encode_batch(self, texts: Sequence[str | bytes]) -> list[Ids]:
        """Ids of each text, int64; each distinct word is merged once."""
        split = [list(self._split(_raw(text))) for text in texts]
        numbers: dict[bytes, int] = {}
        rows = [np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int64) for words in split]
        ids, starts = self.merge_list.apply(*flat([_symbols(word) for word in numbers]))
        lengths = np.diff(starts)
        coded = []
        for row in rows:
            counts = lengths[row]
            place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            coded.append(ids[np.repeat(starts[row], counts) + place])
        return coded

    def encode(self, text: str | bytes) -> list[int]:
        """Ids of one text."""
        found: list[int] = self.encode_batch([text])[0].tolist()
        return found

    def decode_bytes(self, ids: ArrayLike) -> bytes:
        """The bytes that a sequence of ids spells, whatever they are."""
        return self.merge_list.expand(np.asarray(ids, dtype=np.int64).reshape(-1)).astype(np.uint8).tobytes()

    def decode(self, ids: ArrayLike) -> str:
        """The most characters that a sequence of ids holds, see `recover`."""
        return recover(self.decode_bytes(ids))

    def tokenizer(self) -> Any:
        """The same as a ``tokenizers.Tokenizer`` (byte-level BPE), which ``transformers`` loads from its file."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        letters = _letters()
        names = ["".join(letters[byte] for byte in token) for token in self.tokens]
        pairs = [(names[left], names[right]) for left, right, _ in self.merges_.tolist()]
        made = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, pairs))
        plain: Any = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        if self.words:
            plain = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORDS), "isolated"), plain])
        made.pre_tokenizer = plain
        made.decoder = decoders.ByteLevel()
        return made

    def _split(self, raw: bytes) -> Iterator[bytes]:
        """Words of a text as bytes; a byte that is no UTF-8 is a word by itself."""
        if not raw:
            return
        if not self.words:
            yield raw
            return
        splitter = _splitter()
        for part in _ESCAPED.split(raw.decode("utf-8", "surrogateescape")):
            if _ESCAPED.match(part):
                yield part.encode("utf-8", "surrogateescape")
            elif part:
                for word, _ in splitter.pre_tokenize_str(part):
                    yield word.encode()

    def save(self, path: str | Path) -> Path:
        """Write the learned vocabulary as JSON."""
        return save_merges(path, "bytes", self.merge_list, self.get_params())

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read what `save` wrote; anything else is an InputError."""
        merges, params = open_merges(path, "bytes")
        if merges.base != 256:
            raise InputError(f"this vocabulary is over {merges.base} symbols, not 256 bytes", where=str(path))
        return _made(cls, params, path)._take(merges)


def recover(data: bytes) -> str:
    """The text with the most characters among all that arise by leaving out bytes of ``data`` that belong to none.

    The paper finds it by dynamic programming, ``f(k) = max_t f(k - t) + [the last t bytes are a character]``. Two valid
    characters of UTF-8 cannot overlap, because no byte both begins and continues one. So all the valid characters that
    there are can be kept together, and one pass from the left finds the same.
    """
    return data.decode("utf-8", "ignore")


def _raw(text: str | bytes) -> bytes:
    if isinstance(text, str):
        return text.encode("utf-8", "surrogatepass")
    if isinstance(text, (bytes, bytearray, memoryview)):
        return bytes(text)
    raise InputError(f"a text must be str or bytes, got {type(text).__name__}", fix="pass a list of texts")


def _symbols(word: bytes) -> Ids:
    return np.frombuffer(word, dtype=np.uint8).astype(np.int64)


def _splitter() -> Any:
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Split(Regex(WORDS), "isolated")


def _letters() -> list[str]:
    """The printable character that stands for each byte in files of byte-level tokenizers."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    shifted = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(shifted)) for byte in range(256)]
