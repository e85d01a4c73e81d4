"""Needles at four times the trained length: factors for each pair of dimensions beside YaRN, self-extend and none."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.needles import Seeker, hay
from sememe.evidence.positions import book, by_seed, losses, spread

WINDOW = 256
LENGTHS = (256, 512, 1_024)


@experiment(
    "dimension-wise",
    paper=Paper(
        "Effective Length Extrapolation via Dimension-Wise Positional Embeddings Manipulation", 2025, "2504.18857"
    ),
    claim="Scaling only the dimensions that matter, each by its own factor, finds needles far beyond the trained "
    "window where YaRN and self-extend do worse.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """Eight needles in each text of real bytes."""
    import torch

    from sememe.lab.model import Shape
    from sememe.positions.extend import apply
    from sememe.positions.rope_search import detect

    train, held = book(setting.data)
    shape = Shape(dim=64, layers=2, heads=2, context=WINDOW)
    last = LENGTHS[-1]
    factor = last / WINDOW
    methods: dict[str, tuple[str, dict[str, Any]]] = {
        "YaRN": ("yarn", {"factor": factor}),
        "self-extend": ("self-extend", {"factor": 8}),
        "NTK": ("ntk", {}),
    }

    def one(seed: int) -> dict[str, Any]:
        seeker = Seeker(train, shape, seed)
        tuning = hay(train, 6, last, 8, np.random.default_rng([seed, 2]))
        generator = np.random.default_rng([seed, 3])
        asked = {length: hay(held, 24, length, 8, generator) for length in LENGTHS}
        found: dict[str, Any] = {}

        def note(name: str) -> None:
            found[name] = {n: seeker.accuracy(texts) for n, texts in asked.items()}

        note("plain")
        found["nats a byte, plain"] = losses(seeker.model, held, LENGTHS, texts=32)
        for name, (method, options) in methods.items():
            with apply(method, seeker.model, **options):
                note(name)
        short = torch.from_numpy(held[None, :WINDOW])
        before = seeker.model(short).detach()
        with apply("dimension-wise", seeker.model) as handle:
            factors = detect(handle.positions, lambda: seeker.certainty(tuning), start=factor, scales=(2, 4, 8, 16))
            note("dimension-wise")
            found["nats a byte, dimension-wise"] = losses(seeker.model, held, LENGTHS, texts=32)
            found["factors"] = factors.tolist()
            found["change within the window"] = float((seeker.model(short) - before).detach().abs().max())
        found["undone"] = bool(torch.equal(seeker.model(short), before))
        return found

    runs = by_seed(setting.seeds, one)
    names = ("plain", *methods, "dimension-wise")
    mean = {name: {n: float(np.mean([row[n] for row in runs[name]])) for n in LENGTHS} for name in names}
    ours = mean["dimension-wise"][last]
    gaps = [a[last] - b[last] for a, b in zip(runs["dimension-wise"], runs["plain"])]
    checks = {
        f"at least 80 % of the needles are found at {last:,}": ours >= 0.8,
        "the plain positions find fewer": mean["plain"][last] < ours,
        "YaRN and self-extend find fewer": max(mean["YaRN"][last], mean["self-extend"][last]) < ours,
        "within the window nothing changes (1e-6), and undone is undone": max(runs["change within the window"]) <= 1e-6
        and all(runs["undone"]),
    }
    return Finding(
        measured=ours,
        baseline=mean["plain"][last],
        interval=spread(gaps),
        unit=f"share of needles found in {last:,} symbols by a model trained on {WINDOW}: dimension-wise, against "
        "plain",
        interval_of="dimension-wise minus plain, over seeds",
        checks=checks,
        details={
            "found": mean,
            "found_by_seed": {name: runs[name] for name in names},
            "nats_a_byte_by_seed": {name: runs[f"nats a byte, {name}"] for name in ("plain", "dimension-wise")},
            "factors_by_seed": runs["factors"],
        },
        conditions="Bytes of WikiText-2 with eight needles a text; two layers of width 64, trained with texts of "
        f"32 to {WINDOW} symbols; factors searched for on 6 texts of the training part, groups of two pairs, 12 of "
        "16 kept in each head. That pairs are chosen first, and for each head, was decided after looking at seed "
        "0 (83 % when chosen last, for all).",
        reason=""
        if all(checks.values())
        else "these needles have names of their own, and every method that keeps distances within the trained "
        f"range finds them: YaRN {mean['YaRN'][last]:.0%}, self-extend {mean['self-extend'][last]:.0%}, NTK "
        f"{mean['NTK'][last]:.0%}",
    )
