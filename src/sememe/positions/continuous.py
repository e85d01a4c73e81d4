"""Rotary frequencies as the solution of a learned differential equation in the length (CLEX)."""

from __future__ import annotations

import math
from typing import Any

from sememe.catalog import Paper, register
from sememe.errors import InputError, MissingDependency
from sememe.positions.base import Rotary, turn

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a position encoding") from None


@register(
    "clex",
    room="positions",
    kind="positions",
    summary="rotary frequencies that follow a learned differential equation in the length of the text",
    paper=Paper("CLEX: Continuous Length Extrapolation for Large Language Models", 2023, "2310.16450"),
    claim="Frequencies learned as a continuous function of the length extend models beyond the lengths tuned on.",
)
class ContinuousScaling(Rotary):
    """``d log(rates) / dt = f(log rates, t) + prior(t)``, solved from ``t = 1`` to as many windows as a text fills.

    Chen et al., "CLEX: Continuous Length Extrapolation for Large Language Models", 2023, arXiv 2310.16450. ``f`` is a
    network that widens, bends (SiLU) and narrows; the prior is that of NTK-aware scaling, ``-(i / (w / 2 - 1)) / t``
    for pair ``i``, and the last layer begins at zero, so that untrained it is exactly that scaling. While training,
    every pass draws a ``t`` in ``[1, most]`` and places drawn without repetition and in order from the ``t`` windows:
    texts of the trained length then see all distances. At use the least whole ``t`` that the text needs is taken, and
    its frequencies are kept. The equation is solved by the midpoint rule with ``steps`` steps a unit of ``log t``.

    Parameters
    ----------
    width : int
        Dimensions of a head.
    context : int
        The trained window.
    base : float
        As for `Rotary`.
    most : float
        Windows that training prepares for.
    widen : int
        Width inside the network, in pairs.
    steps : int
    """

    def __init__(
        self,
        width: int,
        context: int,
        base: float = 10_000.0,
        most: float = 8.0,
        widen: int = 2,
        steps: int = 4,
    ) -> None:
        super().__init__(width, base)
        if context < 2 or not most >= 1 or widen < 1 or steps < 1:
            raise InputError(f"context={context}, most={most} are not possible", fix="give a window, and most >= 1")
        self.context, self.most, self.steps = context, most, steps
        pairs = width // 2
        self.up = nn.Linear(pairs + 1, widen * pairs)
        self.down = nn.Linear(widen * pairs, pairs)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)
        self.register_buffer("slope", torch.arange(pairs) / max(pairs - 1, 1), persistent=False)
        self._kept: dict[int, Any] = {}
        self._drawn: tuple[Any, Any] | None = None
        self.register_load_state_dict_post_hook(_forget)

    def change(self, log_rates: Any, log_t: Any) -> Any:
        """Derivative of the log rates ``(w / 2,)`` by ``log t``."""
        seen = torch.cat((log_rates, log_t.reshape(1)))
        return self.down(F.silu(self.up(seen))) - self.slope

    def rates_at(self, t: float) -> Any:
        """Frequencies ``(w / 2,)`` of texts of ``t`` windows, with gradients."""
        end = math.log(t)
        count = max(1, math.ceil(self.steps * end))
        step, state = end / count, self.rates.log()
        for number in range(count):
            now = torch.tensor(number * step, device=state.device)
            half = state + step / 2 * self.change(state, now)
            state = state + step * self.change(half, now + step / 2)
        return state.exp()

    def train(self, mode: bool = True) -> ContinuousScaling:
        """Forget what was kept: the network may change."""
        self._kept, self._drawn = {}, None
        return super().train(mode)  # type: ignore[no-any-return]

    def read(self, ids: Any, start: int = 0) -> None:
        """In training, draw ``t`` and the places of the next pass."""
        if self.training:
            length = ids.shape[1] + start
            t = 1 + (self.most - 1) * float(torch.rand(()))
            room = max(length, int(t * self.context))
            places = torch.randperm(room, device=ids.device)[:length].sort().values
            self._drawn = places, self.rates_at(t)

    def rotate(self, q: Any, k: Any) -> tuple[Any, Any]:
        """Turn both by the frequencies of the text's length."""
        length = q.shape[-2]
        if self.training and self._drawn is not None:
            at, rates = self._drawn
            at = at[:length]
        else:
            t = max(1, math.ceil(length / self.context))
            if t not in self._kept:
                with torch.inference_mode(False), torch.no_grad():  # what scoring keeps, others may use
                    self._kept[t] = self.rates_at(t)
            at, rates = torch.arange(length, device=q.device), self._kept[t]
        angles = at[:, None] * rates
        cosine, sine = angles.cos().to(q.dtype), angles.sin().to(q.dtype)
        return turn(q, cosine, sine), turn(k, cosine, sine)


def _forget(module: ContinuousScaling, _: Any) -> None:
    """Frequencies that were kept are not those of weights that were loaded."""
    module._kept.clear()
