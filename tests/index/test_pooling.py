"""Token pooling against SciPy's clustering and plain means; budgets are kept to the vector."""

import numpy as np
import pytest

from sememe.contracts import Ragged, unit_rows
from sememe.errors import InputError
from sememe.index.pooling import POOLINGS, counts_within, pool
from sememe.testing import HashingEncoder, clustered_vectors, toy_records

TOKENS = HashingEncoder(16).encode_tokens([r.content for r in toy_records(30)] + ["", "word", "two words"])


@pytest.mark.parametrize("k", [1, 2, 7, 20, 39])
def test_ward_is_scipys(k):
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
    for seed in range(5):
        X = clustered_vectors(40, 24, clusters=6, seed=seed)
        labels = hierarchy.fcluster(hierarchy.linkage(X.astype(np.float64), "ward"), k, criterion="maxclust")
        means = {tuple(np.round(unit_rows(X[labels == c].mean(axis=0)[None])[0], 4)) for c in np.unique(labels)}
        found = pool(Ragged(X, np.array([0, 40])), k)
        assert len(found.values) == k
        assert {tuple(np.round(row, 4)) for row in found.values} == means


def test_neighbours_and_prefix():
    X = clustered_vectors(11, 8)
    found = pool(Ragged(X, np.array([0, 11])), 4, "sequential").values
    runs = [X[0:2], X[2:5], X[5:8], X[8:11]]
    np.testing.assert_allclose(found, unit_rows(np.stack([run.mean(axis=0) for run in runs])), atol=1e-6)
    for size in (1, 5, 11):
        np.testing.assert_allclose(pool(Ragged(X, np.array([0, 11])), size, "prefix").values, X[:size], atol=1e-6)


@pytest.mark.parametrize("how", POOLINGS)
@pytest.mark.parametrize("budget", [0, 1, 5, 14, 10_000, 0.25, 0.5, 0.999])
def test_budgets_are_kept(how, budget):
    found = pool(TOKENS, budget, how)
    counts = np.diff(TOKENS.offsets)
    kept = np.diff(found.offsets)
    assert kept.tolist() == counts_within(counts, budget).tolist()
    assert found.offsets[0] == 0 and found.offsets[-1] == len(found.values)
    share = np.ceil(counts * budget) if isinstance(budget, float) else np.minimum(counts, budget or 10_000)
    assert kept.tolist() == np.maximum(share, 1).tolist()
    norms = np.linalg.norm(found.values, axis=1)
    blank = found.offsets[30]  # the text without words keeps one zero vector
    assert norms[blank] == 0
    np.testing.assert_allclose(np.delete(norms, blank), 1, atol=1e-5)


@pytest.mark.parametrize("how", POOLINGS)
def test_equal_and_zero_vectors(how):
    same = pool(Ragged(np.ones((9, 4), np.float32), np.array([0, 9])), 3, how)
    np.testing.assert_allclose(same.values, 0.5)
    zero = pool(Ragged(np.zeros((9, 4), np.float32), np.array([0, 9])), 3, how)
    assert zero.values.shape == (3, 4) and not zero.values.any()
    none = pool(Ragged(np.zeros((0, 4), np.float32), np.array([0])), 3, how)
    assert none.values.shape == (0, 4) and len(none) == 0


@pytest.mark.parametrize("budget", [-1, 0.0, 1.0, 1.5, True, "8", None])
def test_wrong_budgets(budget):
    with pytest.raises(InputError, match="not a number of vectors"):
        pool(TOKENS, budget)
    with pytest.raises(InputError, match="there is no pooling"):
        pool(TOKENS, 4, "best")
