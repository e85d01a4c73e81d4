"""One table for input and output or two, early and late in training; a punished projection; rows as word vectors."""

from __future__ import annotations

import csv
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.whiten import interval, spearman

WORDS, DIM, STEPS, BATCH, LENGTH = 4_000, 64, 250, 8, 64
LONGER = 600  # steps that decide about tying
DOCUMENT, HELD = 100, 20  # sentences; every so many documents is held out


@experiment(
    "tied-output",
    paper=Paper("Using the Output Embedding to Improve Language Models", 2016, "1608.05859"),
    claim="Tying input and output lowers perplexity with far fewer parameters; output rows are better word vectors.",
    needs=("brown", "word-similarity"),
)
def run(setting: Setting) -> Finding:
    """Words of the Brown corpus; perplexity of held-out text, and human judgments of similarity."""

    from sememe.lab.compare import Contender, compare
    from sememe.lab.data import stream_of
    from sememe.lab.model import Shape, SmallLM
    from sememe.tokens.output import TiedOutput, output_vectors

    words, documents = brown(setting)
    train = stream_of(None, [row for place, row in enumerate(documents) if place % HELD])
    held = stream_of(None, documents[::HELD])
    shape, size = Shape(dim=DIM, layers=2, heads=4, context=LENGTH), len(words)
    pairs = judged(setting, words)
    gold = np.array([score for score, _, _ in pairs])
    places = np.array([(a, b) for _, a, b in pairs])
    found: dict[str, list[NDArray[np.float64]]] = {"untied input": [], "untied output": [], "tied": []}

    def untied(seed: int) -> Any:
        return SmallLM(input_rows(size), "free", shape=shape)

    def tied(seed: int) -> Any:
        embedding = input_rows(size)
        return SmallLM(embedding, TiedOutput(embedding), shape=shape)

    def similarities(contender: Contender, model: Any, seed: int) -> dict[str, float]:
        sides = {"untied": ("input", "output"), "tied": ("output",)}.get(contender.name, ())
        for side in sides:
            name = "tied" if contender.name == "tied" else f"untied {side}"
            found[name].append(cosines(output_vectors(model, side), places))
        return {}

    contenders = [Contender(name, build, train, held) for name, build in (("untied", untied), ("tied", tied))]
    early, late = (
        compare(contenders, seeds=setting.seeds, steps=(steps,), batch=BATCH, length=LENGTH, also=also)
        for steps, also in ((STEPS, None), (LONGER, similarities))
    )
    rows = {row.name: row for row in late.rows}
    perplexity = {name: 2 ** row.loss[0] for name, row in rows.items()}
    change, at_first = ([2**end - 1 for end in ran.row("tied").gap] for ran in (late, early))
    fewer = 1 - rows["tied"].parameters / rows["untied"].parameters
    correlation = {name: float(np.mean([spearman(row, gold) for row in each])) for name, each in found.items()}
    means = {name: np.mean(each, axis=0) for name, each in found.items()}
    better = interval(means["untied input"], means["untied output"], gold, seed=0)
    checks = {
        "tied perplexity is at least 2 % below untied, with confidence": change[2] <= -0.02,
        "with at least 40 % fewer parameters": fewer >= 0.4,
        "output rows agree with human similarity at least as well as untied input rows": correlation["untied output"]
        >= correlation["untied input"],
    }
    return Finding(
        measured=perplexity["tied"],
        baseline=perplexity["untied"],
        interval=(change[1], change[2]),
        unit="perplexity of a word of held-out text: one table for input and output, or two",
        interval_of="change of perplexity by tying, over seeds and documents",
        checks=checks,
        details={
            "perplexity": perplexity,
            "change_by_tying": {STEPS: at_first, LONGER: change},
            "parameters": {name: row.parameters for name, row in rows.items()},
            "spearman_with_men": correlation,
            "interval_of_output_minus_input_rows": better,
            "pairs_of_men": len(pairs),
        },
        conditions=f"The {size - 1:,} most frequent lower-case words of Brown (others are one symbol), every "
        f"twentieth {DOCUMENT} sentences held out; transformers of two layers of width {DIM}, {LONGER} steps of "
        f"{BATCH} x {LENGTH} words, and {STEPS} for comparison; MEN's pairs of these words. Input rows begin with a "
        f"deviation of 0.125 in all. (A first run had {STEPS} steps only.)",
        reason="" if all(checks.values()) else reason(checks, change, at_first, correlation, better),
    )


@experiment(
    "projected-output",
    paper=Paper("Using the Output Embedding to Improve Language Models", 2016, "1608.05859"),
    claim="Where tables are not tied, a projection before the output whose norm is punished lowers perplexity, too.",
    needs=("brown",),
)
def projection(setting: Setting) -> Finding:
    """Words of the Brown corpus; perplexity of held-out text with and without the projection."""
    from sememe.lab.compare import Contender, compare
    from sememe.lab.data import stream_of
    from sememe.lab.model import Shape, SmallLM
    from sememe.tokens.output import Penalised, ProjectionRegularizer

    words, documents = brown(setting)
    train = stream_of(None, [row for place, row in enumerate(documents) if place % HELD])
    held = stream_of(None, documents[::HELD])
    shape, size = Shape(dim=DIM, layers=2, heads=4, context=LENGTH), len(words)

    def with_strength(strength: float) -> Any:
        return lambda seed: Penalised(
            SmallLM(input_rows(size), ProjectionRegularizer(size, DIM, strength=strength), shape=shape)
        )

    builders = {
        "plain": lambda seed: SmallLM(input_rows(size), "free", shape=shape),
        "punished": with_strength(0.15),
        "free": with_strength(0.0),
    }
    rows = compare(
        [Contender(name, build, train, held) for name, build in builders.items()],
        seeds=setting.seeds,
        steps=(STEPS,),
        batch=BATCH,
        length=LENGTH,
    )
    plain, punished, free = (rows.row(name) for name in builders)
    change = {row.name: [2**end - 1 for end in row.gap] for row in (punished, free)}
    low, high = change["punished"][1:]
    checks = {"perplexity is lower with the punished projection, with confidence": high < 0}
    return Finding(
        measured=2 ** punished.loss[0],
        baseline=2 ** plain.loss[0],
        interval=(low, high),
        unit="perplexity of a word of held-out text: an output behind a punished projection, or a plain one",
        interval_of="change of perplexity by the projection, over seeds and documents",
        checks=checks,
        details={"perplexity": {row.name: 2 ** row.loss[0] for row in rows.rows}, "change": change},
        conditions=f"As for tied-output: {size - 1:,} words of Brown, two layers of width {DIM}, {STEPS} steps of "
        f"{BATCH} x {LENGTH} words; punished with the paper's 0.15, and not at all.",
        reason=""
        if all(checks.values())
        else f"the projection without its punishment changes perplexity by {change['free'][0]:+.1%}, with it by "
        f"{change['punished'][0]:+.1%}: it answers overfitting, and these models see their text less than once",
    )


def input_rows(size: int) -> Any:
    """Input rows of about unit length.

    The model normalises what it reads: rows that begin small are moved too far by the input's gradient, and tied ones
    drag the output along.
    """
    import torch

    from sememe.lab.model import table

    embedding = table(size, DIM)
    torch.nn.init.normal_(embedding.weight, std=DIM**-0.5)
    return embedding


def reason(checks: dict[str, bool], change: list[float], at_first: list[float], correlation: Any, better: Any) -> str:
    """What is known about the parts that did not hold."""
    low, high = better
    parts = (
        f"tying changes perplexity by {change[0]:+.1%} ({change[1]:+.1%} to {change[2]:+.1%}) behind {LONGER} steps "
        f"and by {at_first[0]:+.1%} ({at_first[1]:+.1%} to {at_first[2]:+.1%}) behind {STEPS}: what it gains "
        "while rows have seen little text is lost when they have seen more. It was no better on an eighth of the "
        "text, seen three times, where two tables could learn by heart, nor with a bias at the output",
        "",
        f"output rows correlate {correlation['untied output']:.3f} and input rows {correlation['untied input']:.3f} "
        f"with MEN, a difference of {low:+.3f} to {high:+.3f}",
    )
    return "; ".join(part for part, good in zip(parts, checks.values()) if part and not good)


def brown(setting: Setting) -> tuple[list[str], list[NDArray[np.int64]]]:
    """The vocabulary (its first entry stands for all other words), and documents of words."""
    sentences = [row[1].lower().split() for row in setting.data.table("brown", "brown.tsv.gz")]
    known = [word for word, _ in Counter(word for row in sentences for word in row).most_common(WORDS - 1)]
    ids = {word: number + 1 for number, word in enumerate(known)}
    documents = [
        np.array([ids.get(word, 0) for row in sentences[start : start + DOCUMENT] for word in row], dtype=np.int64)
        for start in range(0, len(sentences), DOCUMENT)
    ]
    return ["", *known], documents


def judged(setting: Setting, words: list[str]) -> list[tuple[float, int, int]]:
    """Pairs of MEN whose words are both known: score and the two ids."""
    ids = {word: number for number, word in enumerate(words)}
    path = setting.data.require("word-similarity") / "men3000.tsv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return [(float(score), ids[a], ids[b]) for score, a, b in rows if a in ids and b in ids]


def cosines(vectors: Any, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cosine of each pair about the mean of all vectors, which all rows of such tables share."""
    rows = np.asarray(vectors, dtype=np.float64)
    rows = rows - rows.mean(axis=0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.einsum("ij,ij->i", rows[pairs[:, 0]], rows[pairs[:, 1]])
