"""Real measurements over eight powers of ten, read back from their vectors; and windows told apart by scale."""

from __future__ import annotations

import csv
import gzip
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment

DIM, HIDDEN = 64, 64
STEPS, BATCH = 1_000, 256
NAMES = ("multi-scale", "linear", "normalised linear")
Floats = NDArray[np.float32]


@experiment(
    "multi-scale",
    paper=Paper(
        "NuTime: Numerically Multi-Scaled Embedding for Large-Scale Time Series Pretraining", 2023, "2310.07402"
    ),
    claim="Numbers of any scale keep their size in the embedding, so that series of any scale are learned together.",
    needs=("ett",),
)
def run(setting: Setting) -> Finding:
    """ETTh1's measurements moved to all powers of ten from 1e-4 to 1e4, and its windows as they are."""
    from sememe.evidence.arithmetic import student

    table = measurements(setting)
    found = [{name: regression(name, table, seed) for name in NAMES} for seed in setting.seeds]
    errors = {name: np.array([run[name]["error"] for run in found]) for name in NAMES}
    best = np.minimum(errors["linear"], errors["normalised linear"])
    order = np.array([run["multi-scale"]["order"] for run in found])
    told = {
        name: np.array([which_series(name, table, seed) for seed in setting.seeds]) for name in ("token", "shape alone")
    }
    checks = {
        "its relative error is at most a third of that of a linear map, normalised or not": bool(
            errors["multi-scale"].mean() <= best.mean() / 3
        ),
        "a linear map reads at least 95 % of orders of magnitude": bool(order.mean() >= 0.95),
        "windows with mean and spread tell series apart better than their shape alone": bool(
            student(told["token"] - told["shape alone"])[0] > 0 or (told["token"] > told["shape alone"]).all()
        ),
    }
    return Finding(
        measured=float(errors["multi-scale"].mean()),
        baseline=float(best.mean()),
        interval=student(errors["multi-scale"] - best),
        unit="median relative error of a number read back from its vector by a perceptron: scaled projections, and the "
        "better of a linear map with and without a norm",
        interval_of="the difference, over seeds",
        checks=checks,
        details={
            "relative_error": {name: values.tolist() for name, values in errors.items()},
            "orders_of_magnitude_read_linearly": {name: [run[name]["order"] for run in found] for name in NAMES},
            "series_told_from_a_day": {name: values.tolist() for name, values in told.items()},
        },
        conditions="ETTh1: measurements of seven series, each times a power of ten so that sizes are even from 1e-4 to "
        f"1e4; vectors of {DIM} dimensions under a LayerNorm (as a transformer's first), a perceptron of {HIDDEN} "
        f"that gives the logarithm, {STEPS} steps of {BATCH}, the last fifth of the hours to test. Days of one series "
        "are told apart by a linear map of their token.",
        reason="" if all(checks.values()) else "not looked into",
    )


def measurements(setting: Setting) -> Floats:
    """Hours by series."""
    with gzip.open(setting.data.require("ett") / "ETTh1.csv.gz", "rt", encoding="utf-8") as file:
        return np.array([[float(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]], dtype=np.float32)


def regression(name: str, table: Floats, seed: int) -> dict[str, float]:
    """Median relative error of reading a number back, and share of orders of magnitude that a linear map reads."""
    import torch
    from torch import nn

    from sememe.lab.model import seeded
    from sememe.tokens.scalars import MultiScaleScalarEmbedding

    known = len(table) * 4 // 5
    generator = np.random.default_rng(seed)
    train, test = (moved(part, count, generator) for part, count in ((table[:known], 40_000), (table[known:], 4_000)))
    with seeded(seed):
        embed: Any = MultiScaleScalarEmbedding(DIM) if name == "multi-scale" else nn.Linear(1, DIM)
        norm = nn.Identity() if name == "linear" else nn.LayerNorm(DIM)
        read = nn.Sequential(nn.Linear(DIM, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
        orders = nn.Linear(DIM, 8)

    def given(x: Any) -> Any:
        # a linear map gets numbers in units of about their spread
        return norm(embed(x) if name == "multi-scale" else embed(x[:, None] / 3_000))

    made = nn.ModuleList((embed, norm, read, orders))
    optimizer = torch.optim.Adam(made.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    numbers = torch.from_numpy(train)
    for _ in range(STEPS):
        x = numbers[torch.from_numpy(generator.integers(len(train), size=BATCH))]
        vectors = given(x)
        loss = (read(vectors)[:, 0] - x.abs().log10()).square().mean()
        # the linear reader learns from the vectors and does not shape them
        loss = loss + nn.functional.cross_entropy(orders(vectors.detach()), order_of(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        x = torch.from_numpy(test)
        vectors = given(x)
        said = 10 ** read(vectors)[:, 0]
        return {
            "error": float(((said - x.abs()).abs() / x.abs()).median()),
            "order": float((orders(vectors).argmax(1) == order_of(x)).float().mean()),
        }


def order_of(x: Any) -> Any:
    """Powers of ten from 1e-4 (0) to 1e3 (7)."""
    return x.abs().log10().floor().long().clamp(-4, 3) + 4


def moved(table: Floats, count: int, generator: np.random.Generator) -> Floats:
    """Measurements that are not zero, their sizes moved by powers of ten to lie evenly between 1e-4 and 1e4."""
    values = table[table != 0]
    drawn = values[generator.integers(len(values), size=count)].astype(np.float64)
    mantissa = drawn / 10 ** np.floor(np.log10(np.abs(drawn)))
    return (mantissa * 10.0 ** generator.integers(-4, 4, size=count)).astype(np.float32)


def which_series(name: str, table: Floats, seed: int) -> float:
    """Share of later days whose series a linear map names, from the token of the day."""
    import torch
    from torch import nn

    from sememe.lab.model import seeded
    from sememe.tokens.scalars import WindowToken, windows

    days = windows(torch.from_numpy(table.T.copy()), 24)  # (series, days, 24)
    known = days.shape[1] * 4 // 5
    label = torch.arange(len(days))[:, None].expand(-1, days.shape[1])
    with seeded(seed):
        token, name_it = WindowToken(24, DIM), nn.Linear(DIM, len(days))
    x, y = days[:, :known].flatten(0, 1), label[:, :known].flatten()

    def vectors(part: Any) -> Any:
        if name == "token":
            return token(part)
        centred = part - part.mean(-1, keepdim=True)
        return token.shape(centred / centred.std(-1, correction=0, keepdim=True).clamp_min(1e-6))

    optimizer = torch.optim.Adam([*token.parameters(), *name_it.parameters()], lr=3e-3)
    generator = np.random.default_rng(seed)
    for _ in range(200):
        rows = torch.from_numpy(generator.integers(len(x), size=BATCH))
        loss = nn.functional.cross_entropy(name_it(vectors(x[rows])), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        later = days[:, known:].flatten(0, 1)
        return float((name_it(vectors(later)).argmax(1) == label[:, known:].flatten()).float().mean())
