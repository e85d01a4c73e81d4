"""Do digits, letters and symbols fall into tokens of their own? Counting and arithmetic hang on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sememe.catalog import Paper, register
from sememe.errors import InputError

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile

UNITS = {"digits": r"[0-9]", "letters": r"[^\W\d_]", "symbols": r"[^\w\s]"}
SEPARATORS = (" ", ", ", " , ", "-", " - ", " | ", "\n")


@register(
    "atomic-alignment",
    room="vocab",
    kind="measure",
    summary="share of digits, letters and symbols that fall alone in a token, and the format in which all do",
    paper=Paper(
        "Tokenization Constraints in LLMs: A Study of Symbolic and Arithmetic Reasoning Limits", 2025, "2505.14178"
    ),
    claim="With tokens of one atomic unit each, small models beat larger ones at counting and arithmetic.",
)
class AtomicAlignment:
    """How a tokenizer cuts strings whose single characters matter.

    Parameters
    ----------
    tokenizer : TokenizerFile
    units : str
        ``digits``, ``letters``, ``symbols``, or a regular expression of one character.
    """

    def __init__(self, tokenizer: TokenizerFile, units: str = "letters") -> None:
        self.tokenizer, self.units = tokenizer, units
        try:
            self._unit = re.compile(UNITS.get(units, units))
        except re.error as error:
            raise InputError(f"{units!r} is not a regular expression ({error})") from None

    def cuts(self, text: str) -> list[tuple[int, int]]:
        """The characters of each token, as half-open ranges; tokens that share a character share its range.

        Tokens of white space are left out: the library places a space that was put before the text on its first
        character.
        """
        encoding: Any = self.tokenizer.backend.encode(text, add_special_tokens=False)
        pairs = zip(encoding.ids, encoding.offsets, strict=True)
        return [cut for number, cut in pairs if (self.tokenizer.text_of(number) or b"-").strip()]

    def counts(self, text: str) -> tuple[int, int, int]:
        """Units in a text, those of them alone in their token (white space aside), and tokens that hold units."""
        spots = {match.start() for match in self._unit.finditer(text)}
        covered: dict[int, int] = {}
        holding = alone = 0
        cuts = self.cuts(text)
        for start, stop in cuts:
            for place in range(start, stop):
                covered[place] = covered.get(place, 0) + 1
        for start, stop in cuts:
            inside = [place for place in range(start, stop) if place in spots]
            holding += bool(inside)
            solid = [place for place in range(start, stop) if not text[place].isspace()]
            # A character spread over several byte tokens is not in a token of its own either.
            alone += len(inside) == 1 and len(solid) == 1 and covered[inside[0]] == 1
        return len(spots), alone, holding

    def score(self, texts: Sequence[str]) -> dict[str, float]:
        """Over all texts: ``atomic``, the share of units alone in a token, and ``units_per_token``.

        Raises
        ------
        InputError
            Where no text holds a unit.
        """
        counted = [self.counts(text) for text in texts]
        units, alone, holding = (sum(column) for column in zip(*counted, strict=True)) if counted else (0, 0, 0)
        if not units:
            raise InputError(f"no text holds any {self.units}")
        return {"atomic": alone / units, "units_per_token": units / max(holding, 1)}

    def disagreement(self, question: str, answer: str) -> float:
        """Share of places between neighbouring units where one text has a token boundary and the other has none.

        Both texts must spell the same units, as a word and its reversal would not; separators may differ.

        Raises
        ------
        InputError
            Where they spell different units, or fewer than two.
        """
        first, second = self._boundaries(question), self._boundaries(answer)
        if first[0] != second[0]:
            raise InputError(f"the texts spell different {self.units}: {first[0]!r} and {second[0]!r}")
        if len(first[1]) == 0:
            raise InputError(f"there are fewer than two {self.units}")
        return sum(a != b for a, b in zip(first[1], second[1], strict=True)) / len(first[1])

    def _boundaries(self, text: str) -> tuple[str, list[bool]]:
        spots = [match.start() for match in self._unit.finditer(text)]
        owner: dict[int, int] = {}
        for number, (start, stop) in enumerate(self.cuts(text)):
            for place in range(start, stop):
                owner.setdefault(place, number)
        between = [owner.get(a) != owner.get(b) for a, b in pairwise(spots)]
        return "".join(text[spot] for spot in spots), between

    def reformat(self, text: str) -> str:
        """The text with separators between neighbouring units, the first that makes every unit a token of its own.

        A text that is atomic already stays as it is.

        Raises
        ------
        InputError
            Where no separator does: the vocabulary lacks the units themselves.
        """
        if self._is_atomic(text):
            return text
        pattern = re.compile(f"({self._unit.pattern})(?={self._unit.pattern})")
        for separator in SEPARATORS:
            candidate = pattern.sub(lambda match, s=separator: match[0] + s, text)  # type: ignore[misc]
            if self._is_atomic(candidate):
                return candidate
        raise InputError(f"no separator makes every one of the {self.units} a token", where=self.tokenizer.where)

    def _is_atomic(self, text: str) -> bool:
        units, alone, _ = self.counts(text)
        return units == alone
