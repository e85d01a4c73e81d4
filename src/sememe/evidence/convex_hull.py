"""Constrained word2vec against the mean and a normal draw, right after surgery and after the same further training."""

from __future__ import annotations

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.transplants import DIM, byte_bpe, lines, trained
from sememe.vocab.initialize import Problem, make

OWN, OTHER = 1_024, 1_536
STEPS, MORE = 200, 40
SENTENCES, HELD = 8_000, 200
METHODS = ("mean", "gaussian", "subword-mean", "convex-hull")


@experiment(
    "convex-hull",
    paper=Paper(
        "An Empirical Comparison of Vocabulary Expansion and Initialization Approaches for Language Models",
        2024,
        "2407.05841",
    ),
    claim="Constrained word2vec equals or beats initialisers that need bilingual vectors; a normal draw is nearly as "
    "good.",
    needs=("multi30k",),
)
def run(setting: Setting) -> Finding:
    """A small model of English captions gets a German tokenizer, then learns German captions."""
    from sememe.lab.compare import spread

    english, german = (lines(setting.data, "multi30k", f"train.{code}.gz")[:SENTENCES] for code in ("en", "de"))
    held = ["\n".join(german[at : at + 10]) for at in range(len(german) - HELD, len(german), 10)]
    english, german = packed(english), packed(german[:-HELD])
    own, other = byte_bpe(english, OWN), byte_bpe(german, OTHER)
    after: dict[str, list[np.ndarray]] = {name: [] for name in METHODS}
    before: dict[str, list[np.ndarray]] = {name: [] for name in METHODS}
    convex, kept = True, True
    for seed in setting.seeds:
        model = trained(own, english, steps=STEPS, seed=seed)
        problem, old = Problem.of(own, other, text=german, seed=seed), model.table
        for name in METHODS:
            rows = make(name).weights(problem, old)
            table = rows.apply(old)
            if name == "convex-hull":
                weights = rows.weights.toarray()
                made = np.setdiff1d(np.arange(len(weights)), rows.drawn)
                convex &= bool((weights >= 0).all() and np.allclose(weights[made].sum(axis=1), 1, atol=1e-9))
                kept &= bool(np.array_equal(table[problem.shared[:, 0]], old[problem.shared[:, 1]]))
            moved = model.moved(other, table)
            before[name].append(moved.bits(held))
            moved.more(german, MORE, seed)
            after[name].append(moved.bits(held))
    sizes = np.array([len(text.encode()) for text in held])
    loss = {name: {"after_surgery": spread(np.array(before[name]), sizes), f"after_{MORE}_steps": spread(
        np.array(after[name]), sizes)} for name in METHODS}  # fmt: skip
    gap = {name: spread(np.array(after["convex-hull"]) - np.array(after[name]), sizes) for name in METHODS[:-1]}
    gaussian, own_loss = (spread(np.array(after[name]), sizes)[0] for name in ("gaussian", "convex-hull"))
    checks = {
        "all learned rows are convex sums of old ones": convex,
        "rows of shared tokens are copied exactly": kept,
        "after the same further training no higher than the mean, with confidence": gap["mean"][2] <= 0,
        "within 2 % of the normal draw, or below it": own_loss <= 1.02 * gaussian,
    }
    return Finding(
        measured=own_loss,
        baseline=spread(np.array(after["mean"]), sizes)[0],
        interval=(gap["mean"][1], gap["mean"][2]),
        unit=f"bits a byte of German captions after {MORE} steps: constrained word2vec, against the mean of all rows",
        interval_of="constrained word2vec minus the mean, over seeds and documents",
        checks=checks,
        details={"bits_a_byte": loss, "convex_hull_minus": gap},
        conditions=f"A small Llama (two layers, width {DIM}, tied table) trained {STEPS} steps on English captions of "
        f"Multi30k with {OWN:,} tokens gets {OTHER:,} German ones and learns German captions for {MORE} steps of "
        "8 x 128 tokens.",
        reason=""
        if all(checks.values())
        else "likely, not tested: "
        "at this size a few dozen steps move the small table further than where its rows began",
    )


def packed(sentences: list[str]) -> list[str]:
    """Captions in documents of twenty."""
    return ["\n".join(sentences[at : at + 20]) + "\n" for at in range(0, len(sentences), 20)]
