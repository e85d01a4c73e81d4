"""Patches that begin where a small model is unsure, against patches of a fixed length and the same mean size."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.vocab.patching import Reals, byte_model, cut, marked, next_byte_entropies, strided, threshold

SIZE, STEPS = 4.5, 150
CHARACTERS, DOCUMENT, SHARE = 600_000, 2_000, 0.1
Starts = NDArray[np.bool_]


@experiment(
    "entropy-patches",
    paper=Paper("Byte Latent Transformer: Patches Scale Better Than Tokens", 2024, "2412.09871"),
    claim="Patches placed by the entropy of the next byte need fewer bits a byte than patches at fixed distances.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """Bits a byte of the same small model over both kinds of patches, on held-out text of WikiText-2."""
    from sememe.lab.data import Corpus, pack

    with gzip.open(setting.data.require("wikitext2") / "test.txt.gz", "rt", encoding="utf-8") as file:
        corpus = Corpus.split(pack(file.read()[:CHARACTERS], DOCUMENT), share=SHARE)
    model = byte_model([np.frombuffer(text.encode(), dtype=np.uint8) for text in corpus.train], 300, 64, 0)
    rises = {side: entropies(model, texts) for side, texts in (("train", corpus.train), ("held_out", corpus.held_out))}
    by_rise = {side: [np.diff(row, prepend=row[:1]) for row in rows] for side, rows in rises.items()}
    starts, sizes = {}, {}
    for name, found in (("entropy", rises), ("rise", by_rise)):
        level = threshold(found["train"], SIZE)
        starts[name] = {side: [cut(row, level) for row in rows] for side, rows in found.items()}
        sizes[name] = {side: mean_size(rows) for side, rows in starts[name].items()}
    fixed, by_entropy = trained(corpus, starts["entropy"], sizes["entropy"], setting.seeds)
    gain = -by_entropy.gap[0] / fixed.loss[0]
    misses = {name: abs(found["held_out"] / SIZE - 1) for name, found in sizes.items()}
    checks = {
        "at least 3 % fewer bits a byte than fixed patches of the same mean size, with confidence": by_entropy.gap[2]
        <= -0.03 * fixed.loss[0],
        "the threshold gives the size asked for within 5 % on held-out text": misses["entropy"] <= 0.05,
        "so does the threshold of the rise": misses["rise"] <= 0.05,
    }
    return Finding(
        measured=by_entropy.loss[0],
        baseline=fixed.loss[0],
        interval=(by_entropy.gap[1], by_entropy.gap[2]),
        unit="bits a byte of a small model over patches: placed by entropy, against fixed distances",
        interval_of="entropy minus fixed, over seeds and documents",
        checks=checks,
        details={
            "share_of_bits_saved": gain,
            "mean_size": sizes,
            "bits_a_byte_by_seed": {"entropy": by_entropy.by_seed, "fixed": fixed.by_seed},
            "parameters": by_entropy.parameters,
            "bytes_a_second_in_training": {
                "entropy": by_entropy.bytes_per_second,
                "fixed": fixed.bytes_per_second,
            },
        },
        conditions=f"{corpus.train_bytes:,} bytes of WikiText-2 to train on, {corpus.held_out_bytes:,} held out; width "
        f"64, one layer at each end and two over patches, {STEPS} steps of 8 x 256 bytes; the entropies are those of a "
        "transformer of two layers of width 64, and their cost is not counted.",
        reason=""
        if all(checks.values())
        else "likely, not tested: "
        "the encoder and the decoder see sixteen bytes and hashed n-grams, which at this size carry most of what "
        "is predicted; what the transformer over patches adds is still small, wherever they begin",
    )


def entropies(model: Any, texts: tuple[str, ...]) -> list[Reals]:
    """Entropy of each byte of each text."""
    return [next_byte_entropies(model, np.frombuffer(text.encode(), dtype=np.uint8)) for text in texts]


def mean_size(starts: list[Starts]) -> float:
    """Bytes in a patch."""
    return float(sum(map(len, starts)) / sum(int(found.sum()) for found in starts))


def trained(
    corpus: Any, starts: dict[str, list[Starts]], sizes: dict[str, float], seeds: tuple[int, ...]
) -> tuple[Any, Any]:
    """Rows of the model over patches at fixed distances of the same mean size, and over those that are given."""
    from sememe.lab.compare import Contender, compare
    from sememe.lab.data import stream_of
    from sememe.lab.model import Shape
    from sememe.lab.patches import PatchLM

    shape = Shape(dim=64, layers=2, heads=4, context=256)
    regular = {side: [strided(len(row), sizes[side]) for row in rows] for side, rows in starts.items()}

    def contender(name: str, begins: dict[str, list[Starts]]) -> Contender:
        train, held = (
            stream_of(None, [marked(text, row) for text, row in zip(texts, begins[side])], vocabulary=512)
            for side, texts in (("train", corpus.train), ("held_out", corpus.held_out))
        )
        return Contender(name, lambda seed: PatchLM(shape), train, held)

    contenders = [contender("fixed", regular), contender("entropy", starts)]
    fixed, by_entropy = compare(contenders, seeds=seeds, steps=(STEPS,), batch=8, length=256).rows
    return fixed, by_entropy
