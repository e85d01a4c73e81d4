"""The outcome of planning: every measured point, the choice and why, as JSON, a table and a page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sememe.errors import InputError


@dataclass
class Plan:
    """A finished plan. ``document`` is what ``plan.json`` holds; the rest reads it."""

    document: dict[str, Any]

    @property
    def reference(self) -> dict[str, Any]:
        """The best exact full-precision recipe."""
        return self.document["reference"]

    @property
    def chosen(self) -> dict[str, Any]:
        """The chosen point."""
        return self.document["chosen"]

    @property
    def frontier(self) -> list[dict[str, Any]]:
        """Points that no other beats in both bytes and quality, smallest first."""
        return self.document["frontier"]

    @property
    def recipe(self) -> str:
        """The chosen recipe: what to build."""
        return self.chosen["recipe"]

    @property
    def command(self) -> str:
        """The exact command that builds the chosen index."""
        return self.document["command"]

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Write ``plan.json`` and ``report.html`` into ``folder``; returns both paths."""
        from sememe.planner import report

        place = Path(folder)
        try:
            place.mkdir(parents=True, exist_ok=True)
            (place / "plan.json").write_text(json.dumps(self.document, ensure_ascii=False, indent=1), encoding="utf-8")
            report.write(self.document, place / "report.html")
        except OSError as error:
            raise InputError(f"cannot write the plan ({error})", where=str(place)) from None
        return place / "plan.json", place / "report.html"

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a ``plan.json``."""
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
            document["chosen"]["recipe"]
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"this is not a plan ({error})", where=str(path), fix="give a plan.json") from None
        return cls(document)


def build_command(source: str, recipe: str, reading: Mapping[str, Any], target: str = "my.index") -> str:
    """The shell command that builds ``recipe`` over ``source``, read in the same way."""
    command = f"sememe build {shlex.quote(source)} --recipe {shlex.quote(recipe)} -o {shlex.quote(target)}"
    for name in ("format", "text_field", "title_field", "id_field", "on_duplicate"):
        if reading.get(name, "error") not in ("error", None):
            command += f" --{name.replace('_', '-')} {shlex.quote(str(reading[name]))}"
    return command + (" --strict" if reading.get("strict") else "")
