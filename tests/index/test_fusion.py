"""Fusion by hand: every method on lists small enough to add up on paper, and hits of several indexes."""

import numpy as np
import pytest

from sememe.contracts import Hits
from sememe.errors import InputError
from sememe.index import fusion
from sememe.index.rerank import Hybrid

A = (np.array([[0.9, 0.5, 0.1], [0.3, 0.3, 0.3]], np.float32), np.array([[5, 6, 7], [1, 2, 3]]))
B = (np.array([[12.0, 3.0], [-np.inf, -np.inf]], np.float32), np.array([[7, 9], [-1, -1]]))


def shares(method, weights=(), floors=()):
    scores, rows = fusion.fuse(method, [A, B], 10, weights, floors)
    return [{int(r): float(s) for r, s in zip(*line) if r >= 0} for line in zip(rows, scores)]


def close(found, wanted):
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose([found[r] for r in wanted], list(wanted.values()), rtol=1e-5, atol=1e-6)


def test_by_hand():
    first, second = shares("rrf", [1, 2])
    close(first, {5: 1 / 61, 6: 1 / 62, 7: 1 / 63 + 2 / 61, 9: 2 / 62})
    close(second, {1: 1 / 61, 2: 1 / 62, 3: 1 / 63})
    first, second = shares("score", [1, 2])
    close(first, {5: 1, 6: 0.5, 7: 2, 9: 0})
    close(second, {1: 1, 2: 1, 3: 1})
    first, second = shares("tmm", [1, 2], [-1, 0])
    close(first, {5: 1, 6: 1.5 / 1.9, 7: 1.1 / 1.9 + 2, 9: 0.5})
    close(second, {1: 1, 2: 1, 3: 1})
    first, second = shares("mnz")
    close(first, {5: 1, 6: 0.5, 7: 2 * (0 + 1), 9: 0})
    first, second = shares("zscore")
    deviation = np.std([0.9, 0.5, 0.1])
    close(first, {5: 0.8 / deviation, 6: 0.4 / deviation, 7: 9 / np.std([12, 3]), 9: 0})
    close(second, {1: 0, 2: 0, 3: 0})
    first, second = shares("dbsf")
    low, width = 0.5 - 3 * deviation, 6 * deviation
    close(first, {5: (0.9 - low) / width, 6: 0.5, 7: (0.1 - low) / width + 0.5 + 1 / 6, 9: 0.5 - 1 / 6})
    close(second, {1: 0.5, 2: 0.5, 3: 0.5})


@pytest.mark.parametrize("method", fusion.METHODS)
def test_more_than_two_lists_and_scale(method):
    """Scores in other units change nothing, except that ``tmm`` needs its floor in the same units."""
    generator = np.random.default_rng(0)

    def ranking():
        rows = np.stack([generator.permutation(30)[:12] for _ in range(4)])
        return -np.sort(-generator.random((4, 12)), axis=1).astype(np.float32), rows

    lists = [ranking() for _ in range(3)]
    scores, rows = fusion.fuse(method, lists, 12, [1.0, 0.5, 2.0])
    scaled = [(s * np.float32(8), r) for s, r in lists]
    again, same = fusion.fuse(method, scaled, 12, [1.0, 0.5, 2.0])
    np.testing.assert_array_equal(rows, same)
    np.testing.assert_allclose(scores, again, rtol=1e-5)


def test_hits_of_several_indexes_are_joined_by_id():
    def hits(ids, scores, rows):
        return Hits(np.array(ids, dtype=object), np.array(scores, np.float32), np.array(rows, np.int64))

    dense = hits([["a", "b"], ["c", "a"]], [[0.9, 0.5], [0.8, 0.1]], [[10, 11], [12, 10]])
    lexical = hits([["b", "z"], ["", ""]], [[7.0, 2.0], [-np.inf, -np.inf]], [[1, 25], [-1, -1]])
    late = hits([["z"], ["c"]], [[0.7], [0.6]], [[3], [4]])
    found = fusion.fuse_hits([dense, lexical, late], 3)
    assert found.ids.tolist() == [["b", "z", "a"], ["c", "a", ""]]  # equal: who was seen first
    assert found.rows.tolist() == [[11, 25, 10], [12, 10, -1]]
    np.testing.assert_allclose(found.scores[0], [1 / 62 + 1 / 61, 1 / 62 + 1 / 61, 1 / 61], rtol=1e-6)
    weighted = fusion.fuse_hits([dense, lexical], 3, "tmm", weights=[0.2, 0.8], floors=[-1, 0])
    np.testing.assert_allclose(weighted.scores[0], [0.8 + 0.2 * 1.5 / 1.9, 0.8 * 2 / 7, 0.2], rtol=1e-5)
    with pytest.raises(InputError, match="different numbers of queries"):
        fusion.fuse_hits([dense, hits([["a"]], [[1.0]], [[0]])])


def test_refused():
    with pytest.raises(InputError, match="there is no fusion 'best'"):
        fusion.fuse("best", [A, B], 3)
    with pytest.raises(InputError, match="3 weights were given for 2 lists"):
        fusion.fuse("rrf", [A, B], 3, [1, 1, 1])
    with pytest.raises(InputError, match="hybrid has no fusion"):
        Hybrid("bm25", fusion="sum")


def test_hybrid_knows_the_floors_of_its_lists():
    found, rows = Hybrid("bm25", fusion="tmm", weight=0.25).fuse(A, B, 4)
    close(
        {int(r): float(s) for r, s in zip(rows[0], found[0])},
        {5: 1.5, 6: 1.5 * 1.5 / 1.9, 7: 1.5 * 1.1 / 1.9 + 0.5, 9: 0.5 * 0.25},
    )
