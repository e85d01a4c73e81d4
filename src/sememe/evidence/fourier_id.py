"""Sines of a token's rank and a small network instead of a table; ranks by frequency, and ranks at random."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.transplants import byte_bpe, wikitext

SYMBOLS, STEPS, BATCH, LENGTH = 4_096, 200, 8, 64
HELD_OUT, SHARE = 0.02, 0.1


@experiment(
    "fourier-id",
    paper=Paper("Parameter-Efficient Transformer Embeddings", 2025, "2505.02266"),
    claim="Sines and cosines of the token's number and a small network do about as well as a table, with far fewer "
    "parameters.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """Small language models of WikiText-2 over Fourier features and over a table, with the same steps."""
    import torch

    from sememe.evidence.token_layers import compare_layers
    from sememe.lab.model import Shape
    from sememe.tokens.factory import build
    from sememe.tokens.trial import LayerTrial
    from sememe.tokens.vocabulary import Vocabulary

    corpus = wikitext(setting.data, share=HELD_OUT)
    trial = LayerTrial(corpus, byte_bpe(corpus.train, SYMBOLS), Shape(dim=64, layers=2, heads=4, context=LENGTH))
    dim = trial.shape.dim

    def shuffled(vocabulary: Vocabulary, seed: int) -> Any:
        counts = np.random.default_rng(seed).permutation(len(vocabulary))
        return build("fourier-id", vocabulary, dim, f"{SHARE:.0%}", seed=seed, counts=counts)

    def by_share(vocabulary: Vocabulary, seed: int) -> Any:
        layer = build("fourier-id", vocabulary, dim, f"{SHARE:.0%}", seed=seed)
        layer.angles.copy_(torch.from_numpy(spread_by_share(vocabulary)))
        return layer

    rows = compare_layers(
        setting,
        {
            "table": lambda vocabulary, seed: build("table", vocabulary, dim, seed=seed),
            "by frequency": lambda vocabulary, seed: build("fourier-id", vocabulary, dim, f"{SHARE:.0%}", seed=seed),
            "at random": shuffled,
            "by share of the text": by_share,
        },
        steps=STEPS,
        batch=BATCH,
        trial=trial,
    )
    table, ranked, random, spread = rows.rows
    nearest = min(nearest_pair(build("fourier-id", trial.vocabulary, dim, seed=seed).table()) for seed in setting.seeds)
    better, apart = (
        np.mean([ranked.by_seed[seed] - other.by_seed[seed] for seed in setting.seeds]) for other in (random, spread)
    )
    share = ranked.also["layer_parameters"] / table.also["layer_parameters"]
    checks = {
        "about a tenth of the table's parameters (within the budget's 5 %)": share <= 1.05 * SHARE,
        "a validation loss at most 5 % above the table's, with confidence": ranked.gap[2] <= 0.05 * table.loss[0],
        "ranks by frequency are better than random ones, for every seed": all(
            ranked.by_seed[seed] < random.by_seed[seed] for seed in setting.seeds
        ),
        "no two symbols share a vector": nearest > 0,
    }
    return Finding(
        measured=ranked.loss[0],
        baseline=table.loss[0],
        interval=(ranked.gap[1], ranked.gap[2]),
        unit="bits a byte of a small model: Fourier features of ranks by frequency, against a trained table",
        interval_of="features minus table, over seeds and documents",
        checks=checks,
        details={
            "by_frequency_minus_random": float(better),
            "by_frequency_minus_by_share_of_the_text": float(apart),
            "smallest_distance_of_two_symbols": nearest,
            "share_of_parameters": share,
            **{
                row.name: {
                    "bits_a_byte": row.loss,
                    "minus_table": row.gap,
                    "by_seed": row.by_seed,
                    "input_parameters": row.also["layer_parameters"],
                }
                for row in rows.rows
            },
        },
        conditions=f"WikiText-2 in byte-level BPE of {SYMBOLS:,} symbols learned from it, width 64 with 32 harmonics, "
        f"two layers, an output layer of its own, {STEPS} steps of {BATCH} x {LENGTH} symbols; frequencies counted in "
        "the text to train on. (A first run had three eighths of the training, and no ranks by share of the text.)",
        reason="" if all(checks.values()) else reason(ranked.gap[0] / table.loss[0], float(better), float(apart)),
    )


def reason(worse: float, better: float, apart: float) -> str:
    """Whether it is that frequent symbols lie too close: what spreading them by their share of the text gains."""
    return (
        f"the loss is {worse:+.1%} beside the table's. By frequency the few symbols that make up most of the text lie "
        "side by side, where the features of neighbours differ by a twentieth of a radian; with the same order, but "
        f"each symbol as far from the next as its share of the text is large, the loss is {-apart:+.3f} bits a byte "
        f"beside that of even ranks, and {better - apart:+.3f} beside random ones"
    )


def spread_by_share(vocabulary: Any) -> NDArray[np.float64]:
    """Angles ``(v,)`` in the order of ranks, from ``-pi`` to ``pi``: half in even steps, half by share of the text."""
    order = np.argsort(vocabulary.ranks)
    counts = vocabulary.counts[order].astype(np.float64)
    width = 0.5 / len(order) + 0.5 * counts / counts.sum()
    angles = np.empty(len(order))
    angles[order] = np.pi * (2 * (width.cumsum() - width / 2) - 1)
    return angles


def nearest_pair(table: Any) -> float:
    """The smallest distance between two rows, over all pairs, by differences in double precision."""
    import torch

    rows = table.double()
    least = float("inf")
    for start in range(0, len(rows), 512):
        apart = torch.cdist(rows[start : start + 512], rows, compute_mode="donot_use_mm_for_euclid_dist")
        apart[torch.arange(len(apart)), start + torch.arange(len(apart))] = torch.inf
        least = min(least, float(apart.min()))
    return least
