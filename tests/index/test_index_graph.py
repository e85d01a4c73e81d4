"""The graph index: recall, filters and deletions never cost results, and its bytes are known beforehand."""

import numpy as np
import pytest
from faulty_fs import NoSync

from sememe.contracts import Record
from sememe.errors import InputError
from sememe.index import engine
from sememe.index.graph import Hnsw
from sememe.testing import clustered_vectors

N = 6000
X = clustered_vectors(N + 200, 48, clusters=60, seed=3)


class Table:
    """An encoder whose vectors are rows of a table; the text is the row number."""

    name, dim, digest = "table", 48, "table"

    def encode(self, texts, *, kind="passage", batch_size=64, progress=False):
        return X[[int(text) for text in texts]]


def records(start, stop):
    return [Record(f"r{i}", str(i), metadata={"n": i}) for i in range(start, stop)]


@pytest.fixture(scope="module")
def exact():
    scores = X[N:] @ X[:N].T
    return np.argsort(-scores, axis=1, kind="stable")[:, :10]


@pytest.mark.parametrize("dtype", ["i8", "f16", "b1"])
def test_recall(tmp_path, exact, dtype):
    index = engine.build(
        records(0, N),
        tmp_path / "i",
        "static | flat | rescore:fp32".replace("flat", f"hnsw:16,ef=96,build=64,dtype={dtype}"),
        encoder=Table(),
        fs=NoSync(),
    )
    hits = index.search(X[N:], k=10, ef=400 if dtype == "b1" else None)
    found = np.mean([len({*a} & {f"r{i}" for i in b}) / 10 for a, b in zip(hits.ids, exact)])
    assert found >= (0.75 if dtype == "b1" else 0.95)
    assert hits.ids.shape == (200, 10)


@pytest.fixture
def index(tmp_path):
    index = engine.build(records(0, 2000), tmp_path / "i", "static | int8 | hnsw:8", encoder=Table(), fs=NoSync())
    index.add(records(2000, 3000))
    return index


def test_scores_are_those_of_the_codes(index):
    hits = index.search(X[N : N + 20], k=10)
    chain = index.pipeline.chain
    for line, (rows, scores) in enumerate(zip(hits.rows, hits.scores)):
        codes = np.concatenate([segment.codes for segment in index.segments])[rows]
        np.testing.assert_allclose(scores, chain.scores(X[N + line : N + line + 1], codes)[0], atol=1e-6)


@pytest.mark.parametrize("limit", [1, 7, 50, 1500])
def test_a_filter_is_exact(index, limit):
    hits = index.search(X[N : N + 20], k=10, where=f"n < {limit}")
    chain = index.pipeline.chain
    codes = np.concatenate([segment.codes for segment in index.segments])[:limit]
    best = np.argsort(-chain.scores(X[N : N + 20], codes), axis=1, kind="stable")[:, :10]
    assert hits.ids.tolist() == [[f"r{i}" for i in line] for line in best]


def test_deletions_never_leave_too_few(index):
    near = index.search(X[N : N + 1], k=200).ids[0]
    index.delete(near)
    hits = index.search(X[N : N + 1], k=150)
    assert hits.ids.shape == (1, 150)
    assert not {*hits.ids[0]} & {*near}
    assert len({*index.search(X[N : N + 1], k=2800).ids[0]}) == 2800
    assert index.search(X[N : N + 1], k=5000).ids.shape == (1, 2800)


def test_compaction_builds_the_graph_again(index):
    before = index.search(X[N : N + 50], k=5, ef=500)
    index.delete(["r5"])
    index.compact()
    assert len(index.segments) == 1
    assert index.verify().ok
    after = index.search(X[N : N + 50], k=5, ef=500)
    assert np.mean(before.ids == after.ids) > 0.95


def test_same_vectors_give_the_same_graph():
    blocks = [X[:500], X[500:900]]
    assert Hnsw(8).build(blocks, 48).tobytes() == Hnsw(8).build(blocks, 48).tobytes()
    assert Hnsw(8).build([], 48) is None


@pytest.mark.parametrize("dtype", ["i8", "f16", "f32", "b1"])
@pytest.mark.parametrize("connectivity", [8, 32])
def test_bytes_are_known_beforehand(dtype, connectivity):
    kind = Hnsw(connectivity, build=16, dtype=dtype)
    assert kind.graph_bytes(2500, 48) == pytest.approx(len(kind.build([X[:2500]], 48)), rel=0.005)


@pytest.mark.parametrize("bad", [{"connectivity": 1}, {"ef": 0}, {"dtype": "i4"}, {"build": 10**6}])
def test_wrong_settings(bad):
    with pytest.raises(InputError):
        Hnsw(**bad)
