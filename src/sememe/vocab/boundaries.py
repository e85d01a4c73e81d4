"""Filling a gap between any two characters without cutting a token.

A prompt that ends within a token is text the model never saw. So the text before the gap is given up to the end of a
line, and the text after it from the end of a line, at places where the tokenizer cuts whatever stands there; what is
left of the two lines are constraints: what is generated must begin with the one and end with the other. Decoding holds
to them by the bytes of tokens, so the gap that comes out is exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper, register
from sememe.errors import InputError
from sememe.vocab.token_law import TokenLaw, law_of

MARKERS = ("prefix", "suffix", "start", "end", "middle")
# What may follow, or stand before, a cut: a place is a token boundary if the tokenizer cuts there for all of these.
_FOLLOWING = ("", "x", " x", "  x", "    x", "\n", "\n    x", "1", ")", " =", "_", "'s", '"', ",", ".")
_BEFORE = ("", "x", "x ", "    ", "\n", "1", "(", "=", "_", "'", '"', ",", ":")
_WINDOW = 256  # characters around a cut that are tokenized to judge it


@dataclass(frozen=True, slots=True)
class FillPrompt:
    """A prompt for a gap.

    Attributes
    ----------
    ids : list of int
        ``<prefix> text <suffix> text <start> text <end> text <middle>``.
    before, after : str
        Whole lines that the model reads on either side.
    start, end : str
        What must be generated first and last: the rest of the line before the gap, and of the line after it.
    """

    ids: list[int]
    before: str
    after: str
    start: str
    end: str

    def filled(self, generated: str) -> str:
        """The gap's text out of what was generated between start and end.

        Raises
        ------
        InputError
            Where it breaks a constraint.
        """
        inside = len(generated) - len(self.start) - len(self.end)
        if inside < 0 or not generated.startswith(self.start) or not generated.endswith(self.end):
            raise InputError(f"the generated text must begin with {self.start!r} and end with {self.end!r}")
        return generated[len(self.start) : len(generated) - len(self.end)]


@register(
    "boundaries",
    room="vocab",
    kind="decoder",
    summary="fill a gap between any two characters: prompts that cut no token, decoding that fits both sides",
    paper=Paper("Empowering Character-level Text Infilling by Eliminating Sub-Tokens", 2024, "2405.17103"),
    claim="Prompts cut at lines, with the rest of both lines as constraints, never split a token, and what is "
    "generated fits the characters on both sides.",
)
class CharConstrainedFIM:
    """Prompts and decoding for gaps between characters.

    Parameters
    ----------
    encode : function, or tokenizer with ``encode(text) -> list of int``
        Without special tokens.
    token_bytes : sequence of bytes or None, of length v
        What each token spells.
    markers : dict of str to int
        Ids of the five special tokens ``prefix``, ``suffix``, ``start``, ``end``, ``middle``.
    stop : int
        Id of the token that ends what is generated.
    """

    def __init__(
        self,
        encode: Callable[[str], list[int]] | Any,
        token_bytes: Sequence[bytes | None],
        markers: Mapping[str, int],
        stop: int,
    ) -> None:
        missing = [name for name in MARKERS if name not in markers]
        if missing:
            raise InputError(f"there is no id for {', '.join(missing)}", fix=f"give markers {', '.join(MARKERS)}")
        self._encode: Callable[[str], list[int]] = getattr(encode, "encode", encode)
        self.markers, self.stop = dict(markers), stop
        closed = {*markers.values(), stop}
        self._texts = [None if number in closed else text for number, text in enumerate(token_bytes)]
        self._by_text: dict[bytes, list[int]] = {}
        self._children: dict[bytes, list[int]] = {}  # tokens that begin with these bytes and go on
        for number, text in enumerate(self._texts):
            if text:
                self._by_text.setdefault(text, []).append(number)
                for length in range(1, len(text)):
                    self._children.setdefault(text[:length], []).append(number)
        bytes_missing = [byte for byte in range(256) if bytes([byte]) not in self._by_text]
        if bytes_missing:
            raise InputError(f"no token spells the byte {bytes_missing[0]}", fix="give a byte-level tokenizer")
        self._widest = max(map(len, self._by_text))
        self._open = np.array([bool(text) for text in self._texts])

    # Prompts

    def prompt(self, prefix: str, suffix: str) -> FillPrompt:
        """The prompt of the gap between two texts; neither loses a character."""
        cut = self._last_boundary(prefix)
        resume = self._first_boundary(suffix)
        before, start = prefix[:cut], prefix[cut:]
        end, after = suffix[:resume], suffix[resume:]
        ids: list[int] = []
        for name, text in (("prefix", before), ("suffix", after), ("start", start), ("end", end)):
            ids += [self.markers[name], *(self._encode(text) if text else [])]
        return FillPrompt([*ids, self.markers["middle"]], before, after, start, end)

    def target(self, prompt: FillPrompt, middle: str) -> list[int]:
        """Ids a model learns to generate for a prompt: start, middle and end as one text, then the stop."""
        return [*self._encode(prompt.start + middle + prompt.end), self.stop]

    def _last_boundary(self, prefix: str) -> int:
        """The latest place at the end of a line where the tokenizer cuts whatever follows; 0 where there is none."""
        for match in reversed(list(re.finditer(r"[ \t\r\n]*\n", prefix))):
            line_end = match.end()
            for place in dict.fromkeys((line_end, line_end - 1, match.start())):
                rest = prefix[place : place + _WINDOW]
                if not rest.strip() and prefix[:place][-1:].isspace():
                    continue  # in a run of white space that may go on, its length decides where it is cut
                if place and self._cuts(prefix[max(place - _WINDOW, 0) : place], [rest + f for f in _FOLLOWING]):
                    return place
        return 0

    def _first_boundary(self, suffix: str) -> int:
        """The earliest place at the end of a line where the tokenizer cuts whatever stands before; else the end."""
        for match in re.finditer(r"[ \t\r]*\n\s*", suffix):
            for place in dict.fromkeys((match.start(), suffix.index("\n", match.start()) + 1, match.end())):
                line = suffix[max(place - _WINDOW, 0) : place]
                right = suffix[place : place + _WINDOW]
                if (
                    line.strip()
                    and place < len(suffix)
                    and all(self._cuts(before + line, [right]) for before in _BEFORE)
                ):
                    return place
        return len(suffix)

    def _cuts(self, left: str, rights: Sequence[str]) -> bool:
        """Whether the tokenizer cuts between ``left`` and each of ``rights``."""
        ids = self._encode(left)
        return all(self._encode(left + right) == [*ids, *self._encode(right)] for right in rights)

    # Decoding

    def allowed(self, generated: bytes, start: bytes, end: bytes, left: int) -> NDArray[np.bool_]:
        """Tokens that keep both constraints possible, bool ``(v,)``.

        Parameters
        ----------
        generated : bytes
            So far, from the beginning of ``start``.
        start, end : bytes
        left : int
            Bytes that may still be added.
        """
        out = np.zeros(len(self._texts), dtype=np.bool_)
        rest = start[len(generated) :]
        if rest:
            for length in range(1, len(rest) + 1):
                out[self._by_text.get(rest[:length], [])] = True
            out[self._children.get(rest, [])] = True
        else:
            out |= self._open
            out[self.stop] = generated.endswith(end) and len(generated) >= len(start) + len(end)
        # What a token leaves must suffice for the end. It is written out whole, unless a part stands there already.
        for number in np.flatnonzero(out).tolist() if left <= len(rest) + len(end) + self._widest else ():
            text = self._texts[number]
            if text is not None and len(text) + self._owed(generated + text, start, end) > left:
                out[number] = False
        return out

    @staticmethod
    def _owed(generated: bytes, start: bytes, end: bytes) -> int:
        """The fewest bytes that must follow."""
        if len(generated) < len(start):
            return len(start) - len(generated) + len(end)
        tail = generated[len(start) :]
        for length in range(min(len(end), len(tail)), -1, -1):
            if tail.endswith(end[:length]):
                return len(end) - length
        return len(end)

    def fill(
        self, model: TokenLaw | Any, prompt: FillPrompt, length: int = 256, *, temperature: float = 0.0, seed: int = 0
    ) -> str:
        """Generate the text of a gap.

        Parameters
        ----------
        model : TokenLaw, SmallLM or model of transformers
        prompt : FillPrompt
        length : int
            The most bytes between start and end.
        temperature : float
            0 takes the likeliest allowed token each time.
        seed : int
            Of the draws.

        Returns
        -------
        str
            What stands between prefix and suffix. Bytes that are no UTF-8 come as replacement characters.
        """
        law = law_of(model)
        start, end = prompt.start.encode("utf-8", "surrogatepass"), prompt.end.encode("utf-8", "surrogatepass")
        generator = np.random.default_rng(seed)
        generated, ids = b"", list(prompt.ids)
        most = len(start) + len(end) + length
        while True:
            allowed = self.allowed(generated, start, end, most - len(generated))
            row = law.log_probs([tuple(ids)])[0][: len(allowed)]
            costs = np.where(allowed, np.maximum(row, np.finfo(np.float64).min), -np.inf)
            if temperature:
                chances = np.exp((costs - costs.max()) / temperature)
                token = int(generator.choice(len(costs), p=chances / chances.sum()))
            else:
                token = int(costs.argmax())
            if token == self.stop:
                middle = generated[len(start) : len(generated) - len(end)]
                return middle.decode("utf-8", "replace")
            ids.append(token)
            generated += self._texts[token] or b""
