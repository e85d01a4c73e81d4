"""Byte-and-place codes instead of a table: loss, and whether a misspelled word leaves the next prediction as it was."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.news_words import mistyped
from sememe.evidence.transplants import byte_bpe, wikitext
from sememe.measure.stats import bootstrap_mean

SYMBOLS, POSITIONS = 32_768, 16
STEPS, BATCH, LENGTH = 200, 4, 64
HELD_OUT, PAIRS = 0.03, 1_200


@experiment(
    "kronecker",
    paper=Paper(
        "Kronecker Embeddings: Byte-Level Structured Token Representations for Parameter-Efficient Language Models",
        2026,
        "2605.29459",
    ),
    claim="91 to 94 % fewer input parameters, at a validation loss that is no worse than that of a trained table, and "
    "predictions that spelling errors change less often.",
    needs=("wikitext2", "agnews"),
)
def run(setting: Setting) -> Finding:
    """Small language models of WikiText-2 over the codes and over a table, with the same steps."""
    import torch

    from sememe.lab.compare import Contender, compare
    from sememe.lab.data import Stream, stream_of
    from sememe.lab.model import Shape
    from sememe.tokens.factory import build
    from sememe.tokens.kronecker import KroneckerEmbedding
    from sememe.tokens.trial import LayerTrial

    corpus = wikitext(setting.data, share=HELD_OUT)
    news = [row[1] for row in setting.data.table("agnews", "train.tsv.gz")]
    trial = LayerTrial(
        corpus, byte_bpe([*corpus.train, *news], SYMBOLS), Shape(dim=64, layers=2, heads=4, context=LENGTH)
    )
    tokenizer = trial.tokenizer.backend
    pairs = misspelled_prompts(trial.corpus.held_out, PAIRS)
    prefixes = [[encoding.ids[-LENGTH:] for encoding in tokenizer.encode_batch(list(side))] for side in zip(*pairs)]
    known = [all(np.isin(ids, trial.used).all() for ids in both) for both in zip(*prefixes)]
    prefixes = [[np.searchsorted(trial.used, ids) for ids, kept in zip(side, known) if kept] for side in prefixes]

    def compact(texts: tuple[str, ...]) -> Stream:
        stream = stream_of(tokenizer, texts)
        return Stream(np.searchsorted(trial.used, stream.ids), stream.offsets, stream.sizes)

    same: dict[str, list[Any]] = {"table": [], "kronecker": []}
    answers: dict[str, list[int]] = {"table": [], "kronecker": []}

    def retention(contender: Contender, model: Any, seed: int) -> dict[str, float]:
        clean, wrong = (next_symbols(model, side) for side in prefixes)
        same[contender.name].append(clean == wrong)
        answers[contender.name].append(len(np.unique(clean)))
        return {"layer": float(sum(p.numel() for p in model.embedding.parameters()))}

    sides = compact(trial.corpus.train), compact(trial.corpus.held_out)
    options: dict[str, dict[str, int]] = {"table": {}, "kronecker": {"positions": POSITIONS}}
    contenders = [
        Contender(
            name,
            lambda seed, name=name: trial.model(  # type: ignore[misc]
                build(name, trial.vocabulary, trial.shape.dim, seed=seed, **options[name])
            ),
            *sides,
        )
        for name in options
    ]
    plain, ours = compare(
        contenders, seeds=setting.seeds, steps=(STEPS,), batch=BATCH, length=LENGTH, also=retention
    ).rows
    layer, ids = KroneckerEmbedding(trial.vocabulary, trial.shape.dim, POSITIONS), torch.arange(len(trial.vocabulary))
    with torch.no_grad():
        apart = float((layer.vectors(ids) - layer.dense(ids)).abs().max())
    share = ours.also["layer"] / plain.also["layer"]
    cut = float(np.mean([len(piece) > POSITIONS for piece in trial.vocabulary.pieces]))
    kept = {name: np.mean(rows, axis=0) for name, rows in same.items()}
    more = bootstrap_mean(kept["kronecker"] - kept["table"])
    checks = {
        "at most 13 % of the table's parameters": share <= 0.13,
        "a validation loss at most 1 % above the table's, with confidence": ours.gap[2] <= 0.01 * plain.loss[0],
        "the most likely next symbol survives a misspelled word of the prompt at least as often": bool(more.value >= 0),
        "gathered rows equal the product with the code to 1e-5": apart <= 1e-5,
    }
    return Finding(
        measured=ours.loss[0],
        baseline=plain.loss[0],
        interval=(ours.gap[1], ours.gap[2]),
        unit="bits a byte of a small model: byte-and-place codes, against a trained table",
        interval_of="codes minus table, over seeds and documents",
        checks=checks,
        details={
            "share_of_parameters": share,
            "parameters": {"kronecker": ours.also["layer"], "table": plain.also["layer"]},
            "next_symbol_survives_a_typo": {name: float(values.mean()) for name, values in kept.items()},
            "survives_more_often": (more.value, more.low, more.high),
            "prompts": len(prefixes[0]),
            "different_answers": answers,
            "largest_difference_of_both_ways": apart,
            "share_of_symbols_longer_than_the_code": cut,
            "bits_a_byte_by_seed": {"kronecker": ours.by_seed, "table": plain.by_seed},
        },
        conditions=f"WikiText-2 in byte-level BPE of {SYMBOLS:,} symbols learned from it and from AG News, "
        f"{POSITIONS} positions, width 64, two layers, an output layer of its own, {STEPS} steps of {BATCH} x {LENGTH} "
        "symbols. Prompts as in the paper's probe: the first two to eight words of held-out sentences, a letter wrong "
        "in one of them, wherever it stands. Earlier runs differed: 16,384 symbols and 8 positions, and the last word "
        "before the prediction misspelled after 160 characters of text, which is another and harder question; its "
        "answer survived 2.3 points less often than the table's (-4.8 to +0.1). The change was made on Brown after "
        "reading the paper's program.",
        reason=""
        if all(checks.values())
        else f"after so few steps the models give {np.mean(answers['table']):.0f} different answers to all prompts, "
        "so that little is left for spelling to change",
    )


def misspelled_prompts(texts: Sequence[str], count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Beginnings of sentences, and the same with one letter of one of their words wrong.

    As in the paper's probe: two to eight words, of which one with at least four letters is misspelled, wherever it
    stands, by a letter dropped, doubled, swapped with the next or replaced.
    """
    generator = np.random.default_rng(seed)
    sentences = [s.split() for text in texts for s in re.split(r"(?<= [.!?]) |\n", text)]
    sentences = [words for words in sentences if len(words) > 2 and words[0][:1].isupper()]
    pairs: dict[tuple[str, str], None] = {}
    for place in (*generator.permutation(len(sentences)), *generator.permutation(len(sentences))):  # one may come twice
        words = sentences[place][: int(generator.integers(2, 9))]
        long = [at for at, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
        if not long:
            continue
        at = int(generator.choice(long))
        wrong = mistyped(words[at], generator)
        if wrong != words[at]:
            pairs[" ".join(words), " ".join([*words[:at], wrong, *words[at + 1 :]])] = None
        if len(pairs) == count:
            break
    return list(pairs)


def next_symbols(model: Any, prefixes: list[Any]) -> Any:
    """The most likely symbol after each prefix, ``(n,)``."""
    import torch

    lengths = torch.tensor([len(ids) for ids in prefixes])
    padded = torch.zeros(len(prefixes), int(lengths.max()), dtype=torch.long)
    for row, ids in enumerate(prefixes):
        padded[row, : len(ids)] = torch.as_tensor(np.asarray(ids))
    model.eval()
    with torch.inference_mode():
        states = torch.cat([model.states(part) for part in padded.split(100)])
        return model.head(states[torch.arange(len(states)), lengths]).argmax(-1).numpy()
