"""Symmetric linear biases in an encoder, beside a learned table: cost of gaps in texts up to four times as long."""

from __future__ import annotations

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.positions import book, by_seed, gap_losses, learned_from_waves, small_encoder, spread, trained

TRAINED, LENGTHS = 32, (32, 64, 128)
STEPS, BATCH = 1_200, 48


@experiment(
    "symmetric-alibi",
    paper=Paper("Jina Embeddings 2: 8192-Token General-Purpose Text Embeddings for Long Documents", 2023, "2310.19923"),
    claim="An encoder trained on short texts with symmetric linear biases reads far longer ones, where learned "
    "positions break down.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """Nats a hidden byte on the same gaps of the same texts, with more and more text around them."""
    import torch

    from sememe.lab.model import Shape
    from sememe.positions.relative import SymmetricAlibi

    train, held = book(setting.data)
    shape = Shape(dim=64, layers=2, heads=4, context=TRAINED)

    def one(seed: int) -> dict[str, dict[int, float]]:
        found = {}
        for name in ("linear", "learned"):
            table = learned_from_waves(LENGTHS[-1], TRAINED, shape.dim, seed)
            model = small_encoder(SymmetricAlibi(shape.heads) if name == "linear" else table, shape, seed)
            trained(model, train, steps=STEPS, batch=BATCH, length=TRAINED, seed=seed, rate=4e-3)
            found[name] = gap_losses(model, held, LENGTHS)
        return found

    runs = by_seed(setting.seeds, one)
    last = LENGTHS[-1]
    mean = {name: {n: float(np.mean([run[n] for run in rows])) for n in LENGTHS} for name, rows in runs.items()}
    rises = {name: [run[last] / run[TRAINED] - 1 for run in rows] for name, rows in runs.items()}
    rise = {name: float(np.mean(values)) for name, values in rises.items()}
    bias = SymmetricAlibi(8).bias(64)
    checks = {
        f"at {last} bytes the loss with linear biases is at most 3 % above that at {TRAINED}": rise["linear"] <= 0.03,
        "with learned positions it is at least 20 % above": rise["learned"] >= 0.2,
        "the biases are symmetric": torch.equal(bias, bias.transpose(-1, -2)),
    }
    return Finding(
        measured=rise["linear"],
        baseline=rise["learned"],
        interval=spread(rises["linear"]),
        unit=f"rise of the loss from {TRAINED} to {last} bytes: symmetric linear biases, against a learned table",
        interval_of="the rise with linear biases, over seeds",
        checks=checks,
        details={"nats_a_hidden_byte": mean, "by_seed": runs},
        conditions=f"WikiText-2 as bytes, 15 % hidden; encoders of two layers of width 64, {STEPS:,} steps of {BATCH} "
        f"x {TRAINED} bytes (the paper: 512 tokens); the table has {last} rows, of which training saw {TRAINED}, and "
        "these begin as sinusoids. In first runs, of 400 steps of windows of 128 and a random table, that had learned "
        "no more than how often bytes occur (3.19 nats), which no position can spoil.",
        reason=""
        if all(checks.values())
        else f"the loss rises by {rise['linear']:.1%} with linear biases, by {rise['learned']:.1%} with a table",
    )
