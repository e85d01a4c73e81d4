"""Small models of every layout and their tokenizers, made once a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from vocab_small import KINDS, train_tokenizer, write_model


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``tokenizer.json`` of 500 byte-level tokens."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer("byte-bpe").save(str(path))
    return path


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder of each kind: GPT-2 untied, Llama tied, BERT and XLM-R with masked heads. Not to be changed."""
    pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("models")
    made = {}
    for kind in KINDS:
        train_tokenizer(kind).save(str(root / f"{kind}.json"))
        made[kind] = write_model(root / kind, kind, root / f"{kind}.json")
    return made
