"""How an experiment is declared, found and run, and the fixed shape of its result."""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sememe import catalog
from sememe.catalog import Paper
from sememe.errors import InputError, UsageError
from sememe.evidence.data import DataFolder

_NOT_EXPERIMENTS = {
    "arithmetic", "articles", "banking", "byte_models", "data", "document", "machinery", "needles", "news_words",
    "positions", "small_bytes", "smollm", "token_layers", "tokens", "transplants",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """What an experiment measured.

    Attributes
    ----------
    measured, baseline : float
        The headline number, and the same number of the obvious alternative.
    interval : (float, float)
        95 % interval of what ``interval_of`` names.
    unit : str
        What the two numbers are.
    interval_of : str
        What the interval belongs to.
    checks : dict of statement to bool
        The claim, taken apart into what was tested here. It held if all of them are true.
    details : dict
        Everything else that was measured, ready for JSON.
    reason : str
        Where the claim did not hold: why, as far as known.
    conditions : str
        Data, model and settings, in one sentence.
    """

    measured: float
    baseline: float
    interval: tuple[float, float]
    unit: str
    interval_of: str
    checks: dict[str, bool]
    details: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    conditions: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A finding with the technique it belongs to: what ``sememe reproduce`` prints."""

    technique: str
    paper: Paper
    claim: str
    finding: Finding
    seeds: int
    seconds: float

    @property
    def held(self) -> bool:
        """Whether every part of the claim that was tested is true here."""
        return all(self.finding.checks.values())

    def as_json(self) -> dict[str, Any]:
        """The fixed shape, and more after it: what the numbers are, the parts of the claim, details, conditions."""
        found = self.finding
        return {
            "technique": self.technique,
            "paper": {"title": self.paper.title, "year": self.paper.year, "arxiv": self.paper.arxiv},
            "claim": self.claim,
            "measured": _rounded(found.measured),
            "baseline": _rounded(found.baseline),
            "held": self.held,
            "interval": [_rounded(end) for end in found.interval],
            "seeds": self.seeds,
            "seconds": round(self.seconds, 1),
            "unit": found.unit,
            "interval_of": found.interval_of,
            "checks": dict(found.checks),
            "details": _plain(found.details),
            "reason": found.reason,
            "conditions": found.conditions,
        }


@dataclass(frozen=True, slots=True)
class Setting:
    """What an experiment gets: the data folder and the seeds it shall use where there is randomness."""

    data: DataFolder
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A declared experiment."""

    name: str
    paper: Paper
    claim: str
    needs: tuple[str, ...]
    random: bool
    run: Callable[[Setting], Finding]


_experiments: dict[str, Experiment] = {}


def experiment(
    name: str, *, paper: Paper, claim: str, needs: tuple[str, ...] = (), random: bool = True
) -> Callable[[Callable[[Setting], Finding]], Callable[[Setting], Finding]]:
    """Declare the experiment of a technique.

    Parameters
    ----------
    name : str
        The technique's name in the catalogue; the file has the same name, with ``_`` for ``-``.
    paper : Paper
    claim : str
        What the paper says, in one sentence.
    needs : tuple of str
        Folders of the evaluation data.
    random : bool
        False where nothing is drawn, so that one run says it all.
    """

    def enter(run: Callable[[Setting], Finding]) -> Callable[[Setting], Finding]:
        _experiments[name] = Experiment(name, paper, claim, needs, random, run)
        return run

    return enter


def reproducible() -> list[str]:
    """Names of all techniques that have evidence, sorted."""
    package = importlib.import_module("sememe.evidence")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in _NOT_EXPERIMENTS:
            importlib.import_module(f"sememe.evidence.{module.name}")
    return sorted(_experiments)


def measured_in(name: str) -> str:
    """The experiment that measures a technique's claim: its own, or that of the neighbour it is a variant of.

    A technique of the second kind names the neighbour in its entry of the catalogue (``measured_in="..."``).
    """
    if name in _experiments:
        return name
    return next((str(t.traits.get("measured_in", name)) for t in catalog.techniques() if t.name == name), name)


def reproduce(name: str, data: str | None = None, *, seeds: int = 3, seed: int = 0) -> Result:
    """Rerun the evidence for a technique.

    Parameters
    ----------
    name : str
        One of `reproducible`.
    data : str, optional
        The folder of evaluation data; the environment variable SEMEME_DATA when not given.
    seeds : int
        How many, where there is randomness.
    seed : int
        The first of them; the others follow.

    Raises
    ------
    UsageError
        A technique without evidence.
    InputError
        Data that is needed and not there.
    """
    import difflib

    names = reproducible()
    name = measured_in(name)
    if name not in _experiments:
        near = difflib.get_close_matches(name, names, n=3)
        raise UsageError(f"there is no evidence for {name!r}", fix=f"known: {', '.join(near or names)}")
    if seeds < 1:
        raise InputError(f"seeds must be at least 1, got {seeds}")
    known = _experiments[name]
    folder = DataFolder(data)
    for need in known.needs:
        folder.require(need)
    drawn = tuple(range(seed, seed + (seeds if known.random else 1)))
    started = time.perf_counter()
    finding = known.run(Setting(folder, drawn))
    return Result(name, known.paper, known.claim, finding, len(drawn), time.perf_counter() - started)


def _rounded(value: float) -> float:
    return float(f"{float(value):.6g}")


def _plain(value: Any) -> Any:
    """Details with keys as text and numbers of six digits, whatever NumPy types they came in."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (bool, str, int)) or value is None:
        return value
    return _rounded(value)
