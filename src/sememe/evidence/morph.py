"""Rows from tokens that are spelled alike: a real encoder's rows rebuilt, and a small model's change of tokenizer."""

from __future__ import annotations

import numpy as np

from sememe.contracts import Vectors
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.omp import OTHER, OWN, STEPS
from sememe.evidence.transplants import DIM, byte_bpe, lines, trained, transplanted, wikitext
from sememe.vocab.folder import ModelFolder
from sememe.vocab.initialize import MorphEmbeddingGenerator, Problem
from sememe.vocab.initialize.morph import PAPER, VARIANTS
from sememe.vocab.initialize.spelling import parts

METHODS = ("mean", "subword-mean", "morph")
HELD = 1_000  # rows of the encoder that are taken away and rebuilt


@experiment(
    "morph",
    paper=PAPER,
    claim="A generator over the embeddings of morphologically similar tokens starts a new vocabulary better.",
    needs=("wikitext2", "agnews"),
)
def run(setting: Setting) -> Finding:
    """Cosine of rebuilt rows of all-MiniLM-L6-v2, and bits a byte of a small model right after surgery."""
    from sememe.lab.compare import spread

    texts, table = _encoder_rows()
    runs = [_rebuilt(texts, table, seed) for seed in setting.seeds]
    cosines = {name: [float(run[name].mean()) for run in runs] for name in runs[0]}
    corpus = wikitext(setting.data)
    news = [line.partition("\t")[2] for line in lines(setting.data, "agnews", "test.tsv.gz")]
    own, other = byte_bpe(corpus.train, OWN), byte_bpe(news, OTHER)
    bits: dict[str, list[np.ndarray]] = {name: [] for name in ("before", *METHODS)}
    for seed in setting.seeds:
        model = trained(own, corpus.train, steps=STEPS, seed=seed)
        problem = Problem.of(own, other, seed=seed)
        bits["before"].append(model.bits(corpus.held_out))
        for name in METHODS:
            bits[name].append(transplanted(model, problem, name).bits(corpus.held_out))
    sizes = np.array([len(text.encode()) for text in corpus.held_out])
    loss = {name: spread(np.array(found), sizes) for name, found in bits.items()}
    gap = spread(np.array(bits["morph"]) - np.array(bits["subword-mean"]), sizes)
    gains = np.array([run["patch"] - run["mean of parts"] for run in runs])
    low, high = _interval(gains)
    checks = {
        "rebuilt rows: cosine at least 0.1 above the mean of parts, with confidence": low >= 0.1,
        "attention is nearer than the plain mean of relatives, with every seed": all(
            a > b for a, b in zip(cosines["attention"], cosines["mean"], strict=True)
        ),
        "new tokenizer: no more bits a byte than the mean of pieces, with confidence": gap[2] <= 0,
    }
    return Finding(
        measured=float(np.mean(cosines["patch"])),
        baseline=float(np.mean(cosines["mean of parts"])),
        interval=(low, high),
        unit="cosine of a rebuilt row with the one that was taken away: the generator, against the mean of parts",
        interval_of="generator minus mean of parts, over seeds and tokens",
        checks=checks,
        details={
            "cosine": {name: float(np.mean(found)) for name, found in cosines.items()},
            "cosine_by_seed": cosines,
            "bits_a_byte": loss,
            "morph_minus_subword_mean": gap,
            "morph_minus_mean": spread(np.array(bits["morph"]) - np.array(bits["mean"]), sizes),
        },
        conditions=f"{HELD:,} of the {len(texts):,} rows of all-MiniLM-L6-v2 taken away at a time; then a small Llama "
        f"(two layers, width {DIM}, tied table, {STEPS} steps of 8 x 128 tokens of WikiText-2) that changes from "
        f"byte-level BPE of {OWN:,} tokens of WikiText-2 to {OTHER:,} of news.",
        reason=""
        if all(checks.values())
        else "a table learned in so few steps says little about spelling, and what a token means often does not follow "
        "from how it is spelled",
    )


def _encoder_rows() -> tuple[list[bytes], Vectors]:
    """Texts and input rows of the encoder's regular tokens."""
    from sememe.encode.minilm import TORCH

    folder = ModelFolder.open(TORCH.verified().parent)
    tokenizer = folder.tokenizer()
    numbers: dict[bytes, int] = {}
    for number in range(len(tokenizer.tokens)):
        text = tokenizer.text_of(number)
        if text and "[unused" not in tokenizer.tokens[number]:
            numbers.setdefault(text, number)
    return list(numbers), folder.read("input")[list(numbers.values())]


def _rebuilt(texts: list[bytes], table: Vectors, seed: int) -> dict[str, Vectors]:
    """Cosines of rebuilt rows with the true ones, by method, each ``(HELD,)``."""
    order = np.random.default_rng(seed).permutation(len(texts))
    held, known = order[:HELD], np.sort(order[HELD:])
    asked, names = [texts[row] for row in held], [texts[row] for row in known]
    rows, truth = table[known], table[held]
    middle = rows.mean(axis=0)
    places = {text: place for place, text in enumerate(names)}
    spelled = [parts(text, places) for text in asked]
    made = {
        "mean of all": np.repeat(middle[None], HELD, axis=0),
        "mean of parts": np.stack([rows[found].mean(axis=0) if found else middle for found in spelled]),
    }
    for variant in VARIANTS:
        vectors, found = MorphEmbeddingGenerator(variant, seed=seed).fit(names, rows).rows(asked)
        made[variant] = np.where(found[:, None], vectors, middle)
    return {name: _cosines(vectors, truth) for name, vectors in made.items()}


def _cosines(a: Vectors, b: Vectors) -> Vectors:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(lengths, 1e-12), dtype=np.float32)


def _interval(gains: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean over seeds and tokens, both resampled; ``gains`` is ``(seeds, n)``."""
    generator = np.random.default_rng(0)
    seeds, n = gains.shape
    means = [
        gains[generator.integers(seeds, size=seeds)][:, generator.integers(n, size=n)].mean() for _ in range(1_000)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
