"""One harness for every comparison of feature tables: small click models on a `ClickLog`, equal in all but the table.

All contenders see the same rows in the same order for the same number of steps, with one optimiser and one model
behind the table; only the table is counted against a budget. `compare_clicks` reports the area under the ROC curve
and the log-loss of the test rows, with intervals over seeds and rows, and exact sizes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sememe import progress
from sememe.errors import InputError, MissingDependency
from sememe.tokens.click_logs import ClickLog
from sememe.tokens.click_measures import Floats, interval, measure

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    raise MissingDependency("torch", extra="torch", need="a click model") from None

Kind = Literal["mlp", "deepfm", "dlrm"]


class ClickModel(nn.Module):  # type: ignore[misc]
    """Vectors of a row's values to the logit of a click.

    Parameters
    ----------
    table : nn.Module
        ``table(ids (b, f))`` gives ``(b, f, d)``, or ``(b, sum of widths)`` where it has ``field_widths``, one a field.
    fields, dim : int
    kind : {"deepfm", "dlrm", "mlp"}
        What the perceptron sees beside the vectors: their inner products (DLRM), or nothing; DeepFM adds the sum of
        the inner products to the logit. Vectors of different widths are first brought to ``dim`` dimensions by a
        matrix a field where products are needed.
    hidden : tuple of int
        Widths of the perceptron's layers.
    """

    def __init__(
        self, table: nn.Module, fields: int, dim: int, *, kind: Kind = "deepfm", hidden: tuple[int, ...] = (64, 32)
    ) -> None:
        super().__init__()
        if kind not in ("mlp", "deepfm", "dlrm"):
            raise InputError(f"there is no click model {kind!r}", fix="use mlp, deepfm or dlrm")
        self.table, self.kind = table, kind
        widths = getattr(table, "field_widths", None)
        self.widths = tuple(widths) if widths is not None else (dim,) * fields
        self.project = (
            nn.ModuleList(nn.Linear(width, dim, bias=False) for width in self.widths)
            if kind != "mlp" and any(width != dim for width in self.widths)
            else None
        )
        self.register_buffer("pairs", torch.triu_indices(fields, fields, 1), persistent=False)
        inside = sum(self.widths) + (fields * (fields - 1) // 2 if kind == "dlrm" else 0)
        layers: list[nn.Module] = []
        for before, after in zip((inside, *hidden), hidden):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.top = nn.Sequential(*layers, nn.Linear(hidden[-1], 1))

    def forward(self, ids: Any) -> Any:
        """Logits ``(b,)`` of joint ids ``(b, f)``."""
        return self.logits(self.table(ids))

    def logits(self, vectors: Any) -> Any:
        """Logits ``(b,)`` of what the table gives."""
        flat = vectors.flatten(1)
        if self.kind == "mlp":
            return self.top(flat)[:, 0]
        if self.project is not None:
            parts = flat.split(self.widths, dim=1)
            vectors = torch.stack([project(part) for project, part in zip(self.project, parts)], dim=1)
        else:
            vectors = flat.view(len(flat), len(self.widths), -1)
        if self.kind == "deepfm":
            total = vectors.sum(1)
            return self.top(flat)[:, 0] + 0.5 * (total.square() - vectors.square().sum(1)).sum(-1)
        products = (vectors @ vectors.transpose(1, 2))[:, self.pairs[0], self.pairs[1]]
        return self.top(torch.cat((flat, products), dim=1))[:, 0]


@dataclass(frozen=True, slots=True)
class ClickRecipe:
    """How click models are trained; equal for all contenders of a comparison.

    The usual values were chosen for the plain table, by the validating rows of the Frappe log.

    Attributes
    ----------
    steps, batch : int
    rate : float
        Highest learning rate of Adam; it rises over the first 5 % and falls by a cosine to a twentieth.
    decay : float
        Decoupled weight decay of everything.
    shared : str
        The beginning of the names of those parameters of the table that all ids share, such as projections; none when
        empty. They have no decay, which would come on top of that of the rows, and the rate below.
    slower : float
        What the rate is divided by for them: each step of theirs moves the vectors of all ids.
    """

    steps: int = 400
    batch: int = 512
    rate: float = 0.02
    decay: float = 0.5
    shared: str = ""
    slower: float = 1.0

    def rate_at(self, share: float) -> float:
        """Learning rate when this share of the steps is done."""
        if share < 0.05:
            return self.rate * max(share, 1e-3) / 0.05
        return self.rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (share - 0.05) / 0.95)))


@dataclass(frozen=True, slots=True)
class Contender:
    """What is compared.

    Attributes
    ----------
    build : function
        ``build(seed)`` gives an untrained table; PyTorch's generator is seeded around the call. A table with
        ``penalty()`` has that added to every batch's loss.
    finish : function, optional
        ``finish(table, model)`` makes the table that is served out of the trained one (codes, pruned rows).
    at : float
        Share of the steps after which ``finish`` is called; the rest trains what it returned.
    note : str
        What distinguishes its training from that of the others.
    recipe : ClickRecipe, optional
        Where all contenders choose something by the validating rows, what this one chose; the comparison's when not
        given.
    """

    build: Callable[[int], nn.Module]
    finish: Callable[[Any, ClickModel], nn.Module] | None = None
    at: float = 1.0
    note: str = ""
    recipe: ClickRecipe | None = None


@dataclass(frozen=True, slots=True)
class ClickRow:
    """One contender's result.

    Attributes
    ----------
    name : str
    auc, log_loss : (float, float, float)
        Of the test rows: mean over seeds, with a 95 % interval over seeds and rows.
    auc_gap, log_loss_gap : (float, float, float)
        Those minus the first contender's, paired by seed and row.
    by_seed : list of float
        AUC.
    parameters, bytes, trained_parameters : int
        Of the table that is served, and parameters of the one that was trained.
    model_parameters : int
        Of everything behind the table.
    seconds, lookups_per_second : float
        CPU time of training a model; ids that the served table turns into vectors in a second of CPU time.
    note : str
    """

    name: str
    auc: tuple[float, float, float]
    log_loss: tuple[float, float, float]
    auc_gap: tuple[float, float, float]
    log_loss_gap: tuple[float, float, float]
    by_seed: list[float]
    parameters: int
    bytes: int
    trained_parameters: int
    model_parameters: int
    seconds: float
    lookups_per_second: float
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)


@dataclass(slots=True)
class Trained:
    """A trained model and what it says about the test rows: logits ``(t,)``."""

    model: ClickModel
    logits: Floats
    trained_parameters: int
    seconds: float
    losses: list[float] = field(default_factory=list)


def parameters(module: nn.Module) -> int:
    """Trained numbers, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def stored_bytes(module: nn.Module) -> int:
    """Bytes of what a module says it stores, or of its state dict."""
    own = getattr(module, "num_bytes", None)
    return int(own) if own is not None else sum(t.numel() * t.element_size() for t in module.state_dict().values())


def fit_clicks(
    log: ClickLog,
    contender: Contender,
    dim: int,
    seed: int,
    *,
    recipe: ClickRecipe | None = None,
    kind: Kind = "deepfm",
    rows: NDArray[np.int64] | None = None,
) -> Trained:
    """Train one contender with one seed, and ask it about ``rows`` (the test part when not given)."""
    recipe = contender.recipe or recipe or ClickRecipe()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ClickModel(nn.Identity(), len(log.fields), dim, kind=kind)  # drawn first: equal for all contenders
        table = contender.build(seed)
        if getattr(table, "field_widths", None) is not None:
            torch.manual_seed(seed)
            model = ClickModel(table, len(log.fields), dim, kind=kind)
        model.table = table
        trained = parameters(table)
        began = time.process_time()
        losses = _train(model, log, contender, recipe, seed)
        seconds = time.process_time() - began
    return Trained(model.eval(), predict(model, log, log.test if rows is None else rows), trained, seconds, losses)


def _train(model: ClickModel, log: ClickLog, contender: Contender, recipe: ClickRecipe, seed: int) -> list[float]:
    generator = np.random.default_rng(seed)
    ids, labels = torch.from_numpy(log.ids), torch.from_numpy(log.labels)
    optimizer = _adam(model, recipe)
    turn = round(contender.at * recipe.steps) if contender.finish else -1
    order = np.zeros(0, dtype=np.int64)
    losses = []
    size = min(recipe.batch, len(log.train))
    model.train()
    with progress.task("click model", total=recipe.steps, unit="steps") as step:
        for number in range(recipe.steps):
            if number == turn and contender.finish:
                model.table = contender.finish(model.table, model)
                optimizer = _adam(model, recipe)
            if len(order) < size:
                order = np.concatenate((order, generator.permutation(log.train)))
            rows, order = torch.from_numpy(order[:size]), order[size:]
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate_at(number / recipe.steps) / group.get("slower", 1.0)
            loss = F.binary_cross_entropy_with_logits(model(ids[rows]), labels[rows])
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise InputError(f"the loss is {losses[-1]} at step {number + 1}", fix="lower the learning rate")
            if hasattr(model.table, "penalty"):
                loss = loss + model.table.penalty()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step()
    if turn == recipe.steps and contender.finish:
        model.table = contender.finish(model.table, model)
    return losses


def _adam(model: nn.Module, recipe: ClickRecipe) -> Any:
    groups: list[dict[str, Any]] = [{"params": []}, {"params": [], "weight_decay": 0.0, "slower": recipe.slower}]
    for name, parameter in model.named_parameters():
        groups[bool(recipe.shared) and name.startswith(f"table.{recipe.shared}")]["params"].append(parameter)
    used = [group for group in groups if group["params"]]
    return torch.optim.AdamW(used, lr=recipe.rate, weight_decay=recipe.decay, fused=True)


def predict(model: nn.Module, log: ClickLog, rows: NDArray[np.int64]) -> Floats:
    """Logits ``(t,)`` of rows of a log."""
    model.eval()
    with torch.no_grad():
        parts = [model(torch.from_numpy(log.ids[part])) for part in np.array_split(rows, max(1, len(rows) // 8_192))]
    return torch.cat(parts).double().numpy()


def compare_clicks(
    log: ClickLog,
    contenders: Mapping[str, Contender],
    dim: int,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    recipe: ClickRecipe | None = None,
    kind: Kind = "deepfm",
    most: int = 0,
) -> list[ClickRow]:
    """Train every contender with every seed, and measure it on the test rows.

    Parameters
    ----------
    log : ClickLog
    contenders : mapping of name to Contender
        The first is what the others are compared with.
    dim : int
        Width of the vectors.
    seeds : sequence of int
        Of weights and of the order of rows, the same for all.
    recipe : ClickRecipe, optional
    kind : {"deepfm", "dlrm", "mlp"}
    most : int
        Rows of the test part that are measured, drawn once for all; 0 takes all.
    """
    if not contenders or not seeds:
        raise InputError("a comparison needs a contender and a seed")
    test = log.test
    if 0 < most < len(test):
        test = np.sort(np.random.default_rng(2).permutation(test)[:most])
    runs: dict[str, list[Trained]] = {name: [] for name in contenders}
    for seed in seeds:  # contenders take turns, so that a busy machine slows all of them
        for name, contender in contenders.items():
            runs[name].append(fit_clicks(log, contender, dim, seed, recipe=recipe, kind=kind, rows=test))
    labels = log.labels[test]
    found = {name: measure(labels, [run.logits for run in made]) for name, made in runs.items()}
    first = found[next(iter(contenders))]
    rows = []
    for name, made in runs.items():
        table = made[0].model.table
        auc_now, loss_now = (interval(values, draws) for values, draws in found[name])
        auc_gap, loss_gap = (
            interval(values - base, draws - others) for (values, draws), (base, others) in zip(found[name], first)
        )
        rows.append(
            ClickRow(
                name=name,
                auc=auc_now,
                log_loss=loss_now,
                auc_gap=auc_gap,
                log_loss_gap=loss_gap,
                by_seed=[float(value) for value in found[name][0][0]],
                parameters=parameters(table),
                bytes=stored_bytes(table),
                trained_parameters=made[0].trained_parameters,
                model_parameters=parameters(made[0].model) - parameters(table),
                seconds=float(np.median([run.seconds for run in made])),
                lookups_per_second=lookups_per_second(table, log),
                note=contenders[name].note,
            )
        )
    return rows


def lookups_per_second(table: nn.Module, log: ClickLog, rows: int = 2_048, rounds: int = 5) -> float:
    """Ids that a table turns into vectors in a second of CPU time, the median of some rounds."""
    ids = torch.from_numpy(log.ids[log.test[:rows]])
    taken = []
    with torch.no_grad():
        for _ in range(rounds):
            began = time.process_time()
            table(ids)
            taken.append(time.process_time() - began)
    return ids.numel() / max(float(np.median(taken)), 1e-9)
