"""Contenders in one table: the same documents in the same order, the same seeds, the same budget."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sememe.errors import InputError
from sememe.lab.data import Corpus, Ids, Stream, batches, stream_of
from sememe.lab.model import count, seeded
from sememe.lab.score import score_stream
from sememe.lab.train import Recipe, train

_SAMPLES = 2_000


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """What is compared.

    Attributes
    ----------
    name : str
    build : function
        ``build(seed)`` gives an untrained model with ``nll``; PyTorch's generator is seeded around the call.
    train, held_out : Stream
        The same documents for all contenders, each in its own symbols.
    """

    name: str
    build: Callable[[int], Any]
    train: Stream
    held_out: Stream

    @classmethod
    def on(
        cls,
        corpus: Corpus,
        name: str,
        build: Callable[[int], Any],
        tokenizer: Any,
        *,
        vocabulary: int | None = None,
    ) -> Contender:
        """A contender on text by a tokenizer (as `sememe.lab.data.encode` takes it)."""
        sides = (stream_of(tokenizer, side, vocabulary=vocabulary) for side in (corpus.train, corpus.held_out))
        return cls(name, build, *sides)


@dataclass(frozen=True, slots=True)
class Run:
    """One contender trained once.

    Attributes
    ----------
    name, steps, seed
    bits : list of float
        Of each held-out document.
    parameters, bytes, tokens_per_second, memory, seconds, also
        As in `Row`.
    """

    name: str
    steps: int
    seed: int
    bits: list[float]
    parameters: int
    bytes: int
    tokens_per_second: float
    memory: int
    seconds: float
    also: dict[str, float]


class RunLog:
    """Finished runs, a line of JSON each, appended as they end.

    Parameters
    ----------
    path : path, optional
        Where they are kept; in memory only when not given. A last line that was cut off is left out.
    setting : dict
        Everything else that the runs depend on; runs of another setting are not found.

    Raises
    ------
    InputError
        A file that holds something else, or a folder that is not there.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, setting: dict[str, Any] | None = None) -> None:
        self.path = None if path is None else Path(path)
        text = json.dumps(setting or {}, sort_keys=True, default=str)
        self._setting = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._runs: dict[tuple[str, int, int], Run] = {}
        if self.path is None:
            return
        if not self.path.parent.is_dir():
            raise InputError("there is no such folder for a log", where=str(self.path.parent), fix="make it first")
        if self.path.exists():
            lines = [line for line in self.path.read_text(encoding="utf-8").splitlines() if line.strip()]
            if lines and not any(_is_run(line) for line in lines):
                raise InputError("this file is no log of runs", where=str(self.path), fix="name a new file")
            for line in lines:
                try:
                    entry = json.loads(line)
                    if entry.pop("setting") == self._setting:
                        run = Run(**entry)
                        self._runs[run.name, run.steps, run.seed] = run
                except (ValueError, TypeError, KeyError, AttributeError):
                    continue

    def find(self, name: str, steps: int, seed: int, documents: int) -> Run | None:
        """The run of these, if it is kept and was measured on as many documents."""
        run = self._runs.get((name, steps, seed))
        return run if run is not None and len(run.bits) == documents else None

    def keep(self, run: Run) -> None:
        """Add a run."""
        self._runs[run.name, run.steps, run.seed] = run
        if self.path is not None:
            entry = {"setting": self._setting, **asdict(run)}
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write("\n" + json.dumps(entry) + "\n")  # a line that a kill cut off ends here
            except OSError as error:
                raise InputError(f"cannot be written ({error.strerror})", where=str(self.path)) from None


def _is_run(line: str) -> bool:
    """Whether a line was written by a log, be it for another setting or cut off."""
    return line.startswith('{"setting": ')


@dataclass(frozen=True, slots=True)
class Row:
    """One contender at one budget.

    Attributes
    ----------
    name, steps
    loss : (float, float, float)
        Bits a byte on held-out documents, mean over seeds, with its 95 % interval over seeds and documents.
    gap : (float, float, float)
        That minus the first contender's at the same budget, paired by seed and document.
    by_seed : dict of seed to float
    parameters, bytes : int
        Of the whole model, as it is in memory.
    tokens_per_second, bytes_per_second : float
        Of training, the median over seeds; bytes of text.
    memory : int
        See `History.memory`.
    seconds : float
        Of training, mean over seeds.
    also : dict
        Means over seeds of what ``also`` measured.
    """

    name: str
    steps: int
    loss: tuple[float, float, float]
    gap: tuple[float, float, float]
    by_seed: dict[int, float]
    parameters: int
    bytes: int
    tokens_per_second: float
    bytes_per_second: float
    memory: int
    seconds: float
    also: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values by name; the triples as ``{"value", "low", "high"}``."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        for name in ("loss", "gap"):
            plain[name] = dict(zip(("value", "low", "high"), plain[name]))
        return plain


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows, contenders in the order given, budgets ascending within."""

    rows: list[Row]

    def row(self, name: str, steps: int | None = None) -> Row:
        """One row; the largest budget when none is given."""
        found = [row for row in self.rows if row.name == name and steps in (None, row.steps)]
        if not found:
            raise InputError(f"there is no row {name!r}", fix=f"known: {', '.join({row.name for row in self.rows})}")
        return found[-1]

    def as_json(self) -> list[dict[str, Any]]:
        """The rows as plain values."""
        return [row.as_json() for row in self.rows]


def compare(
    contenders: Sequence[Contender],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    steps: Sequence[int] = (300,),
    recipe: Recipe | None = None,
    batch: int = 16,
    length: int = 128,
    match: Literal["steps", "bytes"] = "steps",
    also: Callable[[Contender, Any, int], dict[str, float]] | None = None,
    log: RunLog | None = None,
) -> Comparison:
    """Train every contender with every seed at every budget, and score it on the held-out documents.

    Parameters
    ----------
    contenders : sequence of Contender
        The first is what the others are compared with.
    seeds : sequence of int
        Of weights and data order, the same for all.
    steps : sequence of int
        Budgets; each is a run with a schedule of its own.
    recipe : Recipe, optional
        Everything else about training; its ``steps`` is not used.
    batch, length : int
        Symbols a step: ``batch * length``.
    match : {"steps", "bytes"}
        With bytes, every contender sees about as much text as the first does in ``steps`` (within half a step), and
        takes as many steps as its symbols need for it.
    also : function, optional
        ``also(contender, trained model, seed)`` gives further numbers by name.
    log : RunLog, optional
        Where finished runs are kept, so that an interrupted comparison goes on where it stopped.
    """
    _check(contenders, seeds, steps)
    recipe = recipe or Recipe()
    log = log or RunLog()
    first = contenders[0]
    rows: dict[tuple[int, int], Row] = {}
    for budget in sorted(steps):
        runs: list[list[Run]] = [[] for _ in contenders]
        needed = budget * batch * length / first.train.tokens_per_byte
        for seed in seeds:  # contenders take turns, so that a busy machine slows all of them
            for place, contender in enumerate(contenders):
                own = budget if match == "steps" else contender.train.steps_for(round(needed), batch, length)
                run = log.find(contender.name, own, seed, len(contender.held_out))
                if run is None:
                    run = _run(contender, seed, replace(recipe, steps=own), batch, length, also)
                    log.keep(run)
                runs[place].append(run)
        for place, contender in enumerate(contenders):
            rows[place, budget] = _row(contender, runs[place], runs[0])
    return Comparison([rows[key] for key in sorted(rows)])


def _check(contenders: Sequence[Contender], seeds: Sequence[int], steps: Sequence[int]) -> None:
    if not contenders or not seeds or not steps:
        raise InputError("a comparison needs a contender, a seed and a budget")
    if len({contender.name for contender in contenders}) < len(contenders):
        raise InputError("two contenders have the same name", fix="give each its own")
    for contender in contenders:
        if not np.array_equal(contender.held_out.sizes, contenders[0].held_out.sizes):
            raise InputError(
                f"{contender.name!r} is measured on other documents than {contenders[0].name!r}",
                fix="give the same documents to all",
            )


def _run(
    contender: Contender,
    seed: int,
    recipe: Recipe,
    batch: int,
    length: int,
    also: Callable[[Contender, Any, int], dict[str, float]] | None,
) -> Run:
    with seeded(seed):
        model = contender.build(seed)
        order = batches(contender.train, batch, length, seed=seed)
        history = train(model, order, recipe, label=contender.name)
    bits = score_stream(model, contender.held_out, context=length).bits
    return Run(
        contender.name,
        recipe.steps,
        seed,
        bits.tolist(),
        count(model),
        _bytes(model),
        history.tokens_per_second,
        history.memory,
        history.seconds,
        also(contender, model, seed) if also else {},
    )


def _row(contender: Contender, runs: list[Run], first: list[Run]) -> Row:
    sizes = contender.held_out.sizes
    bits, against = (np.array([run.bits for run in found]) for found in (runs, first))
    speed = float(np.median([run.tokens_per_second for run in runs]))
    return Row(
        name=contender.name,
        steps=runs[0].steps,
        loss=spread(bits, sizes),
        gap=spread(bits - against, sizes),
        by_seed={run.seed: float(row.sum() / sizes.sum()) for run, row in zip(runs, bits)},
        parameters=runs[0].parameters,
        bytes=runs[0].bytes,
        tokens_per_second=speed,
        bytes_per_second=speed / contender.train.tokens_per_byte,
        memory=max(run.memory for run in runs),
        seconds=float(np.mean([run.seconds for run in runs])),
        also={name: float(np.mean([run.also[name] for run in runs])) for name in runs[0].also},
    )


def spread(bits: NDArray[np.float64], sizes: Ids, seed: int = 0) -> tuple[float, float, float]:
    """Mean over seeds of ``sum(bits) / sum(sizes)``, with its 95 % interval over seeds and documents.

    Parameters
    ----------
    bits : ndarray of shape (seeds, n)
    sizes : ndarray of shape (n,)
    seed : int
        Of the resampling.
    """
    generator = np.random.default_rng(seed)
    runs, n = bits.shape
    drawn = generator.multinomial(n, np.full(n, 1 / n), size=_SAMPLES).astype(np.float64)  # how often each document
    ratios = (drawn @ bits.T) / (drawn @ sizes)[:, None]  # (samples, seeds)
    picked = generator.integers(runs, size=(_SAMPLES, runs))
    means = np.take_along_axis(ratios, picked, axis=1).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(bits.sum(axis=1).mean() / sizes.sum()), float(low), float(high)


def _bytes(model: Any) -> int:
    return int(sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()))
