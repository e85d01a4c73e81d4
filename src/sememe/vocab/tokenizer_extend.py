"""More tokens, such that the tokenizer really produces them.

WordPiece and word-level vocabularies take the longest or whole word, so a new token is used as soon as it is there. A
new Unigram token is scored just above the best way to spell it so far. A new byte-pair token gets merges behind all
others: what the old merges make of it is joined from left to right, which may need tokens on the way. A token that
reaches across words becomes an added token, matched in the text before anything else.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sememe.errors import InputError
from sememe.vocab.token_text import stands_alone

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile


def extend(tokenizer: TokenizerFile, tokens: Sequence[bytes | str]) -> TokenizerFile:
    """A tokenizer with more tokens; the ids of the old ones stay.

    Parameters
    ----------
    tokenizer : TokenizerFile
    tokens : list of bytes or str
        What the new tokens stand for, as `TokenizerFile.text_of` gives it: a leading space begins a word.

    Returns
    -------
    TokenizerFile
        New tokens follow the old ones, in the order given, those that merges need on the way just before the token that
        needs them. Where a token is there already nothing is added for it.

    Raises
    ------
    InputError
        A token that is empty, or that this kind of tokenizer cannot hold.
    """
    spec = copy.deepcopy(tokenizer.spec)
    book = _Book(tokenizer, spec)
    for token in tokens:
        raw = token.encode("utf-8", "replace") if isinstance(token, str) else bytes(token)
        if not raw.strip():
            raise InputError("a new token is empty or only spaces", where=tokenizer.where)
        book.add(raw)
    changed = tokenizer.with_spec(spec)
    changed.check()
    return changed


class _Book:
    """The vocabulary while it grows."""

    def __init__(self, tokenizer: TokenizerFile, spec: dict[str, Any]) -> None:
        self.tokenizer, self.spec, self.model = tokenizer, spec, spec["model"]
        self.next = len(tokenizer.tokens)
        self.known = dict(tokenizer.ids)
        self.spaced = _across(tokenizer)
        self._settle()

    def _settle(self) -> None:
        """Enter added tokens into the model too: the library numbers those that it does not find there anew."""
        vocabulary = self.model["vocab"]
        for token in sorted(self.tokenizer.added, key=lambda t: t["id"]):
            if isinstance(vocabulary, dict):
                vocabulary.setdefault(token["content"], token["id"])
            elif token["id"] >= len(vocabulary):
                vocabulary.append([token["content"], min(score for _, score in vocabulary)])

    def add(self, raw: bytes) -> None:
        """Enter one token and what it needs."""
        words = raw.decode("utf-8", "replace").split()
        if len(words) > 1 and not self.spaced:
            self._added(raw)
            return
        kind = self.tokenizer.kind
        token = self._written(raw)
        if token in self.known:
            return
        if kind in ("wordpiece", "wordlevel"):
            self._enter(token)
        elif kind == "unigram":
            self._enter(token, self._score(token))
        else:
            self._merge(token, raw)

    def _written(self, raw: bytes) -> str:
        from sememe.vocab.tokenizer import CHARACTER_OF, MARKER

        tokenizer = self.tokenizer
        if tokenizer.kind == "byte-bpe":
            return "".join(CHARACTER_OF[byte] for byte in raw)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"the token {raw!r} is part of a character", where=tokenizer.where) from None
        if tokenizer.kind in ("wordpiece", "wordlevel"):
            prefix = tokenizer.model.get("continuing_subword_prefix") or ""
            body = text.lstrip(" ")
            if tokenizer.backend.normalizer is not None:
                body = tokenizer.backend.normalizer.normalize_str(body).strip()
            if not body:
                raise InputError(f"nothing is left of the token {text!r} when it is normalized", where=tokenizer.where)
            return body if text.startswith(" ") or stands_alone(body[0]) else prefix + body
        return text.replace(" ", MARKER) if tokenizer.metaspace else text

    def _enter(self, token: str, score: float | None = None) -> None:
        vocabulary = self.model["vocab"]
        if isinstance(vocabulary, dict):
            vocabulary[token] = self.next
        else:
            vocabulary.append([token, score])
        self.known[token] = self.next
        self.next += 1

    def _score(self, token: str) -> float:
        """Just above the best spelling: better by a thousandth of a nat, so that nothing else changes."""
        scores = [score for _, score in self.tokenizer.model["vocab"]]
        parts = self.tokenizer.backend.model.tokenize(token)
        spelled = sum(scores[p.id] if p.id != self.tokenizer.unknown else min(scores) - 10.0 for p in parts)
        return float(max(spelled + 1e-3, min(scores)))

    def _merge(self, token: str, raw: bytes) -> None:
        parts = [self.tokenizer.tokens[n] for n in self.tokenizer.pieces(raw)]
        if (
            "".join(parts) != token
            or self.model.get("end_of_word_suffix")
            or self.model.get("continuing_subword_prefix")
        ):
            self._added(raw)
            return
        merges = self.model["merges"]
        pairs = not merges or not isinstance(merges[0], str)
        left = parts[0]
        for right in parts[1:]:
            if left + right not in self.known:
                self._enter(left + right)
            merges.append([left, right] if pairs else f"{left} {right}")
            left += right

    def _added(self, raw: bytes) -> None:
        """An added token: it takes its own leading space along, and stands only where a word ends."""
        text = raw.decode("utf-8", "replace")
        if text in self.known:
            return
        self.spec.setdefault("added_tokens", []).append(
            {
                "id": self.next,
                "content": text,
                "single_word": not text.startswith(" "),
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": False,
            }
        )
        vocabulary = self.model["vocab"]
        lowest = None if isinstance(vocabulary, dict) else min(score for _, score in vocabulary)
        self._enter(text, lowest)  # or the library would number it anew, as in `_settle`


def _across(tokenizer: TokenizerFile) -> bool:
    """Whether a token of the model may reach across words: only where nothing cuts the text before."""
    return tokenizer.spec.get("pre_tokenizer") is None and tokenizer.kind in ("bpe", "unigram")
