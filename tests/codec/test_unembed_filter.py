"""The unembedding filter: against NumPy's own SVD, with planted frequent directions, and what it refuses."""

import numpy as np
import pytest

from sememe import catalog
from sememe.codec.chain import Chain
from sememe.codec.unembed_filter import UnembedFilter, read_unembedding, token_lens
from sememe.errors import InputError, NotFittedError
from sememe.recipe import Recipe
from sememe.testing import clustered_vectors

D = 24


@pytest.fixture(scope="module")
def matrix():
    generator = np.random.default_rng(0)
    return (generator.standard_normal((300, D)) * np.geomspace(5, 0.1, D)).astype(np.float32)


@pytest.mark.parametrize(("ratio", "top", "first", "count"), [(2, 0.5, 6, 12), (2, 1.0, 12, 12), (3, 0.0, 0, 8)])
def test_kept_directions_are_the_middle_of_the_svd(matrix, ratio, top, first, count):
    X = clustered_vectors(50, D)
    kept = UnembedFilter(ratio, matrix, top, renormalize=False).fit(X)
    _, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(kept.singular_values_, values, rtol=1e-6)
    expected = right[first : first + count]
    np.testing.assert_allclose(np.abs(np.sum(kept.components_ * expected, axis=1)), 1, atol=1e-5)
    np.testing.assert_allclose(kept.transform(X), X @ kept.components_.T, atol=1e-6)
    assert kept.dim_out(D) == count == kept.transform(X).shape[1]
    back = kept.inverse_transform(kept.transform(X))
    np.testing.assert_allclose(kept.transform(back), kept.transform(X), atol=1e-5)


def test_the_rows_do_not_matter_and_a_path_does_as_well(matrix, tmp_path):
    np.save(tmp_path / "w.npy", matrix)
    one = UnembedFilter(2, matrix).fit(clustered_vectors(50, D))
    two = UnembedFilter(2, str(tmp_path / "w.npy")).fit(clustered_vectors(9, D, seed=4))
    np.testing.assert_array_equal(one.components_, two.components_)
    recipe = f'static | unembed-filter:2,unembedding="{tmp_path / "w.npy"}" | int8 | flat'
    recipe = str(Recipe.parse(recipe))  # the canonical form says the same
    X = clustered_vectors(80, D)
    chain = Chain.from_recipe(recipe).fit(X)
    (tmp_path / "w.npy").unlink()  # a stored index does not need the matrix again
    again = Chain.restore(recipe, {name: np.array(array) for name, array in chain.state().items()})
    np.testing.assert_array_equal(again.encode(X), chain.encode(X))
    assert chain.code_bytes_ == D // 2


def test_a_planted_frequent_direction_is_removed():
    """All rows share a direction that is the largest of the matrix: the lens shows its tokens, until it is filtered."""
    generator = np.random.default_rng(0)
    common = np.zeros(D)
    common[0] = 1
    matrix = generator.standard_normal((400, D))
    matrix[:10] += 30 * common  # ten tokens that every vector says
    X = (0.3 * generator.standard_normal((60, D)) + 4 * common).astype(np.float32)
    assert (np.sort(token_lens(X, matrix, 10), axis=1) == np.arange(10)).mean() > 0.9
    kept = UnembedFilter(2, matrix, renormalize=False).fit(X)
    filtered = kept.inverse_transform(kept.transform(X))
    assert (token_lens(filtered, matrix, 10) < 10).mean() < 0.1


def test_token_lens_is_the_largest_logits(matrix):
    X = clustered_vectors(7, D)
    logits = X @ matrix.T
    np.testing.assert_array_equal(token_lens(X, matrix, 5), np.argsort(-logits, axis=1, kind="stable")[:, :5])
    assert token_lens(X, matrix, len(matrix)).shape == (7, 300)
    with pytest.raises(InputError, match="k=0"):
        token_lens(X, matrix, 0)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_unit_rows_zero_rows_and_extreme_values(matrix, size):
    X = clustered_vectors(40, D) * np.float32(size)
    X[3] = 0
    out = UnembedFilter(2, matrix * np.float32(size)).fit_transform(X)
    lengths = np.linalg.norm(out, axis=1)
    assert lengths[3] == 0
    np.testing.assert_allclose(np.delete(lengths, 3), 1, rtol=1e-5)


def test_what_is_missing_or_wrong_is_said_in_one_line(matrix, tmp_path):
    X = clustered_vectors(40, D)
    with pytest.raises(InputError, match=r"needs the unembedding matrix .*; pass unembedding=") as caught:
        UnembedFilter().fit(X)
    assert "\n" not in str(caught.value)
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    cases = [
        (UnembedFilter(2, matrix[:, :5]), "has 5 columns, the vectors have 24"),
        (UnembedFilter(2, str(tmp_path / "absent.npy")), "cannot read an unembedding matrix"),
        (UnembedFilter(2, str(tmp_path / "bad.npy")), "cannot read an unembedding matrix"),
        (UnembedFilter(0, matrix), "whole number from 1 to 24"),
        (UnembedFilter(2, matrix, top=1.5), "a number from 0 to 1"),
        (UnembedFilter(2, np.full((3, D), np.nan)), "NaN"),
        (UnembedFilter(2, np.zeros((0, D))), "empty"),
    ]
    for transform, message in cases:
        with pytest.raises(InputError, match=message):
            transform.fit(X)
    with pytest.raises(NotFittedError):
        UnembedFilter(2, matrix).transform(X)
    assert read_unembedding(matrix.tolist()).dtype == np.float32
    assert catalog.find("unembed-filter").traits["needs"]
