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
STEPS = {32: 150, 64: 80, 128: 80, 256: 80}
REPEATS, TEXTS, TUNING = 2, 24, 12
SCALES = (1, 2, 4, 8, 32)


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
    """Eight names in each text of real bytes, each given twice; the last value counts."""
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
    }

    def one(seed: int) -> dict[str, Any]:
        seeker = Seeker(train, shape, seed, STEPS, repeats=REPEATS)
        tuning = hay(train, TUNING, last, 8, np.random.default_rng([seed, 2]), repeats=REPEATS)
        generator = np.random.default_rng([seed, 3])
        asked = {length: hay(held, TEXTS, length, 8, generator, repeats=REPEATS) for length in LENGTHS}
        found: dict[str, Any] = {}

        def note(name: str) -> None:
            found[name] = {n: seeker.accuracy(texts) for n, texts in asked.items()}

        note("plain")
        found["nats a byte, plain"] = losses(seeker.model, held, LENGTHS, texts=16)
        for name, (method, options) in methods.items():
            with apply(method, seeker.model, **options):
                note(name)
        short = torch.from_numpy(held[None, :WINDOW])
        before = seeker.model(short).detach()
        with apply("dimension-wise", seeker.model) as handle:
            factors = detect(handle.positions, lambda: seeker.certainty(tuning), start=2 * factor, scales=SCALES)
            note("dimension-wise")
            found["nats a byte, dimension-wise"] = losses(seeker.model, held, LENGTHS, texts=16)
            found["factors"] = factors.tolist()
            found["change within the window"] = float((seeker.model(short) - before).detach().abs().max())
        found["undone"] = bool(torch.equal(seeker.model(short), before))
        return found

    runs = by_seed(setting.seeds, one)
    names = ("plain", *methods, "dimension-wise")
    mean = {name: {n: float(np.mean([row[n] for row in runs[name]])) for n in LENGTHS} for name in names}
    ours = mean["dimension-wise"][last]
    best = max(methods, key=lambda name: mean[name][last])
    gaps = {name: spread([a[last] - b[last] for a, b in zip(runs["dimension-wise"], runs[name])]) for name in names}
    checks = {
        f"at least 80 % of the needles are found at {last:,}": ours >= 0.8,
        "the plain positions find fewer, with confidence": gaps["plain"][0] > 0,
        "YaRN finds fewer": mean["YaRN"][last] < ours,
        "self-extend finds fewer": mean["self-extend"][last] < ours,
        "within the window nothing changes (1e-6), and undone is undone": max(runs["change within the window"]) <= 1e-6
        and all(runs["undone"]),
    }
    return Finding(
        measured=ours,
        baseline=mean[best][last],
        interval=gaps[best],
        unit=f"share of needles found in {last:,} symbols by a model trained on {WINDOW}: dimension-wise, against "
        f"{best}",
        interval_of=f"dimension-wise minus {best}, over seeds",
        checks=checks,
        details={
            "found": mean,
            "found_by_seed": {name: runs[name] for name in names},
            "dimension_wise_minus_the_others": {name: gaps[name] for name in names[:-1]},
            "nats_a_byte_by_seed": {name: runs[f"nats a byte, {name}"] for name in ("plain", "dimension-wise")},
            "factors_by_seed": runs["factors"],
        },
        conditions=f"Bytes of WikiText-2, eight names a text, each given {REPEATS} times with values of which the last "
        f"counts, {TEXTS} texts a length and seed; two layers of width 64, trained with texts of 32 to {WINDOW} "
        f"symbols; factors searched for on {TUNING} texts of the training part, groups of two pairs, 12 of 16 kept in "
        "each head of each layer, all at eight to begin with as in the authors' code. Names given once, as at first, "
        "were found by YaRN and self-extend without exception, which tells nothing apart; giving each twice was the "
        "first step at which neither found 95 %, with a seed and a text of its own. With those the search was settled, "
        "too (82 % with six texts and one choice for all layers).",
        reason=""
        if all(checks.values())
        else f"found are {ours:.1%}; YaRN finds {mean['YaRN'][last]:.1%}, self-extend "
        f"{mean['self-extend'][last]:.1%}, and within the window {mean['plain'][WINDOW]:.1%} are found: little is left "
        "to gain. It is not that the paper extends sixteen times: tested at 64 to 1,024 symbols of another text (one "
        "seed), YaRN finds all of them, too, dimension-wise factors 98 % (90 % with 12 of 16 pairs), self-extend 79 %. "
        "Likely, not tested: every name has values of its own here, so that coarse places are enough",
    )
