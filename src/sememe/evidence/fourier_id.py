"""Sines of a token's rank and a small network instead of a table; ranks by frequency, and ranks at random."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.transplants import byte_bpe, wikitext

SYMBOLS, STEPS, BATCH, LENGTH = 4_096, 150, 4, 64
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

    rows = compare_layers(
        setting,
        {
            "table": lambda vocabulary, seed: build("table", vocabulary, dim, seed=seed),
            "by frequency": lambda vocabulary, seed: build("fourier-id", vocabulary, dim, f"{SHARE:.0%}", seed=seed),
            "at random": shuffled,
        },
        steps=STEPS,
        batch=BATCH,
        trial=trial,
    )
    table, ranked, random = rows.rows
    nearest = min(nearest_pair(build("fourier-id", trial.vocabulary, dim, seed=seed).table()) for seed in setting.seeds)
    better = np.mean([ranked.by_seed[seed] - random.by_seed[seed] for seed in setting.seeds])
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
        "the text to train on.",
        reason=""
        if all(checks.values())
        else "likely, not tested: by frequency the few symbols that make up most of the text lie side by side, where "
        "the features of neighbours differ by an angle of at most pi d / v, here a twentieth of a radian; random "
        "ranks spread them over the whole range. The paper trains classifiers of pairs of sentences with far more "
        "steps",
    )


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
