"""Compaction of an index over vectors: the same answers from fewer bytes, and old numbers still known."""

from pathlib import Path

import numpy as np
import pytest

from sememe.errors import ConflictError, InputError
from sememe.index import vector_build
from sememe.index.vectors import VectorIndex
from sememe.testing import clustered_vectors

N, D = 9_000, 32
RECIPES = (
    "int8 | flat",
    "pca:16 | int4 | flat | rescore:fp16",
    "int8 | ivf:64,probes=64",
    "int8 | ivf:32,probes=32 | rescore:fp32,full=true",
    "int8 | cascade",
    "int8 | hnsw:16",
)
ROWS = clustered_vectors(N + 20, D)
X, Q = ROWS[:N], ROWS[N:]
GONE = np.random.default_rng(0).choice(N, N // 3, replace=False)


def built(path: Path, recipe: str, ids: np.ndarray | None) -> VectorIndex:
    """Two segments, a third of the rows deleted from them."""
    index = VectorIndex.build(path, X[:5000], recipe, ids=None if ids is None else ids[:5000])
    index.add(X[5000:], ids=None if ids is None else ids[5000:])
    assert index.delete(GONE if ids is None else ids[GONE]) == len(GONE)
    return index


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("recipe", RECIPES)
def test_answers_stay_and_bytes_go(recipe: str, named: bool, tmp_path: Path) -> None:
    ids = np.random.default_rng(1).permutation(N) * 5 + 3 if named else None
    index = built(tmp_path / "v", recipe, ids)
    scores, rows = index.search(Q, 10)
    before, wanted = index.info(), index.ids(rows)
    index.compact()
    after = index.info()
    assert (after["segments"], after["deleted"], after["rows"]) == (1, 0, N - len(GONE))
    assert after["disk"]["codes"] == before["disk"]["codes"] * (N - len(GONE)) // N
    assert after["ids"] and after["generation"] > before["generation"]
    for now in (index, VectorIndex.open(tmp_path / "v", verify="full")):
        again, places = now.search(Q, 10)
        found = now.ids(places)
        if "cascade" in recipe or "hnsw" in recipe:  # sketches and links are made anew
            assert np.mean([len({*a} & {*b}) for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]) >= 9.8
            continue
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(again, scores)
    index.compact()
    assert index.info()["generation"] == after["generation"]  # there was nothing to do
    with pytest.raises(InputError, match="ids are given"):
        index.add(X[:3])
    assert index.add(X[:3], ids=[10**6, 10**6 + 1, 10**6 + 2]) == 3 and len(index) == N - len(GONE) + 3
    assert index.delete([10**6]) == 1


def test_merging_alone_keeps_the_numbers(tmp_path: Path) -> None:
    index = VectorIndex.build(tmp_path / "v", X[:5000], "int8 | flat")
    index.add(X[5000:])
    scores, rows = index.search(Q, 10)
    index.compact()
    assert index.info()["segments"] == 1 and not index.info()["ids"]
    for one, other in zip(index.search(Q, 10), (scores, rows), strict=True):
        np.testing.assert_array_equal(one, other)
    assert index.add(X[:1]) == 1


def test_portions_stay_within_limits_and_everything_may_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = VectorIndex.build(tmp_path / "v", X, "int8 | flat")
    index.delete(range(1000))
    monkeypatch.setattr(vector_build, "PORTION", 3000)
    index.compact()
    assert index.info()["segments"] == 3 and index.rows == N - 1000
    best = index.ids(index.search(X[2000:2001], 1)[1])
    assert best[0, 0] == 2000
    index.delete(range(N))
    index.compact()
    assert (index.rows, index.info()["segments"]) == (0, 0)
    assert (index.search(Q[:1], 3)[1] == -1).all()


def test_another_writer_is_not_overwritten(tmp_path: Path) -> None:
    first = VectorIndex.build(tmp_path / "v", X[:5000], "int8 | flat", ids=np.arange(5000))
    second = VectorIndex.open(tmp_path / "v")
    first.delete([7])
    with pytest.raises(ConflictError, match="refresh"):
        second.delete([8])
    second.refresh()
    first.add(X[5000:5010], ids=np.arange(5000, 5010))
    second.compact()  # what was added meanwhile stands behind
    second.refresh()
    assert len(second) == 5009 and second.info()["deleted"] == 0
    assert second.ids(second.search(X[5003:5004], 1)[1])[0, 0] == 5003
    first.refresh()
    first.delete([9])
    with pytest.raises(ConflictError, match="refresh"):
        second.compact()
