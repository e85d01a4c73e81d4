"""Token layers in one table: the same small model, text, steps and seeds, at matched budgets."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from sememe import catalog
from sememe.errors import BudgetError, InputError, UsageError
from sememe.lab.compare import RunLog
from sememe.lab.data import Corpus, pack
from sememe.lab.model import Shape
from sememe.lab.train import Recipe
from sememe.tokens.base import TokenEmbedding
from sememe.tokens.factory import build, layer_class, names, parameters_of
from sememe.tokens.trial import LayerTrial, Maker
from sememe.tokens.vocabulary import Vocabulary
from sememe.vocab.sample import read_sample
from sememe.vocab.tokenizer import TokenizerFile

BASELINE = "table"
BUDGETS = ("100%", "25%", "10%", "1%")


def compare(
    tokenizer: str | os.PathLike[str],
    text: Sequence[str | os.PathLike[str]] = (),
    *,
    texts: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    budgets: Sequence[str] = BUDGETS,
    steps: int = 300,
    seeds: int = 3,
    dim: int = 64,
    depth: int = 2,
    context: int = 64,
    batch: int = 8,
    rate: float = 3e-3,
    log: str | os.PathLike[str] | None = None,
    forecast: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Train every token layer in the same small model on a text, and measure what each is worth.

    A tenth of the documents is held out. The output layer is a plain one of its own for all; only the input layer
    differs. A layer that cannot have a budget (within 5 %) is listed with the reason; one whose size the vocabulary
    and the width decide is measured once, at that size.

    Parameters
    ----------
    tokenizer : path
        A ``tokenizer.json``, or a model folder.
    text : list of paths
        Text files, JSONL, folders; see `sememe.vocab.sample.read_sample`.
    texts : list of str, optional
        Documents themselves instead.
    layers : list of str, optional
        See `sememe.tokens.names`; all when not given. The plain table is always measured, as what the others are
        compared with.
    budgets : list of str
        Shares of the plain table (``"10%"``), or parameters (``"250k"``).
    steps, seeds : int
        Batches of ``batch x context`` symbols, and runs of each.
    dim, depth, context, batch : int
        Of the small model and its batches.
    rate : float
        Highest learning rate, the same for all.
    log : path, optional
        Finished runs are appended here, and not run again: an interrupted comparison goes on where it stopped.
    forecast : function, optional
        Told before training how many models there are, and how many steps each takes.

    Returns
    -------
    dict
        ``setting``, ``rows`` (the plain table first, then by budget and loss) and ``skipped``. A row has ``layer``,
        ``budget``, ``parameters``, ``bytes`` and ``multiply_adds`` (of the layer, the last a token), ``loss`` and
        ``gap`` to the plain table (bits a byte: ``value``, ``low``, ``high``), ``typos`` (bits a byte with a tenth of
        the letters disturbed), ``after_rare`` (bits of a symbol that follows a rare one; None where there is none) and
        ``tokens_per_second``.

    Raises
    ------
    UsageError, InputError
        Unknown layers or budgets, or text that is too short.
    """
    if min(steps, seeds, dim, depth, context, batch) < 1:
        raise UsageError("steps, seeds and sizes must be positive")
    if not budgets or (layers is not None and not layers):
        raise UsageError("no layer or no budget to compare", fix='name some, as in "kronecker" and "10%"')
    chosen = list(layers) if layers is not None else names()
    for name in chosen:
        catalog.find(name, kind="layer")
    trial, notices = _trial(tokenizer, text, texts, Shape(dim=dim, layers=depth, heads=_heads(dim), context=context))
    entries, skipped = _entries(trial.vocabulary, chosen, budgets, dim)
    setting = {
        "corpus": trial.corpus.digest,
        "tokenizer": trial.vocabulary.digest,
        "steps": steps,
        "dim": dim,
        "depth": depth,
        "context": context,
        "batch": batch,
        "rate": rate,
    }
    if forecast is not None:
        forecast(seeds * len(entries), steps)
    makers = {label: entry["make"] for label, entry in entries.items()}
    found = trial.run(
        makers,
        steps=steps,
        seeds=tuple(range(seeds)),
        batch=batch,
        recipe=Recipe(rate=rate),
        log=_log(log, setting),
    )
    rows = [_row(entry, found.row(label), label) for label, entry in entries.items()]
    return {
        "tokenizer": str(tokenizer),
        "setting": {
            **setting,
            "seeds": seeds,
            "symbols": len(trial.vocabulary),
            "symbols_used": len(trial.used),
            "train": {"documents": len(trial.corpus.train), "bytes": trial.corpus.train_bytes},
            "held_out": {"documents": len(trial.corpus.held_out), "bytes": trial.corpus.held_out_bytes},
        },
        "rows": [rows[0], *sorted(rows[1:], key=lambda row: (-row["wanted"], row["loss"]["value"]))],
        "skipped": skipped,
        "notices": notices,
    }


def _trial(
    tokenizer: str | os.PathLike[str],
    text: Sequence[str | os.PathLike[str]],
    texts: Sequence[str] | None,
    shape: Shape,
) -> tuple[LayerTrial, list[str]]:
    notices: list[str] = []
    if texts is None:
        sample = read_sample(text)
        notices = sample.notices
        # plain texts come as long pieces; a document for each page or so makes a split possible
        texts = [part for piece in sample.pieces for part in pack(piece)] or sample.texts
    if len({part for part in texts if part.strip()}) < 2:
        raise InputError("the text is too short to hold a part of it out", fix="give several pages or documents")
    return LayerTrial(Corpus.split(texts), TokenizerFile.open(tokenizer), shape.checked()), notices


def _log(path: str | os.PathLike[str] | None, setting: dict[str, Any]) -> RunLog:
    try:
        return RunLog(path, setting)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"no log of runs can be kept here ({why})", where=str(path), fix="name a new file") from None


def _heads(dim: int) -> int:
    """As many heads of at least 16 dimensions, and an even number, as fit."""
    return next((heads for heads in (8, 4, 2) if dim % heads == 0 and dim // heads >= 16 and dim // heads % 2 == 0), 1)


def _entries(
    vocabulary: Vocabulary, layers: Sequence[str], budgets: Sequence[str], dim: int
) -> tuple[dict[str, dict[str, Any]], list[dict[str, str]]]:
    """What is trained, by label, the plain table first; and what cannot be, with the reason."""
    full = len(vocabulary) * dim
    found = {f"{BASELINE} 100%": _entry(vocabulary, BASELINE, None, "100%", dim)}
    skipped: list[dict[str, str]] = []
    for name in dict.fromkeys(layers):
        if name == BASELINE:
            continue
        kind = layer_class(name)
        if kind.sized.__func__ is TokenEmbedding.sized.__func__:  # type: ignore[attr-defined]
            found[name] = _entry(vocabulary, name, None, "its own", dim)
            continue
        for budget in dict.fromkeys(budgets):
            try:
                parameters_of(budget, full)
                found[f"{name} {budget}"] = _entry(vocabulary, name, budget, budget, dim)
            except BudgetError as error:
                skipped.append({"layer": name, "budget": budget, "reason": str(error)})
    return found, skipped


def _entry(vocabulary: Vocabulary, name: str, budget: str | None, shown: str, dim: int) -> dict[str, Any]:
    layer = build(name, vocabulary, dim, budget)
    return {
        "layer": name,
        "budget": shown,
        "wanted": layer.size,
        "multiply_adds": layer.multiply_adds,
        "make": _maker(name, budget, dim),
    }


def _maker(name: str, budget: str | None, dim: int) -> Maker:
    make: Callable[[Vocabulary, int], Any] = lambda vocabulary, seed: build(name, vocabulary, dim, budget, seed=seed)  # noqa: E731
    return make


def _row(entry: dict[str, Any], row: Any, label: str) -> dict[str, Any]:
    def triple(values: tuple[float, float, float]) -> dict[str, float]:
        return dict(zip(("value", "low", "high"), values))

    if not row.loss[0] == row.loss[0]:
        raise InputError(f"{label} has a loss that is no number")
    return {
        "layer": entry["layer"],
        "budget": entry["budget"],
        "wanted": entry["wanted"],
        "parameters": int(row.also["layer_parameters"]),
        "bytes": int(row.also["layer_bytes"]),
        "multiply_adds": entry["multiply_adds"],
        "loss": triple(row.loss),
        "gap": triple(row.gap),
        "by_seed": row.by_seed,
        "typos": row.also["typos"],
        "after_rare": None if math.isnan(row.also["after_rare"]) else row.also["after_rare"],
        "tokens_per_second": row.tokens_per_second,
    }
