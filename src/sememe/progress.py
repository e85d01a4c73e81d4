"""Progress of long work, on standard error only: a bar on a terminal, a plain line every ten seconds elsewhere.

    with progress.task("encoding", total=len(texts), unit="texts") as step:
        for batch in batches:
            ...
            step(len(batch))

Nothing is shown for work that ends within two seconds. The command line chooses the mode; a library user sees nothing
unless they call ``set_mode``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

Mode = Literal["auto", "json", "quiet"]
_mode: Mode = "quiet"
_PATIENCE = 2.0  # seconds before anything is shown
_PLAIN_EVERY = 10.0  # seconds between plain lines


def set_mode(mode: Mode) -> None:
    """Choose how progress is shown: ``auto``, ``json`` (a line an update) or ``quiet``."""
    global _mode
    _mode = mode


class Step:
    """Call it with the number of units just done."""

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self.started = self._last = time.monotonic()
        self._bar: Any = None
        self._bar_task: Any = None
        self._terminal = sys.stderr.isatty()

    def __call__(self, count: int = 1) -> None:
        """Report ``count`` more units as done."""
        self.done += count
        if _mode == "quiet":
            return
        now = time.monotonic()
        if now - self.started < _PATIENCE:
            return
        if _mode == "auto" and self._terminal:
            self._draw()
        elif now - self._last >= (1.0 if _mode == "json" else _PLAIN_EVERY):
            self._last = now
            self._line(now)

    def seconds_left(self) -> float | None:
        """Estimated seconds to the end, where the total is known."""
        if not self.total or not self.done:
            return None
        return (time.monotonic() - self.started) / self.done * max(self.total - self.done, 0)

    def _line(self, now: float) -> None:
        left = self.seconds_left()
        rate = self.done / max(now - self.started, 1e-9)
        if _mode == "json":
            fields = {"stage": self.label, "done": self.done, "total": self.total, "unit": self.unit}
            text = json.dumps({**fields, "rate": round(rate, 1), "seconds_left": left and round(left, 1)})
        else:
            total = f"/{self.total:,}" if self.total else ""
            ending = f", about {left:.0f} s left" if left is not None else ""
            text = f"{self.label}: {self.done:,}{total} {self.unit}, {rate:,.0f}/s{ending}"
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def _draw(self) -> None:
        from rich import progress as bars
        from rich.console import Console

        if self._bar is None:
            columns = (
                bars.TextColumn("{task.description}"),
                bars.BarColumn(),
                bars.MofNCompleteColumn(),
                bars.TextColumn(self.unit),
                bars.TimeRemainingColumn(),
            )
            self._bar = bars.Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar_task = self._bar.add_task(self.label, total=self.total)
            self._bar.start()
        self._bar.update(self._bar_task, completed=self.done)

    def close(self) -> None:
        """Take the bar away; a plain or JSON stage that was shown gets its last line."""
        if self._bar is not None:
            self._bar.stop()
        elif _mode != "quiet" and self._last > self.started:
            self._line(time.monotonic())


@contextmanager
def task(label: str, *, total: int | None = None, unit: str = "items") -> Iterator[Step]:
    """Report the progress of one stage of work; yields a callable that takes the number of units done."""
    step = Step(label, total, unit)
    try:
        yield step
    finally:
        step.close()
