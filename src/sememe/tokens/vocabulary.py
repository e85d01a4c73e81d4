"""What a token layer may know about its symbols: how each is spelled, and how often it occurs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sememe.errors import InputError


class Vocabulary:
    """The symbols of a tokenizer, by id.

    Parameters
    ----------
    pieces : sequence of bytes or str
        What each id stands for, a word's beginning as a leading space. Ids without text of their own (special tokens)
        give the bytes of their name.
    special : sequence of int
        Ids that stand for no text.
    counts : array-like of shape (v,), optional
        How often each id occurs in some text.
    """

    def __init__(
        self, pieces: Sequence[bytes | str], special: Sequence[int] = (), counts: ArrayLike | None = None
    ) -> None:
        self.pieces: tuple[bytes, ...] = tuple(
            piece if isinstance(piece, bytes) else piece.encode("utf-8", "surrogatepass") for piece in pieces
        )
        if not self.pieces:
            raise InputError("a vocabulary without symbols", fix="give at least one")
        self.special = frozenset(int(number) for number in special)
        self.counts: NDArray[np.float64] | None = None
        if counts is not None:
            self.counts = np.asarray(counts, dtype=np.float64)
            if self.counts.shape != (len(self.pieces),) or not (np.isfinite(self.counts) & (self.counts >= 0)).all():
                raise InputError(
                    f"counts of shape {self.counts.shape} for {len(self.pieces):,} symbols", fix="one each"
                )

    @classmethod
    def of(cls, tokenizer: Any, counts: ArrayLike | None = None) -> Vocabulary:
        """Read a tokenizer.

        Parameters
        ----------
        tokenizer : Vocabulary, TokenizerFile, a path, one of the tokenizers or transformers packages, a list of pieces
            or the number of symbols (whose pieces are then empty).
        counts : array-like of shape (v,), optional
        """
        if isinstance(tokenizer, Vocabulary):
            return tokenizer if counts is None else cls(tokenizer.pieces, sorted(tokenizer.special), counts)
        if isinstance(tokenizer, int) and not isinstance(tokenizer, bool):
            if tokenizer < 1:
                raise InputError(f"a vocabulary of {tokenizer} symbols", fix="give a positive number")
            return cls([b""] * tokenizer, counts=counts)
        if isinstance(tokenizer, (list, tuple)):
            return cls(tokenizer, counts=counts)
        file = _file(tokenizer)
        texts = [file.text_of(number) for number in range(len(file.tokens))]
        pieces = [t if t is not None else file.tokens[i].encode("utf-8", "surrogatepass") for i, t in enumerate(texts)]
        return cls(pieces, [number for number, text in enumerate(texts) if text is None], counts)

    def __len__(self) -> int:
        return len(self.pieces)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self):,} symbols{', counted' if self.counts is not None else ''})"

    @cached_property
    def digest(self) -> str:
        """Names these pieces in this order."""
        digest = hashlib.sha256()
        for piece in self.pieces:
            digest.update(len(piece).to_bytes(4, "little") + piece)
        return digest.hexdigest()[:32]

    @cached_property
    def counted_digest(self) -> str:
        """The same with their counts."""
        counts = b"" if self.counts is None else self.counts.tobytes()
        return hashlib.sha256(self.digest.encode() + counts).hexdigest()[:32]

    @cached_property
    def by_frequency(self) -> NDArray[np.int64]:
        """Ids from frequent to rare; without counts as they are (most tokenizers number frequent symbols first)."""
        if self.counts is None:
            return np.arange(len(self))
        return np.argsort(-self.counts, kind="stable")

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """Place of each id in `by_frequency`, ``(v,)``."""
        ranks = np.empty(len(self), dtype=np.int64)
        ranks[self.by_frequency] = np.arange(len(self))
        return ranks

    def bytes(self, limit: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The first ``limit`` bytes of each piece, ``(v, limit)`` padded with zeros, and their number, ``(v,)``."""
        lengths = np.minimum([len(piece) for piece in self.pieces], limit).astype(np.int64)
        table = np.zeros((len(self), limit), dtype=np.uint8)
        for row, piece in enumerate(self.pieces):
            table[row, : lengths[row]] = np.frombuffer(piece[:limit], dtype=np.uint8)
        return table, lengths

    def texts(self) -> list[str]:
        """Each piece as text; bytes that are no UTF-8 by themselves become replacement characters."""
        return [piece.decode("utf-8", "replace") for piece in self.pieces]


def _file(tokenizer: Any) -> Any:
    """A tokenizer of any make as a TokenizerFile."""
    from sememe.vocab.tokenizer import TokenizerFile

    if isinstance(tokenizer, TokenizerFile):
        return tokenizer
    if isinstance(tokenizer, (str, os.PathLike)):
        return TokenizerFile.open(tokenizer)
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "to_str"):
        raise InputError(
            f"{type(tokenizer).__name__} is no tokenizer that can be read", fix="give a folder, or a list of pieces"
        )
    import json

    file = TokenizerFile(json.loads(backend.to_str()), where=type(tokenizer).__name__)
    file.check()
    return file
