"""Small language models of Python source and of English, for experiments on bytes, boundaries and drafts."""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sememe.errors import InputError

STOP = "<|endoftext|>"


def standard_library(count: int, *, least: int = 3_000, most: int = 60_000) -> list[str]:
    """Source files of this Python's own library, evenly spread over the alphabet, tests left out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = [p for p in sorted(root.rglob("*.py")) if not {"site-packages", "test", "tests", "idlelib"} & {*p.parts}]
    texts = []
    for path in paths:
        if least <= path.stat().st_size <= most:
            try:
                texts.append(path.read_text(encoding="utf-8"))
            except UnicodeDecodeError:
                continue
    if len(texts) < 10:
        raise InputError("the source of Python's standard library is not installed", where=str(root))
    return [texts[place] for place in np.linspace(0, len(texts) - 1, min(count, len(texts))).astype(int)]


def byte_bpe(texts: Sequence[str], size: int, special: Sequence[str] = (STOP,)) -> Any:
    """A byte-level byte-pair tokenizer learned from texts, special tokens first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def small_lm(tokenizer: Any, texts: Sequence[str], *, steps: int, seed: int, dim: int = 96, context: int = 64) -> Any:
    """A `SmallLM` trained on texts, of two layers."""
    from sememe.lab import Recipe, Shape, SmallLM, batches, seeded, stream_of, table
    from sememe.lab.train import train

    shape = Shape(dim=dim, layers=2, heads=4, context=context)
    with seeded(seed):
        model = SmallLM(table(tokenizer.get_vocab_size(), dim), shape=shape)
    stream = stream_of(tokenizer, texts)
    train(model, batches(stream, 16, context, seed=seed), Recipe(steps=steps), label=f"small model, seed {seed}")
    return model.eval()
