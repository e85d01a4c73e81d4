"""Forward and backward of every token layer beside ``torch.nn.Embedding``, and beside the naive form of hashed layers.

    python benchmarks/tokens.py [--symbols 32000] [--dim 256] [--budget 25%] [--layers kronecker,hash-bucket]

Ids of real text (the documentation that comes with Python, by the vocabulary of the installed static encoder), batches
of 16 x 128, one thread, contenders taking turns, medians of CPU time. Beside each stands its ratio to the plain table,
and the limit of its forward pass: its multiply-adds at the speed of a matrix product measured in the same run, and the
vectors that go through memory. A layer that gathers and adds should be within 1.5 times the plain table, forward and
backward; of the others the last column says why.
The naive form of a layer works every token of the batch out by itself, repeated ones again and again, in a Python loop.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

BATCH, LENGTH = 16, 128
NAIVE = 256  # tokens of the naive form, scaled up
ENOUGH = 1.5  # times the plain table
PRODUCT = "a matrix product a symbol"
WHY = {
    "byte-attention": "attention over the bytes of every distinct symbol",
    "char-mimic": "a transformer over the bytes of every distinct symbol",
    "diffusion-ready": "measures and scales every row, and its gradient again",
    "dynamic-hash": "works its hashes out in the forward pass, and stores none",
    "fixnorm": "measures and scales every row, and its gradient again",
    "fourier-id": PRODUCT,
    "hash-digest": PRODUCT,
    "mimick": "an LSTM over the bytes of every distinct symbol, step by step",
    "mixed-dim": "sorts symbols into groups, with a small product for each",
    "multi-hash": PRODUCT,
    "quotient-path": "a network for each quotient, its products thin",
    "trigram-hash": "adds some seventy rows a symbol, ten a trigram",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=32_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--budget", default="25%")
    parser.add_argument("--layers")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SEMEME_THREADS"):
        os.environ[name] = "1"
    import torch

    torch.set_num_threads(1)
    vocabulary, ids = real_ids(options.symbols)
    chosen = options.layers.split(",") if options.layers else None
    layers = contenders(vocabulary, options.dim, options.budget, chosen)
    found = race(layers, ids, options.dim, options.rounds)
    flops, bandwidth = speeds()
    base = found["nn.Embedding"]
    tokens = BATCH * LENGTH
    distinct = ids_distinct(ids)
    print(f"{len(vocabulary):,} symbols x {options.dim}, batches of {BATCH} x {LENGTH} ids, {distinct:,} distinct")
    print(f"matrix products {flops / 1e9:.0f} billion multiply-adds a second, memory {bandwidth / 1e9:.1f} GB/s")
    heads = ("parameters", 11), ("forward", 9), ("x", 6), ("both", 9), ("x", 6), ("limit", 8), ("naive", 8)
    print(f"{'layer':24s} " + " ".join(f"{name:>{width}s}" for name, width in heads) + f"  why above {ENOUGH} x")
    rows = {}
    for name, layer in layers.items():
        mine = found[name]
        work = 0 if name == "nn.Embedding" else layer.multiply_adds
        worked_out = distinct if getattr(layer, "distinct", False) else tokens
        limit = worked_out * work / flops + tokens * 4 * options.dim * 2 / bandwidth
        slow = naive(layer, ids) if name != "nn.Embedding" else float("nan")
        rows[name] = {
            "parameters": sum(p.numel() for p in layer.parameters()),
            "forward_ms": 1e3 * mine[0],
            "forward_ratio": mine[0] / base[0],
            "both_ms": 1e3 * mine[1],
            "both_ratio": mine[1] / base[1],
            "limit_ms": 1e3 * limit,
            "naive_ratio": slow / mine[0],
            "why": reason(name, mine[1] / base[1], limit / mine[1]),
        }
        row = rows[name]
        print(
            f"{name:24s} {row['parameters']:11,} {row['forward_ms']:6.2f} ms {row['forward_ratio']:6.1f} "
            f"{row['both_ms']:6.2f} ms {row['both_ratio']:6.1f} {row['limit_ms']:5.2f} ms "
            f"{row['naive_ratio']:7.0f}x  {row['why']}"
        )
    if options.out:
        options.out.write_text(json.dumps({"options": {**vars(options), "out": str(options.out)}, "rows": rows}) + "\n")


def reason(name: str, ratio: float, share: float) -> str:
    """Why a layer is slower than the plain table, and which share of its time its arithmetic alone would take."""
    return (
        "" if ratio <= ENOUGH else f"{WHY.get(name, 'not known')} ({min(share, 1):.0%} of it arithmetic going forward)"
    )


def real_ids(symbols: int) -> tuple[Any, Any]:
    """The first symbols of the installed vocabulary, and ids of the documentation that comes with Python."""
    from importlib.util import find_spec

    import torch

    from sememe.text.demo import demo_records
    from sememe.tokens.vocabulary import Vocabulary
    from sememe.vocab.tokenizer import TokenizerFile

    spec = find_spec("wordllama")
    assert spec is not None
    assert spec.origin is not None
    file = TokenizerFile.open(Path(spec.origin).parent / "tokenizers" / "l2_supercat_tokenizer_config.json")
    whole = Vocabulary.of(file)
    size = min(symbols, len(whole))
    vocabulary = Vocabulary(whole.pieces[:size], [n for n in whole.special if n < size])
    found: list[int] = []
    for record in demo_records():
        found += [number for number in file.encode(record.text) if number < size]
        if len(found) >= 64 * BATCH * LENGTH:
            break
    whole_batches = len(found) // (BATCH * LENGTH)
    return vocabulary, torch.tensor(found[: whole_batches * BATCH * LENGTH]).view(-1, BATCH, LENGTH)


def ids_distinct(ids: Any) -> int:
    """Distinct ids of a batch, in the middle."""
    return int(statistics.median(len(batch.unique()) for batch in ids))


def contenders(vocabulary: Any, dim: int, budget: str, chosen: list[str] | None) -> dict[str, Any]:
    """The plain module of PyTorch, and every layer at the budget (at its own size where it cannot have that)."""
    import torch

    from sememe.errors import BudgetError
    from sememe.tokens import build, names

    made: dict[str, Any] = {"nn.Embedding": torch.nn.Embedding(len(vocabulary), dim)}
    for name in chosen or names():
        try:
            made[name] = build(name, vocabulary, dim, budget)
        except BudgetError:
            made[name] = build(name, vocabulary, dim)
    return made


def race(layers: dict[str, Any], ids: Any, dim: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Median CPU seconds of forward, and of forward and backward, taking turns."""
    import torch

    gradient = torch.randn(BATCH, LENGTH, dim)
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in layers}
    for number in range(rounds + 2):
        for name, layer in layers.items():
            work = partial(layer, ids[number % len(ids)])
            with torch.no_grad():
                forward = timed(work)
            both = timed(partial(step, layer, ids[number % len(ids)], gradient))
            if number >= 2:
                times[name][0].append(forward)
                times[name][1].append(both)
    return {name: (statistics.median(a), statistics.median(b)) for name, (a, b) in times.items()}


def step(layer: Any, batch: Any, gradient: Any) -> None:
    """Forward and backward; a layer without parameters has nothing to do backwards."""
    out = layer(batch)
    if out.requires_grad:
        layer.zero_grad(set_to_none=True)
        out.backward(gradient)


def naive(layer: Any, ids: Any) -> float:
    """CPU seconds of a batch, token by token, from a sample of it."""
    import torch

    flat = ids[0].reshape(-1)[:NAIVE]

    def loop() -> None:
        with torch.no_grad():
            for number in flat:
                layer.vectors(number[None])

    loop()
    return timed(loop) * BATCH * LENGTH / len(flat)


def speeds() -> tuple[float, float]:
    """Multiply-adds a second of a large matrix product, and bytes a second of a large copy, of this thread now."""
    import torch

    a = torch.randn(1_024, 1_024)
    big = torch.randn(1 << 25)
    products = min(timed(lambda: a @ a) for _ in range(8))
    copies = min(timed(lambda: big.clone()) for _ in range(5))
    return 1_024**3 / products, 2 * 4 * (1 << 25) / copies


def timed(work: Callable[[], Any]) -> float:
    """CPU seconds of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
