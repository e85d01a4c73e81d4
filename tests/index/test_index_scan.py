"""The flat scan, the running top k, and fusion, against full sorts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.codec.chain import Chain
from sememe.errors import InputError
from sememe.index import fusion
from sememe.index.best import TopK
from sememe.index.scan import CHECKED, topk
from sememe.testing import clustered_vectors


@pytest.fixture(scope="module")
def fitted():
    X = clustered_vectors(5000, 32)
    chain = Chain.from_recipe("static | pca:16 | int8 | flat").fit(X)
    return chain, chain.encode(X), X


def oracle(scores, rows, k):
    order = [np.lexsort((rows, -line))[:k] for line in scores]
    return np.array([line[o] for line, o in zip(scores, order)]), np.array([rows[o] for o in order])


@pytest.mark.parametrize("k", [1, 10, 5000, 9000])
@pytest.mark.parametrize("share", [None, 0.5, 0.01, 0.0002])
def test_topk_is_the_full_sort(fitted, k, share):
    chain, codes, X = fitted
    rows = None if share is None else np.flatnonzero(np.random.default_rng(1).random(5000) < share)
    known = np.arange(5000) if rows is None else rows
    scores, found = topk(chain, X[:7], codes, k, rows=rows)
    all_scores = chain.scores(X[:7], codes)[:, known]
    want, want_rows = oracle(all_scores, known, k)
    np.testing.assert_allclose(scores, want, atol=1e-6)
    assert (found == want_rows).mean() > 0.999  # sums in other block shapes may differ in the last bit
    assert found.shape == (7, min(k, len(known)))


def test_ensure_covers_every_byte_that_is_read(fitted):
    chain, codes, X = fitted
    width = codes.shape[1]
    for rows in (None, np.array([3, 4, 4090, 4999])):
        seen = np.zeros(codes.size, dtype=bool)
        topk(chain, X[:2], codes, 5, rows=rows, ensure=lambda a, b, seen=seen: seen.__setitem__(slice(a, b), True))
        needed = np.arange(5000) if rows is None else rows
        assert seen.reshape(-1, width)[needed].all()
    big = np.zeros((3000, 100), dtype=np.uint8)
    touched = []
    from sememe.index.scan import gather

    gather(big, np.array([655, 2999]), lambda a, b: touched.append((a, b)))  # row 655 lies across two blocks
    assert touched == [(0, 2 * CHECKED), (4 * CHECKED, 300_000)]


def test_ties_go_to_the_lower_row():
    chain = Chain.from_recipe("static | flat").fit(np.eye(4, dtype=np.float32))
    codes = chain.encode(np.tile(np.eye(4, dtype=np.float32), (2000, 1)))
    _, rows = topk(chain, np.eye(4, dtype=np.float32), codes, 3)
    assert rows.tolist() == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]


def test_wrong_input(fitted):
    chain, codes, X = fitted
    with pytest.raises(InputError, match="k must be"):
        topk(chain, X[:1], codes, 0)
    with pytest.raises(InputError, match="NaN"):
        topk(chain, X[:1] * np.nan, codes, 1)
    scores, rows = topk(chain, X[:3], codes[:0], 5)
    assert scores.shape == rows.shape == (3, 0)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_running_top_k(data):
    q, n, k = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 60)), data.draw(st.integers(1, 12))
    scores = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 6, (q, n)).astype(np.float32)
    best = TopK(q, min(k, n))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    blocks = list(zip([0, *cuts], [*cuts, n]))
    for start, stop in data.draw(st.permutations(blocks)):
        if data.draw(st.booleans()):
            best.add(scores[:, start:stop], np.arange(start, stop))
        else:
            for line in range(q):
                best.offer(line, scores[line, start:stop], np.arange(start, stop))
    got, rows = best.result()
    want, want_rows = oracle(scores, np.arange(n), min(k, n)) if n else (scores, np.zeros((q, 0)))
    assert np.array_equal(got, want)
    assert np.array_equal(rows, want_rows)


def test_reciprocal_rank_by_hand():
    dense = (np.array([[0.9, 0.8, 0.7]], np.float32), np.array([[5, 6, 7]]))
    lexical = (np.array([[12.0, 3.0, -np.inf]], np.float32), np.array([[7, 9, -1]]))
    scores, rows = fusion.fuse("rrf", [dense, lexical], 10)
    assert rows.tolist() == [[7, 5, 6, 9]]
    np.testing.assert_allclose(scores[0], [1 / 63 + 1 / 61, 1 / 61, 1 / 62, 1 / 62], rtol=1e-6)


def test_score_fusion_by_hand():
    dense = (np.array([[0.9, 0.8, 0.7], [0.5, 0.5, 0.5]], np.float32), np.array([[5, 6, 7], [1, 2, 3]]))
    lexical = (np.array([[12.0, 3.0], [-np.inf, -np.inf]], np.float32), np.array([[7, 9], [-1, -1]]))
    scores, rows = fusion.fuse("score", [dense, lexical], 3, [0.5, 1.5])
    assert rows.tolist() == [[7, 5, 6], [1, 2, 3]]
    np.testing.assert_allclose(scores, [[1.5, 0.5, 0.25], [0.5, 0.5, 0.5]], rtol=1e-5)
