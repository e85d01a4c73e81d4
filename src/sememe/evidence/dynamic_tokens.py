"""Merging tokens a batch at a time in a real sentence encoder: how much shorter German becomes, and what that costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.contracts import Vectors
from sememe.errors import MissingDependency
from sememe.evidence.data import DataFolder
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.vocab.dynamic import DynamicTokenizer
from sememe.vocab.dynamic_encoder import DynamicEncoder
from sememe.vocab.folder import ModelFolder
from sememe.vocab.initialize import TokenizerHypernet

PAIRS = 300
SHARE = 0.8
STEPS, WARMUP = 24, 50
MOST = 256  # tokens of a text, as the encoder's folder says


@experiment(
    "dynamic-tokens",
    paper=Paper("Retrofitting (Large) Language Models with Dynamic Tokenization", 2024, "2411.18553"),
    claim="Sequences more than 20 % shorter at a loss of less than 2 %, with vectors from a hypernetwork.",
    needs=("stsb-multilingual", "stsb"),
)
def run(setting: Setting) -> Finding:
    """Spearman of all-MiniLM-L6-v2 on German pairs: its own tokens, and merged ones with vectors of both kinds."""
    from sememe.encode.minilm import TORCH

    folder = ModelFolder.open(TORCH.verified().parent)
    model, tokenizer = _model(str(folder.path)), folder.tokenizer()
    sample, texts, pairs, gold = _data(setting.data)
    whole = DynamicEncoder(model, DynamicTokenizer(tokenizer, 1.0, most=MOST)).encode(texts)
    merging = DynamicTokenizer(tokenizer, SHARE, most=MOST)
    plain = DynamicEncoder(model, merging)
    mean = plain.encode(texts)
    learned, losses = [], []
    for seed in setting.seeds:
        encoder = DynamicEncoder(model, merging)
        net = TokenizerHypernet(steps=STEPS, warmup=WARMUP, width=128, seed=seed)
        losses.append(encoder.learn(net, sample, seed=seed))
        learned.append(encoder.encode(texts))
    ranks = {
        "own tokens": [_spearman(whole, pairs, gold)],
        "mean": [_spearman(mean, pairs, gold)],
        "hypernetwork": [_spearman(vectors, pairs, gold) for vectors in learned],
    }
    level = {name: float(np.mean(found)) for name, found in ranks.items()}
    gain = _interval([(vectors, mean) for vectors in learned], pairs, gold)
    length = plain.after / plain.before
    exact, inside = _faithful(merging, texts)
    english = [text for row in setting.data.table("stsb", "stsb-test.tsv.gz")[:PAIRS] for text in row[-2:]]
    words = DynamicTokenizer(tokenizer, 0.0, most=MOST)(english)
    checks = {
        "at least 20 % fewer tokens": length <= 0.8 + 1e-3,
        "no merge across words, and the tokenizer's own ids come back exactly": exact and inside,
        "Spearman falls by at most 0.02 with the hypernetwork": level["hypernetwork"] >= level["own tokens"] - 0.02,
        "a smaller fall than with the mean of parts, with confidence": gain[0] > 0,
    }
    return Finding(
        measured=level["hypernetwork"],
        baseline=level["mean"],
        interval=gain,
        unit="Spearman on German pairs in merged tokens: vectors from the hypernetwork, against the mean of parts",
        interval_of="hypernetwork minus mean, over seeds and pairs",
        checks=checks,
        details={
            "share_of_tokens": length,
            "share_of_english_tokens_if_every_word_is_one": words.after / words.before,
            "spearman": level,
            "spearman_by_seed": ranks["hypernetwork"],
            "cosine_with_own_tokens": {
                "mean": _cosine(mean, whole),
                "hypernetwork": float(np.mean([_cosine(vectors, whole) for vectors in learned])),
            },
            "loss_at_first_and_last": [float(np.mean([found[at] for found in losses])) for at in (0, -1)],
        },
        conditions=f"all-MiniLM-L6-v2, frozen; {PAIRS} German test pairs in batches of 32 texts; the hypernetwork "
        f"(two layers of width 128) learned on {STEPS} batches of other German sentences that merged texts have the "
        "vectors of unmerged ones. English, of which this encoder knows most words, would become only "
        f"{1 - words.after / words.before:.0%} shorter if every word were one token.",
        reason=""
        if all(checks.values())
        else f"the paper's hypernetwork learned on billions of tokens, this one on {STEPS * 32:,} sentences; its loss "
        "is still falling; and the encoder knows German letter by letter, so that its pieces say little by themselves",
    )


def _model(folder: str) -> Any:
    try:
        from transformers import BertModel
    except ImportError:
        raise MissingDependency("transformers", extra="torch", need="the experiment of dynamic-tokens") from None
    from sememe.encode.folder import loading

    with loading(folder):
        return BertModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False).eval()


def _data(data: DataFolder) -> tuple[list[str], list[str], NDArray[np.int64], NDArray[np.float64]]:
    """Sentences to learn from, held-out sentences, and pairs of them with human scores."""
    sample = [text for row in data.table("stsb-multilingual", "stsb-de-dev.tsv.gz") for text in row[1:]]
    rows = data.table("stsb-multilingual", "stsb-de-test.tsv.gz")[:PAIRS]
    texts = sorted({text for row in rows for text in row[1:]})
    place = {text: number for number, text in enumerate(texts)}
    pairs = np.array([[place[row[1]], place[row[2]]] for row in rows])
    return sample, texts, pairs, np.array([float(row[0]) for row in rows])


def _spearman(vectors: Vectors, pairs: NDArray[np.int64], gold: NDArray[np.float64]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr((vectors[pairs[:, 0]] * vectors[pairs[:, 1]]).sum(axis=1), gold).statistic)


def _interval(
    both: list[tuple[Vectors, Vectors]], pairs: NDArray[np.int64], gold: NDArray[np.float64]
) -> tuple[float, float]:
    """95 % interval of the mean gain in Spearman; pairs and seeds are resampled."""
    generator = np.random.default_rng(0)
    gains = []
    for _ in range(500):
        rows = generator.integers(len(pairs), size=len(pairs))
        new, old = both[generator.integers(len(both))]
        gains.append(_spearman(new, pairs[rows], gold[rows]) - _spearman(old, pairs[rows], gold[rows]))
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)


def _cosine(a: Vectors, b: Vectors) -> float:
    return float((a * b).sum(axis=1).mean())


def _faithful(merging: DynamicTokenizer, texts: list[str]) -> tuple[bool, bool]:
    """Whether the tokenizer's ids come back, and whether each merged token begins at most one word, at its start."""
    tokenizer = merging.tokenizer
    exact = inside = True
    for start in range(0, len(texts), 32):
        part = texts[start : start + 32]
        batch = merging(part)
        exact &= batch.plain() == [ids[:MOST] for ids in tokenizer.encode_batch(part, special=True)]
        for numbers in batch.merged:
            inside &= all(tokenizer.tokens[number].startswith("##") for number in numbers[1:])
    return exact, inside
