"""What the planner knows of the collection: all of it counted, a sample of it measured.

Every record is read once, so that passages, ids and text can be counted exactly; only a sample is kept in memory
for measuring. All judged documents are kept, the rest is a reservoir sample, so that a sample is an honest smaller
collection with the same answers in it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from sememe.contracts import Record
from sememe.errors import InputError
from sememe.index.arrays import encode_text

_STORED = ("id", "text", "title", "source")  # of every record, as UTF-8


@dataclass
class Corpus:
    """The measured sample and the exact counts of the whole.

    Attributes
    ----------
    records : list of Record
        The sample, in the order of the source.
    total_records, total_characters : int
        Counts over the whole source.
    text_bytes : dict of str to int
        UTF-8 bytes of all ids, texts, titles and sources: what ``index.ledger.predict`` calls ``id_bytes`` and so on.
    notices : list of str
        What the reader skipped or altered, in words.
    """

    source: str
    records: list[Record]
    total_records: int
    total_characters: int
    text_bytes: dict[str, int]
    notices: list[str] = field(default_factory=list)

    @property
    def scale(self) -> float:
        """Whole collection over sample, by characters: what extrapolation multiplies by."""
        sampled = sum(len(r.content) for r in self.records)
        return self.total_characters / sampled if sampled else 1.0

    @property
    def is_sample(self) -> bool:
        """True where the measured records are fewer than the whole."""
        return len(self.records) < self.total_records


def load(source: str, records: Iterable[Record], *, keep: set[str], limit: int, seed: int) -> Corpus:
    """Read all of ``records``; keep those named in ``keep`` and a uniform sample of the others, ``limit`` in all.

    Raises
    ------
    InputError
        Where nothing readable was found, or a judged document is missing from the collection.
    """
    generator = random.Random(seed)
    kept: list[tuple[int, Record]] = []
    reservoir: list[tuple[int, Record]] = []
    room = max(limit - len(keep), 1)
    total = characters = others = 0
    sizes = dict.fromkeys(_STORED, 0)
    for position, record in enumerate(records):
        total += 1
        characters += len(record.content)
        for name in _STORED:
            sizes[name] += len(encode_text(getattr(record, name)))
        if record.id in keep:
            kept.append((position, record))
            continue
        others += 1
        if len(reservoir) < room:
            reservoir.append((position, record))
        else:
            place = generator.randrange(others)
            if place < room:
                reservoir[place] = (position, record)
    if not total:
        raise InputError("no readable text was found", where=source, fix="give a folder or file with text in it")
    missing = len(keep) - len(kept)
    if keep and not kept:
        raise InputError(
            "none of the judged documents is in the collection", where=source, fix="check the ids in the qrels file"
        )
    chosen = [record for _, record in sorted(kept + reservoir, key=lambda pair: pair[0])]
    corpus = Corpus(source, chosen, total, characters, {f"{name}_bytes": size for name, size in sizes.items()})
    if missing:
        corpus.notices.append(f"{missing} judged documents are not in the collection; they count as never found")
    return corpus
