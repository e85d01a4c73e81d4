"""A result as JSON, as lines for a terminal, and as its section of the page of benchmarks."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sememe.bench.harness import Settings, Table
from sememe.bench.machine import Limits
from sememe.errors import InputError

_HEAD = """# Benchmarks

Sememe beside its peers. Each section was written by the command in it, which takes the times of all contenders in one
run, turn about, with the same threads, on real text; figures are medians. Trust ratios before absolute times. Ours are
in bold. The limits are measured in the same run: memory is read by summing 256 MiB, multiply-adds are those of NumPy's
float32 matrix product. `sememe bench` lists the benches; `pip install 'sememe[bench]'` brings the peers.
"""


def _today() -> str:
    return datetime.date.today().isoformat()


@dataclass(frozen=True, slots=True)
class Result:
    """What one bench found, and where."""

    bench: str
    settings: Settings
    machine: dict[str, Any]
    limits: Limits
    tables: list[Table]
    left_out: list[str]
    seconds: float
    date: str = field(default_factory=_today)

    @property
    def command(self) -> str:
        """What runs this again."""
        given = self.settings
        words = ["sememe bench", self.bench]
        for name, value in (("rounds", given.rounds), ("threads", given.threads), ("size", given.size)):
            if value is not None and value != getattr(Settings(), name):
                words += [f"--{name}", str(value)]
        for name, path in (("vectors", given.vectors), ("queries", given.queries)):
            if path is not None:
                words += [f"--{name}", path.name]
        return " ".join(words)

    @property
    def place(self) -> str:
        """The machine and its limits, in a line."""
        m = self.machine
        parts = [
            m["processor"],
            f"{self.settings.threads} of {m['cores']} cores",
            m["last_level_cache"] and f"last-level cache {m['last_level_cache']}",
            m["memory_gb"] and f"{m['memory_gb']:g} GB",
            m["system"],
            f"Python {m['python']}",
            f"native core {m['native']}",
            None if m["load"] is None else f"load {m['load']}",
            f"reads {self.limits.bandwidth / 1e9:.1f} GB/s",
            f"{self.limits.multiply_adds / 1e9:.0f} G multiply-adds/s",
        ]
        return ", ".join(str(part) for part in parts if part)

    @property
    def clock(self) -> str:
        """What was timed."""
        return "processor time" if self.settings.threads == 1 else "elapsed time"

    def as_json(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        return {
            "bench": self.bench,
            "command": self.command,
            "date": self.date,
            "seconds": round(self.seconds, 1),
            "clock": self.clock,
            "rounds": self.settings.rounds,
            "threads": self.settings.threads,
            "machine": self.machine,
            "limits": self.limits.as_json(),
            "tables": [table.as_json() for table in self.tables],
            "left_out": self.left_out,
        }

    def text(self) -> list[str]:
        """Lines for a terminal: columns are aligned and never folded."""
        out = [f"{self.place}; {self.clock}, medians", ""]
        for table in self.tables:
            rows = [[column.name for column in table.columns], *table.cells()]
            widths = [max(map(len, column)) for column in zip(*rows)]
            out.append(table.title)
            for row in rows:
                first, *rest = (cell.rjust(width) for cell, width in zip(row, widths))
                out.append("  ".join(["  " + first.strip().ljust(widths[0]), *rest]))
            out += [table.note, ""] if table.note else [""]
        return [*out, *self.left_out]

    def markdown(self) -> str:
        """The section of this bench."""
        out = [
            f"## {self.bench}",
            "",
            f"`{self.command}`, {self.date}, {self.seconds:.0f} s; {self.clock}. {self.place}.",
            "",
        ]
        for table in self.tables:
            out += [f"**{table.title}**", "", _line(c.name for c in table.columns)]
            out.append(_line("---" if not number else "---:" for number, _ in enumerate(table.columns)))
            out += [_line(_marked(row)) for row in table.cells()]
            out += ["", *([table.note, ""] if table.note else [])]
        out += [f"- {line}" for line in self.left_out] + ([""] if self.left_out else [])
        return "\n".join(out)


def _marked(row: list[str]) -> list[str]:
    """Ours in bold, bars kept from ending a cell."""
    cells = [cell.replace("|", "\\|") for cell in row]
    return [f"**{cells[0]}**", *cells[1:]] if cells[0].startswith("sememe") else cells


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def write(result: Result, page: Path) -> None:
    """Put the section of a bench in its place on the page, which is made where it is missing.

    Raises
    ------
    InputError
        Where the page cannot be written.
    """
    try:
        text = page.read_text(encoding="utf-8") if page.exists() else _HEAD
        head, *rest = re.split(r"^(?=## )", text, flags=re.MULTILINE)
        sections = {part.split("\n", 1)[0][3:].strip(): part for part in rest}
        sections[result.bench] = result.markdown()
        ordered = [sections[name].rstrip() + "\n" for name in sorted(sections)]
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(head.rstrip() + "\n\n" + "\n".join(ordered), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write this page ({error.strerror})", where=str(page)) from None
