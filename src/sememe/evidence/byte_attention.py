"""Vectors made from bytes by cross-attention, at a tenth of the table's size: loss, and what noise does."""

from __future__ import annotations

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.transplants import byte_bpe, wikitext

SYMBOLS, STEPS, BATCH, LENGTH = 8_192, 120, 4, 64
HELD_OUT, SHARE = 0.02, 0.1


@experiment(
    "byte-attention",
    paper=Paper("Word-Level Representation From Bytes For Language Modeling", 2022, "2211.12677"),
    claim="Vectors made from bytes by cross-attention are on par with a table of subwords at a tenth of its size.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """Small language models of WikiText-2 over byte attention and over a table, on clean and on misspelled text."""
    from sememe.evidence.token_layers import compare_layers
    from sememe.lab.model import Shape
    from sememe.tokens.factory import build
    from sememe.tokens.trial import TYPOS, LayerTrial

    corpus = wikitext(setting.data, share=HELD_OUT)
    trial = LayerTrial(corpus, byte_bpe(corpus.train, SYMBOLS), Shape(dim=64, layers=2, heads=4, context=LENGTH))
    dim = trial.shape.dim
    table, ours = compare_layers(
        setting,
        {
            "table": lambda vocabulary, seed: build("table", vocabulary, dim, seed=seed),
            "attention": lambda vocabulary, seed: build(
                "byte-attention", vocabulary, dim, f"{SHARE - 0.004:.1%}", seed=seed
            ),
        },
        steps=STEPS,
        batch=BATCH,
        trial=trial,
    ).rows
    share = ours.also["layer_parameters"] / table.also["layer_parameters"]
    worse = {row.name: row.also["typos"] - row.loss[0] for row in (table, ours)}
    checks = {
        "at most a tenth of the table's parameters": share <= SHARE,
        "bits a byte at most 5 % above the table's, with confidence": ours.gap[2] <= 0.05 * table.loss[0],
        "a tenth of the letters disturbed costs at most half of what it costs the table": worse["attention"]
        <= 0.5 * worse["table"],
    }
    return Finding(
        measured=ours.loss[0],
        baseline=table.loss[0],
        interval=(ours.gap[1], ours.gap[2]),
        unit="bits a byte of a small model: attention over bytes, against a trained table",
        interval_of="attention minus table, over seeds and documents",
        checks=checks,
        details={
            "share_of_parameters": share,
            "bits_a_byte_more_with_typos": worse,
            **{
                row.name: {
                    "by_seed": row.by_seed,
                    "with_typos": row.also["typos"],
                    "tokens_a_second_in_training": row.tokens_per_second,
                }
                for row in (table, ours)
            },
        },
        conditions=f"WikiText-2 in byte-level BPE of {SYMBOLS:,} symbols learned from it: the layer reads symbols, "
        "where the paper's reads whole words and predicts their subwords; width 64, two layers, an output layer of "
        f"its own, {STEPS} steps of {BATCH} x {LENGTH} symbols; {TYPOS:.0%} of the letters disturbed, loss in place of "
        "the paper's accuracy.",
        reason=""
        if all(checks.values())
        else "likely, not tested: misspelled words fall apart into more symbols, which cost bits at the output "
        "whatever the input layer is; the paper reads whole words, where a misspelled one stays one word",
    )
