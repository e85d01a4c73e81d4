"""Integers by their bits: sums and the largest of a list, with integers that training never showed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment

BITS, LARGEST = 8, 128
WITHHELD = 0.2
STEPS = 450
DIM = 64
SHORT, LONG = 8, 64
TESTED = 2_000


@experiment(
    "binary-number",
    paper=Paper("Neural Execution Engines: Learning to Execute Subroutines", 2020, "2006.08084"),
    claim="Numbers that were never seen in training are understood, and routines learned on short lists run on far "
    "longer ones.",
)
def run(setting: Setting) -> Finding:
    """Sums of two integers below 128, and the order of lists, a fifth of the integers withheld."""
    from sememe.evidence.arithmetic import student

    results = [one(seed) for seed in setting.seeds]
    bits, rows = (np.array([result[kind]["sum"] for result in results]) for kind in ("bits", "rows"))
    largest, largest_rows = (np.array([result[kind]["largest"] for result in results]) for kind in ("bits", "rows"))
    near = np.array([result["bits"]["near"] for result in results])
    lists = np.array([result["bits"]["sorted"] for result in results])
    checks = {
        "at least 90 % of sums with a withheld integer are right": bits.mean() >= 0.9,
        "at most half of them are with a row for each integer": rows.mean() <= 0.5,
        "in at least 90 % of lists whose largest was withheld it is found": largest.mean() >= 0.9,
        "at most in half of them with a row for each integer": largest_rows.mean() <= 0.5,
        "nearest neighbours of n are one bit away, or n - 1 and n + 1": near.mean() >= 0.9,
        f"of lists of {LONG}, at least 90 % of places are sorted right after training on lists of {SHORT}": lists.mean()
        >= 0.9,
    }
    return Finding(
        measured=float(bits.mean()),
        baseline=float(rows.mean()),
        interval=student(bits - rows),
        unit="share of exact sums of two integers of which training withheld one or both: by bits, and a row each",
        interval_of="the difference, over seeds",
        checks={statement: bool(true) for statement, true in checks.items()},
        details={"by_seed": results},
        conditions=f"Integers below {LARGEST}, a fifth of them in no training example; a transformer of two layers of "
        f"width {DIM}, {STEPS} steps of 256 examples, sums read in {BITS} bits by both; lists of {SHORT} for the "
        "conditional mask, which is trained to point at the largest item that remains.",
        reason=""
        if all(checks.values())
        else "likely, not tested: scores of neighbouring integers differ by the last bit alone, which short lists "
        "seldom decide on",
    )


def one(seed: int) -> dict[str, Any]:
    """Both ways of embedding with one seed."""
    import torch
    from torch import nn

    from sememe.evidence.arithmetic import Adder, Routine
    from sememe.lab.model import Shape, seeded
    from sememe.lab.train import Recipe, train
    from sememe.tokens.binary_number import BinaryNumberEmbedding, ConditionalMasking

    generator = np.random.default_rng(seed)
    out = generator.permutation(LARGEST)[: round(WITHHELD * LARGEST)]
    known = np.setdiff1d(np.arange(LARGEST), out)
    shape = Shape(dim=DIM, layers=2, heads=4, context=4)
    pairs = generator.integers(0, LARGEST, size=(4 * TESTED, 2))
    pairs = pairs[np.isin(pairs, out).any(1)][:TESTED]
    test = torch.from_numpy(np.concatenate((pairs, pairs.sum(1, keepdims=True)), axis=1))
    found: dict[str, Any] = {}
    for kind in ("bits", "rows"):
        with seeded(seed):
            code = BinaryNumberEmbedding(DIM, BITS)
            embed = None if kind == "bits" else nn.Embedding(1 << BITS, DIM)
            model = Adder(code, shape, embed)
            train(model, _pairs(known, seed), Recipe(steps=STEPS))
            items = BinaryNumberEmbedding(DIM, BITS) if kind == "bits" else nn.Embedding(1 << BITS, DIM)
            routine = Routine(ConditionalMasking(DIM), items)
            train(routine, _lists(known, seed), Recipe(steps=STEPS))
        found[kind] = {
            "sum": model.eval().accuracy(test),
            "largest": routine.largest(_lists_with(out, seed)),
            "sorted": routine.placed(generator.integers(0, LARGEST, size=(200, LONG))),
            "near": near_by_value(model.embed(torch.arange(LARGEST))),
        }
    return found


def near_by_value(vectors: Any) -> float:
    """Share of integers one of whose two nearest neighbours is one bit, or one, away."""
    import torch

    with torch.no_grad():
        distance = torch.cdist(vectors, vectors).fill_diagonal_(float("inf"))
        nearest = distance.topk(2, largest=False).indices.numpy()
    numbers = np.arange(len(nearest))[:, None]
    changed = numbers ^ nearest
    flips = changed & (changed - 1) == 0
    return float((flips | (np.abs(numbers - nearest) == 1)).any(1).mean())


def _pairs(known: NDArray[np.int64], seed: int) -> Iterator[NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    while True:
        pairs = generator.choice(known, size=(256, 2))
        yield np.concatenate((pairs, pairs.sum(1, keepdims=True)), axis=1)


def _lists(known: NDArray[np.int64], seed: int) -> Iterator[NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    while True:
        yield generator.choice(known, size=(256, SHORT))


def _lists_with(out: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Lists whose largest integer was withheld."""
    lists = np.random.default_rng([seed, 1]).integers(0, LARGEST, size=(8 * TESTED, SHORT))
    return lists[np.isin(lists.max(1), out)][:TESTED]
