"""Byte-pair merges as a table of ranks: how a token comes about, merge by merge.

In a text that byte-pair encoding cuts so that a token stands somewhere, the merges inside that token are the same, and
in the same order, as when the token's own characters are encoded alone: no merge crossed its ends, and those inside do
not see what is outside. So every token that can occur has exactly one tree, and one whose own encoding is not itself
never occurs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sememe.vocab.tokenizer_check import merge_parts


class Merges:
    """The merges of a BPE model.

    Parameters
    ----------
    model : dict
        The entry ``model`` of ``tokenizer.json``.

    Attributes
    ----------
    ranks : dict of (left, right) to int
        Lower ranks merge first.
    """

    def __init__(self, model: dict[str, Any]) -> None:
        self.vocabulary: dict[str, int] = model["vocab"]
        self.prefix: str = model.get("continuing_subword_prefix") or ""
        self.suffix: str = model.get("end_of_word_suffix") or ""
        self.ranks: dict[tuple[str, str], int] = {}
        for rank, merge in enumerate(model["merges"]):
            parts = merge_parts(merge)
            if parts is not None:
                self.ranks[parts] = rank  # a pair that comes twice counts at its last place

    def result(self, left: str, right: str) -> str:
        """What a merge makes."""
        return left + right[len(self.prefix) :] if self.prefix else left + right

    def characters(self, token: str) -> list[str]:
        """The symbols that encoding a token begins with."""
        suffix = self.suffix if self.suffix and token.endswith(self.suffix) and token != self.suffix else ""
        body = token[: len(token) - len(suffix)] if suffix else token
        inside = bool(self.prefix) and body.startswith(self.prefix) and body != self.prefix
        if inside:
            body = body[len(self.prefix) :]
        symbols = [c if place == 0 and not inside else self.prefix + c for place, c in enumerate(body)]
        symbols[-1] += suffix
        return symbols

    def tree(self, token: str) -> list[str] | None:
        """All tokens that come about on the way to ``token``, itself last; None where its own encoding is another."""
        symbols = self.characters(token)
        seen = list(symbols)
        while len(symbols) > 1:
            best, place = None, -1
            for index in range(len(symbols) - 1):
                rank = self.ranks.get((symbols[index], symbols[index + 1]))
                if rank is not None and (best is None or rank < best):
                    best, place = rank, index
            if best is None:
                return None
            symbols[place : place + 2] = [self.result(symbols[place], symbols[place + 1])]
            seen.append(symbols[place])
        return seen if symbols[0] in self.vocabulary and all(s in self.vocabulary for s in seen) else None

    def closure(self, tokens: Iterable[str]) -> set[str]:
        """``tokens`` and everything on the way to them."""
        out: set[str] = set()
        for token in tokens:
            out.add(token)
            if token in self.vocabulary:
                out.update(self.tree(token) or ())
        return out
