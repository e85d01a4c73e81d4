"""Queries to judge by: the user's own, or honest stand-ins drawn from the text.

A stand-in is a known-item query: something a document is known by (its title or qualified name, else its first
sentence) is taken out of the document, and the document must be found again by it. What was taken out is removed
from the text that is searched, so that nothing is found by its own words.

Agreement queries have no right answer: sentences of the text itself, each searched with its own document left out.
They show how far a smaller recipe changes the ranking of the full-precision one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from sememe.contracts import Record

JudgementKind = Literal["labels", "stand-in", "agreement"]
_WORD = re.compile(r"\w+")


@dataclass
class Questions:
    """Queries, and where known their relevant records.

    Attributes
    ----------
    texts : list of str
        The queries.
    relevant : list of dict
        For each query, record id -> gain; empty dicts where nothing is judged.
    left_out : list of str
        For each query the id of the record to leave out of its ranking ("" for none).
    """

    texts: list[str] = field(default_factory=list)
    relevant: list[dict[str, int]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, name: str, text: str, relevant: dict[str, int] | None = None, left_out: str = "") -> None:
        """Append one query."""
        self.ids.append(name)
        self.texts.append(text)
        self.relevant.append(relevant or {})
        self.left_out.append(left_out)

    def and_also(self, other: Questions) -> Questions:
        """These queries and then the others."""
        return Questions(
            self.texts + other.texts,
            self.relevant + other.relevant,
            self.left_out + other.left_out,
            self.ids + other.ids,
        )

    def without_judgements(self) -> Questions:
        """The same queries with nothing known of what is relevant."""
        return Questions(self.texts, [{} for _ in self.texts], self.left_out, self.ids)

    def take(self, rows: Sequence[int] | np.ndarray) -> Questions:
        """The queries at ``rows``."""
        return Questions(
            [self.texts[i] for i in rows],
            [self.relevant[i] for i in rows],
            [self.left_out[i] for i in rows],
            [self.ids[i] for i in rows],
        )


def judged(queries: dict[str, str], qrels: dict[str, dict[str, int]]) -> Questions:
    """The queries that have at least one relevant document."""
    questions = Questions()
    for name, text in queries.items():
        gains = {doc: gain for doc, gain in qrels.get(name, {}).items() if gain > 0}
        if gains and text.strip():
            questions.add(name, text, gains)
    return questions


def sentences(text: str) -> list[str]:
    """Sentences of a text, roughly: split at full stops and blank lines, white space collapsed."""
    found = re.split(r"(?<=[.!?])\s+|(?<=[。！？])|\n\s*\n", text)
    return [" ".join(s.split()) for s in found if s and s.strip()]


def _words(text: str) -> int:
    return len(_WORD.findall(text))


def _known_by(record: Record) -> tuple[str, str]:
    """How a record is known, and the text that is left without it; ``("", "")`` where it has neither."""
    title = " ".join(record.title.split())
    if title and (_words(title) >= 2 or "." in title) and _words(record.text) >= 8:
        pattern = re.compile(re.escape(title).replace(r"\ ", r"\s+"), re.IGNORECASE)
        rest = pattern.sub(" ", record.text)
        return (title, rest) if _words(rest) >= 8 else ("", "")
    parts = sentences(record.text)
    if len(parts) >= 2 and 4 <= _words(parts[0]) <= 40:
        rest = " ".join(parts[1:])
        rest = rest.replace(parts[0], " ")
        return (parts[0], rest) if _words(rest) >= 8 else ("", "")
    return "", ""


def known_items(records: Sequence[Record], *, limit: int, seed: int) -> tuple[Questions, list[Record]]:
    """Known-item stand-ins, and the collection to search them in (with the leak removed).

    Names that several records share are not used. In the returned collection no record has a title where titles
    are what is asked for, so that no document is favoured.
    """
    generator = np.random.default_rng([seed, 1])
    names = [_known_by(r) for r in records]
    counts = Counter(name.lower() for name, _ in names if name)
    usable = [i for i, (name, _) in enumerate(names) if name and counts[name.lower()] == 1]
    chosen = set(generator.permutation(usable)[:limit].tolist()) if usable else set()
    by_title = sum(names[i][0] == " ".join(records[i].title.split()) for i in chosen) > len(chosen) / 2
    questions, stripped = Questions(), []
    for i, record in enumerate(records):
        if i in chosen:
            name, rest = names[i]
            questions.add(f"known:{record.id}", name, {record.id: 1})
            stripped.append(replace(record, title="", text=rest))
        else:
            # A record without a title and text has nothing left to search; it keeps its title.
            stripped.append(replace(record, title="") if by_title and record.text.strip() else record)
    return questions, stripped


def agreement_queries(records: Sequence[Record], *, limit: int, seed: int) -> Questions:
    """Sentences of the text, each with its own record left out of the ranking."""
    generator = np.random.default_rng([seed, 2])
    questions = Questions()
    for i in generator.permutation(len(records)):
        if len(questions) >= limit:
            break
        record = records[i]
        fitting = [s for s in sentences(record.text[:20_000]) if 5 <= _words(s) <= 40]
        if fitting:
            sentence = fitting[int(generator.integers(len(fitting)))]
            questions.add(f"sentence:{record.id}", sentence, left_out=record.id)
    return questions


@dataclass
class Split:
    """Rows of the judged questions: ``choose`` decides, ``report`` is only looked at afterwards."""

    choose: np.ndarray
    report: np.ndarray


def split(count: int, *, seed: int, report_share: float = 1 / 3) -> Split:
    """A seeded split of ``count`` judged questions; fewer than 12 are all used to choose."""
    order = np.random.default_rng([seed, 3]).permutation(count)
    held = int(count * report_share) if count >= 12 else 0
    return Split(choose=np.sort(order[held:]), report=np.sort(order[:held]))
