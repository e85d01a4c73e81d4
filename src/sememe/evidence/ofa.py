"""OFA's factorised table for a foreign language against coordinates drawn at random, in a small masked encoder."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.contracts import Vectors
from sememe.evidence.convex_hull import HELD, OTHER, OWN, SENTENCES, packed
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.transplants import BATCH, DIM, LENGTH, byte_bpe, lines, stream
from sememe.vocab.initialize import Factorized, Factors, Problem, parallel_vectors
from sememe.vocab.initialize.simple import normal_rows

RANK = 24
STEPS, LONG = 200, 80
WINDOWS = 6


@experiment(
    "ofa",
    paper=Paper(
        "OFA: A Framework of Initializing Unseen Subword Embeddings for Efficient Large-scale Multilingual Continued "
        "Pretraining",
        2024,
        "2311.08849",
    ),
    claim="Faster continued pretraining with far fewer embedding parameters.",
    needs=("multi30k",),
)
def run(setting: Setting) -> Finding:
    """A small masked encoder of English captions gets a German tokenizer, its table in two factors."""
    english, german = (lines(setting.data, "multi30k", f"train.{code}.gz")[:SENTENCES] for code in ("en", "de"))
    words = parallel_vectors(english[:-HELD], german[:-HELD])
    known, foreign, held = packed(english), packed(german[:-HELD]), packed(german[-HELD:])
    own, other = byte_bpe(known, OWN), byte_bpe(foreign, OTHER)
    losses: dict[str, list[np.ndarray]] = {}
    for seed in setting.seeds:
        model = _encoder(len(own.tokens), seed)
        _train(model, stream(own, known), STEPS, seed, 3e-3)
        old = np.array(model.embedding.weight.detach().numpy())
        problem = Problem.of(own, other, words=words, seed=seed)
        made = Factorized(RANK).factors(problem, old)
        drawn = made.coordinates.copy()
        drawn[problem.fresh] = normal_rows(drawn[problem.shared[:, 0]], len(problem.fresh), problem.generator)
        for name, factors in (("ofa", made), ("random", Factors(drawn, made.primitives))):
            for steps in (0, LONG // 2, LONG):
                moved = _factored(model, factors)
                if steps:
                    _train(moved, stream(other, foreign), steps, seed, 1e-3)
                losses.setdefault(f"{name} {steps}", []).append(_loss(moved, stream(other, held)))
    return _finding({name: np.array(found) for name, found in losses.items()}, words)


def _finding(losses: dict[str, np.ndarray], words: Any) -> Finding:
    from sememe.lab.compare import spread

    ones = np.ones(WINDOWS, dtype=np.int64)
    loss = {name: spread(found, ones) for name, found in losses.items()}
    start = spread(losses["ofa 0"] - 0.8 * losses["random 0"], ones)
    half = spread(losses[f"ofa {LONG // 2}"] - losses[f"random {LONG}"], ones)
    share = (OTHER * RANK + RANK * DIM) / (OTHER * DIM)
    checks = {
        "at most half the embedding parameters": share <= 0.5,
        "at the start at least 20 % below random coordinates, with confidence": start[2] <= 0,
        f"after {LONG // 2} steps where random coordinates are after {LONG}, or below": half[1] <= 0,
    }
    return Finding(
        measured=loss["ofa 0"][0],
        baseline=loss["random 0"][0],
        interval=(loss["ofa 0"][1], loss["ofa 0"][2]),
        unit="nats a hidden token of German captions right after surgery: OFA, against coordinates drawn at random",
        interval_of="OFA, over seeds and windows",
        checks=checks,
        details={
            "nats_a_hidden_token": loss,
            "share_of_embedding_parameters": share,
            "half_the_steps_minus_all": half,
            "words": [len(side.words) for side in words],
        },
        conditions=f"A small encoder (two layers, width {DIM}, tied table) that learned to fill gaps in English "
        f"captions of Multi30k for {STEPS} steps; byte-level BPE of {OWN:,} English and {OTHER:,} German tokens; "
        f"{RANK} primitives; word vectors from {SENTENCES:,} translated captions. Shared tokens keep their coordinates "
        "in both.",
        reason=""
        if all(checks.values())
        else "likely, not tested: "
        "in so small a vocabulary the shared short tokens, which keep their "
        "coordinates in both, carry much of the text",
    )


def _encoder(vocabulary: int, seed: int) -> Any:
    from sememe.lab.model import Shape, SmallEncoder, seeded, table

    shape = Shape(dim=DIM, layers=2, heads=4, context=LENGTH)
    with seeded(seed):
        return SmallEncoder(table(vocabulary, DIM), shape=shape, seed=seed)


def _factored(model: Any, factors: Factors) -> Any:
    """A copy of the encoder over a table in two factors, both of which learn; its head is tied to their product."""
    import torch
    from torch import nn

    from sememe.lab.model import Shape, SmallEncoder

    class Product(nn.Module):  # type: ignore[misc]
        def __init__(self, coordinates: Vectors, primitives: Vectors) -> None:
            super().__init__()
            self.coordinates = nn.Parameter(torch.from_numpy(coordinates.copy()))
            self.primitives = nn.Parameter(torch.from_numpy(primitives.copy()))

        @property
        def weight(self) -> Any:
            return self.coordinates @ self.primitives

        def forward(self, ids: Any) -> Any:
            return self.coordinates[ids] @ self.primitives

    product = Product(*factors)
    moved = SmallEncoder(product, shape=Shape(dim=DIM, layers=2, heads=4, context=LENGTH))
    moved.trunk = copy.deepcopy(model.trunk)
    moved.gap = nn.Parameter(model.gap.detach().clone())
    return moved


def _train(model: Any, tokens: Any, steps: int, seed: int, rate: float) -> None:
    from sememe.lab.data import batches
    from sememe.lab.train import Recipe, train

    train(model, batches(tokens, BATCH, LENGTH, seed=seed), Recipe(steps=steps, rate=rate))


def _loss(model: Any, tokens: Any) -> np.ndarray:
    """Mean nats a hidden token in each of a few batches, the same gaps for every model; float64 ``(WINDOWS,)``."""
    import torch
    from torch.nn import functional as F

    from sememe.lab.data import batches

    generator, out = np.random.default_rng(0), []
    order = batches(tokens, 2, LENGTH, seed=0)
    with torch.inference_mode():
        for _ in range(WINDOWS):
            ids = torch.from_numpy(next(order))
            gaps = torch.from_numpy(generator.random(ids.shape) < 0.15)
            out.append(float(F.cross_entropy(model.head(model.states(ids, gaps=gaps)[gaps]), ids[gaps])))
    return np.array(out)
