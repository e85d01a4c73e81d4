"""Captions and pictures of digits in one sequence: symbols with their neighbourhood in the plane, or by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment

DIM, LAYERS, COLOURS, TEST = 48, 2, 16, 197
STEPS, BATCH = 200, 8
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@experiment(
    "pixelbytes",
    paper=Paper("PixelBytes: Catching Unified Embedding for Multimodal Generation", 2024, "2409.15512"),
    claim="One embedding of bytes and pixels with their neighbourhood lets sequence models write text and pictures.",
)
def run(setting: Setting) -> Finding:
    """Bits a symbol of captions and pictures that were held out."""
    from sklearn.datasets import load_digits

    from sememe.lab.compare import Contender, compare
    from sememe.lab.data import stream_of
    from sememe.lab.model import Shape, SmallLM, count, table
    from sememe.tokens.pixel_bytes import PixelByteEmbedding, PixelBytes

    data = load_digits()
    symbols = PixelBytes(COLOURS)
    pictures = np.minimum(data.images, COLOURS - 1).astype(np.int64)
    captions = [f"{NAMES[label]:5s}\n" for label in data.target]  # of one length, so that windows hold whole pictures
    order = np.random.default_rng(0).permutation(len(captions))
    documents = [symbols.encode(captions[row], pictures[row]) for row in order]
    exact = all(
        symbols.decode(ids) == (captions[row], pictures[row].tolist())
        for ids, row in zip(documents, order, strict=True)
    )
    length = len(documents[0])
    learn, held = stream_of(None, documents[TEST:]), stream_of(None, documents[:TEST])
    shape = Shape(dim=DIM, layers=LAYERS, heads=4, context=length)

    def plain(seed: int) -> Any:
        return SmallLM(table(len(symbols), DIM), "free", shape=shape)

    def planar(seed: int) -> Any:
        return SmallLM(PixelByteEmbedding(symbols, DIM), "free", shape=shape, vocabulary=len(symbols))

    contenders = [Contender(name, make, learn, held) for name, make in (("ids", plain), ("neighbourhood", planar))]
    ids, near = compare(contenders, seeds=setting.seeds, steps=(STEPS,), batch=BATCH, length=length).rows
    checks = {
        "the loss is at least 3 % lower, with confidence": near.gap[2] <= -0.03 * ids.loss[0],
        "captions and pictures come back exactly": exact,
    }
    return Finding(
        measured=near.loss[0],
        baseline=ids.loss[0],
        interval=(near.gap[1], near.gap[2]),
        unit="bits a symbol of held-out captions and pictures: vectors with their neighbourhood, or of ids alone",
        interval_of="neighbourhood minus ids, over seeds and pictures",
        checks=checks,
        details={
            "by_seed": {"ids": ids.by_seed, "neighbourhood": near.by_seed},
            "parameters": {"ids": ids.parameters, "neighbourhood": near.parameters},
            "parameters_of_the_layers": {"ids": count(plain(0).embedding), "neighbourhood": count(planar(0).embedding)},
        },
        conditions=f"scikit-learn's digits, 8 x 8 in {COLOURS} colours, behind their names; {TEST} of "
        f"{len(documents):,} held out; {LAYERS} layers of width {DIM}, {STEPS} steps of {BATCH} x {length} symbols.",
        reason=""
        if all(checks.values())
        else f"the neighbourhood changes the loss by {near.gap[0] / ids.loss[0]:+.1%}; likely, not tested: attention "
        "finds the pixel above by its distance, which is the same everywhere",
    )
