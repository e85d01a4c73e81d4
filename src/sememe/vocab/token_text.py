"""Between tokens and the bytes they stand for, with one way of writing where a word begins: a leading space."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_token(token: str) -> int | None:
    """The byte of a fall-back token such as ``<0x0A>``."""
    match = _BYTE_TOKEN.fullmatch(token)
    return int(match[1], 16) if match else None


def stands_alone(character: str) -> bool:
    """Whether BERT's pre-tokenizer cuts a character off from its neighbours: punctuation and Chinese characters."""
    code = ord(character)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    if unicodedata.category(character).startswith("P"):
        return True
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )


def token_text(tokenizer: TokenizerFile, number: int) -> bytes | None:
    """See `TokenizerFile.text_of`."""
    from sememe.vocab.tokenizer import BYTE_OF, MARKER

    token = tokenizer.tokens[number]
    if not token or number in tokenizer.special:
        return None
    kind, model = tokenizer.kind, tokenizer.model
    if number in tokenizer.added_ids:
        spaced = kind in ("wordpiece", "wordlevel") and " " in token and not stands_alone(token[0])
        return _utf8(" " + token if spaced else token)  # several words begin with a word
    if kind == "wordpiece":
        prefix = model.get("continuing_subword_prefix") or "##"
        if token.startswith(prefix) and len(token) > len(prefix):
            return _utf8(token[len(prefix) :])
        return _utf8(token if stands_alone(token[0]) else " " + token)
    if kind == "wordlevel":
        return _utf8(token if stands_alone(token[0]) else " " + token)
    ending = b""
    suffix = model.get("end_of_word_suffix")
    if suffix and token.endswith(suffix):
        token, ending = token[: -len(suffix)], b" "
    prefix = model.get("continuing_subword_prefix")
    if prefix and token.startswith(prefix):
        token = token[len(prefix) :]
    if kind == "byte-bpe":
        if all(character in BYTE_OF for character in token):
            return bytes(BYTE_OF[character] for character in token) + ending
        return _utf8(token) + ending
    byte = byte_token(token)
    if byte is not None and model.get("byte_fallback"):
        return bytes([byte])
    return _utf8(token.replace(MARKER, " ") if tokenizer.metaspace else token) + ending


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def pieces(tokenizer: TokenizerFile, text: bytes | str) -> list[int]:
    """See `TokenizerFile.pieces`."""
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if not raw:
        return []
    written = raw.decode("utf-8", "replace")
    whole = tokenizer.ids.get(written.strip() if tokenizer.kind in ("wordpiece", "wordlevel") else written)
    if whole in tokenizer.added_ids and whole not in tokenizer.special:
        return [whole]  # matched before anything else
    if tokenizer.kind == "byte-bpe":
        return _byte_level(tokenizer, raw)
    try:
        plain = raw.decode("utf-8")
    except UnicodeDecodeError:
        return _bytes(tokenizer, raw)
    if tokenizer.kind in ("wordpiece", "wordlevel"):
        return _words(tokenizer, plain)
    if tokenizer.metaspace:
        return _metaspace(tokenizer, plain)
    return [] if not plain else tokenizer.encode(plain)


def _model(tokenizer: TokenizerFile, piece: str) -> list[int]:
    return [token.id for token in tokenizer.backend.model.tokenize(piece)]


def _byte_level(tokenizer: TokenizerFile, raw: bytes) -> list[int]:
    from sememe.vocab.tokenizer import CHARACTER_OF

    def written(part: bytes) -> str:
        return "".join(CHARACTER_OF[byte] for byte in part)

    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return _model(tokenizer, written(raw))
    backend: Any = tokenizer.backend
    if backend.normalizer is not None and "ByteLevel" not in str(tokenizer.spec.get("normalizer")):
        text = backend.normalizer.normalize_str(text)
    if backend.pre_tokenizer is None or "ByteLevel" in str(tokenizer.spec.get("normalizer")):
        return _model(tokenizer, written(text.encode()))
    parts = [part for part, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
    space = CHARACTER_OF[ord(" ")]
    if parts and not text.startswith(" ") and parts[0].startswith(space):
        parts[0] = parts[0][1:]  # the pre-tokenizer puts a space before every text
    return [number for part in parts if part for number in _model(tokenizer, part)]


def _bytes(tokenizer: TokenizerFile, raw: bytes) -> list[int]:
    """Part of a character: byte tokens where the vocabulary has them, else the unknown token."""
    found = [tokenizer.ids.get(f"<0x{byte:02X}>") for byte in raw]
    if all(number is not None for number in found):
        return [number for number in found if number is not None]
    return [] if tokenizer.unknown is None else [tokenizer.unknown]


def _normalized(tokenizer: TokenizerFile, text: str) -> str:
    normalizer: Any = tokenizer.backend.normalizer
    return text if normalizer is None else normalizer.normalize_str(text)


def _metaspace(tokenizer: TokenizerFile, text: str) -> list[int]:
    from sememe.vocab.tokenizer import MARKER

    body = text.lstrip(" ")
    lead = MARKER * (len(text) - len(body))
    body = _normalized(tokenizer, body).replace(" ", MARKER) if body else ""
    if body.startswith(MARKER):
        body = body[1:]  # the normalizer's own mark of a beginning
    written = lead + body
    parts = [written] if tokenizer.across else re.split(f"(?<!^)(?={MARKER})", written)
    return [number for part in parts if part for number in _model(tokenizer, part)]


def _words(tokenizer: TokenizerFile, text: str) -> list[int]:
    backend: Any = tokenizer.backend
    plain = _normalized(tokenizer, text)
    words = [w for w, _ in backend.pre_tokenizer.pre_tokenize_str(plain)] if backend.pre_tokenizer else plain.split()
    out: list[int] = []
    for place, word in enumerate(words):
        continued = place == 0 and not text.startswith(" ") and not stands_alone(word[0])
        found = _continue(tokenizer, word) if continued and tokenizer.kind == "wordpiece" else None
        out += found if found is not None else _model(tokenizer, word)
    return out


def _continue(tokenizer: TokenizerFile, word: str) -> list[int] | None:
    """Longest continuations first, as WordPiece does inside a word; None where some part has none."""
    prefix = tokenizer.model.get("continuing_subword_prefix") or "##"
    out, start = [], 0
    while start < len(word):
        for stop in range(len(word), start, -1):
            number = tokenizer.ids.get(prefix + word[start:stop])
            if number is not None:
                out.append(number)
                start = stop
                break
        else:
            return None
    return out
