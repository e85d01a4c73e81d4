"""In which order tokens are worth keeping, and as many of them, with what they need, as there is room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sememe.vocab.sample import script_of

if TYPE_CHECKING:
    from sememe.vocab.tokenizer import TokenizerFile

_SURE = 2  # a token that occurs more often than this is judged by that alone
_COVERED = 1e-3  # of the sample's letters: a script with fewer is not one of its scripts


def of_scripts(tokenizer: TokenizerFile, single: set[int], texts: Iterable[str]) -> set[int]:
    """Those of the characters ``single`` that are of no script, or of one that the texts are written in."""
    letters = Counter(script for text in texts for character in text if (script := script_of(character)))
    least = _COVERED * sum(letters.values())
    covered = {"", *(script for script, count in letters.items() if count >= least)}
    spelled = {number: (tokenizer.text_of(number) or b"").decode("utf-8", "replace") for number in single}
    return {number for number, text in spelled.items() if {script_of(character) for character in text} <= covered}


def keep_order(chance: NDArray[np.float64], counts: Counter[int], unreachable: Iterable[int]) -> list[int]:
    """Tokens in the order in which they are worth keeping: the frequent ones by count, then the likely ones.

    Parameters
    ----------
    chance : float64 ndarray of shape (v,)
        See `sememe.vocab.plausible.chances`.
    counts : Counter of int
        How often the sample uses each token.
    unreachable : iterable of int
        Tokens that no text gives; they are left out.
    """
    never = set(unreachable)
    often = sorted((n for n, count in counts.items() if count > _SURE), key=lambda n: (-counts[n], -chance[n], n))
    first = set(often)
    others = [n for n in np.argsort(-chance, kind="stable").tolist() if n not in first and n not in never]
    return often + [n for n in others if np.isfinite(chance[n]) or n in counts]


def fill(tokenizer: TokenizerFile, order: Iterable[int], kept: set[int], room: int) -> set[int]:
    """Tokens in this order, each with what it needs, as far as there is room."""
    out: set[int] = set()
    needs = _needs(tokenizer)
    for number in order:
        if len(out) >= room:
            break
        if number not in kept and number not in out:
            more = needs(number) - kept - out
            if len(more) <= room - len(out):
                out |= more
    return out


def _needs(tokenizer: TokenizerFile) -> Callable[[int], set[int]]:
    """A function from a token to itself and what merges pass through on the way to it."""
    if tokenizer.model_type != "BPE":
        return lambda number: {number}
    from sememe.vocab.merges import Merges

    merges, ids, tokens = Merges(tokenizer.model), tokenizer.ids, tokenizer.tokens
    return lambda number: {number} | {ids[token] for token in merges.tree(tokens[number]) or ()}
