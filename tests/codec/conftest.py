"""Real sentence vectors, where the shared data folder is at hand."""

import csv
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="session")
def minilm():
    """``load(name) -> (corpus vectors, query vectors)`` of all-MiniLM-L6-v2, float32 unit rows."""
    folder = DATA / "embeddings-minilm"
    if not folder.is_dir():
        pytest.skip(f"no real vectors at {folder}; set SEMEME_DATA")
    return lambda name: tuple(
        np.load(folder / f"{name}.{part}.f16.npy").astype("float32") for part in ("corpus", "queries")
    )


@pytest.fixture(scope="session")
def cranfield_ndcg(minilm):
    """``ndcg(scores) -> mean nDCG@10`` of Cranfield from a ``(queries, documents)`` table of scores."""
    folder = DATA / "cranfield"
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        column = {json.loads(line)["_id"]: i for i, line in enumerate(lines)}
    with (folder / "queries.jsonl").open(encoding="utf-8") as lines:
        row = {json.loads(line)["_id"]: i for i, line in enumerate(lines)}
    gains = np.zeros((len(row), len(column)))
    with (folder / "qrels.tsv").open(encoding="utf-8") as lines:
        for query, document, score in list(csv.reader(lines, delimiter="\t"))[1:]:
            gains[row[query], column[document]] = max(int(score), 0)
    discount = 1 / np.log2(np.arange(2, 12))
    ideal = -np.sort(-gains, axis=1)[:, :10] @ discount

    def ndcg(scores):
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        return float(np.mean(np.take_along_axis(gains, best, axis=1) @ discount / ideal))

    return ndcg
