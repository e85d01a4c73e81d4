"""The scan of rows of plain numbers: equal at every level, and the same as sorting all products."""

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.kernels import native
from sememe.kernels.row_scan import row_scan

KINDS = [np.float32, np.float16, np.int8]


def table(kind, n, d, seed=0):
    values = np.random.default_rng(seed).standard_normal((n, d))
    return (values * 40).clip(-127, 127).astype(kind) if kind is np.int8 else values.astype(kind)


def sorted_products(X, Q, k):
    exact = Q.astype(np.float64) @ X.astype(np.float64).T
    order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(exact, order, axis=1), order


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "d", "q", "k"), [(1, 1, 1, 3), (7, 5, 2, 7), (1000, 64, 3, 10), (3001, 100, 5, 40)])
def test_every_level_finds_what_sorting_finds(kind, n, d, q, k):
    X, Q = table(kind, n, d), np.random.default_rng(1).standard_normal((q, d)).astype(np.float32)
    wanted, rows = sorted_products(X, Q, k)
    answers = {}
    for level in native.levels():
        with native.using(level):
            answers[level] = row_scan(X, Q, k)
    compiled = [scores for level, (scores, _) in answers.items() if level != "numpy"]  # NumPy adds in another order
    for scores, found in answers.values():
        assert scores.dtype == np.float32 and found.dtype == np.int64
        np.testing.assert_allclose(scores, wanted, rtol=1e-5, atol=1e-4 * np.abs(wanted).max())
        assert np.array_equal(found, rows)
    assert all(np.array_equal(scores, compiled[0]) for scores in compiled)


@pytest.mark.parametrize("kind", KINDS)
def test_ties_go_to_the_lower_row_whatever_the_threads(kind):
    X, Q = np.tile(table(kind, 50, 32), (4000, 1)), np.ones((2, 32), dtype=np.float32)
    answers = []
    for threads in (1, 2, 3):
        with native.limited(threads):
            answers.append(row_scan(X, Q, 100))
    first = np.argmax(X[:50].astype(np.float64) @ Q[0])
    for scores, rows in answers:
        assert np.array_equal(rows[0], first + 50 * np.arange(100))
        assert np.array_equal(scores, answers[0][0]) and np.array_equal(rows, answers[0][1])


def test_what_has_no_order_comes_last():
    X = table(np.float32, 20, 8)
    X[3], X[5] = np.nan, np.inf
    scores, rows = row_scan(X, np.ones((1, 8), dtype=np.float32), 20)
    assert rows[0, 0] == 5 and rows[0, -1] == 3
    assert scores[0, -1] == -np.inf


def test_no_rows_no_queries_and_what_does_not_fit():
    none = np.empty((0, 4), dtype=np.float32)
    assert row_scan(none, np.ones((2, 4), dtype=np.float32), 3)[1].shape == (2, 0)
    assert row_scan(table(np.float16, 9, 4), none, 3)[1].shape[0] == 0
    for queries, k in ((np.ones((1, 5), dtype=np.float32), 3), (np.ones((1, 4), dtype=np.float32), 0)):
        with pytest.raises(InputError, match="do not fit together"):
            row_scan(table(np.int8, 9, 4), queries, k)


def test_rows_that_all_score_alike_take_no_more_memory_than_others():
    """A row that only equals the last of the best is not kept: each would take 16 bytes a query."""
    resource = pytest.importorskip("resource")
    X, Q = table(np.int8, 2_000_000, 2), np.zeros((8, 2), dtype=np.float32)
    row_scan(X[:1000], Q, 5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scores, rows = row_scan(X, Q, 5)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert (rows == np.arange(5)).all() and not scores.any()
    assert native.core() is None or grown < 100_000
