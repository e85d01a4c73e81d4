"""Vectors made from bytes by cross-attention, at a tenth of the table's size: loss, and what noise does."""

from __future__ import annotations

from typing import Any

from sememe.catalog import Paper
from sememe.evidence.byte_to_word import before_words, bits_of_words
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.transplants import byte_bpe, wikitext

SYMBOLS, STEPS, BATCH, LENGTH = 8_192, 200, 8, 64
HELD_OUT, SHARE = 0.02, 0.1


@experiment(
    "byte-attention",
    paper=Paper("Word-Level Representation From Bytes For Language Modeling", 2022, "2211.12677"),
    claim="Vectors made from bytes by cross-attention are on par with a table of subwords at a tenth of its size.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """Small language models of WikiText-2 over byte attention and over a table, on clean and on misspelled text."""
    from sememe.lab.compare import Contender, compare
    from sememe.lab.data import stream_of
    from sememe.lab.model import Shape, SmallLM
    from sememe.tokens.factory import build
    from sememe.tokens.trial import TYPOS
    from sememe.tokens.vocabulary import Vocabulary

    corpus = wikitext(setting.data, share=HELD_OUT)
    tokenizer = byte_bpe(corpus.train, SYMBOLS)
    train, held = (stream_of(tokenizer.backend, texts) for texts in (corpus.train, corpus.held_out))
    vocabulary = Vocabulary.of(tokenizer)
    shape = Shape(dim=64, layers=2, heads=4, context=LENGTH)
    windows = before_words(tokenizer, corpus.held_out)

    def plain(seed: int) -> Any:
        return SmallLM(build("table", vocabulary, shape.dim, seed=seed), "free", shape=shape, vocabulary=SYMBOLS)

    def attention(seed: int) -> Any:
        layer = build("byte-attention", vocabulary, shape.dim, f"{SHARE - 0.004:.1%}", seed=seed)
        return SmallLM(layer, "free", shape=shape, vocabulary=SYMBOLS)

    def noise(contender: Contender, model: Any, seed: int) -> dict[str, float]:
        clean, wrong = (bits_of_words(model, *side) for side in windows)
        return {"clean": clean, "noisy": wrong, "layer_parameters": float(model.embedding.size)}

    table, ours = compare(
        [Contender("table", plain, train, held), Contender("attention", attention, train, held)],
        seeds=setting.seeds,
        steps=(STEPS,),
        batch=BATCH,
        length=LENGTH,
        also=noise,
    ).rows
    share = ours.also["layer_parameters"] / table.also["layer_parameters"]
    worse = {row.name: row.also["noisy"] - row.also["clean"] for row in (table, ours)}
    checks = {
        "at most a tenth of the table's parameters": share <= SHARE,
        "bits a byte at most 5 % above the table's, with confidence": ours.gap[2] <= 0.05 * table.loss[0],
        "a tenth of the letters before a word disturbed costs it at most half of what it costs with the table": worse[
            "attention"
        ]
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
            "bits_more_a_word_behind_noise": worse,
            **{
                row.name: {
                    "by_seed": row.by_seed,
                    "bits_a_word": row.also["clean"],
                    "bits_a_word_behind_noise": row.also["noisy"],
                    "tokens_a_second_in_training": row.tokens_per_second,
                }
                for row in (table, ours)
            },
        },
        conditions=f"WikiText-2 in byte-level BPE of {SYMBOLS:,} symbols learned from it: the layer reads symbols, "
        "where the paper's reads whole words and predicts their subwords; width 64, two layers, an output layer of "
        f"its own, {STEPS} steps of {BATCH} x {LENGTH} symbols; {TYPOS:.0%} of the letters of the words before a clean "
        "word disturbed, its bits in place of the paper's accuracy. (A first run disturbed what was to be predicted, "
        "too, which costs every model the same, and had three tenths of the training.)",
        reason=""
        if all(checks.values())
        else f"noise before a word costs it {worse['attention']:.3f} bits, and {worse['table']:.3f} with the table: a "
        "misspelled word falls apart into symbols whose vectors, each well made, are not the word's; the paper reads "
        "whole words, which is measured as byte-to-word",
    )
