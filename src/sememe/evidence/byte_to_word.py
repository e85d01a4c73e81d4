"""A language model over words made from bytes, which says subwords: its loss, and what noise before a word costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.transplants import byte_bpe, wikitext

SYMBOLS, DIM, STEPS, BATCH, LENGTH = 8_192, 64, 150, 8, 64
HELD_OUT, SHARE = 0.02, 0.1
BEFORE, EVERY, SEEN = 40, 7, 40  # words of a context, words from one to the next, subwords that are looked at

Ids = NDArray[np.int64]


@experiment(
    "byte-to-word",
    paper=Paper("Word-Level Representation From Bytes For Language Modeling", 2022, "2211.12677"),
    claim="A model over words made from bytes is on par with one over subwords with a tenth of the embedding, and "
    "suffers less from noise.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """Small language models of WikiText-2 over words and over subwords, both predicting the same subwords."""
    from sememe.lab.compare import Contender, compare
    from sememe.lab.data import stream_of
    from sememe.lab.model import Shape, SmallLM, table
    from sememe.tokens.byte_to_word import ByteToWord
    from sememe.tokens.trial import TYPOS
    from sememe.tokens.vocabulary import Vocabulary

    corpus = wikitext(setting.data, share=HELD_OUT)
    tokenizer = byte_bpe(corpus.train, SYMBOLS)
    vocabulary = Vocabulary.of(tokenizer)
    shape = Shape(dim=DIM, layers=2, heads=4, context=LENGTH)
    train, held = (stream_of(tokenizer.backend, texts) for texts in (corpus.train, corpus.held_out))
    windows = before_words(tokenizer, corpus.held_out)

    def subwords(seed: int) -> Any:
        return SmallLM(table(SYMBOLS, DIM), "free", shape=shape, vocabulary=SYMBOLS)

    def words(seed: int) -> Any:
        return ByteToWord(vocabulary, shape)

    def noise(contender: Contender, model: Any, seed: int) -> dict[str, float]:
        clean, wrong = (bits_of_words(model, *side) for side in windows)
        places = model.input_parameters if contender.name == "words" else model.embedding.weight.numel()
        return {"clean": clean, "noisy": wrong, "input_parameters": float(places)}

    rows = compare(
        [Contender(build.__name__, build, train, held) for build in (subwords, words)],
        seeds=setting.seeds,
        steps=(STEPS,),
        batch=BATCH,
        length=LENGTH,
        also=noise,
    )
    plain, ours = (rows.row(name) for name in ("subwords", "words"))
    share = ours.also["input_parameters"] / plain.also["input_parameters"]
    worse = {row.name: row.also["noisy"] - row.also["clean"] for row in (plain, ours)}
    checks = {
        "at most a tenth of the table's parameters": share <= SHARE,
        "bits a byte at most 5 % above those of subwords, with confidence": ours.gap[2] <= 0.05 * plain.loss[0],
        "a tenth of the letters before a word disturbed costs it at most half of what it costs with subwords": worse[
            "words"
        ]
        <= 0.5 * worse["subwords"],
    }
    return Finding(
        measured=ours.loss[0],
        baseline=plain.loss[0],
        interval=(ours.gap[1], ours.gap[2]),
        unit="bits a byte of a small model: words made from bytes, against a table of subwords",
        interval_of="words minus subwords, over seeds and documents",
        checks=checks,
        details={
            "share_of_input_parameters": share,
            "bits_more_a_word_behind_noise": worse,
            "contexts": len(windows[0][0]),
            **{
                row.name: {
                    "by_seed": row.by_seed,
                    "bits_a_word": row.also["clean"],
                    "bits_a_word_behind_noise": row.also["noisy"],
                    "tokens_a_second_in_training": row.tokens_per_second,
                }
                for row in (plain, ours)
            },
        },
        conditions=f"WikiText-2, {HELD_OUT:.0%} held out, in byte-level BPE of {SYMBOLS:,} symbols learned from it; "
        f"two layers of width {DIM}, an output layer of its own, {STEPS} steps of {BATCH} x {LENGTH} symbols; "
        f"{TYPOS:.0%} of the letters of {BEFORE} words disturbed, bits of the clean word behind them in place of the "
        "paper's accuracy.",
        reason=""
        if all(checks.values())
        else f"bits a byte differ by {ours.gap[0]:+.3f} ({ours.gap[1]:+.3f} to {ours.gap[2]:+.3f}); noise costs the "
        f"next word {worse['words']:.3f} bits, and {worse['subwords']:.3f} with subwords",
    )


def before_words(tokenizer: Any, texts: Sequence[str]) -> tuple[tuple[Ids, Ids], tuple[Ids, Ids]]:
    """Words behind contexts, which are clean and then misspelled.

    Returns
    -------
    two pairs of int64 ndarrays
        The last ``SEEN`` ids ``(n, SEEN)`` of each context with the word behind it, and how many of them are the
        word's. Words of byte-level BPE do not touch, so the word's ids are the same in both.
    """
    from sememe.tokens.trial import TYPOS, misspell

    contexts, targets = [], []
    for text in texts:
        spoken = text.split()
        for place in range(BEFORE, len(spoken), EVERY):
            if spoken[place].isalpha():
                contexts.append(" ".join(spoken[place - BEFORE : place]))
                targets.append(" " + spoken[place])
    wrong = [misspell(context, TYPOS, seed=number) for number, context in enumerate(contexts)]
    ends = [found.ids for found in tokenizer.backend.encode_batch(targets)]

    def side(texts: list[str]) -> tuple[Ids, Ids]:
        starts = [found.ids for found in tokenizer.backend.encode_batch(texts)]
        whole = [(start + end)[-SEEN:] for start, end in zip(starts, ends)]
        return np.array(whole, dtype=np.int64), np.array([len(end) for end in ends])

    return side(contexts), side(wrong)


def bits_of_words(model: Any, ids: Ids, sizes: Ids) -> float:
    """Mean bits of the words at the ends of contexts ``(n, l)``, which have so many ids."""
    import torch

    model.eval()
    with torch.inference_mode():
        nats = torch.cat([model.nll(part) for part in torch.from_numpy(ids).split(64)]).double().numpy()
    word = np.arange(ids.shape[1]) >= ids.shape[1] - sizes[:, None]
    return float((nats * word).sum() / len(ids) / np.log(2))
