"""Byte-level subwords on nine languages: length beside character-based ones, broken output, and contextual vectors."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.data import DataFolder
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.vocab.byte_bpe import WORDS, ByteBPE, recover

LANGUAGES = ("en", "de", "es", "ru", "zh", "ar", "hi", "tr", "vi")
SMALL, LARGE = 2_048, 16_384
STEPS = 240
BROKEN = 1_500
Texts = dict[str, list[str]]


@experiment(
    "byte-bpe",
    paper=Paper("Neural Machine Translation with Byte-Level Subwords", 2020, "1909.03341"),
    claim="Byte-level subwords need a vocabulary an eighth the size of character-based ones, have nothing out of it, "
    "and contextual vectors of their parts help the model.",
    needs=("xquad",),
)
def run(setting: Setting) -> Finding:
    """Held-out articles of XQuAD in nine languages at once."""
    known, held = paragraphs(setting.data)
    train = [text for language in LANGUAGES for text in known[language]]
    everything = [text for language in LANGUAGES for text in held[language]]
    letters, characters = ByteBPE(SMALL).fit(train), character_bpe(train, LARGE)
    exact = all(letters.decode(ids) == text for ids, text in zip(letters.encode_batch(everything), everything))
    lengths, unknown = {}, 0
    for language in LANGUAGES:
        encodings = characters.encode_batch(held[language])
        unknown += sum(encoding.ids.count(0) for encoding in encodings)
        ours = sum(map(len, letters.encode_batch(held[language])))
        lengths[language] = ours / sum(len(encoding.ids) for encoding in encodings)
    ratio = sum(map(len, letters.encode_batch(everything))) / sum(
        len(encoding.ids) for encoding in characters.encode_batch(everything)
    )
    breaks = [broken(everything, seed) for seed in setting.seeds]
    losses = {
        size: context_losses(ByteBPE(size).fit(train), train, everything[::3], setting.seeds) for size in (256, SMALL)
    }
    plain, mixed = losses[SMALL]
    checks = {
        "nothing is out of the vocabulary: every held-out text comes back exactly": exact,
        f"{SMALL:,} byte-level symbols give at most 15 % more of them than {LARGE:,} character-based ones": ratio
        <= 1.15,
        "decoding broken bytes keeps as many characters as dynamic programming": all(
            entry["kept"] == entry["possible"] for entry in breaks
        ),
        "a convolution over the vectors lowers the loss by at least 1 %, with confidence": mixed.gap[2]
        <= -0.01 * plain.loss[0],
    }
    return Finding(
        measured=mixed.loss[0],
        baseline=plain.loss[0],
        interval=(mixed.gap[1], mixed.gap[2]),
        unit=f"bits a byte of a small model over {SMALL:,} byte-level symbols: vectors mixed by a convolution, or not",
        interval_of="mixed minus plain, over seeds and documents",
        checks=checks,
        details={
            "length_beside_characters": {"all": ratio, **lengths},
            "unknown_symbols_of_the_character_vocabulary": unknown,
            "characters_of_broken_bytes_by_seed": breaks,
            "bits_a_byte": {
                f"{size} symbols": {"plain": a.loss, "convolution": b.loss, "convolution_minus_plain": b.gap}
                for size, (a, b) in losses.items()
            },
        },
        conditions="XQuAD's paragraphs in nine languages and five scripts, every fifth article held out in all of "
        f"them; transformers of two layers of width 64, tied tables, {STEPS} steps of 8 x 128 symbols, a convolution "
        "over five of them.",
        reason="; ".join(
            why
            for held_up, why in (
                (
                    ratio <= 1.15,
                    "an eighth of the symbols must spell nine languages: each gets some two hundred merges, and texts "
                    "become longer in all; the paper claims equal quality of translation, not equal length",
                ),
                (
                    mixed.gap[2] <= -0.01 * plain.loss[0],
                    "most of these symbols are whole characters or more, so little is left to resolve; over the bare "
                    f"256 bytes the same convolution changes the loss by {losses[256][1].gap[0]:+.3f} bits a byte",
                ),
            )
            if not held_up
        ),
    )


def paragraphs(data: DataFolder) -> tuple[Texts, Texts]:
    """Paragraphs of each language: of the articles to learn from, and of every fifth, the same in all languages."""
    known: Texts = {}
    held: Texts = {}
    for language in LANGUAGES:
        with gzip.open(data.require("xquad") / language / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        articles = sorted({record["_id"].partition("-")[0] for record in records})
        out = set(articles[::5])
        known[language] = [record["text"] + "\n" for record in records if record["_id"].partition("-")[0] not in out]
        held[language] = [record["text"] + "\n" for record in records if record["_id"].partition("-")[0] in out]
    return known, held


def character_bpe(texts: list[str], size: int) -> Any:
    """Byte-pair encoding over characters by the tokenizers package, with the same words; id 0 is the unknown symbol."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "isolated")
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>"], min_frequency=2, show_progress=False)
    )
    return made


def broken(texts: list[str], seed: int) -> dict[str, int]:
    """Characters kept and possible where pieces of text lose, change and gain bytes."""
    generator = np.random.default_rng(seed)
    kept = possible = 0
    for _ in range(BROKEN):
        raw = texts[generator.integers(len(texts))].encode()
        start = int(generator.integers(max(1, len(raw) - 60)))
        piece = bytearray(raw[start : start + 60])
        for at in generator.integers(len(piece), size=4):
            piece[at] = generator.integers(256)
        del piece[generator.integers(len(piece))]
        kept += len(recover(bytes(piece)))
        possible += most_characters(bytes(piece))
    return {"kept": kept, "possible": possible}


def most_characters(raw: bytes) -> int:
    """The paper's recurrence: the best of leaving out the last byte and of ending with a character of 1 to 4 bytes."""
    best = [0] * (len(raw) + 1)
    for end in range(1, len(raw) + 1):
        best[end] = best[end - 1]
        for size in range(1, min(4, end) + 1):
            try:
                valid = len(raw[end - size : end].decode()) == 1
            except UnicodeDecodeError:
                valid = False
            best[end] = max(best[end], best[end - size] + valid)
    return best[-1]


def context_losses(letters: ByteBPE, train: list[str], held: list[str], seeds: tuple[int, ...]) -> tuple[Any, Any]:
    """Rows of a model with plain vectors, and with vectors mixed by a convolution over what came before."""
    from sememe.lab.compare import Contender, compare
    from sememe.lab.data import Corpus
    from sememe.lab.model import Shape, SmallLM, table
    from sememe.vocab.byte_context import byte_context

    shape, size = Shape(dim=64, layers=2, heads=4, context=128), letters.vocabulary
    corpus = Corpus(tuple(train), tuple(held))

    def with_table(seed: int) -> SmallLM:
        return SmallLM(table(size, shape.dim), shape=shape)

    def with_context(seed: int) -> SmallLM:
        return SmallLM(byte_context(size, shape.dim), shape=shape)

    contenders = [
        Contender.on(corpus, name, build, letters, vocabulary=size)
        for name, build in (("plain", with_table), ("convolution", with_context))
    ]
    plain, mixed = compare(contenders, seeds=seeds, steps=(STEPS,), batch=8, length=128).rows
    return plain, mixed
