"""Positions changed by content, beside rotary ones: adding numbers twice as long as trained, and text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sememe.catalog import Paper
from sememe.evidence.machinery import Finding, Setting, experiment
from sememe.evidence.positions import book, by_seed, losses, small_lm, spread, trained
from sememe.lab.data import Ids

DIGITS, SUMS, STEPS = 3, 700, 60
LENGTHS = (128, 256, 512)
PLUS, EQUALS, END = 10, 11, 12


@experiment(
    "tape",
    paper=Paper(
        "Rethinking Addressing in Language Models via Contextualized Equivariant Positional Encoding",
        2025,
        "2501.00712",
    ),
    claim="Positions that depend on the content add numbers of more digits than were trained, better than rotary ones.",
    needs=("wikitext2",),
)
def run(setting: Setting) -> Finding:
    """Digits right of sums of numbers with twice as many digits; and nats a byte of text at longer inputs."""
    import torch

    from sememe.lab.model import Shape
    from sememe.lab.train import Recipe, train
    from sememe.positions.tape import TAPE

    text, held = book(setting.data)
    adder = Shape(dim=64, layers=2, heads=4, context=4 * DIGITS + 4)
    reader = Shape(dim=64, layers=2, heads=4, context=LENGTHS[0])

    def one(seed: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in ("tape", "rotary"):
            model = small_lm(name, adder, seed, END + 1)
            train(answers_only(model), sums(seed), Recipe(steps=SUMS, rate=3e-3))
            found[name] = {n: digits_right(model, n) for n in (DIGITS, 2 * DIGITS)}
            model = trained(small_lm(name, reader, seed), text, steps=STEPS, batch=8, length=LENGTHS[0], seed=seed)
            found[f"nats, {name}"] = losses(model, held, LENGTHS, texts=32)
        model.eval()
        return found

    runs = by_seed(setting.seeds, one)
    names = ("tape", "rotary")
    sizes = (DIGITS, 2 * DIGITS)
    mean = {name: {n: float(np.mean([row[n] for row in runs[name]])) for n in sizes} for name in names}
    plain = small_lm("rotary", reader, 0).eval()
    ids = torch.from_numpy(held[None, :64])
    with torch.no_grad():
        before = plain(ids)
        plain.trunk.positions = TAPE(reader.width, reader.heads, reader.layers, reader.dim)
        zero = float((plain(ids) - before).abs().max())
    turned = turning_error()
    twice = 2 * DIGITS
    checks = {
        f"trained on {DIGITS} digits, 10 points more of the digits of sums of {twice} are right": mean["tape"][twice]
        >= mean["rotary"][twice] + 0.1,
        "turning all matrices by one orthogonal matrix changes nothing (1e-5)": turned < 1e-5,
        "put into a model with rotary positions it leaves the logits as they are (1e-5)": zero < 1e-5,
    }
    return Finding(
        measured=mean["tape"][twice],
        baseline=mean["rotary"][twice],
        interval=spread([a[twice] - b[twice] for a, b in zip(runs["tape"], runs["rotary"])]),
        unit=f"share of right digits in sums of numbers of {twice} digits, trained on up to {DIGITS}: TAPE, "
        "against rotary",
        interval_of="TAPE minus rotary, over seeds",
        checks=checks,
        details={
            "digits_right": mean,
            "by_seed": {name: runs[name] for name in names},
            "nats_a_byte": {name: runs[f"nats, {name}"] for name in names},
            "turning_error": turned,
        },
        conditions=f"Sums of two numbers of 1 to {DIGITS} digits, lowest digit first, {SUMS} steps of 64 sums, "
        f"two layers of width 64; text: WikiText-2 as bytes, {STEPS} steps of 8 x {LENGTHS[0]}. Guessing digits is "
        "right in a tenth.",
        reason=""
        if all(checks.values())
        else "likely, not tested: the paper trains 16 layers on numbers of up to 40 digits; two layers that saw "
        "three lengths learn each length by heart",
    )


def problem(a: int, b: int, digits: int) -> list[int]:
    """``a + b =`` and the sum, all lowest digit first with ``digits`` digits (the sum has one more), and an end."""

    def written(number: int, count: int) -> list[int]:
        return [number // 10**place % 10 for place in range(count)]

    return [*written(a, digits), PLUS, *written(b, digits), EQUALS, *written(a + b, digits + 1), END]


def sums(seed: int) -> Iterator[Ids]:
    """Endless batches, each of numbers with one count of digits."""
    generator = np.random.default_rng(seed)
    while True:
        digits = int(generator.integers(1, DIGITS + 1))
        pairs = generator.integers(10**digits, size=(64, 2))
        yield np.array([problem(int(a), int(b), digits) for a, b in pairs], dtype=np.int64)


def digits_right(model: Any, digits: int) -> float:
    """Share of the digits of 200 sums that the model says, digit by digit, each from its own earlier answers."""
    import torch

    pairs = np.random.default_rng(99).integers(10 ** (digits - 1), 10**digits, size=(200, 2))
    whole = torch.tensor([problem(int(a), int(b), digits) for a, b in pairs])
    asked, answer = whole[:, : 2 * digits + 2], whole[:, 2 * digits + 2 : -1]
    model.eval()
    with torch.no_grad():
        said = asked
        for _ in range(digits + 1):
            said = torch.cat((said, model(said)[:, -1, :10].argmax(-1, keepdim=True)), dim=1)
    return float((said[:, asked.shape[1] :] == answer).float().mean())


def turning_error() -> float:
    """Largest change of a layer's answer, relative to its size, when all matrices are turned by one orthogonal one."""
    import torch

    from sememe.lab.model import seeded
    from sememe.positions.tape import TAPE

    with seeded(0):
        tape = TAPE(8, 2, 2, 16)
        torch.nn.init.normal_(tape.up[0])
        x = torch.randn(1, 9, 16)
        q, k, v = torch.randn(3, 1, 2, 9, 8)
        q_, _ = torch.linalg.qr(torch.randn(2, 2))
    outs = []
    for turned in (False, True):
        tape.layer(0, x)
        if turned:
            tape._carried = (tape._carried.unflatten(-1, (2, 2)) @ q_).flatten(-2)
        tape.attend(q, k, v, causal=True, bias=None)
        tape.layer(1, x)
        outs.append(tape.attend(q, k, v, causal=True, bias=None))
    return float(((outs[0] - outs[1]).abs().max() / outs[0].abs().max()).detach())


def answers_only(model: Any) -> Any:
    """The model with the loss of the answers alone."""
    from torch import nn

    class Answers(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def nll(self, ids: Any) -> Any:
            digits = (ids.shape[1] - 4) // 3
            return self.model.nll(ids)[:, 2 * digits + 2 :]

    return Answers()
