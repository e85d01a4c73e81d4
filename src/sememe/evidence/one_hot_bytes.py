"""Bytes as coordinates instead of rows of tables, with and without dropped tokens."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.small_bytes import byte_stream
from sememe.evidence.transplants import wikitext

DIM, HIDDEN, STEPS, BATCH, LENGTH = 256, 256, 150, 8, 64
HELD_OUT, DROP = 0.02, 0.2


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
    contenders = [
        Contender(
            f"{name}{', dropping' if drop else ''}",
            lambda seed, name=name, drop=drop: model(name, drop),  # type: ignore[misc]
            *sides,
        )
        for name in ("table", "one-hot")
        for drop in (0.0, DROP)
    ]
    rows = compare(contenders, seeds=setting.seeds, steps=(STEPS,), batch=BATCH, length=LENGTH).rows
    table, table_dropped, plain, dropped = rows
    helps = {
        "table": table_dropped.gap[0],
        "one-hot": dropped.loss[0] - plain.loss[0],
    }
    tables = table.parameters - plain.parameters
    checks = {
        "no parameters at the input and at the output": tables == 2 * 256 * DIM,
        "bits a byte at most 1 % above those of learned tables, with confidence": plain.gap[2] <= 0.01 * table.loss[0],
        "dropping a fifth of the bytes improves both": max(helps.values()) < 0,
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
                for row in rows
            },
        },
        conditions=f"{corpus.train_bytes:,} bytes of WikiText-2 to train on, {corpus.held_out_bytes:,} held out; one "
        f"layer of width {DIM}, {STEPS} steps of {BATCH} x {LENGTH} bytes.",
        reason=""
        if all(checks.values())
        else "likely, not tested: dropping tokens is a regulariser, and a model that sees a thirtieth of its text "
        "once has nothing to be kept from learning by heart",
    )


def model(name: str, drop: float) -> Any:
    """A byte model with tables or without."""
    from sememe.lab.model import Shape, SmallLM, table
    from sememe.tokens.one_hot_bytes import FirstCoordinates, OneHotBytes, TokenDropout
    from sememe.tokens.vocabulary import Vocabulary

    shape = Shape(dim=DIM, layers=1, heads=4, hidden=HIDDEN, context=LENGTH)
    if name == "table":
        return SmallLM(TokenDropout(table(256, DIM), drop), "free", shape=shape, vocabulary=256)
    return SmallLM(OneHotBytes(Vocabulary.of(256), DIM, drop), FirstCoordinates(256), shape=shape, vocabulary=256)
