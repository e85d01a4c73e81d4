"""Passkeys and needles for encoders: which of many long texts holds the one sentence that is asked for?

Zhu et al., "LongEmbed: Extending Embedding Models for Long Context Retrieval", 2024, arXiv 2404.12096. Every text is
filler of a wanted length with one sentence of interest at a random depth; a query names what that sentence is about. An
encoder that reads the whole text finds it, one that reads the beginning finds it by luck. With real text as filler a
task differs from the paper's, whose passkeys stand in one repeated line; the templates of names and facts are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sememe.catalog import register
from sememe.contracts import Vectors
from sememe.errors import InputError

_FIRST = (
    "Ada Boris Clara Diego Elena Farid Grace Hiro Ivan Julia Kofi Lena Marco Nadia Oscar Priya Quinn Rosa Sven Tara"
)
_LAST = "Abbott Bell Castro Dumont Eriksen Fischer Gupta Haddad Ito Jensen Keller Lopez Moreau Novak Okafor Petrov"
_FACTS = (
    ("The best thing to do in {place} is to {deed}.", "What is the best thing to do in {place}?"),
    ("Every visitor to {place} is told to {deed}.", "What are visitors to {place} told to do?"),
    ("In {place}, the old custom on Sundays is to {deed}.", "What is the old Sunday custom in {place}?"),
)
_PLACES = (
    "Lisbon Oslo Kyoto Nairobi Quito Prague Havana Cairo Dublin Hanoi Lima Tunis Riga Seoul Accra Porto Bergen Split "
    "Leeds Turin Cusco Dakar Perth Osaka Sofia Ghent Basel Malmo Natal Varna"
)
_DEEDS = (
    "eat a sandwich in the park",
    "climb the lighthouse at noon",
    "feed the geese by the canal",
    "ride the last tram to the sea",
    "buy a blue umbrella at the market",
    "listen to the brass band at dawn",
)


@dataclass(frozen=True, slots=True)
class LongTask:
    """Texts of about equal length, and one query for each.

    Attributes
    ----------
    documents, queries : tuple of str
        Query ``i`` is answered by document ``i`` alone.
    depths : tuple of float
        Where in its text each sentence stands, 0 at the beginning and 1 at the end.
    size : int
        The wanted length, in the units of the counter.
    """

    documents: tuple[str, ...]
    queries: tuple[str, ...]
    depths: tuple[float, ...]
    size: int

    def accuracy(self, passages: Vectors, queries: Vectors) -> float:
        """Share of queries whose best passage is the right one, of unit rows ``(n, d)``; ties count as wrong."""
        if len(passages) != len(self.documents) or len(queries) != len(self.queries):
            raise InputError(f"{len(passages)} and {len(queries)} vectors for {len(self.documents)} texts")
        scores = queries @ passages.T
        own = scores.diagonal().copy()
        np.fill_diagonal(scores, -np.inf)
        return float((own > scores.max(axis=1)).mean())


def _long(
    facts: Sequence[tuple[str, str]], filler: str, size: int, count: Callable[[str], int], generator: Any
) -> LongTask:
    """Put each fact at a random depth of filler of its own."""
    words = filler.split()
    if not facts or size < 16:
        raise InputError(f"{len(facts)} texts of {size} are no task", fix="give at least one, and a size of 16")
    rate = count(" ".join(words[:2_000])) / min(len(words), 2_000)
    if len(words) * rate < size:
        raise InputError(f"filler of {len(words)} words is shorter than {size}", fix="give more text")
    documents, depths = [], []
    for fact, _ in facts:
        wanted = max(1, int((size - count(fact)) / rate))
        start = int(generator.integers(max(1, len(words) - wanted)))
        part = words[start : start + wanted]
        while len(part) > 1 and count(" ".join([*part, fact])) > size:
            part = part[: -max(1, int(0.01 * len(part)))]
        depth = float(generator.random())
        at = round(depth * len(part))
        documents.append(" ".join([*part[:at], fact, *part[at:]]))
        depths.append(depth)
    return LongTask(tuple(documents), tuple(query for _, query in facts), tuple(depths), size)


@register(
    "passkey",
    room="measure",
    kind="task",
    summary="which long text holds this person's pass key, by length of the texts",
)
def passkey(
    filler: str, size: int, *, n: int = 50, count: Callable[[str], int] | None = None, seed: int = 0
) -> LongTask:
    """Each text says one person's pass key; a query asks for that of one person.

    Parameters
    ----------
    filler : str
        Real text, at least ``size`` long.
    size : int
        Length of the texts, at most, as ``count`` counts.
    n : int
        Texts, at most 320.
    count : function, optional
        Tokens of a text; its words when not given.
    seed : int
    """
    generator = np.random.default_rng(seed)
    people = [f"{first} {last}" for first in _FIRST.split() for last in _LAST.split()]
    if n > len(people):
        raise InputError(f"{n} texts, and {len(people)} names", fix=f"give at most {len(people)}")
    chosen = generator.permutation(len(people))[:n]
    facts = [
        (
            f"{people[i]}'s pass key is {generator.integers(10_000, 100_000)}. Remember it.",
            f"What is the pass key of {people[i]}?",
        )
        for i in chosen
    ]
    return _long(facts, filler, size, count or (lambda text: len(text.split())), generator)


@register(
    "needle", room="measure", kind="task", summary="which long text holds this one odd fact, by length of the texts"
)
def needle(
    filler: str, size: int, *, n: int = 30, count: Callable[[str], int] | None = None, seed: int = 0
) -> LongTask:
    """Each text holds one odd fact about a place; a query asks about one place. Parameters as for `passkey`."""
    generator = np.random.default_rng(seed)
    places = _PLACES.split()
    if n > len(places):
        raise InputError(f"{n} texts, and {len(places)} places", fix=f"give at most {len(places)}")
    facts = []
    for place in generator.permutation(places)[:n]:
        said, asked = _FACTS[generator.integers(len(_FACTS))]
        deed = _DEEDS[generator.integers(len(_DEEDS))]
        facts.append((said.format(place=place, deed=deed), asked.format(place=place)))
    return _long(facts, filler, size, count or (lambda text: len(text.split())), generator)
