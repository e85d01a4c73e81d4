"""Text that switches between English and German every few words: positions that notice, beside plain rotary ones."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.data import DataFolder
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.positions import BYTES, by_seed, losses, small_lm, spread, trained
from sememe.lab.data import Ids

LENGTHS, STEPS, LINES = (128, 256, 512), 200, 8_000


@experiment(
    "switch-rope",
    paper=Paper(
        "CONFLATOR: Incorporating Switching Point based Rotatory Positional Encodings for Code-Mixed Language Modeling",
        2023,
        "2309.05270",
    ),
    claim="Rotary positions that mark switches between languages model mixed text better than plain ones.",
    needs=("multi30k",),
)
def run(setting: Setting) -> Finding:
    """Nats a byte of held-out mixed text."""
    import torch

    from sememe.lab.model import Shape
    from sememe.positions.base import Rotary
    from sememe.positions.rope_switch import SwitchPointRope

    text = mixed(setting.data)
    train, held = text[:-200_000], text[-200_000:]
    shape = Shape(dim=64, layers=2, heads=4, context=LENGTHS[0])
    languages = torch.arange(2 * BYTES) // BYTES

    def one(seed: int) -> dict[str, dict[int, float]]:
        found = {}
        for name in ("plain", "unigram", "bigram"):
            made: Any = Rotary(shape.width)
            if name != "plain":
                made = SwitchPointRope(shape.width, shape.heads, languages=languages, level=name)  # type: ignore[arg-type]
            model = small_lm(made, shape, seed, 2 * BYTES)
            trained(model, train, steps=STEPS, batch=8, length=shape.context, seed=seed)
            found[name] = losses(model, held, LENGTHS)
        return found

    runs = by_seed(setting.seeds, one)
    first = LENGTHS[0]
    mean = {name: {n: float(np.mean([row[n] for row in rows])) for n in LENGTHS} for name, rows in runs.items()}
    same = SwitchPointRope(16, 4, languages=languages)
    same.read(torch.from_numpy(held[None, :64] % BYTES))
    q, k = torch.randn(2, 1, 4, 64, 16)
    equal = all(torch.equal(a, b) for a, b in zip(same.rotate(q, k), Rotary(16).rotate(q, k)))
    gaps = [a[first] / b[first] - 1 for a, b in zip(runs["unigram"], runs["plain"])]
    checks = {
        "with switches noticed the loss is at least 1 % lower": mean["unigram"][first] <= 0.99 * mean["plain"][first],
        "with one language it is plain rotary, bit for bit": equal,
    }
    return Finding(
        measured=mean["unigram"][first],
        baseline=mean["plain"][first],
        interval=spread(gaps),
        unit="nats a byte of mixed text: positions that notice switches, against plain rotary ones",
        interval_of="the relative change of the loss, over seeds",
        checks=checks,
        details={"nats_a_byte": mean, "by_seed": runs},
        conditions=f"Captions of Multi30K, {LINES:,} in English and as many in German, in turns of two to eight "
        f"words, each language in byte symbols of its own; two layers of width 64, {STEPS} steps of 8 x {first} "
        "bytes, half of four heads restart at switches.",
        reason=""
        if all(checks.values())
        else "likely, not tested: symbols say already which language they belong to, and the half of the heads "
        "that restart lose the distances across switches",
    )


def mixed(data: DataFolder, seed: int = 0) -> Ids:
    """Words of both languages in turns of two to eight; German bytes are 256 higher."""
    words = []
    for language in ("en", "de"):
        with gzip.open(data.require("multi30k") / f"train.{language}.gz", "rt", encoding="utf-8") as file:
            words.append(" ".join(line.strip() for _, line in zip(range(LINES), file)).split())
    generator = np.random.default_rng(seed)
    parts, at, side = [], [0, 0], 0
    while all(place < len(found) for place, found in zip(at, words)):
        count = int(generator.integers(2, 9))
        turn = " ".join(words[side][at[side] : at[side] + count]) + " "
        parts.append(np.frombuffer(turn.encode(), dtype=np.uint8).astype(np.int64) + side * BYTES)
        at[side] += count
        side = 1 - side
    return np.concatenate(parts)
