"""More tokens, such that the tokenizer really produces them.

WordPiece and word-level vocabularies take the longest or whole word, so a new token is used as soon as it is there. A
new Unigram token is scored just above the best way to spell it so far. A new byte-pair token gets merges behind all
others: what the old merges make of it is joined from left to right, which may need tokens on the way (`extend_merges`
takes merges as they were learned instead). A token that reaches across words, where the tokenizer cuts a text into
words first, becomes an added token, matched in the text before anything else.
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


def extend_merges(tokenizer: TokenizerFile, merges: Sequence[tuple[str, str]]) -> TokenizerFile:
    """A byte-pair tokenizer with more merges behind all others, in this order, and a token for what each makes.

    Parameters
    ----------
    tokenizer : TokenizerFile
    merges : list of (str, str)
        Left and right token as the vocabulary writes them, old ones or made by a merge before.

    Raises
    ------
    InputError
        A merge of a token that is not there, or a kind of tokenizer that has no merges.
    """
    if not plain_merges(tokenizer):
        raise InputError("this kind of tokenizer takes no further merges", where=tokenizer.where)
    spec = copy.deepcopy(tokenizer.spec)
    book = _Book(tokenizer, spec)
    for left, right in merges:
        if left not in book.known or right not in book.known:
            raise InputError(f"the merge of {left!r} and {right!r} needs a token that is not there")
        book.join(left, right)
    changed = tokenizer.with_spec(spec)
    changed.check()
    return changed


def plain_merges(tokenizer: TokenizerFile) -> bool:
    """Whether merges join tokens just as they are written."""
    model = tokenizer.model
    marks = model.get("end_of_word_suffix") or model.get("continuing_subword_prefix")
    return tokenizer.model_type == "BPE" and not marks


class _Book:
    """The vocabulary while it grows."""

    def __init__(self, tokenizer: TokenizerFile, spec: dict[str, Any]) -> None:
        self.tokenizer, self.spec, self.model = tokenizer, spec, spec["model"]
        self.next = len(tokenizer.tokens)
        self.known = dict(tokenizer.ids)
        self._settle()
        self.scores = [score for _, score in self.model["vocab"]] if tokenizer.kind == "unigram" else []
        self.lowest = min(self.scores, default=0.0)

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
        if len(words) > 1 and not self.tokenizer.across:
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
        """Just above the best spelling: a thousandth of a nat for each join, so that the longest new token wins."""
        parts = self.tokenizer.backend.model.tokenize(token)
        unknown = self.tokenizer.unknown
        spelled = sum(self.scores[p.id] if p.id != unknown else self.lowest - 10.0 for p in parts)
        return float(max(spelled + 1e-3 * max(len(parts) - 1, 1), self.lowest))

    def _merge(self, token: str, raw: bytes) -> None:
        parts = [self.tokenizer.tokens[n] for n in self.tokenizer.pieces(raw)]
        if "".join(parts) != token or not plain_merges(self.tokenizer):
            self._added(raw)
            return
        left = parts[0]
        for right in parts[1:]:
            self.join(left, right)
            left += right

    def join(self, left: str, right: str) -> None:
        """Enter a merge, and what it makes."""
        merges = self.model["merges"]
        pairs = not merges or not isinstance(merges[0], str)
        if left + right not in self.known:
            self._enter(left + right)
        merges.append([left, right] if pairs else f"{left} {right}")

    def _added(self, raw: bytes) -> None:
        """An added token, which takes its own leading space along where spaces are part of tokens.

        Where they are not, it is matched as whole words in the normalized text. Elsewhere the library's rule for whole
        words would ask for no word before the space, so such a token is found wherever its characters stand, also
        before the rest of a longer word.
        """
        words = self.tokenizer.kind in ("wordpiece", "wordlevel")
        text = raw.decode("utf-8", "replace")
        text = text.strip() if words else text
        if text in self.known:
            return
        self.spec.setdefault("added_tokens", []).append(
            {
                "id": self.next,
                "content": text,
                "single_word": not text.startswith(" "),
                "lstrip": False,
                "rstrip": False,
                "normalized": words,
                "special": False,
            }
        )
        self._enter(text, self.lowest)  # or the library would number it anew, as in `_settle`
