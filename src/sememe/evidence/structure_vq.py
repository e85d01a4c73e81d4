"""SCAN's new verb: a model that attends by word class beside a plain one, after one example of the verb alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment

VERBS, TURNS, WAYS, TIMES, JOINS = (
    ("walk", "look", "run", "jump", "swim", "crawl", "climb", "skip"),
    ("left", "right"),
    ("opposite", "around"),
    ("twice", "thrice"),
    ("and", "after"),
)
WORDS = [*VERBS, "turn", *TURNS, *WAYS, *TIMES, *JOINS]
ACTIONS = [*(verb.upper() for verb in VERBS), "LEFT", "RIGHT"]
SYMBOLS = [*WORDS, ">", ".", *ACTIONS, ""]
PLACE = {symbol: number for number, symbol in enumerate(SYMBOLS)}
ARROW, PAD = PLACE[">"], PLACE[""]
DIM, LONGEST, CLASSES = 64, 12, 10
STEPS, BATCH, ALONE, TESTED = 800, 48, 2, 1_000


@experiment(
    "structure-vq",
    paper=Paper(
        "Inducing Systematicity in Transformers by Attending to Structurally Quantized Embeddings", 2024, "2402.06492"
    ),
    claim="Embeddings quantised by structure, and attention by them, give stronger compositional generalisation, and "
    "the classes are those of syntax.",
)
def run(setting: Setting) -> Finding:
    """SCAN by its grammar: everything without ``jump``, and ``jump`` alone, to learn from; the rest to test."""
    known, new = commands()
    codes = learned(known)
    makers = {"plain": (False, None), "by class": (True, None), "by class, softer": (True, 1.0)}
    right: dict[str, list[float]] = {name: [] for name in makers}
    seen: dict[str, list[float]] = {name: [] for name in makers}
    formed: dict[str, list[float]] = {name: [] for name in makers}
    generator = np.random.default_rng(0)
    tested = new[generator.choice(len(new), min(TESTED, len(new)), replace=False)]
    again = known[generator.choice(len(known), 300, replace=False)]
    for seed in setting.seeds:
        for name, (structured, strength) in makers.items():
            model = trained(known, structured, strength, codes, seed)
            right[name].append(exact(model, tested))
            seen[name].append(exact(model, again))
            formed[name].append(exact(model, tested, codes))
    gains = np.array(right["by class"]) - np.array(right["plain"])
    spread = 4.3 * gains.std(ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else 0.0  # Student's t, two degrees
    classes = [[SYMBOLS[i] for i in np.flatnonzero(codes == c)] for c in range(CLASSES)]
    pure = purity(codes)
    checks = {
        "exact answers with the new verb are at least 20 points more than the plain model's": float(gains.mean())
        >= 0.2,
        "classes hold words of one part of speech, to 90 %": pure >= 0.9,
        "the new verb shares its class with the other verbs": len({int(codes[PLACE[verb]]) for verb in VERBS}) == 1,
    }
    return Finding(
        measured=float(np.mean(right["by class"])),
        baseline=float(np.mean(right["plain"])),
        interval=(float(gains.mean() - spread), float(gains.mean() + spread)),
        unit="share of commands with the new verb that are answered exactly: attention by class, and a plain model",
        interval_of="the difference, over seeds",
        checks=checks,
        details={
            "new_verb": right,
            "new_verb_by_class": formed,
            "known_commands": seen,
            "classes": [part for part in classes if part],
            "purity": pure,
        },
        conditions=f"SCAN's grammar with twice its verbs, as in the paper's training set, commands of up to {LONGEST} "
        f"symbols with their answers: {len(known):,} to learn from, {len(tested):,} of {len(new):,} with the new verb "
        f"to test; {ALONE} examples of each verb alone in a batch of {BATCH}; causal transformers of two layers "
        f"of width {DIM}, {STEPS} steps. A first run, with four verbs, the new one alone repeated and 400 steps, "
        "answered 73 % of the known commands and none with the new verb.",
        reason=""
        if all(checks.values())
        else f"it is not the steps: known commands are answered in {np.mean(seen['by class']):.0%} "
        f"({np.mean(seen['plain']):.0%} by the plain model). With the new verb {np.mean(formed['by class']):.0%} "
        f"({np.mean(formed['plain']):.0%}) get an answer of the right classes, so that what is missing is mostly which "
        "verb was meant. With 24 verbs, another one new and 400 steps, it was understood in 11 % (23 %): few verbs "
        "teach no common way from a verb to its action; the paper's dropout and quantised output were not tried",
    )


def commands() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All commands and answers that are short enough, padded: those to learn from, and those with the new verb."""
    phrases: list[tuple[list[str], list[str]]] = []
    for verb in (*VERBS, "turn"):
        does = [] if verb == "turn" else [verb.upper()]
        if does:
            phrases.append(([verb], does))
        for turn in TURNS:
            side = [turn.upper()]
            phrases.append(([verb, turn], side + does))
            phrases.append(([verb, "opposite", turn], 2 * side + does))
            phrases.append(([verb, "around", turn], 4 * (side + does)))
    repeated = [
        (words + extra, times * does)
        for words, does in phrases
        for extra, times in (([], 1), (["twice"], 2), (["thrice"], 3))
    ]
    whole = list(repeated)
    for (a, first), (b, second) in itertools.product(repeated, repeated):
        whole.append(([*a, "and", *b], first + second))
        whole.append(([*a, "after", *b], second + first))
    rows: tuple[list[list[int]], list[list[int]]] = ([], [])
    for words, does in whole:
        row = [PLACE[symbol] for symbol in (*words, ">", *does, ".")]
        if len(row) <= LONGEST:
            rows["jump" in words and words != ["jump"]].append(row + [PAD] * (LONGEST - len(row)))
    return np.array(rows[0]), np.array(rows[1])


def learned(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Classes of the symbols, from what is learned from."""
    from sememe.tokens.vq import slot_classes

    return slot_classes([row[row != PAD] for row in rows], len(SYMBOLS), CLASSES)


def purity(codes: NDArray[np.int64]) -> float:
    """Share of the words that are of the most usual part of speech of their class."""
    parts = [{*VERBS, "turn"}, {*TURNS}, {*WAYS, *TIMES}, {*JOINS}]
    classes: dict[int, list[int]] = {}
    for word in WORDS:
        part = next(number for number, group in enumerate(parts) if word in group)
        classes.setdefault(int(codes[PLACE[word]]), []).append(part)
    return sum(max(map(found.count, found)) for found in classes.values()) / len(WORDS)


def trained(rows: NDArray[np.int64], structured: bool, strength: float | None, codes: Any, seed: int) -> Any:
    """A model of commands and answers; only answers are learned."""
    import torch
    from torch import nn

    from sememe.lab.model import Shape, SmallLM, seeded
    from sememe.lab.train import Recipe, train
    from sememe.tokens.vocabulary import Vocabulary
    from sememe.tokens.vq import StructureVQ, SystematicLM

    shape = Shape(dim=DIM, layers=2, heads=4, context=LONGEST)
    with seeded(seed):
        layer = StructureVQ(Vocabulary(SYMBOLS), DIM, CLASSES)
        layer.codes.copy_(torch.from_numpy(codes))
        model = (
            SystematicLM(layer, "free", shape=shape, strength=strength)
            if structured
            else SmallLM(layer, "free", shape=shape)
        )

    class Answers(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def nll(self, ids: Any) -> Any:
            return self.model.nll(ids)[answers(ids)]

    def batches() -> Iterator[NDArray[np.int64]]:
        generator = np.random.default_rng(seed)
        alone = rows[(rows[:, 0] < len(VERBS)) & (rows[:, 1] == ARROW)]
        while True:
            drawn = rows[generator.integers(len(rows), size=BATCH - ALONE * len(alone))]
            yield np.concatenate((drawn, np.repeat(alone, ALONE, axis=0)))

    with seeded(seed):
        train(Answers(), batches(), Recipe(steps=STEPS), label="SCAN")
    return model.eval()


def answers(ids: Any) -> Any:
    """Where the symbols of the answer stand, its end included, bool ``(b, l)``."""
    behind = (ids == ARROW).cumsum(1) - (ids == ARROW).long() > 0
    return behind & (ids != PAD)


def exact(model: Any, rows: NDArray[np.int64], codes: Any = None) -> float:
    """Share of rows whose answer is the likeliest symbol at every place: what decoding one by one would give.

    With classes ``codes (v,)`` a symbol of the right one will do.
    """
    import torch

    kinds = torch.arange(len(SYMBOLS)) if codes is None else torch.from_numpy(codes)
    right = []
    with torch.no_grad():
        for part in np.array_split(rows, max(1, len(rows) // 200)):
            ids = torch.from_numpy(part)
            hit = kinds[model(ids[:, :-1]).argmax(-1)] == kinds[ids]
            right.append((hit | ~answers(ids)).all(1))
    return float(torch.cat(right).float().mean())
