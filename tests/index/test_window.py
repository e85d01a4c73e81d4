"""Windows of an attribute against scoring everything inside them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.errors import InputError
from sememe.index.window import WindowIndex
from sememe.testing import clustered_vectors


def exact(X, attribute, query, low, high, k):
    inside = np.flatnonzero((attribute >= low) & (attribute <= high))
    scores = X[inside].astype(np.float64) @ query.astype(np.float64)
    return inside[np.lexsort((inside, -scores))[:k]]


@given(
    n=st.integers(1, 400),
    values=st.integers(1, 30),
    low=st.integers(-2, 31),
    width=st.integers(0, 31),
    k=st.integers(1, 12),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=80, deadline=None)
def test_small_windows_are_exact_and_never_short(n, values, low, width, k, seed):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n, 12)).astype(np.float32)
    attribute = generator.integers(0, values, n)
    index = WindowIndex(X, attribute)
    scores, rows = index.search(X[:2], k, low, low + width)
    for query, line, values_of in zip(X[:2], rows, scores):
        wanted = exact(X, attribute, query, low, low + width, k)
        assert len(line) == len(wanted) == min(k, int(((attribute >= low) & (attribute <= low + width)).sum()))
        assert set(line.tolist()) == set(wanted.tolist())
        np.testing.assert_allclose(values_of, X[line] @ query, rtol=1e-4, atol=1e-4)
        assert (np.diff(values_of) <= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_large_windows_find_nearly_all(dtype):
    X = clustered_vectors(6000, 64, seed=1).astype(dtype)
    attribute = np.random.default_rng(2).random(6000)
    index = WindowIndex(X, attribute)
    assert index.nbytes < 1.4 * X.nbytes
    queries = clustered_vectors(40, 64, seed=3)
    found = 0
    for number, query in enumerate(queries):
        low = number / 80
        rows = index.search(query[None], 10, low, low + 0.4)[1][0]
        assert ((attribute[rows] >= low) & (attribute[rows] <= low + 0.4)).all() and len(set(rows.tolist())) == 10
        found += len(set(rows.tolist()) & set(exact(X.astype(np.float32), attribute, query, low, low + 0.4, 10)))
    assert found >= 0.98 * 400


def test_dates_text_open_ends_and_missing_values():
    X = np.eye(4, dtype=np.float32)
    days = np.array(["2024-03-01", "2024-01-01", "NaT", "2024-02-01"], dtype="datetime64[D]")
    index = WindowIndex(X, days)
    assert len(index) == 3 and index.order.tolist() == [1, 3, 0]
    february = np.datetime64("2024-02-01")
    assert sorted(index.search(X[:1], 4, february)[1][0].tolist()) == [0, 3]
    assert sorted(index.search(X[:1], 4, None, february)[1][0].tolist()) == [1, 3]
    assert sorted(index.search(X[:1], 4)[1][0].tolist()) == [0, 1, 3]
    assert index.search(X[:2], 4, february, np.datetime64("2024-01-15"))[1].shape == (2, 0)
    text = WindowIndex(X, ["b", "d", "a", "c"])
    assert sorted(text.search(X[:1], 4, "b", "c")[1][0].tolist()) == [0, 3]
    holes = WindowIndex(X, [np.nan, 1.0, np.nan, 2.0])
    assert sorted(holes.search(X[:1], 4)[1][0].tolist()) == [1, 3]


def test_what_cannot_be_used_is_refused():
    X = np.eye(4, dtype=np.float32)
    with pytest.raises(InputError, match="does not fit"):
        WindowIndex(X, [1, 2, 3])
    with pytest.raises(InputError, match="does not fit"):
        WindowIndex(X, [{}, {}, {}, {}])
    with pytest.raises(InputError, match="no row has a value"):
        WindowIndex(X, [np.nan] * 4)
    index = WindowIndex(X, [1, 2, 3, 4])
    with pytest.raises(InputError, match="k must be"):
        index.search(X[:1], 0)
    with pytest.raises(InputError, match="does not compare"):
        index.search(X[:1], 1, "a", "b")
    with pytest.raises(InputError, match="columns"):
        index.search(np.ones((1, 3), dtype=np.float32), 1)
