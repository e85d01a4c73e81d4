"""Small transformers that add: numbers as one vector each, or digit by digit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.errors import MissingDependency
from sememe.lab.model import Shape, Trunk, table

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a model of numbers") from None

PLUS, EQUALS = 10, 11
Ints = NDArray[np.int64]


class Adder(nn.Module):  # type: ignore[misc]
    """Two numbers and an equals sign through a transformer; the sum is read where the sign stood.

    Parameters
    ----------
    code : nn.Module
        ``loss(hidden, numbers)`` and ``decoded(hidden)``: how sums are read.
    shape : Shape
    embed : nn.Module, optional
        Numbers to vectors; the code itself when not given.
    """

    def __init__(self, code: nn.Module, shape: Shape, embed: nn.Module | None = None) -> None:
        super().__init__()
        self.code, self.embed = code, code if embed is None else embed
        self.trunk = Trunk(shape, "learned")
        self.sign = nn.Parameter(torch.randn(shape.dim))

    def states(self, numbers: Any) -> Any:
        """The sign's state ``(b, d)`` of numbers ``(b, l)``."""
        x = torch.cat((self.embed(numbers), self.sign.expand(len(numbers), 1, -1)), dim=1)
        return self.trunk(x, causal=False)[:, -1]

    def nll(self, batch: Any) -> Any:
        """Loss of the last column given the others."""
        return self.code.loss(self.states(batch[:, :-1]), batch[:, -1])  # type: ignore[operator]

    def accuracy(self, batch: Any) -> float:
        """Share of rows whose last column is decoded exactly."""
        with torch.no_grad():
            found = self.code.decoded(self.states(batch[:, :-1]))  # type: ignore[operator]
        return float((found == batch[:, -1]).float().mean())


class DigitAdder(nn.Module):  # type: ignore[misc]
    """The same trunk over ``a + b =`` and the sum, a symbol a digit, trained on the digits of the sum."""

    def __init__(self, shape: Shape, digits: int) -> None:
        super().__init__()
        self.digits = digits
        self.embed = table(12, shape.dim)
        self.trunk = Trunk(shape, "learned")
        self.out = nn.Linear(shape.dim, 10)

    @property
    def given(self) -> int:
        """Symbols before the sum."""
        return 2 * self.digits + 2

    def nll(self, symbols: Any) -> Any:
        """Loss of each digit of the sum."""
        states = self.trunk(self.embed(symbols[:, :-1]), causal=True)[:, self.given - 1 :]
        return F.cross_entropy(self.out(states).flatten(0, 1), symbols[:, self.given :].flatten(), reduction="none")

    def accuracy(self, symbols: Any) -> float:
        """Share of rows whose digits are all right when each is chosen after those before it."""
        found = symbols[:, : self.given]
        with torch.no_grad():
            for _ in range(self.digits + 1):
                last = self.out(self.trunk(self.embed(found), causal=True)[:, -1])
                found = torch.cat((found, last.argmax(-1, keepdim=True)), dim=1)
        return float((found == symbols).all(1).float().mean())


class Routine(nn.Module):  # type: ignore[misc]
    """Sorting by conditional masks, from the largest down.

    Parameters
    ----------
    masking : nn.Module
        `sememe.tokens.binary_number.ConditionalMasking`.
    embed : nn.Module
        Integers to vectors.
    """

    def __init__(self, masking: Any, embed: nn.Module) -> None:
        super().__init__()
        self.masking, self.embed = masking, embed

    def nll(self, numbers: Any) -> Any:
        """Loss of pointing at the largest that remains, ``(b, l - 1)``, with the right masks before."""
        items = self.embed(numbers)
        remaining = torch.ones(numbers.shape, dtype=torch.bool)
        losses = []
        for _ in range(numbers.shape[1] - 1):
            _, logits, _ = self.masking.step(items, remaining)
            wanted = numbers.masked_fill(~remaining, -1)
            top = wanted == wanted.max(1, keepdim=True).values  # equal integers are equally right
            losses.append(logits.logsumexp(1) - logits.masked_fill(~top, -torch.inf).logsumexp(1))
            remaining = remaining.scatter(1, wanted.argmax(1, keepdim=True), False)
        return torch.stack(losses, dim=1)

    def largest(self, numbers: Ints) -> float:
        """Share of lists ``(n, l)`` whose largest integer the first step finds."""
        found = torch.from_numpy(numbers)
        with torch.no_grad():
            _, logits, _ = self.masking.step(self.embed(found), torch.ones(found.shape, dtype=torch.bool))
        return float((found.gather(1, logits.argmax(1, keepdim=True))[:, 0] == found.max(1).values).float().mean())

    def placed(self, numbers: Ints) -> float:
        """Share of places of lists ``(n, l)`` that hold the right integer when all steps are run."""
        found = torch.from_numpy(numbers)
        with torch.no_grad():
            order = self.masking.order(self.embed(found))
        return float((found.gather(1, order) == found.sort(1, descending=True).values).float().mean())


def sums(count: int, digits: int, seed: int) -> Ints:
    """Pairs of numbers below ``10^digits`` and their sums, ``(count, 3)``."""
    pairs = np.random.default_rng(seed).integers(0, 10**digits, size=(count, 2))
    return np.concatenate((pairs, pairs.sum(1, keepdims=True)), axis=1)


def spelled(rows: Ints, digits: int, *, lowest_first: bool = False) -> Ints:
    """``a + b = sum`` as symbols, ``(n, 3 digits + 3)``: fixed width, the sum one digit longer."""
    powers = 10 ** np.arange(digits + 1)

    def digit(numbers: Ints, width: int) -> Ints:
        found = numbers[:, None] // powers[:width] % 10
        return found if lowest_first else found[:, ::-1]

    signs = np.ones((len(rows), 1), dtype=np.int64)
    return np.concatenate(
        (
            digit(rows[:, 0], digits),
            PLUS * signs,
            digit(rows[:, 1], digits),
            EQUALS * signs,
            digit(rows[:, 2], digits + 1),
        ),
        axis=1,
    )


def shuffled(rows: Ints, batch: int, seed: int) -> Iterator[Ints]:
    """Batches of the rows in a new order each time round, without end."""
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(len(rows))
        for start in range(0, len(order) - batch + 1, batch):
            yield rows[order[start : start + batch]]


def student(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean of independent values by Student's distribution; of one value, itself twice."""
    from scipy.stats import t

    reach = 0.0
    if len(values) > 1:
        reach = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()) - reach, float(values.mean()) + reach
