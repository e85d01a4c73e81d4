"""Bytes as coordinates instead of rows of tables, with and without dropped tokens."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.small_bytes import byte_stream
from sememe.evidence.transplants import wikitext

DIM, HIDDEN, BATCH, LENGTH = 256, 256, 8, 64
STEPS, PASSES, LITTLE = 400, 250, 4  # steps over all of the text; steps over so many documents
HELD_OUT, DROP = 0.02, 0.2
LOGITS = 3.0  # deviation of untrained logits


@experiment(
    "one-hot-bytes",
    paper=Paper("Neural Machine Translation without Embeddings", 2020, "2008.09396"),
    claim="Byte models without embeddings match those with a table, and dropping tokens helps both.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """Byte models of WikiText-2 with one layer of width 256."""
    from sememe.lab.compare import Contender, compare

    corpus = wikitext(setting.data, share=HELD_OUT)
    sides = byte_stream(corpus.train), byte_stream(corpus.held_out)
    once = compare(
        [Contender(name, lambda seed, name=name: model(name, 0.0), *sides) for name in ("table", "one-hot")],  # type: ignore[misc]
        seeds=setting.seeds,
        steps=(STEPS,),
        batch=BATCH,
        length=LENGTH,
    ).rows
    little = byte_stream(corpus.train[:LITTLE])
    often = compare(
        [
            Contender(
                f"{name}{', dropping' if drop else ''}, little text",
                lambda seed, name=name, drop=drop: model(name, drop),  # type: ignore[misc]
                little,
                sides[1],
            )
            for name in ("table", "one-hot")
            for drop in (0.0, DROP)
        ],
        seeds=setting.seeds,
        steps=(PASSES,),
        batch=BATCH,
        length=LENGTH,
    ).rows
    table, plain = once
    helps = {
        name: {seed: often[place + 1].by_seed[seed] - often[place].by_seed[seed] for seed in setting.seeds}
        for name, place in (("table", 0), ("one-hot", 2))
    }
    tables = table.parameters - plain.parameters
    checks = {
        "no parameters at the input and at the output": tables == 2 * 256 * DIM,
        "bits a byte at most 1 % above those of learned tables, with confidence": plain.gap[2] <= 0.01 * table.loss[0],
        "where little text is seen often, dropping a fifth of the bytes improves both, for every seed": all(
            change < 0 for by_seed in helps.values() for change in by_seed.values()
        ),
    }
    return Finding(
        measured=plain.loss[0],
        baseline=table.loss[0],
        interval=(plain.gap[1], plain.gap[2]),
        unit="bits a byte: one-hot bytes without any table, against learned tables at both ends",
        interval_of="one-hot minus tables, over seeds and documents",
        checks=checks,
        details={
            "dropping_minus_not_dropping": helps,
            "parameters_of_the_tables": tables,
            **{
                row.name: {"bits_a_byte": row.loss, "by_seed": row.by_seed, "parameters": row.parameters}
                for row in (*once, *often)
            },
        },
        conditions=f"{corpus.train_bytes:,} bytes of WikiText-2 to train on, {corpus.held_out_bytes:,} held out; one "
        f"layer of width {DIM}, {STEPS} steps of {BATCH} x {LENGTH} bytes; for dropping {PASSES} such steps over "
        f"{len(little.ids):,} of the bytes, {PASSES * BATCH * LENGTH / len(little.ids):.0f} times each. (A first run "
        "had 150 steps over all of the text for everything, where dropping made both worse, and one-hot bytes 16 long "
        "with logits of deviation 1, which cost 0.5 bits; both were looked into with other held-out text.)",
        reason=""
        if all(checks.values())
        else f"one-hot bytes cost {plain.gap[0]:+.3f} bits ({plain.gap[1]:+.3f} to {plain.gap[2]:+.3f}), with "
        f"{tables:,} parameters fewer in a model of one layer that sees its text once; the paper has six and "
        "many passes",
    )


def model(name: str, drop: float) -> Any:
    """A byte model with tables or without."""
    from torch.nn import init

    from sememe.lab.model import Shape, SmallLM, table
    from sememe.tokens.one_hot_bytes import FirstCoordinates, OneHotBytes, TokenDropout
    from sememe.tokens.vocabulary import Vocabulary

    shape = Shape(dim=DIM, layers=1, heads=4, hidden=HIDDEN, context=LENGTH)
    if name == "table":
        return SmallLM(TokenDropout(table(256, DIM), drop), "free", shape=shape, vocabulary=256)
    made = SmallLM(OneHotBytes(Vocabulary.of(256), DIM, drop), FirstCoordinates(256), shape=shape, vocabulary=256)
    # the state is the logits: a byte enters as one and not as the square root of the width, which would predict that
    # it comes again, and the norm behind the blocks begins wide enough to rule most bytes out
    init.constant_(made.trunk.first.weight, DIM**-0.5)
    init.constant_(made.trunk.last.weight, LOGITS)
    return made
