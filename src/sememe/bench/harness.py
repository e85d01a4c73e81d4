"""Taking the time: contenders in turn, medians, elapsed and processor time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

FEWEST = 3  # rounds, however long they take
PATIENCE = 60.0  # seconds that the rounds of one table may take


@dataclass(frozen=True, slots=True)
class Settings:
    """How a bench runs.

    Attributes
    ----------
    rounds : int
        Rounds that count; fewer, but not below three, where a table takes longer than a minute.
    threads : int
        Of every contender. They are to be set in the environment before a library starts its own: see
        ``sememe bench``.
    size : int or None
        Vectors, texts or words, whatever the bench counts; its own default where None.
    data : Path or None
        Folder of evaluation data; SEMEME_DATA where None.
    vectors, queries : Path or None
        float32 or float16 ``.npy`` files of unit rows to use instead of vectors made here; for ``sparse`` ``.npz``
        files as ``scipy.sparse.save_npz`` writes them.
    seed : int
    """

    rounds: int = 5
    threads: int = 1
    size: int | None = None
    data: Path | None = None
    vectors: Path | None = None
    queries: Path | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Spent:
    """Median seconds of one call, on the clock and of the processor."""

    elapsed: float
    processor: float

    def seconds(self, threads: int) -> float:
        """Processor time with one thread, which other work on the machine disturbs less; else elapsed time."""
        return self.processor if threads == 1 else self.elapsed


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its head, and the format specification of its cells."""

    name: str
    format: str = ""


@dataclass(slots=True)
class Table:
    """What a bench found. Cells are numbers or text; None where there is nothing to say."""

    title: str
    columns: list[Column]
    rows: list[list[Any]] = field(default_factory=list)
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Every row as a dictionary."""
        names = [column.name for column in self.columns]
        return {"title": self.title, "note": self.note, "rows": [dict(zip(names, row)) for row in self.rows]}

    def cells(self) -> list[list[str]]:
        """Every cell as text."""
        return [[_cell(value, column.format) for value, column in zip(row, self.columns)] for row in self.rows]


def _cell(value: Any, spec: str) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else format(value, spec)


def clocks() -> tuple[float, float]:
    """Elapsed and processor seconds, from any origin."""
    return time.perf_counter(), time.process_time()


def once(call: Callable[[], Any]) -> tuple[Spent, Any]:
    """The time of one call, and its result: for what is done only once, such as building."""
    clock, processor = clocks()
    result = call()
    after = clocks()
    return Spent(after[0] - clock, after[1] - processor), result


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Spent]:
    """Median time of each call, over rounds that run all of them, every other round backwards; one more warms up."""
    found: dict[str, list[Spent]] = {name: [] for name in calls}
    began = time.perf_counter()
    for number in range(rounds + 1):
        for name in list(calls) if number % 2 else list(calls)[::-1]:
            spent, _ = once(calls[name])
            if number:
                found[name].append(spent)
        if number >= min(FEWEST, rounds) and time.perf_counter() - began > PATIENCE:
            break
    return {
        name: Spent(median(s.elapsed for s in each), median(s.processor for s in each)) for name, each in found.items()
    }
