"""A step of the row-wise optimisers beside PyTorch's SparseAdam, and beside the time that memory alone takes.

A table of a million rows of 64 numbers, batches of 4,096 ids, one core. Contenders take turns on the same gradients;
what is printed are medians of CPU time, the ratio to SparseAdam, and to the limit: the bytes of the rows that a step
must read and write (weights, state and gradients) over the speed of copying a large array. Random rows cannot reach it.
Run it as

    python benchmarks/tokens_optimizer.py --rows 1000000 --dim 64 --batch 4096
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4_096)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SEMEME_THREADS"):
        os.environ[name] = "1"
    results = {}
    for skew in ("uniform", "zipf"):
        results[skew] = measured(options, skew)
        base = results[skew]["SparseAdam"]["ms"]
        print(f"{skew} ids, {options.rows:,} x {options.dim}, batches of {options.batch:,}")
        for name, found in results[skew].items():
            found["times_faster"] = base / found["ms"]
            beside = f", {found['ms'] / found['limit_ms']:4.1f}x the memory limit" if "limit_ms" in found else ""
            print(f"  {name:28s} {found['ms']:7.3f} ms, {found['times_faster']:5.1f}x SparseAdam{beside}")
    if options.out:
        options.out.write_text(json.dumps({**vars(options), "out": str(options.out), **results}, indent=1) + "\n")


def measured(options: Any, skew: str) -> dict[str, dict[str, float]]:
    """Median CPU milliseconds of a step of each contender, and of its memory traffic alone."""
    import torch

    from sememe.tokens.rowwise import RowwiseAdagrad, RowwiseAdam

    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows, dim = options.rows, options.dim
    table = torch.nn.Parameter(torch.randn(rows, dim))
    contenders: dict[str, Any] = {
        "SparseAdam": torch.optim.SparseAdam([table]),
        "RowwiseAdam": RowwiseAdam([table]),
        "RowwiseAdam, one v a row": RowwiseAdam([table], moments="row"),
        "RowwiseAdagrad": RowwiseAdagrad([table]),
    }
    arrays = {"RowwiseAdam": 3, "RowwiseAdam, one v a row": 2, "RowwiseAdagrad": 1}  # of dim numbers a row
    chance = 1 / (1.0 + torch.arange(rows, dtype=torch.float64)) if skew == "zipf" else None
    times: dict[str, list[float]] = {name: [] for name in contenders}
    limits: dict[str, list[float]] = {name: [] for name in arrays}
    speed = copying(64 << 20)
    for _ in range(options.rounds):
        ids = (
            torch.randint(rows, (options.batch,)) if chance is None else torch.multinomial(chance, options.batch, True)
        )
        values = torch.randn(options.batch, dim)
        for name, optimizer in contenders.items():
            table.grad = torch.sparse_coo_tensor(ids[None], values, table.shape, check_invariants=False)
            times[name].append(timed(optimizer.step))
        distinct = len(ids.unique())
        for name, count in arrays.items():
            limits[name].append((2 * count * distinct + options.batch) * 4 * dim / speed)
    found = {name: {"ms": 1e3 * statistics.median(each[5:])} for name, each in times.items()}
    for name, each in limits.items():
        found[name]["limit_ms"] = 1e3 * statistics.median(each)
    return found


def copying(size: int) -> float:
    """Bytes read and written a second by a copy of so many bytes."""
    import numpy as np

    source, target = np.ones(size, dtype=np.uint8), np.empty(size, dtype=np.uint8)
    return 2 * size / statistics.median(timed(lambda: np.copyto(target, source)) for _ in range(9))


def timed(work: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
