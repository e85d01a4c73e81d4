"""Sparse codes: gradients against finite differences, size on demand, even use of dimensions, postings read."""

import numpy as np
import pytest

from sememe.codec import SparseFlops
from sememe.codec.sparse_flops import gini, postings_read
from sememe.errors import InputError, NotFittedError
from sememe.testing import clustered_vectors


@pytest.fixture(scope="module")
def rows():
    return clustered_vectors(1500, 32, clusters=60)


@pytest.fixture(scope="module")
def code(rows):
    return SparseFlops(v=128, nonzeros=12, steps=200).fit(rows)


@pytest.mark.parametrize("penalty", ["flops", "l1"])
def test_gradients_equal_finite_differences(penalty):
    generator = np.random.default_rng(5)
    x = generator.standard_normal((7, 4))
    code = SparseFlops(v=6, nonzeros=3, penalty=penalty)
    code.weight_, code.bias_ = generator.standard_normal((4, 6)), generator.standard_normal(6)
    found, used = code._gradients(x, 3.0)
    assert used == np.count_nonzero(x @ code.weight_ + code.bias_ > 0) / 7
    for parameter, gradient in zip((code.weight_, code.bias_), found, strict=True):
        for place in np.ndindex(parameter.shape):
            before = parameter[place]
            ends = []
            for step in (1e-6, -1e-6):
                parameter[place] = before + step
                ends.append(code._loss(x, 3.0))
            parameter[place] = before
            expected = (ends[0] - ends[1]) / 2e-6
            assert gradient[place] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_rows_are_unit_sparse_and_in_order(code, rows):
    table = code.encode_sparse(rows)
    assert table.shape == (1500, 128) and table.dtype == np.float32 and table.has_sorted_indices
    assert abs(table.nnz / 1500 - 12) < 2
    dense = np.maximum(rows * code.scale_ @ code.weight_ + code.bias_, 0)
    dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-6)
    np.testing.assert_allclose(table.toarray(), dense, atol=1e-6)
    assert (table.data > 0).all()


def test_similar_rows_keep_similar_codes(code, rows):
    table = code.encode_sparse(rows)
    exact, sparse = rows[:50] @ rows.T, (table[:50] @ table.T).toarray()
    nearest, found = (np.argsort(-scores, axis=1)[:, :10] for scores in (exact, sparse))
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(nearest, found)]) > 0.4  # at random, 0.007


def test_flops_uses_dimensions_more_evenly_and_reads_less_than_l1(code, rows):
    plain = SparseFlops(v=128, nonzeros=12, steps=200, penalty="l1").fit(rows)
    a, b = code.encode_sparse(rows), plain.encode_sparse(rows)
    assert gini(np.bincount(a.indices, minlength=128)) < gini(np.bincount(b.indices, minlength=128))
    # Fewer postings for each non-zero of the query, so that a difference in size is not taken for one in kind.
    assert postings_read(a, a).sum() / a.nnz < 0.8 * postings_read(b, b).sum() / b.nnz


def test_postings_read_and_gini_equal_their_definitions(code, rows):
    table = code.encode_sparse(rows[:200])
    queries = table[:9]
    lists = (table.toarray() > 0).sum(axis=0)
    expected = [int(lists[line > 0].sum()) for line in queries.toarray()]
    assert postings_read(queries, table).tolist() == expected
    usage = np.random.default_rng(0).random(50)
    differences = np.abs(usage[:, None] - usage[None]).mean() / (2 * usage.mean())
    assert gini(usage) == pytest.approx(differences)
    assert gini(np.ones(9)) == 0 and gini(np.zeros(4)) == 0 and gini(np.eye(10)[0]) == pytest.approx(0.9)


def test_deterministic_restored_and_never_changed_by_queries(code, rows):
    again = SparseFlops(v=128, nonzeros=12, steps=200).fit(rows)
    np.testing.assert_array_equal(again.weight_, code.weight_)
    state = {name: np.array(array) for name, array in code.state().items()}
    code.encode_sparse(100 * rows[:5] + 3)
    restored = SparseFlops(v=128).load_state(state)
    np.testing.assert_array_equal(restored.encode_sparse(rows[:9]).toarray(), code.encode_sparse(rows[:9]).toarray())


def test_time_is_a_budget(rows):
    short = SparseFlops(v=128, nonzeros=12, steps=10**6, seconds=0.3).fit(rows)
    assert short.encode_sparse(rows[:5]).shape == (5, 128)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_edges(size, rows):
    code = SparseFlops(v=32, nonzeros=4, steps=5)
    for X in (rows[:1], np.zeros((4, 32)), rows[:40] * np.float32(size)):
        table = code.fit(X).encode_sparse(X)
        assert table.shape == (len(X), 32) and np.isfinite(table.data).all()
    assert code.encode_sparse(rows[:0]).shape == (0, 32)


def test_what_cannot_be_done_is_refused(rows):
    with pytest.raises(NotFittedError):
        SparseFlops().encode_sparse(rows)
    with pytest.raises(InputError, match="more than v=8"):
        SparseFlops(v=8, nonzeros=9).fit(rows)
    with pytest.raises(InputError, match="did you mean flops"):
        SparseFlops(penalty="flop").fit(rows)
    poisoned = rows.copy()
    poisoned[3, 1] = np.nan
    with pytest.raises(InputError, match="row 3"):
        SparseFlops().fit(poisoned)
