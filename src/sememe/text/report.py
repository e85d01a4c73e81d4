"""What a reader left out or altered: nothing is dropped without being counted here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sememe.errors import InputError

Action = Literal["ignored", "skipped", "changed"]
EXAMPLES = 5  # sources kept for each reason; the count goes on


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that did not come in as it lay on disk.

    Attributes
    ----------
    source : str
        ``file:line``, or a file or folder.
    what : str
        The reason, the same words for every notice of its sort.
    action : {"ignored", "skipped", "changed"}
        ``ignored``: a file or folder that is not read by rule. ``skipped``: a record that was left out.
        ``changed``: a record that came in with something replaced or left off.
    detail : str
        What more is known about this one.
    """

    source: str
    what: str
    action: Action = "skipped"
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.source}: {self.what}" + (f" ({self.detail})" if self.detail else "")


@dataclass(slots=True)
class ReadReport:
    """Counts of one reading; complete when the reader is exhausted.

    Attributes
    ----------
    records, characters, bytes : int
        Records delivered, and the characters and UTF-8 bytes of their texts (titles not included).
    counts : dict of (action, reason) -> int
        How often each thing happened.
    examples : dict of (action, reason) -> list of Notice
        The first few of each.
    strict : bool
        Where true, anything that would be skipped or changed is an InputError instead.
    """

    strict: bool = False
    records: int = 0
    characters: int = 0
    bytes: int = 0
    counts: dict[tuple[Action, str], int] = field(default_factory=dict)
    examples: dict[tuple[Action, str], list[Notice]] = field(default_factory=dict)

    def note(self, source: str, what: str, action: Action = "skipped", detail: str = "") -> None:
        """Count one notice; under ``strict`` raise it, unless it is only an ignored file.

        Raises
        ------
        InputError
            When ``strict`` is set and the action is ``skipped`` or ``changed``.
        """
        notice = Notice(source, what, action, detail)
        if self.strict and action != "ignored":
            raise InputError(what + (f" ({detail})" if detail else ""), where=source)
        key = (action, what)
        self.counts[key] = self.counts.get(key, 0) + 1
        kept = self.examples.setdefault(key, [])
        if len(kept) < EXAMPLES:
            kept.append(notice)

    @property
    def notices(self) -> list[Notice]:
        """The kept examples of every reason, in the order the reasons first appeared."""
        return [notice for kept in self.examples.values() for notice in kept]

    def total(self, action: Action) -> int:
        """How many notices of one action were counted."""
        return sum(count for (done, _), count in self.counts.items() if done == action)

    def summary_lines(self) -> list[str]:
        """Lines for a person: what came in, then each reason with its count and where it first happened."""
        lines = [f"{self.records:,} records, {self.characters:,} characters"]
        for (action, what), count in self.counts.items():
            kept = self.examples[action, what]
            places = ", ".join(n.source + (f" ({n.detail})" if n.detail else "") for n in kept[:3])
            more = ", ..." if count > 3 else ""
            lines.append(f"{action} {count:,}: {what} [{places}{more}]")
        return lines

    def require_records(self, source: str) -> None:
        """Raise an InputError that gives the reasons when nothing at all was read from ``source``."""
        if self.records:
            return
        reasons = "; ".join(self.summary_lines()[1:4]) or "there is nothing in it"
        raise InputError(
            f"no record could be read: {reasons}",
            where=source,
            fix="give a folder of md, txt, rst, html, py or pdf files, or a jsonl, csv, tsv or parquet file",
        )
