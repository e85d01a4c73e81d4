"""The ledger: parts sum to the files, and a prediction comes within one per cent of what is built."""

import numpy as np
import pytest
from faulty_fs import NoSync

from sememe.contracts import Record
from sememe.index import engine
from sememe.index.ledger import predict
from sememe.index.sizes import CorpusSizes
from sememe.testing import HashingEncoder, toy_records

RECIPES = [
    "static | flat",
    "static | pca:32 | int8 | flat",
    "static | fp16 | cascade:2",
    "static | binary | hnsw:16,build=16 | rescore:int8",
    "bm25 | inverted",
    "static | int8 | flat | hybrid:bm25",
    "sentences:1 | static | pca:24 | pq:8 | flat | rescore:fp16,full=true",
]


def on_disk(index):
    names = {entry.name for entry in index.store.manifest.entries()} | {
        f"manifest.{index.store.manifest.generation:020d}"
    }
    return sum((index.path / name).stat().st_size for name in names)


@pytest.mark.parametrize("recipe", RECIPES)
def test_prediction(tmp_path, recipe):
    records = [Record(r.id, r.text.replace(". ", ". A"), r.title, r.source, r.metadata) for r in toy_records(6000)]
    encoder = None if "inverted" in recipe else HashingEncoder(64)
    index = engine.build(records, tmp_path / "i", recipe, encoder=encoder, fs=NoSync())
    built = index.ledger()
    assert built.total == on_disk(index)
    sizes = CorpusSizes.of(records, recipe)
    whole = predict(recipe, dim=64, **sizes.grown(1))
    assert whole.total == pytest.approx(built.total, rel=0.01)
    for part in ("codes", "side", "ids", "rescore", "text", "metadata", "map", "postings"):
        assert getattr(whole, part) == pytest.approx(getattr(built, part), rel=0.01, abs=64), part
    sample = [records[i] for i in np.random.default_rng(0).permutation(len(records))[:600]]
    tenth = predict(recipe, dim=64, **CorpusSizes.of(sample, recipe).grown(10))
    assert tenth.total == pytest.approx(built.total, rel=0.01)
    assert tenth.ram == pytest.approx(built.ram, rel=0.01)


def test_parts(tmp_path):
    index = engine.build(
        toy_records(50), tmp_path / "i", "static | int8 | flat", encoder=HashingEncoder(16), fs=NoSync()
    )
    report = index.report.as_json()
    assert report["bytes"]["codes"] == index.segments[0].codes.nbytes
    assert report["bytes"]["total"] == on_disk(index)
    assert {"codes", "ids", "graph", "text", "total", "ram"} <= report["bytes"].keys()
    assert report["records"] == report["passages"] == 50
    index.delete(["doc-1"])
    assert index.ledger().tombstones == 7
    assert index.ledger().total == on_disk(index)
    assert np.issubdtype(type(index.info()["bytes"]["total"]), np.integer)
