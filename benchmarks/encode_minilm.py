"""The encoder ``minilm`` against sentence-transformers: texts a second with the same weights and the same threads.

    python benchmarks/encode_minilm.py [--rounds 5] [--texts 48] [--threads 2] [--data DIR]

Turn about, medians, by the clock and by processor time (which other work on the machine disturbs less). The floor is
the model alone on our batches: no tokenizer, no pooling. ``minilm:onnx`` has other weights (int8); how far they are is
printed too, and how far bfloat16 is (``minilm:torch,dtype=bf16``).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=48)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": str(given.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer

    from sememe.bench import texts as real
    from sememe.encode.minilm import TORCH, MiniLM
    from sememe.encode.parallel import spread_torch
    from sememe.encode.transformer import _TOKENS_A_TEXT, Batch, batches

    torch.set_num_threads(given.threads)
    full, half, small = MiniLM("torch"), MiniLM("torch", dtype="bf16"), MiniLM("onnx")
    peer = SentenceTransformer(str(TORCH.path().parent), device="cpu")

    def theirs(texts: list[str]) -> np.ndarray:
        return peer.encode(texts, normalize_embeddings=True, show_progress_bar=False)

    with real.folder(given.data):
        whole, single = real.passages(), real.sentences(given.texts * 20)
    print(f"{given.threads} threads")
    # Not the first texts of a list but every so many, so that lengths are as various as they are in the whole.
    for name, texts, count in (("sentences", single, given.texts * 6), ("passages", whole, given.texts)):
        part = texts[:: max(1, len(texts) // count)][:count]
        tokens = [t.ids for t in full._tokenize(part, "passage")]
        ready = list(batches(tokens, 64 * _TOKENS_A_TEXT))

        def floor(ready: list[Batch] = ready) -> None:
            for _ in spread_torch(full._states, ready):
                pass

        runs: dict[str, Callable[[], object]] = {
            "sememe minilm:torch": lambda part=part: full.encode(part),
            "sememe, dtype=bf16": lambda part=part: half.encode(part),
            "sentence-transformers": lambda part=part: theirs(part),
            "sememe minilm:onnx (int8)": lambda part=part: small.encode(part),
            "floor: the model alone": floor,
        }
        seconds: dict[str, list[float]] = {run: [] for run in runs}
        work: dict[str, list[float]] = {run: [] for run in runs}
        for turn in range(given.rounds + 1):
            for run in list(runs) if turn % 2 else list(runs)[::-1]:
                started, spent = time.perf_counter(), time.process_time()
                runs[run]()
                if turn:  # the first round warms up
                    seconds[run].append(time.perf_counter() - started)
                    work[run].append(time.process_time() - spent)
        lengths = [len(t) for t in tokens]
        print(f"{name}: {len(part)} texts, {np.mean(lengths):.0f} tokens on average, {max(lengths)} at most")
        base, base_work = median(seconds["sentence-transformers"]), median(work["sentence-transformers"])
        for run, found in seconds.items():
            rate, less = len(part) / median(found), base_work / median(work[run])
            print(f"  {run:<28}{rate:>8.1f}/s {base / median(found):>7.2f}x   processor time {less:.2f}x")
        cosines = np.einsum("ij,ij->i", half.encode(part), theirs(part))
        gap = np.abs(full.encode(part) - theirs(part)).max()
        distance = small.distance_to(full, part)
        print(
            f"  largest difference of a value to sentence-transformers {gap:.1e}; onnx to torch: "
            f"cosine {distance.mean_cosine:.4f} on average, {distance.min_cosine:.4f} at least; bf16 to "
            f"sentence-transformers: {cosines.mean():.6f} on average, {cosines.min():.6f} at least"
        )


if __name__ == "__main__":
    main()
