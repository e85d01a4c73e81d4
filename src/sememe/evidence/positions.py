"""What the experiments on positions share: real text as bytes, small models, and losses at longer inputs."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sememe.evidence.data import DataFolder
from sememe.lab.data import Ids

if TYPE_CHECKING:
    from sememe.lab.model import Shape

BYTES = 256


def book(data: DataFolder, *, held_out: int = 200_000) -> tuple[Ids, Ids]:
    """Bytes of WikiText-2's test part to train on, and ``held_out`` of its validation part to measure on."""
    parts = []
    for part in ("test", "valid"):
        with gzip.open(data.require("wikitext2") / f"{part}.txt.gz", "rb") as file:
            parts.append(np.frombuffer(file.read(), dtype=np.uint8).astype(np.int64))
    return parts[0], parts[1][:held_out]


def windows(ids: Ids, batch: int, length: int, seed: int) -> Any:
    """Endless random windows ``(batch, length)`` of one long text."""
    generator = np.random.default_rng(seed)
    while True:
        starts = generator.integers(len(ids) - length, size=batch)
        yield ids[starts[:, None] + np.arange(length)]


def trained(
    model: Any, ids: Ids, *, steps: int, batch: int, length: int, seed: int, rate: float = 3e-3, parameters: Any = None
) -> Any:
    """The model, trained on random windows of a text."""
    from sememe.lab.train import Recipe, train

    train(model, windows(ids, batch, length, seed), Recipe(steps=steps, rate=rate), parameters=parameters)
    return model


def small_lm(positions: Any, shape: Shape, seed: int, vocabulary: int = BYTES) -> Any:
    """An untrained `SmallLM` over bytes."""
    from sememe.lab.model import SmallLM, seeded, table

    with seeded(seed):
        return SmallLM(table(vocabulary, shape.dim), shape=shape, positions=positions)


def losses(model: Any, held: Ids, lengths: Sequence[int], *, texts: int = 64) -> dict[int, float]:
    """Mean nats a byte at each input length: the same ends of the same texts, read with more and more before them.

    Each of ``texts`` windows of the longest length gives its last bytes, as many as half of the shortest length;
    they are what every length is measured on.
    """
    return {length: float(nats.mean()) for length, nats in losses_by_text(model, held, lengths, texts=texts).items()}


def losses_by_text(model: Any, held: Ids, lengths: Sequence[int], *, texts: int = 64) -> dict[int, NDArray[np.float64]]:
    """What `losses` is the mean of, ``(texts,)`` at each length: for differences of models text by text."""
    import torch

    longest, paid = max(lengths), min(lengths) // 2
    starts = np.linspace(0, len(held) - longest, texts).astype(np.int64)
    whole = torch.from_numpy(held[starts[:, None] + np.arange(longest)])
    was_training, found = model.training, {}
    model.eval()
    with torch.no_grad():
        for length in lengths:
            parts = whole[:, -length:].split(max(1, 16_384 // length))
            nats = torch.cat([model.nll(part)[:, -paid:] for part in parts])
            found[length] = nats.mean(dim=1).double().numpy()
    model.train(was_training)
    return found


def small_encoder(positions: Any, shape: Shape, seed: int) -> Any:
    """An untrained `SmallEncoder` over bytes."""
    from sememe.lab.model import SmallEncoder, seeded, table

    with seeded(seed):
        return SmallEncoder(table(BYTES, shape.dim), shape=shape, positions=positions, seed=seed)


def learned_from_waves(rows: int, trained: int, dim: int, seed: int) -> Any:
    """A `Learned` table whose first ``trained`` rows begin as sinusoids, and the others as usual.

    A table must learn every place by itself, which takes small models more steps than an experiment has; rows that
    begin as waves tell places apart from the first step. Nothing is given to the rows that training never sees.
    """
    import torch

    from sememe.lab.model import seeded
    from sememe.positions.base import Learned, Sinusoidal

    with seeded(seed):
        made = Learned(rows, dim)
    with torch.no_grad():
        made.table[:trained] = Sinusoidal(dim).place(torch.zeros(1, trained, dim))[0]
    return made


def gap_losses(model: Any, held: Ids, lengths: Sequence[int], *, texts: int = 48) -> dict[int, float]:
    """Mean nats a hidden byte at each input length: the same gaps at the end of the same texts.

    A seventh of the last bytes, as many as the shortest length, are hidden; longer inputs have more before them.
    """
    import torch
    from torch.nn import functional as F

    longest, shortest = max(lengths), min(lengths)
    starts = np.linspace(0, len(held) - longest, texts).astype(np.int64)
    whole = torch.from_numpy(held[starts[:, None] + np.arange(longest)])
    hidden = np.random.default_rng(0).random((texts, shortest)) < 1 / 7
    was_training, found = model.training, {}
    model.eval()
    with torch.no_grad():
        for length in lengths:
            ids = whole[:, -length:]
            gaps = torch.zeros_like(ids, dtype=torch.bool)
            gaps[:, -shortest:] = torch.from_numpy(hidden)
            nats = []
            for rows in torch.arange(texts).split(max(1, 16_384 // length)):
                states = model.states(ids[rows], gaps=gaps[rows])[gaps[rows]]
                nats.append(F.cross_entropy(model.head(states), ids[rows][gaps[rows]], reduction="none"))
            found[length] = float(torch.cat(nats).mean())
    model.train(was_training)
    return found


def perplexity(nats: float) -> float:
    """Of a mean loss."""
    return math.exp(nats)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of a few runs, by Student's t."""
    from scipy.stats import t

    found: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return float(found[0]), float(found[0])
    half = float(t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)))
    return float(found.mean() - half), float(found.mean() + half)


def paired(ours: Sequence[NDArray[np.float64]], theirs: Sequence[NDArray[np.float64]]) -> tuple[float, float, float]:
    """Mean of ``ours - theirs``, ``(texts,)`` for each seed, and its 95 % interval over seeds and texts."""
    from sememe.lab.compare import spread as over_seeds_and_texts

    gaps = np.stack(ours) - np.stack(theirs)
    return over_seeds_and_texts(gaps, np.ones(gaps.shape[1], dtype=np.int64))


def by_seed(seeds: Sequence[int], run: Callable[[int], dict[str, Any]]) -> dict[str, list[Any]]:
    """What a run gives for each seed, gathered by name."""
    gathered: dict[str, list[Any]] = {}
    for seed in seeds:
        for name, value in run(seed).items():
            gathered.setdefault(name, []).append(value)
    return gathered
