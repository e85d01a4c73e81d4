"""New rows between those of a learned table of positions, tuned alone, beside rules that need no training."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.needles import recaller, recurring, recurring_windows
from sememe.evidence.positions import book, by_seed, losses_by_text, paired, perplexity

LENGTHS, TUNING = (128, 256, 512), 150
STEPS = {32: 200, 64: 80, 128: 250}
RULES = ("interpolate", "grouped")


@experiment(
    "tuned",
    paper=Paper("LongEmbed: Extending Embedding Models for Long Context Retrieval", 2024, "2404.12096"),
    claim="Tuning only new rows between the old ones extends a table of positions further than rules without training, "
    "and leaves short texts as they were.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """Loss a byte at one, two and four times the table's length."""
    from sememe.lab.model import Shape
    from sememe.lab.train import Recipe, train
    from sememe.positions.extend import apply

    text, held = book(setting.data)
    first, last = LENGTHS[0], LENGTHS[-1]
    held = recurring(held, 64, last, np.random.default_rng(5)).ravel()
    shape = Shape(dim=64, layers=2, heads=4, context=first)

    def one(seed: int) -> dict[str, Any]:
        model = recaller(text, shape, seed, STEPS)
        found: dict[str, Any] = {"short": losses_by_text(model, held, LENGTHS[:1])[first]}
        for rule in RULES:
            with apply(rule, model):
                found[rule] = losses_by_text(model, held, LENGTHS)
        with apply("tuned", model, factor=last // first) as handle:
            rows = [handle.positions.between]  # weight decay would move the old rows, too, if they were handed over
            train(model, recurring_windows(text, 6, last, seed + 100), Recipe(steps=TUNING), parameters=rows)
            found["tuned"] = losses_by_text(model, held, LENGTHS)
            found["again"] = losses_by_text(model, held, LENGTHS[:1])[first]  # what fits, with the new rows in place
        return found

    runs = by_seed(setting.seeds, one)
    mean = {name: {n: float(np.mean([row[n] for row in runs[name]])) for n in LENGTHS} for name in (*RULES, "tuned")}
    best = min(RULES, key=lambda name: mean[name][last])
    gap = paired([row[last] for row in runs["tuned"]], [row[last] for row in runs[best]])
    checks = {
        f"at {last} bytes the loss is below that of the best rule without training, with confidence": gap[2] < 0,
        "texts that fit the old table have the same loss, exactly": all(
            np.array_equal(a, b) for a, b in zip(runs["short"], runs["again"])
        ),
    }
    return Finding(
        measured=perplexity(mean["tuned"][last]),
        baseline=perplexity(mean[best][last]),
        interval=gap[1:],
        unit=f"perplexity a byte at {last} bytes: new rows tuned, against the {best} rule",
        interval_of="nats a byte, tuned minus rule, over seeds and texts",
        checks=checks,
        details={"nats_a_byte": mean, "best_rule": best, "tuned_minus_best_rule": gap},
        conditions="Bytes of WikiText-2 in which every 16 symbols name one of eight things and its value in that "
        "text, so that a longer context is worth something (in the bytes alone, a first run, it was worth nothing "
        f"to these models); two layers of width 64, a learned table of {first}; steps by length of the texts {STEPS}, "
        f"then {TUNING} steps of 6 x {last} that change the new rows alone. A value counts ten times a byte in "
        "training, all symbols alike in what is measured.",
        reason=""
        if all(checks.values())
        else f"tuned, the loss is {mean['tuned'][last]:.4f} at {last} bytes, by the rule {mean[best][last]:.4f}",
    )
