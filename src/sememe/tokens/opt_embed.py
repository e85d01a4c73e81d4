"""Which rows a feature table needs, and how wide each field must be: learned, searched, and then trained anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sememe.catalog import Paper, register
from sememe.errors import BudgetError, InputError, MissingDependency
from sememe.tokens.features import FeatureTable

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a feature table") from None


class _Step(torch.autograd.Function):  # type: ignore[misc]
    """1 where the input is positive; backwards the long-tailed estimator of dynamic sparse training."""

    @staticmethod
    def forward(context: Any, x: Any) -> Any:
        context.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(context: Any, above: Any) -> Any:
        (x,) = context.saved_tensors
        far = x.abs()
        slope = torch.where(far <= 0.4, 2 - 4 * far, torch.where(far <= 1, 0.4, 0.0))
        return above * slope


def step(x: Any) -> Any:
    """Unit step with a slope for training: ``2 - 4 |x|`` to 0.4, then 0.4 to 1, then none."""
    return _Step.apply(x)


@register(
    "optembed",
    room="tokens",
    kind="feature table",
    summary="learned thresholds say which rows stay, a supernet and a search how wide each field is",
    paper=Paper("OptEmbed: Learning Optimal Embedding Table for Click-through Rate Prediction", 2022, "2208.04482"),
    claim="Pruning rows and choosing widths together gives smaller tables with better accuracy.",
)
class OptEmbed(FeatureTable):
    """A table to be pruned: a row of field ``f`` counts where its L1 norm is above ``t_f``.

    In training each batch draws a width for every field, uniform from 1 to ``dim``, and hides the later dimensions: one
    table learns to serve all widths. `penalty` pushes the thresholds up, the loss pushes them down. `search` then looks
    for widths, and `pruned` gives the table to be trained anew. In evaluation the widths are those of ``kept_widths``.

    What the paper leaves open: the norm is compared in units of ``dim`` (mean absolute entry), so that the surrogate
    slope, which ends at 1, reaches every row whatever the width; thresholds begin at zero, where all rows stay.

    Parameters
    ----------
    sizes : sequence of int
        Values of each field.
    dim : int
        The widest a field may be.
    strength : float
        Weight of ``sum_f exp(-t_f)`` in the loss.
    seed : int
        Of the widths drawn in training.
    """

    def __init__(self, sizes: Sequence[int], dim: int, strength: float = 1e-3, seed: int = 0) -> None:
        super().__init__(sizes, (dim,) * len(sizes))
        if strength < 0:
            raise InputError(f"strength={strength}", where="optembed", fix="give a number that is not negative")
        self.dim, self.strength, self.seed = dim, strength, seed
        self.weight = nn.Parameter(0.02 * torch.randn(sum(self.sizes), dim))
        self.thresholds = nn.Parameter(torch.zeros(len(self.sizes)))
        self.kept_widths = [dim] * len(self.sizes)
        self._generator = torch.Generator().manual_seed(seed)
        self.register_buffer("field", torch.arange(len(self.sizes)).repeat_interleave(torch.tensor(self.sizes)), False)

    def forward(self, ids: Any) -> Any:
        """Vectors ``(b, f dim)`` with hidden rows and dimensions zero."""
        self.local(ids)
        rows = F.embedding(ids, self.weight)
        kept = step(rows.abs().mean(-1) - self.thresholds)
        if self.training:
            widths = torch.randint(1, self.dim + 1, (len(self.sizes),), generator=self._generator)
        else:
            widths = torch.tensor(self.kept_widths)
        shown = (torch.arange(self.dim) < widths[:, None]).to(rows.dtype)
        return (rows * kept[..., None] * shown).flatten(1)

    def penalty(self) -> Any:
        """What training adds to its loss."""
        return self.strength * torch.exp(-self.thresholds).sum()

    def margins(self) -> Any:
        """How far each row's mean absolute entry is above its field's threshold, ``(v,)``."""
        with torch.no_grad():
            return self.weight.abs().mean(1) - self.thresholds[self.field]

    def kept(self) -> Any:
        """Which rows stay, bool ``(v,)``."""
        return self.margins() > 0

    def search(
        self,
        score: Callable[[Sequence[int]], float],
        parameters: int,
        *,
        rounds: int = 12,
        population: int = 16,
        seed: int = 0,
        rows: Any = None,
    ) -> list[int]:
        """Widths of the fields that score best, by an evolutionary search, among tables of at most so many parameters.

        Parameters
        ----------
        score : function
            How good widths ``(f,)`` are, with these weights, on rows that validate; higher is better.
        parameters : int
            The most that the rows that stay may hold together.
        rounds, population : int
            ``population`` widths are scored in each round: half of the next are mixtures of two of the best, half
            changes of one.
        seed : int
        rows : bool Tensor of shape (v,), optional
            Rows that stay, instead of those above their thresholds.

        Raises
        ------
        BudgetError
            Where even one dimension a row is more than that.
        """
        generator = np.random.default_rng(seed)
        counts = torch.bincount(self.field[self.kept() if rows is None else rows], minlength=len(self.sizes)).numpy()
        if counts.sum() > parameters:
            raise BudgetError(
                f"{counts.sum():,} rows stay, which {parameters:,} parameters do not hold", fix="raise the strength"
            )

        def within(widths: Any) -> tuple[int, ...]:
            """The widths, shrunk at random places until they fit."""
            widths = np.clip(widths, 1, self.dim)
            while (counts * widths).sum() > parameters:
                wide = np.flatnonzero(widths > 1)
                over = (counts * widths).sum() / parameters
                field = generator.choice(wide)
                widths[field] = max(1, min(widths[field] - 1, int(widths[field] / over)))
            return tuple(int(width) for width in widths)

        share = parameters / max(int(counts.sum()), 1)
        tried: dict[tuple[int, ...], float] = {}
        now = [within(np.full(len(counts), int(share)))]
        now += [within(generator.integers(1, self.dim + 1, size=len(counts))) for _ in range(population - 1)]
        for _ in range(rounds):
            for chosen in now:
                if chosen not in tried:
                    tried[chosen] = score(chosen)
            best = sorted(tried, key=lambda known: -tried[known])[: max(2, population // 4)]
            now = []
            for child in range(population):
                first, second = (np.array(best[int(i)]) for i in generator.integers(len(best), size=2))
                mixture = np.where(generator.random(len(counts)) < 0.5, first, second)
                if child % 2:
                    changed = generator.random(len(counts)) < 0.25
                    mixture = np.where(changed, generator.integers(1, self.dim + 1, size=len(counts)), mixture)
                now.append(within(mixture))
        found = max(tried, key=lambda known: tried[known])
        return list(found)

    def pruned(self, widths: Sequence[int], rows: Any = None) -> PrunedTable:
        """A new table of the rows that stay (or of those in ``rows``, bool ``(v,)``), with these widths."""
        return PrunedTable(self.sizes, self.dim, widths, self.kept() if rows is None else rows)


@register(
    "pruned-features",
    room="tokens",
    kind="feature table",
    summary="a table that stores some rows of each field, at the field's own width; the rest are zeros",
)
class PrunedTable(FeatureTable):
    """What pruning leaves: ``sum_f rows_f widths_f`` parameters, and one bit a value that says whether it has a row.

    Vectors are padded with zeros to ``dim``, so that a model sees the shapes it knows.

    Parameters
    ----------
    sizes : sequence of int
        Values of each field.
    dim : int
    widths : sequence of int
        Dimensions stored for each field, 1 to ``dim``.
    kept : bool Tensor of shape (v,)
        Which values have a row.
    """

    def __init__(self, sizes: Sequence[int], dim: int, widths: Sequence[int], kept: Any) -> None:
        super().__init__(sizes, (dim,) * len(sizes))
        self.dim, self.stored = dim, tuple(map(int, widths))
        kept = torch.as_tensor(kept, dtype=torch.bool)
        if len(self.stored) != len(self.sizes) or not all(1 <= width <= dim for width in self.stored):
            raise InputError(f"widths={list(widths)}", where="pruned-features", fix=f"1 to {dim} for each field")
        if kept.shape != (sum(self.sizes),):
            raise InputError(f"kept of shape {tuple(kept.shape)}", fix=f"one for each of {sum(self.sizes):,} values")
        rows = [int(part.sum()) for part in kept.split(self.sizes)]
        self.register_buffer("bits", torch.from_numpy(np.packbits(kept.numpy())))
        self.weights = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(count, width)) for count, width in zip(rows, self.stored)
        )
        self._number()

    def _number(self) -> None:
        """Place of each value in its field's rows, the one behind the last for those without."""
        kept = torch.from_numpy(np.unpackbits(self.bits.numpy(), count=sum(self.sizes)).astype(bool))
        place = [torch.where(part, part.cumsum(0) - 1, int(part.sum())) for part in kept.split(self.sizes)]
        self.register_buffer("place", torch.cat(place), persistent=False)

    def _load_from_state_dict(self, *given: Any) -> None:
        super()._load_from_state_dict(*given)
        self._number()

    @property
    def kept(self) -> Any:
        """Which values have a row, bool ``(v,)``."""
        return torch.from_numpy(np.unpackbits(self.bits.numpy(), count=sum(self.sizes)).astype(bool))

    def forward(self, ids: Any) -> Any:
        """Vectors ``(b, f dim)``; values without a row give zeros."""
        self.local(ids)
        places = self.place[ids]
        vectors = [
            F.embedding(places[:, field], F.pad(weight, (0, self.dim - weight.shape[1], 0, 1)))
            for field, weight in enumerate(self.weights)
        ]
        return torch.cat(vectors, dim=1)
