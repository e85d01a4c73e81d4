"""Rotary positions whose frequencies are lowered, so that a longer text spans the angles that a model knows."""

from __future__ import annotations

import math
from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.positions.rope_bands import Extended

try:
    import torch
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a position encoding") from None


class Scaled(Extended):
    """Rotary positions with other frequencies for longer texts.

    Parameters
    ----------
    width, context, base
        As for `Extended`.
    factor : float, optional
        How many trained windows a longer text is taken to have; what it has when not given.
    """

    def __init__(self, width: int, context: int, base: float = 10_000.0, factor: float | None = None) -> None:
        super().__init__(width, context, base)
        if factor is not None and not factor >= 1:
            raise InputError(f"factor={factor} extends nothing", fix="give at least 1")
        self.factor = factor

    def scaled(self, factor: Any) -> Any:
        """Frequencies, ``(..., w / 2)``, of texts of ``factor (..., 1)`` windows."""
        raise InputError(f"{type(self).__name__} has no frequencies")

    def near(self, at: Any, factor: Any) -> Any:
        """Angles at those frequencies; texts that fit keep the plain ones."""
        if self.factor is not None:
            factor = torch.where(factor > 1, float(self.factor), 1.0)
        return at[:, None] * torch.where(factor > 1, self.scaled(factor), self.rates)


@register(
    "interpolate",
    room="positions",
    kind="positions",
    summary="positions squeezed into the trained window",
    paper=Paper("Extending Context Window of Large Language Models via Positional Interpolation", 2023, "2306.15595"),
    extends="rotary",
)
class Interpolate(Scaled):
    """All frequencies divided by the factor.

    Chen et al., "Extending Context Window of Large Language Models via Positional Interpolation", 2023,
    arXiv 2306.15595; used on encoders by LongEmbed, arXiv 2404.12096.
    """

    def scaled(self, factor: Any) -> Any:
        """``rates / factor``."""
        return self.rates / factor


@register(
    "ntk",
    room="positions",
    kind="positions",
    summary="slow dimensions interpolated, fast ones left, by a larger base of the frequencies",
    paper=Paper("LongEmbed: Extending Embedding Models for Long Context Retrieval", 2024, "2404.12096"),
    extends="rotary",
)
class NTK(Scaled):
    """A larger base: the slowest pair is divided by the factor, the fastest stays.

    "NTK-aware" scaling has no paper of its own; the form is that of YaRN's section 3.1 (arXiv 2309.00071), used on
    encoders by LongEmbed, arXiv 2404.12096.
    """

    def scaled(self, factor: Any) -> Any:
        """``rates_i / factor ** (i / (w / 2 - 1))``."""
        pairs = len(self.rates)
        share = torch.arange(pairs, device=self.rates.device) / max(pairs - 1, 1)
        return self.rates / factor**share


@register(
    "yarn",
    room="positions",
    kind="positions",
    summary="frequencies interpolated by how often they turn within the trained window, with sharper attention",
    paper=Paper("YaRN: Efficient Context Window Extension of Large Language Models", 2023, "2309.00071"),
    extends="rotary",
)
class YaRN(Scaled):
    """Pairs that turn rarely within the trained window are interpolated, those that turn often are left.

    Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", 2023, arXiv 2309.00071. Between
    ``slow`` and ``fast`` turns the two are mixed linearly, and scores are multiplied by ``(0.1 ln s + 1) ** 2``.

    Parameters
    ----------
    width, context, base
        As for `Extended`.
    factor : float
        Fixed, as the paper has it.
    slow, fast : float
        Turns within the trained window.
    """

    def __init__(
        self,
        width: int,
        context: int,
        base: float = 10_000.0,
        factor: float = 4.0,
        slow: float = 1.0,
        fast: float = 32.0,
    ) -> None:
        super().__init__(width, context, base, factor)
        if not 0 < slow < fast:
            raise InputError(f"slow={slow}, fast={fast} are not possible", fix="give 0 < slow < fast")
        self.slow, self.fast = slow, fast
        self.temperature = (0.1 * math.log(factor) + 1) ** 2

    def scaled(self, factor: Any) -> Any:
        """A mixture of ``rates`` and ``rates / factor``."""
        turns = self.rates * self.context / (2 * math.pi)
        kept = ((turns - self.slow) / (self.fast - self.slow)).clamp(0, 1)
        return self.rates * (kept + (1 - kept) / factor)
