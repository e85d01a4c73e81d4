"""The one way small models are trained here: AdamW, a warm-up and a cosine, clipped gradients, fixed seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from sememe import progress
from sememe.errors import InputError, MissingDependency

try:
    import torch
    from torch import nn
except ImportError:
    raise MissingDependency("torch", extra="torch", need="training a small model") from None


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained; equal for all contenders of a comparison.

    Attributes
    ----------
    steps : int
        Batches. With ``seconds`` it is the most there will be; 0 is no limit.
    seconds : float
        Budget of time; 0 is none. What it reaches depends on the machine, so steps are what comparisons use.
    rate : float
        Highest learning rate.
    warmup, floor : float
        Share of the budget with a rising rate; share of the highest rate that is left at the end.
    decay : float
        Weight decay of matrices (not of norms and single vectors).
    clip : float
        Most that the norm of all gradients together may be.
    betas : (float, float)
    precision : {"float32", "bfloat16"}
        Of products inside the model; parameters and sums stay float32. Processors with instructions for bfloat16 are
        faster with it.
    """

    steps: int = 300
    seconds: float = 0.0
    rate: float = 3e-3
    warmup: float = 0.1
    floor: float = 0.05
    decay: float = 0.01
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)
    precision: Literal["float32", "bfloat16"] = "float32"

    def checked(self) -> Recipe:
        """Itself, or an InputError where a number is impossible."""
        if self.steps < 0 or self.seconds < 0 or not (self.steps or self.seconds):
            raise InputError(
                f"steps={self.steps}, seconds={self.seconds} is no budget", fix="give one that is positive"
            )
        if self.rate <= 0 or self.clip <= 0 or not 0 <= self.warmup < 1 or not 0 <= self.floor <= 1 or self.decay < 0:
            raise InputError(f"{self} cannot train", fix="see the ranges in its docstring")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"there is no precision {self.precision!r}", fix="use float32 or bfloat16")
        return self

    def rate_at(self, share: float) -> float:
        """Learning rate when this share of the budget is used, 0 to 1."""
        if share < self.warmup:
            return self.rate * (share / self.warmup)
        turned = math.pi * min((share - self.warmup) / (1 - self.warmup), 1.0)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(turned)))


@dataclass(slots=True)
class History:
    """What happened.

    Attributes
    ----------
    losses : list of float
        Mean loss of each batch, nats a symbol, before that batch was learned.
    tokens : int
        Symbols seen.
    seconds : float
        Time of the steps.
    memory : int
        Bytes that training held at the most: parameters, gradients, the optimiser's moments and what the forward pass
        keeps for the backward one. On an accelerator, what its allocator says.
    finished : bool
        False where ``stop`` ended it early.
    """

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    memory: int = 0
    finished: bool = True

    @property
    def steps(self) -> int:
        """Batches learned."""
        return len(self.losses)

    @property
    def tokens_per_second(self) -> float:
        """Speed of training."""
        return self.tokens / max(self.seconds, 1e-9)

    def as_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)


def train(
    model: nn.Module,
    batches: Iterable[Any],
    recipe: Recipe | None = None,
    *,
    parameters: Iterable[Any] | None = None,
    stop: Callable[[], bool] | None = None,
    label: str = "training",
) -> History:
    """Train a model in place.

    Equal model, batches and recipe give equal weights, bit for bit, with the same number of threads of one machine.
    An interrupt (Ctrl-C) passes through between operations and leaves the model as the last steps made it.

    Parameters
    ----------
    model : nn.Module
        ``nll(ids (b, l))`` gives the loss of each symbol, in any shape.
    batches : iterable of int64 arrays (b, l)
        Ends training where it ends before the budget.
    recipe : Recipe, optional
    parameters : iterable of nn.Parameter, optional
        Train only these, for example the tables after surgery; all that require a gradient when not given.
    stop : function, optional
        Asked before each step; True ends training.
    label : str
        What progress is called.

    Raises
    ------
    InputError
        A loss that is not finite: the model keeps the weights from before that step.
    """
    recipe = (recipe or Recipe()).checked()
    chosen = [p for p in (model.parameters() if parameters is None else parameters) if p.requires_grad]
    if not chosen:
        raise InputError("this model has no parameters to train", fix="make some require a gradient")
    optimizer = _optimizer(chosen, recipe)
    device = chosen[0].device
    history, was_training, clock = History(), model.training, time.perf_counter
    model.train()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        with progress.task(label, total=recipe.steps or None, unit="steps") as step:
            for ids, share in _within(batches, recipe, history):
                if stop is not None and stop():
                    history.finished = False
                    break
                began = clock()
                rate = recipe.rate_at(share)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                block = torch.as_tensor(np.asarray(ids), device=device)
                measuring = history.steps == 0 and device.type == "cpu"
                with _saved_bytes() if measuring else nullcontext([0]) as saved, _precision(recipe, device):
                    loss = model.nll(block).mean()
                value = loss.item()
                if not math.isfinite(value):
                    raise InputError(f"the loss is {value} at step {history.steps + 1}", fix="lower the learning rate")
                loss.backward()
                nn.utils.clip_grad_norm_(chosen, recipe.clip)
                optimizer.step()
                if measuring:
                    history.memory = saved[0] + _held(model, chosen)
                optimizer.zero_grad(set_to_none=True)
                history.losses.append(value)
                history.tokens += block.numel()
                history.seconds += clock() - began
                step()
    finally:
        model.train(was_training)
    if device.type == "cuda":
        history.memory = int(torch.cuda.max_memory_allocated(device))
    return history


def _optimizer(parameters: list[Any], recipe: Recipe) -> Any:
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.rate, betas=recipe.betas, fused=True)


def _within(batches: Iterable[Any], recipe: Recipe, history: History) -> Iterator[tuple[Any, float]]:
    """Batches with the share of the budget that is used when each is learned, until it is used up."""
    for ids in batches:
        by_steps = (history.steps + 1) / (recipe.steps + 1) if recipe.steps else 0.0
        by_time = history.seconds / recipe.seconds if recipe.seconds else 0.0
        if (recipe.steps and history.steps >= recipe.steps) or by_time >= 1:
            return
        yield ids, max(by_steps, by_time)


def _precision(recipe: Recipe, device: Any) -> Any:
    if recipe.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


class _saved_bytes:
    """Bytes of the distinct tensors kept for the backward pass within a block, in the one entry of its list."""

    def __enter__(self) -> list[int]:
        self._total = [0]
        self._seen: dict[int, Any] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)
        self._hooks.__enter__()
        return self._total

    def _count(self, tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if not tensor.is_leaf and storage.data_ptr() not in self._seen:
            self._seen[storage.data_ptr()] = storage  # held, so that no other tensor gets this address meanwhile
            self._total[0] += storage.nbytes()
        return tensor

    def __exit__(self, *error: object) -> None:
        self._seen.clear()
        self._hooks.__exit__(*error)


def _held(model: nn.Module, trained: list[Any]) -> int:
    """Bytes of all parameters, and of the gradient and two moments of each trained one."""
    own = sum(p.numel() * p.element_size() for p in model.parameters())
    return int(own + 3 * sum(p.numel() * p.element_size() for p in trained))
