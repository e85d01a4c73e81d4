"""A small translator without a warm-up: norms after each part, before it, and with one number for each norm."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.errors import InputError
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.transplants import byte_bpe

SYMBOLS, DIM, LAYERS, SIDE = 1_500, 48, 3, 20
STEPS, BATCH, RATE, RUNS = 160, 16, 5e-3, 5


@experiment(
    "fixnorm",
    paper=Paper("Transformers without Tears: Improving the Normalization of Self-Attention", 2019, "1910.05895"),
    claim="Rows of one length, states of one length and norms before each part train without a warm-up, and better.",
    needs=("multi30k",),
)
def run(setting: Setting) -> Finding:
    """German captions to English; loss of held-out captions after training at the full rate from the first step."""
    import torch

    learn, held = pairs(setting)
    counts = np.bincount(learn[:, SIDE:].ravel(), minlength=SYMBOLS)[1:] + 1.0
    shares = counts / counts.sum()
    blind = float(-(shares * np.log(shares)).sum())  # nats a symbol of knowing frequencies only
    runs = range(setting.seeds[0], setting.seeds[0] + max(RUNS, len(setting.seeds)))
    losses: dict[str, list[float]] = {"post": [], "pre": [], "fixed": []}
    spread = 0.0
    for seed in runs:
        for name, found in losses.items():
            model = trained(name, learn, seed)
            found.append(scored(model, held) if model is not None else float("inf"))
            if name == "fixed" and model is not None:
                with torch.no_grad():
                    lengths = model.embedding.table().norm(dim=1)
                spread = max(spread, float(lengths.max() / lengths.min() - 1))
    converged = {name: int(sum(loss < blind for loss in found)) for name, found in losses.items()}
    gaps = np.array(losses["fixed"]) - np.array(losses["pre"])
    half = 2.776 * gaps.std(ddof=1) / len(gaps) ** 0.5 if len(gaps) == RUNS else 2 * gaps.std(ddof=1) / len(gaps) ** 0.5
    low, high = float(gaps.mean() - half), float(gaps.mean() + half)
    total = len(gaps)
    checks = {
        "with fixed norms it converges without a warm-up for every seed": converged["fixed"] == total,
        "norms after each part fail for some seed": converged["post"] < total,
        "rows have one length, to seven digits": spread < 1e-6,
        "the loss is at most that of layer norms before each part": bool(gaps.mean() <= 0),
    }
    return Finding(
        measured=float(np.mean(losses["fixed"])),
        baseline=float(np.mean(losses["pre"])),
        interval=(low, high),
        unit="nats a symbol of held-out translations: fixed row lengths and single-number norms, or layer norms",
        interval_of="fixed minus layer norms before each part, over seeds (t distribution)",
        checks=checks,
        details={
            "nats_by_seed": losses,
            "runs_that_beat_frequencies_alone": converged,
            "nats_of_frequencies_alone": blind,
            "largest_row_over_smallest_minus_one": spread,
        },
        conditions=f"Multi30k German to English, at most {SIDE - 1} symbols of {SYMBOLS:,} a side; {LAYERS} + {LAYERS} "
        f"layers of width {DIM}, tied tables, {STEPS} steps of {BATCH} pairs at a rate of {RATE} from the first; a run "
        "converged if it beats knowing the frequencies of symbols.",
        reason=""
        if all(checks.values())
        else f"of {total} runs {converged['post']} converge with norms after each part, {converged['pre']} with norms "
        f"before, {converged['fixed']} with fixed ones (loss {gaps.mean():+.3f} beside layer norms, {low:+.3f} to "
        f"{high:+.3f}); likely, not tested: {LAYERS} layers with clipped gradients do not suffer as deep ones do",
    )


def pairs(setting: Setting) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of both languages to train on and to measure; 0 fills up."""
    folder = setting.data.require("multi30k")
    texts = {
        (part, language): gzip.decompress((folder / f"{part}.{language}.gz").read_bytes()).decode().splitlines()
        for part in ("train", "val")
        for language in ("de", "en")
    }
    some = texts["train", "de"][:6_000] + texts["train", "en"][:6_000]
    tokenizer = byte_bpe(some, SYMBOLS - 1).backend

    def rows(part: str, most: int) -> NDArray[np.int64]:
        sides = [
            [encoding.ids for encoding in tokenizer.encode_batch(texts[part, language][:most])]
            for language in ("de", "en")
        ]
        fit = [(a, b) for a, b in zip(*sides) if max(len(a), len(b)) < SIDE]
        out = np.zeros((len(fit), 2 * SIDE), dtype=np.int64)
        for row, (a, b) in zip(out, fit):
            row[: len(a)], row[SIDE : SIDE + len(b)] = np.array(a) + 1, np.array(b) + 1
        return out

    return rows("train", 8_000), rows("val", 1_014)


def trained(name: str, learn: NDArray[np.int64], seed: int) -> Any:
    """A trained model; None where the loss left the numbers."""
    from torch import nn

    from sememe.lab.model import Shape, seeded
    from sememe.lab.seq2seq import SmallSeq2Seq
    from sememe.lab.train import Recipe, train
    from sememe.tokens.factory import build
    from sememe.tokens.fixed_norm import ScaleNorm

    shape = Shape(dim=DIM, layers=LAYERS, heads=4, context=2 * SIDE)
    with seeded(seed):
        layer = build("fixnorm" if name == "fixed" else "table", SYMBOLS, DIM, seed=seed)
        model = SmallSeq2Seq(
            layer,
            source=SIDE,
            shape=shape,
            order="post" if name == "post" else "pre",
            norm=ScaleNorm if name == "fixed" else nn.LayerNorm,
        )
    order = np.random.default_rng(seed)
    rows = (learn[order.integers(len(learn), size=BATCH)] for _ in range(STEPS))
    try:
        train(model, rows, Recipe(steps=STEPS, rate=RATE, warmup=0.0))
    except InputError:
        return None
    return model


def scored(model: Any, held: NDArray[np.int64]) -> float:
    """Nats a symbol."""
    import torch

    model.eval()
    with torch.inference_mode():
        nats = [model.nll(part) for part in torch.from_numpy(held).split(128)]
    return float(torch.cat(nats).mean())
