"""A residual stream four times as wide as the blocks of a small model, against the ordinary one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.transplants import byte_bpe, wikitext

SYMBOLS, DIM, LAYERS, WIDER = 2_000, 96, 3, 4
STEPS, BATCH, LENGTH = 240, 8, 64


@experiment(
    "virtual-width",
    paper=Paper("Virtual Width Networks", 2025, "2511.11238"),
    claim="A residual stream eight times wider than the blocks learns twice as fast at nearly the same cost.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """Bits a byte of held-out WikiText-2 at the full budget and at three quarters of it, and the time of a step."""
    import torch

    from sememe.lab.compare import Contender, compare, spread
    from sememe.lab.data import stream_of
    from sememe.lab.model import Shape, SmallLM, seeded, table
    from sememe.lab.score import score_stream
    from sememe.tokens.virtual_width import virtual_width_lm

    corpus = wikitext(setting.data, share=0.04)
    tokenizer = byte_bpe(corpus.train, SYMBOLS).backend
    learn, held = (stream_of(tokenizer, side) for side in (corpus.train, corpus.held_out))
    shape = Shape(dim=DIM, layers=LAYERS, heads=4, context=LENGTH)
    bits: dict[str, list[Any]] = {}

    def keep(contender: Contender, model: Any, seed: int) -> dict[str, float]:
        bits.setdefault(contender.name, []).append(score_stream(model, held, context=LENGTH, stride=LENGTH).bits)
        return {}

    def plain(seed: int) -> Any:
        return SmallLM(table(SYMBOLS, DIM), "free", shape=shape)

    def wide(seed: int) -> Any:
        return virtual_width_lm(SYMBOLS, shape, WIDER)

    contenders = [Contender(name, make, learn, held) for name, make in (("plain", plain), ("wide", wide))]
    options: dict[str, Any] = {"seeds": setting.seeds, "batch": BATCH, "length": LENGTH, "also": keep}
    rows = {row.name: row for row in compare(contenders, steps=(STEPS,), **options).rows}
    full, whole = bits.pop("plain"), bits.pop("wide")
    early = 3 * STEPS // 4
    compare(contenders[1:], steps=(early,), **options)
    ahead = spread(np.array(bits["wide"]) - np.array(full), held.sizes)
    gap = spread(np.array(whole) - np.array(full), held.sizes)
    slower = step_ratio(plain, wide, learn)
    with seeded(0):
        one = virtual_width_lm(SYMBOLS, shape, 1)
    with seeded(0):
        other = SmallLM(one.embedding, one.head, shape=shape)
    other.load_state_dict(one.state_dict())
    ids = torch.from_numpy(learn.ids[:LENGTH].copy())[None]
    checks = {
        "three quarters of the steps give at most the loss of the plain model, with confidence": ahead[2] <= 0,
        "a step takes at most 1.15 times as long": slower <= 1.15,
        "a width of one gives exactly the losses of the plain model": torch.equal(one.nll(ids), other.nll(ids)),
    }
    return Finding(
        measured=rows["wide"].loss[0],
        baseline=rows["plain"].loss[0],
        interval=(ahead[1], ahead[2]),
        unit=f"bits a byte of a small model at equal steps: a stream {WIDER} times as wide as blocks, or as wide",
        interval_of="wide at three quarters of the steps minus plain at all of them, over seeds and documents",
        checks=checks,
        details={
            "bits_at_equal_steps": {name: row.loss for name, row in rows.items()},
            "gap_at_equal_steps": gap,
            "gap_of_three_quarters_of_the_steps": ahead,
            "time_of_a_step_over_plain": slower,
            "parameters": {name: row.parameters for name, row in rows.items()},
        },
        conditions=f"WikiText-2 in {SYMBOLS:,} symbols; {LAYERS} layers of width {DIM}, untied tables, {STEPS} steps "
        f"of {BATCH} x {LENGTH} (and {early} with a schedule of their own), one thread.",
        reason=""
        if all(checks.values())
        else f"at equal steps the loss changes by {gap[0]:+.3f} bits a byte ({gap[1]:+.3f} to {gap[2]:+.3f}); "
        f"at three quarters of them by {ahead[0]:+.3f}; a step takes {slower:.2f} times as long: blocks of width {DIM} "
        "are small, and mixing the stream, which grows with the width and not with its square, is much beside them",
    )


def step_ratio(plain: Callable[[int], Any], wide: Callable[[int], Any], learn: Any) -> float:
    """CPU time of a training step of the wide model over that of the plain one, medians of steps that take turns."""
    import torch

    from sememe.lab.data import batches

    models = {"plain": plain(0), "wide": wide(0)}
    optimizers = {name: torch.optim.AdamW(model.parameters(), fused=True) for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for number, ids in enumerate(batches(learn, BATCH, LENGTH)):
        if number == 25:
            break
        for name, model in models.items():
            began = time.process_time()
            model.nll(torch.from_numpy(ids)).mean().backward()
            optimizers[name].step()
            optimizers[name].zero_grad(set_to_none=True)
            times[name].append(time.process_time() - began)
    return statistics.median(times["wide"][5:]) / statistics.median(times["plain"][5:])
