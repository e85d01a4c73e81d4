"""Needles at four times the trained length: grouped far positions beside plain ones, and a text cut to the window."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.dimension_wise import LENGTHS, STEPS, WINDOW
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.needles import Seeker, hay
from sememe.evidence.positions import book, by_seed, losses, spread

TEXTS, GROUP = 24, 8


@experiment(
    "self-extend",
    paper=Paper("LongEmbed: Extending Embedding Models for Long Context Retrieval", 2024, "2404.12096"),
    claim="Grouping far positions extends rotary models several times without training.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """Eight needles in each text of real bytes, each with a name of its own."""
    import torch

    from sememe.lab.model import Shape
    from sememe.positions.extend import apply

    train, held = book(setting.data)
    shape = Shape(dim=64, layers=2, heads=2, context=WINDOW)
    last = LENGTHS[-1]

    def one(seed: int) -> dict[str, Any]:
        seeker = Seeker(train, shape, seed, STEPS)
        generator = np.random.default_rng([seed, 3])
        asked = {length: hay(held, TEXTS, length, 8, generator) for length in LENGTHS}
        found: dict[str, Any] = {"plain": {n: seeker.accuracy(texts) for n, texts in asked.items()}}
        found["cut"] = {n: seeker.accuracy(texts.cut(WINDOW), high=n) for n, texts in asked.items()}
        found["nats a byte, plain"] = losses(seeker.model, held, LENGTHS, texts=32)
        short = torch.from_numpy(held[None, :WINDOW])
        before = seeker.model(short).detach()
        with apply("self-extend", seeker.model, factor=GROUP):
            found["grouped"] = {n: seeker.accuracy(texts) for n, texts in asked.items()}
            found["nats a byte, grouped"] = losses(seeker.model, held, LENGTHS, texts=32)
            found["change"] = float((seeker.model(short) - before).detach().abs().max())
        found["undone"] = bool(torch.equal(seeker.model(short), before))
        return found

    runs = by_seed(setting.seeds, one)
    names = ("grouped", "plain", "cut")
    mean = {name: {n: float(np.mean([row[n] for row in runs[name]])) for n in LENGTHS} for name in names}
    ours = mean["grouped"][last]
    checks = {
        f"at {last:,} symbols it finds 30 points more needles than the model does in the last {WINDOW}": ours
        >= mean["cut"][last] + 0.3,
        "and more than with plain positions, for every seed": all(
            a[last] > b[last] for a, b in zip(runs["grouped"], runs["plain"])
        ),
        f"and at least 95 % of what is found at {WINDOW}": ours >= 0.95 * mean["plain"][WINDOW],
        "texts that fit give the same logits (1e-6), and undone is undone": max(runs["change"]) <= 1e-6
        and all(runs["undone"]),
    }
    return Finding(
        measured=ours,
        baseline=mean["cut"][last],
        interval=spread([a[last] - b[last] for a, b in zip(runs["grouped"], runs["cut"])]),
        unit=f"share of needles found in {last:,} symbols by a model trained on {WINDOW}: grouped positions, against "
        "the text cut to the window",
        interval_of="grouped minus cut, over seeds",
        checks=checks,
        details={
            "found": mean,
            "found_by_seed": {name: runs[name] for name in names},
            "nats_a_byte_by_seed": {name: runs[f"nats a byte, {name}"] for name in ("plain", "grouped")},
        },
        conditions=f"Bytes of WikiText-2 with eight needles a text, {TEXTS} texts a length and seed; rotary model of "
        f"two layers of width 64, trained with texts of 32 to {WINDOW} symbols; groups of {GROUP}, a window of "
        f"{WINDOW // 4} exact distances. The paper extends encoders; this is its rule on a causal model.",
        reason=""
        if all(checks.values())
        else f"found at {last:,}: {ours:.0%}, plain {mean['plain'][last]:.0%}, cut {mean['cut'][last]:.0%}",
    )
