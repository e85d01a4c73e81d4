"""Needles in real text for small models: names and values strewn into bytes of a book, asked for at the end.

Each name has values of its own, so that a model of two layers learns within a few hundred steps what to look for: what
is left to test is whether it still finds it from far away. Where a name is given several times, it must also tell
which of them came last, which nothing but positions says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sememe.errors import InputError
from sememe.evidence.positions import BYTES
from sememe.lab.data import Ids

if TYPE_CHECKING:
    from sememe.lab.model import Shape

NAMES, VALUES = 8, 16
VOCABULARY = BYTES + NAMES * (1 + VALUES)
GROWING = {32: 120, 64: 60, 128: 60, 256: 60}
_BYTE = 0.05  # what a byte counts in training beside an answer
_RECALLED = 0.1  # and beside a value that recurs


@dataclass(frozen=True, slots=True, eq=False)
class Hay:
    """Texts with needles.

    Attributes
    ----------
    ids : int64 ndarray of shape (n, l)
        Bytes, then pairs of a name and its value; the pairs of the needles stand in the text too.
    answers : int64 ndarray of shape (a,)
        Places of the values that are asked for, the same in every row.
    depths : int64 ndarray of shape (n, a)
        How far before its answer each needle's value stands.
    """

    ids: Ids
    answers: Ids
    depths: Ids

    def __len__(self) -> int:
        return len(self.ids)

    def cut(self, length: int) -> Hay:
        """The last ``length`` symbols of each text, with the same questions."""
        lost = max(0, self.ids.shape[1] - length)
        return Hay(self.ids[:, lost:], self.answers - lost, self.depths)


def hay(
    text: Ids, n: int, length: int, needles: int, generator: np.random.Generator, *, near: int = 0, repeats: int = 1
) -> Hay:
    """``n`` texts of ``length`` symbols with ``needles`` names each, no nearer to the end than ``near``.

    Each name is given ``repeats`` times, with a value drawn anew; the last one counts.
    """
    body = length - 2 * needles
    slots = np.arange(0, body - 1 - near, 2)
    if needles * repeats > len(slots):
        raise InputError(f"{needles} names {repeats} times do not fit texts of {length}", fix="longer texts, or fewer")
    starts = generator.integers(len(text) - length, size=n)
    ids = text[starts[:, None] + np.arange(length)].copy()
    order = np.argsort(generator.random((n, len(slots))), axis=1)[:, : needles * repeats]
    at = slots[order]
    names = BYTES + np.argsort(generator.random((n, NAMES)), axis=1)[:, :needles]
    every = np.tile(names, repeats)  # column r * needles + i belongs to name i
    values = BYTES + NAMES + (every - BYTES) * VALUES + generator.integers(VALUES, size=every.shape)
    rows = np.arange(n)[:, None]
    ids[rows, at], ids[rows, at + 1] = every, values
    last = at.reshape(n, repeats, needles).argmax(axis=1) * needles + np.arange(needles)
    asked = body + 2 * np.arange(needles)
    ids[:, asked], ids[:, asked + 1] = names, values[rows, last]
    return Hay(ids, asked + 1, asked + 1 - (at[rows, last] + 1))


def recurring(text: Ids, n: int, length: int, generator: np.random.Generator, *, every: int = 16) -> Ids:
    """``n`` texts ``(n, length)`` in which names recur, each with the one value that it has in that text.

    A pair of a name and its value stands in every ``every`` symbols, at a place drawn within them. Which value a name
    has, only an earlier mention tells, so that a longer context is worth something at every place of a text.
    """
    starts = generator.integers(len(text) - length, size=n)
    ids = text[starts[:, None] + np.arange(length)].copy()
    pairs = length // every
    at = every * np.arange(pairs) + generator.integers(every - 1, size=(n, pairs))
    names, own = generator.integers(NAMES, size=(n, pairs)), generator.integers(VALUES, size=(n, NAMES))
    rows = np.arange(n)[:, None]
    ids[rows, at], ids[rows, at + 1] = BYTES + names, BYTES + NAMES + names * VALUES + own[rows, names]
    return ids


class Seeker:
    """A small model of bytes and needles, trained on texts of growing length up to its context.

    Parameters
    ----------
    text : int64 ndarray
    shape : Shape
    seed : int
    steps : dict of int to int
        How many steps at which length; needles are hard to find at first, so begin with short texts.
    repeats : int
        How often each name is given a value, of which the last counts.
    """

    def __init__(
        self, text: Ids, shape: Shape, seed: int, steps: dict[int, int] | None = None, *, repeats: int = 1
    ) -> None:
        from sememe.evidence.positions import small_lm
        from sememe.lab.train import Recipe, train

        self.model = small_lm("rotary", shape, seed, VOCABULARY)
        generator = np.random.default_rng([seed, 1])
        for length, count in (steps or GROWING).items():
            needles, batch = (4, 32) if length < 64 else (NAMES, max(6, 1_024 // length))

            def order(length: int = length, needles: int = needles, batch: int = batch) -> Iterator[Ids]:
                while True:
                    yield hay(text, batch, length, needles, generator, repeats=repeats).ids

            train(_weighted(self.model, needles), order(), Recipe(steps=count, rate=4e-3, floor=0.3))
        self.model.eval()

    def accuracy(self, found: Hay, *, low: int = 0, high: int | None = None) -> float:
        """Share of right answers among needles whose depth is in ``[low, high)``."""
        said = np.concatenate([part.argmax(-1).numpy() for part in self._answers(found)])
        right = said == found.ids[:, found.answers] - BYTES - NAMES
        inside = (found.depths >= low) & (found.depths < (high or found.ids.shape[1]))
        return float(right[inside].mean())

    def certainty(self, found: Hay) -> float:
        """Mean log-probability of the right values."""
        import torch

        nats = torch.cat([part.log_softmax(-1) for part in self._answers(found)])
        right = torch.from_numpy(found.ids[:, found.answers] - BYTES - NAMES)
        return float(nats.gather(-1, right[..., None]).mean())

    def _answers(self, found: Hay) -> Iterator[Any]:
        """Logits over values where they are asked for, ``(n, a, values)``, in batches."""
        import torch

        for start in range(0, len(found), 8):
            with torch.no_grad():
                states = self.model.states(torch.from_numpy(found.ids[start : start + 8, :-1]))
                yield self.model.head(states[:, found.answers])[..., BYTES + NAMES :]


def recurring_windows(text: Ids, batch: int, length: int, seed: int) -> Iterator[Ids]:
    """Endless batches ``(batch, length)`` of `recurring` texts, with at least eight names each."""
    generator = np.random.default_rng([seed, length])
    while True:
        yield recurring(text, batch, length, generator, every=min(16, length // NAMES))


def recaller(text: Ids, shape: Shape, seed: int, steps: dict[int, int]) -> Any:
    """A `SmallLM` with a learned table of positions that recalls the values of `recurring` texts.

    It is trained on texts of growing length. Whenever it is trained, a value counts ten times a byte, or a few hundred
    steps would not teach it to look for names; what it is measured by counts all symbols alike.
    """
    import torch

    from sememe.lab.model import SmallLM, seeded, table
    from sememe.lab.train import Recipe, train

    class Recaller(SmallLM):
        def nll(self, ids: Any) -> Any:
            nats = super().nll(ids)
            if not self.training:
                return nats
            weight = torch.where(ids >= BYTES + NAMES, 1.0, _RECALLED)
            return nats * weight / weight.mean()

    with seeded(seed):
        model = Recaller(table(VOCABULARY, shape.dim), shape=shape, positions="learned")
    for length, count in steps.items():
        order = recurring_windows(text, max(12, 1_024 // length), length, seed)
        train(model, order, Recipe(steps=count, rate=4e-3, floor=0.3))
    return model


def _weighted(model: Any, needles: int) -> Any:
    """The model with losses that count answers more."""
    import torch
    from torch import nn

    class Weighted(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def nll(self, ids: Any) -> Any:
            nats = self.model.nll(ids)
            weight = torch.full((ids.shape[1],), _BYTE)
            weight[ids.shape[1] - 2 * needles + 1 :: 2] = 1.0
            return nats * weight / weight.mean()

    return Weighted()
