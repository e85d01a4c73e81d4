"""Every way of making rows for another tokenizer, in one table: what each costs, and what the model is worth after."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe import progress
from sememe.errors import InputError, UsageError
from sememe.vocab.folder import ModelFolder
from sememe.vocab.initialize import WordVectors, make, methods, quick
from sememe.vocab.sample import Sample, from_texts, read_sample
from sememe.vocab.subject import Subject, Trial, peak_memory
from sememe.vocab.tokenizer import TokenizerFile
from sememe.vocab.transplant import Donor, moved_ids, new_tables

ORIGINAL = "original"


def compare(
    model: str | os.PathLike[str],
    tokenizer: str | os.PathLike[str],
    text: Sequence[str | os.PathLike[str]] = (),
    *,
    texts: Sequence[str] | None = None,
    train: Sequence[str | os.PathLike[str]] = (),
    train_texts: Sequence[str] | None = None,
    steps: int = 0,
    rate: float = 3e-4,
    names: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seeds: int = 3,
    words: tuple[WordVectors, WordVectors] | None = None,
    embed: Callable[[Sequence[str]], Any] | None = None,
) -> dict[str, Any]:
    """Give a model a donor's tokenizer by every method, and measure its loss on a text.

    Nothing is written. The model's own loss comes first; with ``steps`` it is trained as long as the others, so that
    what further training brings by itself is seen.

    Parameters
    ----------
    model : path
        A Hugging Face folder of a causal or a masked language model, with safetensors.
    tokenizer : path
        The donor: a ``tokenizer.json``, or a model folder, whose tables some methods need.
    text : list of paths
        Held-out text to measure on; see `sememe.vocab.sample.read_sample`.
    texts : list of str, optional
        That text itself instead.
    train, train_texts
        Text to train on, and for methods that learn from text; never the held-out one.
    steps : int
        Batches of 8 x 128 tokens to train for, all parameters; 0 measures right after surgery only.
    rate : float
        Highest learning rate.
    names : list of str, optional
        Methods; see `sememe.vocab.initialize.methods`. By default all but those that train on the model's loss.
    options : dict of method to dict, optional
        Their parameters.
    seeds : int
        Of what a method draws and of the order of training.
    words, embed
        Word vectors and a text encoder, for methods that need them.

    Returns
    -------
    dict
        ``unit``, ``held_out``, ``left_out`` (slow methods that were not named), and ``rows``, the original first, then
        by loss, then what was skipped. A row has ``method``, ``skipped`` (why, or None), ``loss`` and ``trained``
        (``value``, ``low``, ``high``, ``by_seed``;
        95 % intervals over seeds and texts), ``copied``, ``made``, ``fallback``, ``seconds`` and ``memory`` (bytes, of
        making the rows), ``train_seconds`` and ``train_memory``.

    Raises
    ------
    InputError
        A model without a loss, a donor that does not fit, or text too short to train on.

    Examples
    --------
    >>> sememe.vocab.compare("model", "donor", ["held-out.txt"])["rows"]  # doctest: +SKIP
    """
    chosen = list(names) if names is not None else quick()
    left_out = [] if names is not None else [name for name in methods() if name not in chosen]
    settings = {name: dict((options or {}).get(name, {})) for name in chosen}
    unused = sorted(set(options or {}) - set(chosen))
    if unused:
        raise UsageError(f"options are given for {', '.join(unused)}, which is not compared")
    makers = {name: make(name, **settings[name]) for name in chosen}  # unknown names end it before anything is read
    if steps < 0 or seeds < 1:
        raise UsageError(f"steps={steps}, seeds={seeds} cannot be measured", fix="steps from 0, seeds from 1")
    folder = ModelFolder.open(model)
    held = from_texts(texts) if texts is not None else read_sample(text)
    learn = from_texts(train_texts) if train_texts is not None else read_sample(train) if train else Sample()
    if steps and not learn.texts:
        raise UsageError("there is no text to train on", fix="give one, other than the held-out text")
    donor, notices = _donor(tokenizer)
    donor = donor.fitting(folder)
    for role in folder.tables:  # a table with NaN is no method's fault
        folder.read(role)
        donor.table(role)
    subject = Subject(folder)
    old, new = folder.tokenizer(), donor.tokenizer
    trial = Trial(subject, held.texts, [old, new])
    race = _Race(subject, trial, learn.texts, steps, rate, tuple(range(seeds)))
    start = _start(folder)
    moved = moved_ids(folder, old, new).get(start) if start is not None else None
    if start is not None and moved is None:
        moved = new.roles.get("bos", new.roles.get("eos"))
    rows = [{"method": ORIGINAL, "skipped": None, **race.run(old, start, [None] * seeds)}]
    known = {"text": learn.texts, "words": words, "embed": embed}
    with progress.task("comparing", total=len(chosen), unit="methods") as step:
        for name, maker in makers.items():
            try:
                made, report = _made(folder, donor, maker, known, seeds)
            except InputError as error:
                rows.append({"method": name, "skipped": str(error)})
            else:
                rows.append({"method": name, "skipped": None, **report, **race.run(new, moved, made)})
            step()
    if chosen and all(row["skipped"] for row in rows[1:]):
        raise InputError(f"no method can be compared: {rows[1]['skipped']}", where=str(tokenizer))
    notices += [*held.notices, *learn.notices, *_losses(trial, [("model", old), ("donor", new)])]
    return {
        "model": str(folder.path),
        "donor": str(tokenizer),
        "kind": subject.kind,
        "unit": trial.unit,
        "held_out": {"texts": len(trial.texts), "bytes": race.bytes, "left_out": trial.left_out},
        "steps": steps,
        "seeds": seeds,
        "left_out": left_out,
        "rows": [rows[0], *sorted(rows[1:], key=_rank)],
        "notices": notices,
    }


class _Race:
    """The same measurement for everyone."""

    def __init__(
        self, subject: Subject, trial: Trial, texts: Sequence[str], steps: int, rate: float, seeds: tuple[int, ...]
    ) -> None:
        self.subject, self.trial, self.texts = subject, trial, list(texts)
        self.steps, self.rate, self.seeds = steps, rate, seeds
        self.bytes = 0

    def run(
        self, tokenizer: TokenizerFile, start: int | None, tables: Sequence[Mapping[str, NDArray[Any]] | None]
    ) -> dict[str, Any]:
        """Loss before and after training; ``tables`` of each seed, None for the model's own."""
        before: list[Any] = []
        after: list[Any] = []
        histories = []
        for place, seed in enumerate(self.seeds):
            # Equal tables, as most methods make from any seed, are measured once.
            same = place > 0 and _equal(tables[place], tables[0])
            if same and not self.steps:
                before.append(before[0])
                continue
            model = self._model(tables[place])
            wrapped = self.subject.wrapped(model, tokenizer, start)
            before.append(before[0] if same else self.trial.score(wrapped, tokenizer))
            if self.steps:
                histories.append(
                    self.subject.train(wrapped, tokenizer, self.texts, steps=self.steps, rate=self.rate, seed=seed)
                )
                after.append(self.trial.score(wrapped, tokenizer))
        self.bytes = int(before[0].sizes.sum())
        return {
            "loss": self._spread(before),
            "trained": self._spread(after) if after else None,
            "tokens": before[0].tokens,
            "train_seconds": float(np.mean([h.seconds for h in histories])) if histories else None,
            "train_memory": max(h.memory for h in histories) if histories else None,
        }

    def _model(self, tables: Mapping[str, NDArray[Any]] | None) -> Any:
        if tables is not None:
            return self.subject.with_tables(tables)
        if not self.steps:
            return self.subject.model
        import copy

        return copy.deepcopy(self.subject.model)

    def _spread(self, scores: Sequence[Any]) -> dict[str, Any]:
        from sememe.lab.compare import spread

        value, low, high = spread(np.array([score.bits for score in scores]), scores[0].sizes)
        return {"value": value, "low": low, "high": high, "by_seed": [score.value for score in scores]}


def _equal(a: Mapping[str, NDArray[Any]] | None, b: Mapping[str, NDArray[Any]] | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or all(np.array_equal(a[name], b[name]) for name in a)


def _made(
    folder: ModelFolder, donor: Donor, maker: Any, known: Mapping[str, Any], seeds: int
) -> tuple[list[Mapping[str, NDArray[Any]]], dict[str, Any]]:
    """Tables of each seed, and what making the first cost. Where two seeds make the same, the others do too."""
    started = time.perf_counter()
    with peak_memory() as memory:
        first, report = new_tables(folder, donor, maker, seed=0, **known)
    seconds = time.perf_counter() - started
    made: list[Mapping[str, NDArray[Any]]] = [first]
    for seed in range(1, seeds):
        if seed > 1 and made[1] is first:
            made.append(first)
            continue
        other, _ = new_tables(folder, donor, maker, seed=seed, **known)
        made.append(first if _equal(first, other) else other)
    total = {name: report["input"][name] for name in ("copied", "made", "fallback")}
    return made, {**total, "seconds": seconds, "memory": memory[0]}


def _donor(path: str | os.PathLike[str]) -> tuple[Donor, list[str]]:
    """The donor, with its tables where it has some."""
    try:
        return Donor.open(path, weights=True), []
    except InputError as error:
        bare = Donor.open(path)
        return bare, [f"the donor's tokenizer alone is used: {error}"] if Path(path).is_dir() else []


def _start(folder: ModelFolder) -> int | None:
    number = folder.config.get("bos_token_id")
    return number if type(number) is int and 0 <= number < len(folder.tokenizer().tokens) else None


def _losses(trial: Trial, tokenizers: Sequence[tuple[str, TokenizerFile]]) -> list[str]:
    """What makes losses of different tokenizers hard to compare: text that they cannot write."""
    out = []
    for name, tokenizer in tokenizers:
        encoded = tokenizer.encode_batch(trial.texts)
        unknown = sum(ids.count(tokenizer.unknown) for ids in encoded) if tokenizer.unknown is not None else 0
        if unknown:
            share = unknown / max(sum(map(len, encoded)), 1)
            out.append(f"{share:.2%} of the {name}'s tokens are the unknown one, which is cheap to guess")
        lower = [tokenizer.encode_batch([text.lower()])[0] for text in trial.texts[:50]]
        if trial.texts[:50] != [text.lower() for text in trial.texts[:50]] and lower == encoded[:50]:
            out.append(f"the {name}'s tokenizer drops the case of letters, and is not charged for it")
    if trial.left_out:
        out.append(f"{trial.left_out} passages do not fit the model's context and are left out")
    return out


def _rank(row: Mapping[str, Any]) -> tuple[bool, float]:
    if row["skipped"]:
        return True, 0.0
    return False, (row["trained"] or row["loss"])["value"]
