"""Small tokenizers and models of every kind, made once a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from vocab_small import KINDS, train_tokenizer, write_model


@pytest.fixture(scope="session")
def tokenizers_by_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths of a ``tokenizer.json`` of each kind."""
    folder = tmp_path_factory.mktemp("tokenizers")
    out = {}
    for kind in KINDS:
        out[kind] = folder / f"{kind}.json"
        train_tokenizer(kind).save(str(out[kind]))
    return out


@pytest.fixture(scope="session")
def models_by_kind(tmp_path_factory: pytest.TempPathFactory, tokenizers_by_kind: dict[str, Path]) -> dict[str, Path]:
    """A model folder of each kind; tests must not change them."""
    pytest.importorskip("transformers")
    pytest.importorskip("torch")
    root = tmp_path_factory.mktemp("models")
    return {kind: write_model(root / kind, kind, tokenizers_by_kind[kind]) for kind in KINDS}
