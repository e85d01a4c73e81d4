"""The text that a tokenizer reads: what its rules make of the bytes, before it is cut into tokens.

WordPiece and Unigram tokenizers often change a text first: case, accents, forms of characters, white space. Texts that
become the same are one text to the model, and no law of bytes could tell them apart. The bytes that can be told are
those of the text as it is read: words apart by one space each, after the tokenizer's own normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from sememe.errors import InputError
from sememe.vocab.tokenizer import MARKER, TokenizerFile

_WORDS = ("BertPreTokenizer", "WhitespaceSplit")


class Canonical:
    """Brings texts to the form that a tokenizer reads.

    Parameters
    ----------
    tokenizer : TokenizerFile
        Of kind ``wordpiece`` or ``unigram``.

    Attributes
    ----------
    spaced : bool
        Words are cut at white space and written with one space between; otherwise spaces are part of the text.

    Raises
    ------
    InputError
        Where it is not known how the text is cut before it becomes tokens.
    """

    def __init__(self, tokenizer: TokenizerFile) -> None:
        self.tokenizer = tokenizer
        names = self._cutters
        known = names <= {"Metaspace", "WhitespaceSplit"} if tokenizer.kind == "unigram" else names <= {*_WORDS}
        if tokenizer.kind not in ("wordpiece", "unigram") or not known:
            raise InputError(
                f"where a {tokenizer.kind} tokenizer with {', '.join(sorted(names)) or 'no pre-tokenizer'} cuts words "
                "hangs on more than the tokens before",
                where=tokenizer.where,
                fix="there is no exact law of bytes for it here",
            )
        if tokenizer.kind == "wordpiece" and not names:
            raise InputError("a WordPiece tokenizer without pre-tokenizer reads white space as unknown")
        self.spaced = tokenizer.kind == "wordpiece" or "WhitespaceSplit" in names or not self._keeps("a  b")

    @cached_property
    def _cutters(self) -> frozenset[str]:
        entry = self.tokenizer.spec.get("pre_tokenizer")
        parts = [] if entry is None else entry["pretokenizers"] if entry.get("type") == "Sequence" else [entry]
        return frozenset(str(part.get("type")) for part in parts)

    def _keeps(self, text: str) -> bool:
        return self.text(text) == text

    @cached_property
    def lead(self) -> bytes:
        """What stands before every text."""
        if self.tokenizer.kind == "wordpiece":
            return b" "
        return b" " if "".join(self.words("a")).startswith(MARKER) else b""

    def words(self, text: str) -> list[str]:
        """The parts that become tokens by themselves."""
        backend: Any = self.tokenizer.backend
        plain = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
        if backend.pre_tokenizer is None:
            return [plain] if plain else []
        return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(plain)]

    def read(self, text: str) -> str:
        """The text as it is read, with what is put before it."""
        words = self.words(text)
        if self.tokenizer.kind == "wordpiece":
            return " " + " ".join(words)
        return "".join(words).replace(MARKER, " ")

    def text(self, text: str) -> str:
        """The text as it is read, without that."""
        return self.read(text).removeprefix(self.lead.decode())

    def bytes(self, raw: bytes) -> bytes:
        """The bytes of a text that may end anywhere, within a character too, as they are read."""
        tail = _unfinished(raw)
        text = raw[: len(raw) - tail].decode("utf-8", "replace")
        found = self.read(text)
        if text[-1:].isspace() and not found.endswith(" "):
            found += " "  # another word begins here
        made = found.encode("utf-8", "surrogatepass")
        return (made if made.startswith(self.lead) else self.lead + made) + raw[len(raw) - tail :]


def _unfinished(raw: bytes) -> int:
    """Bytes at the end that begin a character."""
    for back in range(1, min(4, len(raw)) + 1):
        byte = raw[-back]
        if byte < 0x80:
            return 0
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if back < length else 0
    return 0


def residuals(names: Sequence[str], text: str) -> list[str]:
    """What is left of each name that begins with a text and goes on; ``names`` are sorted."""
    from bisect import bisect_left, bisect_right

    low = bisect_right(names, text)
    high = bisect_left(names, text + chr(0x10FFFF), low)
    return [name[len(text) :] for name in names[low:high]]
