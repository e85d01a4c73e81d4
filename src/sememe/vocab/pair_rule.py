"""Which two tokens a byte-pair tokenizer puts side by side.

Byte-pair encoding gives every text exactly one encoding, and a sequence of tokens is the encoding of what it spells
just where each pair of neighbours is. A pair is decided by the two edges that meet: the left token was built along
its right edge, the right token along its left edge, and if some merge of an edge symbol with the one across would have
come before both were used up by their own token, the encoder would have taken it.

A pre-tokenizer can cut where merges would join (after ``'s`` in a contraction, before the last of several spaces).
Behind tokens where it may, the tokenizer itself is asked.
"""

from __future__ import annotations

import itertools
import re
from collections import OrderedDict, defaultdict
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.vocab.merges import Merges

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile

Mask = NDArray[np.bool_]
_PLAIN = re.compile(rb" ?[A-Za-z0-9\x80-\xff]+")
_BEFORE, _AFTER = ("", "x", "="), ("", "x")  # contexts that change how a pair is cut
_NEVER = 1 << 60  # rank of a merge that does not come


class PairRule:
    """Allowed neighbours under byte-pair encoding.

    Parameters
    ----------
    tokenizer : TokenizerFile
        Of kind ``byte-bpe`` or ``bpe``.
    keep : int
        Rows that are remembered.
    """

    def __init__(self, tokenizer: TokenizerFile, keep: int = 4096) -> None:
        if tokenizer.model_type != "BPE":
            raise InputError(
                f"a {tokenizer.kind} tokenizer has no pair rule", where=tokenizer.where, fix="give a byte-pair one"
            )
        self.tokenizer, self._keep = tokenizer, keep
        self._size = len(tokenizer.tokens)
        self._rows: OrderedDict[int, Mask] = OrderedDict()
        self._cuts = tokenizer.kind == "byte-bpe" and tokenizer.spec.get("pre_tokenizer") is not None
        merges = Merges(tokenizer.model)
        ids, ranks = tokenizer.ids, merges.ranks
        self._made: dict[int, tuple[int, int, int]] = {}  # token: left part, right part, rank
        self._follow: dict[int, list[tuple[int, int]]] = defaultdict(list)  # left part: right part, rank
        for (left, right), rank in ranks.items():
            if left in ids and right in ids and merges.result(left, right) in ids:
                self._follow[ids[left]].append((ids[right], rank))
        self.first = np.zeros(self._size, dtype=np.bool_)  # tokens that are their own encoding
        whole = {n for t, n in tokenizer.entries() if n not in tokenizer.special and self._tree(t, ids, merges)}
        self.first[sorted(whole)] = True
        self._spelled = self._left_edges()
        for token in tokenizer.added:  # these are cut out before anything is merged, so nothing crosses their ends
            self.first[token["id"]] = token["id"] not in tokenizer.special

    def _tree(self, token: str, ids: dict[str, int], merges: Merges) -> bool:
        """Note the last merge of a token; False where its own encoding is another."""
        symbols = merges.characters(token)
        if len(symbols) == 1:
            return symbols[0] in ids
        while len(symbols) > 1:
            pairs = [merges.ranks.get(pair, _NEVER) for pair in itertools.pairwise(symbols)]
            rank = min(pairs)
            if rank == _NEVER:
                return bool(self.tokenizer.model.get("ignore_merges"))
            at = pairs.index(rank)
            left, right = symbols[at : at + 2]
            symbols[at : at + 2] = [merges.result(left, right)]
            if len(symbols) == 1 and left in ids and right in ids:
                self._made[ids[token]] = (ids[left], ids[right], rank)
        return symbols[0] == token and ids[token] in self._made

    def _edge(self, token: int, side: int) -> list[tuple[int, int]]:
        """Symbols along one edge (0 left, 1 right) from the whole token down, each with the rank that used it up."""
        out, used = [], _NEVER
        while True:
            out.append((token, used))
            if token not in self._made:
                return out
            used = self._made[token][2]
            token = self._made[token][side]

    def _left_edges(self) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each symbol: the tokens that begin with it at some time of their making, and the rank that used it up."""
        held: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for token in np.flatnonzero(self.first).tolist():
            for symbol, used in self._edge(token, 0):
                held[symbol].append((token, used))
        return {s: tuple(np.array(pairs, dtype=np.int64).T) for s, pairs in held.items()}  # type: ignore[misc]

    def mask(self, last: int) -> Mask:
        """Tokens that may follow ``last``, bool ``(v,)``; do not write into it."""
        found = self._rows.get(last)
        if found is None:
            found = self._rows[last] = self._row(last)
            if len(self._rows) > self._keep:
                self._rows.popitem(last=False)
        return found

    def _row(self, last: int) -> Mask:
        added = self.tokenizer.added_ids
        row = self.first.copy()
        if last in added:
            return row
        for symbol, used in self._edge(last, 1):
            for other, rank in self._follow.get(symbol, ()):
                if rank < used and other in self._spelled:
                    tokens, until = self._spelled[other]
                    row[tokens[until >= rank]] = (
                        False  # an equal rank is an equal pair; the one further left comes first
                    )
        raw = self.tokenizer.text_of(last)
        if self._cuts and raw is not None and not _PLAIN.fullmatch(raw):
            self._ask(raw, row)
        return row

    @cached_property
    def _beginnings(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Tokens by their first two characters; those of white space, which what follows can cut, by all."""
        words: dict[str, list[int]] = defaultdict(list)
        blanks: dict[str, list[int]] = defaultdict(list)
        for number in np.flatnonzero(self.first).tolist():
            raw = self.tokenizer.text_of(number)
            if raw is None or number in self.tokenizer.added_ids:
                continue
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError:
                continue
            (blanks[text] if text.isspace() else words[text[:2]]).append(number)
        return words, blanks

    def _ask(self, raw: bytes, row: Mask) -> None:
        """Let the pre-tokenizer decide where it cuts at, or before, the end of the token ``raw``."""
        try:
            left = raw.decode("utf-8")
        except UnicodeDecodeError:
            return
        words, blanks = self._beginnings
        blank = left[-1:].isspace()
        for text, numbers in words.items():
            if blank or not row[numbers].all():
                self._judge(row, numbers, {self._cut(context, left, text, "") for context in _BEFORE})
        for text, numbers in blanks.items():
            if blank or not row[numbers].all():
                self._judge(row, numbers, {self._cut("", left, text, context) for context in _AFTER})

    @staticmethod
    def _judge(row: Mask, numbers: list[int], cuts: set[bool | None]) -> None:
        """A cut between the two keeps them apart; a cut elsewhere in all contexts means that they never meet."""
        if True in cuts:
            row[numbers] = True
        elif False not in cuts:
            row[numbers] = False

    def _cut(self, before: str, left: str, right: str, after: str) -> bool | None:
        """Whether there is a cut between the two texts; None where there is one inside the first, or a blank second."""
        whole = before + left + right + after
        pieces = self.tokenizer.backend.pre_tokenizer.pre_tokenize_str(whole)
        size = len(whole.encode())
        at = size - sum(len(piece) for piece, _ in pieces)  # some put a space in front
        begin = len(before.encode())
        middle = begin + len(left.encode())
        finish = middle + len(right.encode()) if right.isspace() else middle
        found = False
        for piece, _ in pieces:
            if begin < at < middle or middle < at < finish:
                return None
            found |= at == middle
            at += len(piece)
        return found
