"""Filters on flat search: the cascade's choice by count, exact scores of few rows, and filters that come again."""

import numpy as np
import pytest

import sememe
from sememe.contracts import Record
from sememe.errors import FilterError
from sememe.index.cascade import Cascade
from sememe.index.search import REMEMBERED
from sememe.kernels import native
from sememe.kernels.select import best_selected, select
from sememe.testing import clustered_vectors

N, K = 4000, 10


@pytest.fixture(scope="module")
def vectors():
    return clustered_vectors(N, 64, seed=0), clustered_vectors(15, 64, seed=1)


def exact(X, query, mask, k):
    rows = np.flatnonzero(mask)
    return rows[np.lexsort((rows, -(X[rows].astype(np.float64) @ query)))[:k]]


def masks(X, queries):
    """Filters of many shares: at random, and the rows nearest to or farthest from the query."""
    generator = np.random.default_rng(2)
    for share in (0.9, 0.3, 0.05, 0.01, 0.001):
        for query in queries:
            scores, size = X @ query, max(1, round(share * len(X)))
            near, far = np.zeros(len(X), dtype=bool), np.zeros(len(X), dtype=bool)
            near[np.argsort(-scores)[:size]] = True
            far[np.argsort(scores)[:size]] = True
            for mask in (generator.random(len(X)) < share, near, far):
                yield query, mask


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_cascade_finds_the_best_under_any_filter(vectors, dtype):
    X, queries = vectors[0].astype(dtype), vectors[1]
    cascade = Cascade(X, bits=2)
    wide, found, total = X.astype(np.float32), 0, 0
    for query, mask in masks(wide, queries[:5]):
        scores, rows = cascade.topk(query[None], K, allow=mask)
        truth = exact(wide, query, mask, K)
        assert rows.shape == (1, len(truth)) and mask[rows].all() and len(set(rows[0].tolist())) == len(truth)
        np.testing.assert_allclose(scores[0], wide[rows[0]] @ query, rtol=1e-4, atol=1e-5)
        by_bits = cascade.topk(query[None], K, allow=cascade.blocks.bitmap(mask))
        np.testing.assert_array_equal(by_bits[1], rows)
        found, total = found + len(np.intersect1d(rows[0], truth)), total + len(truth)
    assert found >= 0.99 * total


def test_rows_on_disk_are_not_read_in_place_of_sketches(vectors, tmp_path):
    np.save(tmp_path / "x.npy", vectors[0])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    in_memory, on_disk = Cascade(vectors[0]), Cascade(mapped)
    assert on_disk._few(20) == 20 and in_memory._few(20) == -(-N // 64)
    mask = np.zeros(N, dtype=bool)
    mask[::100] = True
    for query in vectors[1]:
        want = exact(vectors[0], query, mask, 3)
        assert in_memory.topk(query[None], 3, candidates=30, allow=mask)[1][0].tolist() == want.tolist()
        assert set(on_disk.topk(query[None], 3, candidates=39, allow=mask)[1][0].tolist()) == set(want.tolist())


@pytest.mark.parametrize("level", native.levels())
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_few_rows_are_scored_exactly_at_every_level(vectors, level, dtype):
    scale = 300 if dtype == np.int8 else 1
    X, queries = (vectors[0] * scale).astype(dtype), vectors[1]
    mask = np.random.default_rng(3).random(N) < 0.01
    count = int(mask.sum())
    with native.using(level):
        bits, best = best_selected(X, queries, mask, K, count)
        assert best is not None
        np.testing.assert_array_equal(bits, select(mask, N).bits)
        for query, scores, rows in zip(queries, *best):
            assert rows.tolist() == exact(X, query, mask, K).tolist()
            np.testing.assert_allclose(scores, X[rows].astype(np.float64) @ query, rtol=1e-5, atol=1e-6)
        for given, wanted in zip(best_selected(X, queries, bits, K, count)[1], best):
            np.testing.assert_array_equal(given, wanted)
        assert best_selected(X, queries, mask, K, count - 1)[1] is None
        assert best_selected(X, queries, bits, K, count - 1)[1] is None
        assert best_selected(X, queries, mask, N, N)[1][1].shape == (len(queries), count)
        none = best_selected(X, queries, np.zeros(N, dtype=bool), K, 0)[1]
        assert none[1].shape == (len(queries), 0)


class Blocks:
    """A file of blocks of which some are checked; ``asked`` is what more was asked for."""

    def __init__(self, count, block):
        self.marks, self.block, self.asked = np.zeros(count, dtype=np.uint8), block, []

    @property
    def unchecked(self):
        return None if self.marks.all() else (self.marks, self.block)

    def ensure_rows(self, rows, row_bytes):
        self.asked.append(rows.tolist())
        for row in rows.tolist():
            self.marks[row * row_bytes // self.block : (row * row_bytes + row_bytes - 1) // self.block + 1] = 1


@pytest.mark.parametrize("level", native.levels())
def test_rows_are_verified_before_they_are_scored(vectors, level):
    X, queries = vectors
    mask = np.random.default_rng(5).random(N) < 0.005
    rows = np.flatnonzero(mask).tolist()
    file = Blocks(-(-X.nbytes // 1000), 1000)  # rows lie across blocks
    with native.using(level):
        plain = best_selected(X, queries, mask, K, N)[1]
        first, again = (best_selected(X, queries, mask, K, N, file)[1] for _ in range(2))
        for found in (first, again):
            for given, wanted in zip(found, plain):
                np.testing.assert_array_equal(given, wanted)
        assert file.asked[0] == rows and (level == "numpy" or len(file.asked) == 1)
        assert best_selected(X, queries, ~mask, K, 10, file)[1] is None and len(file.asked) <= 2


def test_a_filter_that_comes_again_is_remembered_and_stays_right(tmp_path):
    words = ("moon", "tide", "salt", "iron", "wool")
    records = [
        Record(id=str(i), text=f"{words[i % 5]} number {i}", metadata={"n": i, "word": words[i % 5]}) for i in range(60)
    ]
    index = sememe.build(records[:40], tmp_path / "i", "static | int8 | flat")
    where = "word != 'iron' and n >= 10"

    def ids():
        return set(index.search(["iron moon"], 60, where=where).ids[0])

    def wanted(limit):
        return {str(i) for i in range(10, limit) if i % 5 != 3}

    assert ids() == wanted(40) == ids()
    index.add(records[40:])
    assert ids() == wanted(60)
    index.delete(["11", "50"])
    assert ids() == wanted(60) - {"11", "50"} == ids()
    for limit in range(20):
        assert len(index.search(["salt"], 60, where=f"n < {limit}").ids[0]) == len(set(range(limit)) - {11, 50})
        assert len(index._scopes._known) <= REMEMBERED
    for _ in range(2):
        with pytest.raises(FilterError):
            index.search(["salt"], 5, where="n <")
