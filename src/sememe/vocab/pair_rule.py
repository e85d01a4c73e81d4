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
from collections.abc import Sequence
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
_BEFORE = ("", "x", "=")  # contexts that change how a pair is cut
_AFTER = ("", "x", "\x7f")  # the last merges with nothing
_SHORT = frozenset((b"s", b"t", b"re", b"ve", b"m", b"ll", b"d"))
_TAIL = 12  # tokens that the tokenizer is asked about first
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
        self._rows: OrderedDict[tuple[int, ...], Mask] = OrderedDict()
        self._runs: dict[tuple[int, int], bool] = {}
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

    def mask(self, tokens: Sequence[int]) -> Mask:
        """Tokens that may follow these, bool ``(v,)``; do not write into it."""
        if not tokens or self._shortened(tokens):
            return self.first
        key = tuple(tokens[-2:]) if self._in_run(tokens) else (tokens[-1],)
        found = self._rows.get(key)
        if found is None:
            found = self._rows[key] = self._row(key[0]) if len(key) == 1 else self._run_row(*key)
            if len(self._rows) > self._keep:
                self._rows.popitem(last=False)
        return found

    def accepts(self, tokens: Sequence[int]) -> bool:
        """Whether tokens, each allowed after the one before, are the encoding of a text's beginning.

        A pair is allowed if it stands so in some text; where a pre-tokenizer is at work, the pairs before it may say
        otherwise, and the tokenizer is asked about the last of them, or all where that does not settle it.
        """
        if not self._cuts or len(tokens) < 2:
            return True
        raw = self.tokenizer.text_of(tokens[-2])
        if raw is None or (_PLAIN.fullmatch(raw) and not self._shortened(tokens[:-1])):
            return True
        return self._stands(tokens[-_TAIL:]) or (len(tokens) > _TAIL and self._stands(tokens))

    def _shortened(self, tokens: Sequence[int]) -> bool:
        """Whether these end in a contraction of more than one token, behind which pre-tokenizers cut."""
        if not self._cuts or self.tokenizer.text_of(tokens[-1]) not in _SHORT or len(tokens) < 2:
            return False
        return (self.tokenizer.text_of(tokens[-2]) or b"").endswith(b"'")

    def _stands(self, tokens: Sequence[int]) -> bool:
        """Whether encoding what these tokens spell, ended or going on, gives them back."""
        try:
            text = b"".join(self.tokenizer.text_of(number) or b"" for number in tokens).decode("utf-8")
        except UnicodeDecodeError:
            return True  # ends within a character
        return any(self.tokenizer.encode(text + after)[: len(tokens)] == list(tokens) for after in _AFTER)

    def _in_run(self, tokens: Sequence[int]) -> bool:
        """Whether the last two are white space that merges would join: what follows must cut between them."""
        if not self._cuts or len(tokens) < 2:
            return False
        before, last = tokens[-2:]
        if not all((self.tokenizer.text_of(number) or b"x").isspace() for number in (before, last)):
            return False
        if (before, last) not in self._runs:
            self._runs[before, last] = not self._unjoined(before)[last]
        return self._runs[before, last]

    def _run_row(self, before: int, last: int) -> Mask:
        """Tokens that may follow two of white space."""
        row = self.mask((last,)).copy()
        left, middle = ((self.tokenizer.text_of(number) or b"").decode() for number in (before, last))
        words, blanks = self._beginnings
        for text, numbers in itertools.chain(words.items(), blanks.items()):
            if row[numbers].any() and not any(self._cut("", left, middle + text, after) for after in _AFTER):
                row[numbers] = False
        return row

    def _row(self, last: int) -> Mask:
        row = self._unjoined(last)
        raw = self.tokenizer.text_of(last)
        if self._cuts and raw is not None and not _PLAIN.fullmatch(raw):
            self._ask(raw, row)
        return row

    def _unjoined(self, last: int) -> Mask:
        """Tokens that merges leave apart from ``last``."""
        row = self.first.copy()
        if last in self.tokenizer.added_ids:
            return row
        for symbol, used in self._edge(last, 1):
            for other, rank in self._follow.get(symbol, ()):
                if rank < used and other in self._spelled:
                    tokens, until = self._spelled[other]
                    row[tokens[until >= rank]] = False  # equal ranks are equal pairs; the left one comes first
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
