"""Frequent n-grams with vectors of their own, looked up in a memory-mapped file, against the plain table."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.transplants import byte_bpe, wikitext

SYMBOLS, NGRAMS, LONGEST, DIM = 2_000, 20_000, 3, 64
STEPS, BATCH, LENGTH = 700, 8, 64
LARGE = 200_000  # n-grams of the look-up that is timed


@experiment(
    "scone",
    paper=Paper("Scaling Embedding Layers in Language Models", 2025, "2502.01637"),
    claim="Vectors of frequent n-grams, kept outside of the accelerator, lower the loss at the same inference cost.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """Perplexity of a small model on held-out WikiText-2, and the cost of look-ups in a large store."""
    from sememe.lab.compare import Contender, compare
    from sememe.lab.data import stream_of
    from sememe.lab.model import Shape, SmallLM
    from sememe.lab.score import score_stream
    from sememe.tokens.factory import build
    from sememe.tokens.ngram_store import SconeEmbedding
    from sememe.tokens.vocabulary import Vocabulary

    corpus = wikitext(setting.data, share=0.04)
    tokenizer = byte_bpe(corpus.train, SYMBOLS)
    learn, held = (stream_of(tokenizer.backend, side) for side in (corpus.train, corpus.held_out))
    documents = [learn[row] for row in range(len(learn))]
    vocabulary = Vocabulary.of(tokenizer)
    shape = Shape(dim=DIM, layers=2, heads=4, context=LENGTH)
    stored: list[tuple[float, float]] = []

    def plain(seed: int) -> Any:
        return SmallLM(build("table", vocabulary, DIM, seed=seed), "free", shape=shape, vocabulary=SYMBOLS)

    def with_ngrams(seed: int) -> Any:
        layer = SconeEmbedding(vocabulary, DIM, NGRAMS, LONGEST).collect(documents)
        return SmallLM(layer, "free", shape=shape, vocabulary=SYMBOLS)

    def precomputed(contender: Contender, model: Any, seed: int) -> dict[str, float]:
        if contender.name == "n-grams":
            before = score_stream(model, held, context=LENGTH).value
            with tempfile.TemporaryDirectory() as folder:
                model.embedding.attach(model.embedding.precompute(Path(folder) / "store"))
                stored.append((before, score_stream(model, held, context=LENGTH).value))
            model.embedding.attach(None)
        return {}

    contenders = [Contender(name, make, learn, held) for name, make in (("table", plain), ("n-grams", with_ngrams))]
    table, ngrams = compare(
        contenders, seeds=setting.seeds, steps=(STEPS,), batch=BATCH, length=LENGTH, also=precomputed
    ).rows
    per_symbol = 1 / held.tokens_per_byte
    ratio = [2 ** (end * per_symbol) for end in ngrams.gap]
    micro, growth, entries = lookups(learn.ids)
    checks = {
        "perplexity is at least 3 % lower, with confidence": ratio[2] <= 0.97,
        "the store gives the loss of the model that wrote it, within 0.1 %": all(
            abs(after / before - 1) <= 1e-3 for before, after in stored
        ),
        "a look-up takes at most 20 microseconds a symbol": micro <= 20,
        "memory of the process grows by less than 50 MB": growth < 50,
    }
    return Finding(
        measured=2 ** (ngrams.loss[0] * per_symbol),
        baseline=2 ** (table.loss[0] * per_symbol),
        interval=(ratio[1], ratio[2]),
        unit="perplexity of a symbol: the longest frequent n-gram gives the vector, or the symbol alone",
        interval_of="perplexity with n-grams over that of the table, over seeds and documents",
        checks=checks,
        details={
            "bits_a_byte": {"table": table.loss, "n-grams": ngrams.loss, "n-grams minus table": ngrams.gap},
            "bits_a_byte_before_and_after_precomputing": stored,
            "microseconds_a_symbol": micro,
            "memory_growth_MB": growth,
            "ngrams_in_the_timed_store": entries,
        },
        conditions=f"WikiText-2 in {SYMBOLS:,} symbols, {NGRAMS:,} n-grams of 2 to {LONGEST} symbols that occur five "
        f"times or more; two layers of width {DIM}, {STEPS} steps of {BATCH} x {LENGTH}; the model after the table is "
        f"the same. Timed: a store of {entries:,} n-grams of width 256 in half precision (random numbers), asked for "
        "1,024 symbols of the text at a time. A first run, of 250 steps and with the n-gram's last state projected and "
        "added to its symbol's row, lost 12 %: the projection learns slower (2.27 against 2.22 bits a byte then), and "
        "250 steps meet most n-grams once. Both were changed by looking at a part of the text to train on.",
        reason=""
        if all(checks.values())
        else f"perplexity changes by a factor of {ratio[0]:.3f} ({ratio[1]:.3f} to {ratio[2]:.3f}) after {STEPS} steps",
    )


def lookups(ids: Any) -> tuple[float, float, int]:
    """CPU microseconds a symbol of matching and reading, anonymous memory that this took in MB, and entries."""
    from sememe.tokens.ngram_store import NgramStore
    from sememe.tokens.ngram_table import NgramTable
    from sememe.tokens.vocabulary import Vocabulary

    vocabulary = Vocabulary.of(SYMBOLS)
    ngrams = NgramTable.frequent([ids], LARGE, 5, 2)
    generator = np.random.default_rng(0)
    parts = (
        generator.standard_normal((min(8_192, len(ngrams) - at), 256), dtype=np.float32)
        for at in range(0, len(ngrams), 8_192)
    )
    with tempfile.TemporaryDirectory() as folder:
        NgramStore.write(Path(folder) / "store", vocabulary, ngrams, parts, 256)
        before = anonymous()
        store = NgramStore(Path(folder) / "store", vocabulary)
        blocks = [ids[at : at + 1_024][None] for at in range(0, 100_000, 1_024)]
        began = time.process_time()
        for block in blocks:
            number, _ = store.ngrams.match(block)
            store.rows(number[number >= 0])
        used = time.process_time() - began
        grown = anonymous() - before
    return 1e6 * used / sum(block.size for block in blocks), grown / 2**20, len(ngrams)


def anonymous() -> int:
    """Bytes of this process that no file backs; pages of a memory-mapped file are the system's to take back."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    return 0
