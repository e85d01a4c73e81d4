"""The chain: exactly its stages, one after another; saved and restored; fitted on the corpus only."""

import numpy as np
import pytest

from sememe.codec import PCA, Center, Chain, Int8
from sememe.errors import InputError, NotFittedError
from sememe.testing import clustered_vectors

RECIPES = [
    "static | flat",
    "static | int8 | flat",
    "static | truncate:16 | fp16 | flat",
    "static | center | pca:12 | int4 | flat",
    "static | whiten:16 | normalize | binary | flat",
    "static | pca:variance=0.8 | pq:4 | flat",
    "static | project:20 | pca:10 | power:3 | flat",
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_chain_is_its_stages(recipe):
    X, Q = clustered_vectors(500, 32), clustered_vectors(9, 32, seed=1)
    chain = Chain.from_recipe(recipe).fit(X[:200])
    rows, queries = X, Q
    for stage in chain.transforms:
        rows, queries = stage.transform(rows), stage.transform(queries)
    np.testing.assert_array_equal(chain.project(X), rows)
    codes = chain.encode(X)
    np.testing.assert_array_equal(codes, chain.quantizer.encode(rows))
    np.testing.assert_array_equal(chain.decode(codes), chain.quantizer.decode(codes))
    np.testing.assert_array_equal(chain.scores(Q, codes), chain.quantizer.scores(queries, codes))
    np.testing.assert_array_equal(chain.scores_projected(queries, codes), chain.scores(Q, codes))
    np.testing.assert_array_equal(chain.scorer(queries)(codes), chain.scores(Q, codes))
    assert codes.shape == (500, chain.code_bytes_)
    assert (chain.dim_in_, chain.dim_out_) == (32, rows.shape[1])
    if "variance" not in recipe:
        assert Chain.from_recipe(recipe).bytes_per_vector(32) == chain.code_bytes_


@pytest.mark.parametrize("recipe", RECIPES)
def test_restore(recipe):
    X, Q = clustered_vectors(500, 32), clustered_vectors(9, 32, seed=1)
    chain = Chain.from_recipe(recipe).fit(X)
    state = {key: np.array(array) for key, array in chain.state().items()}
    again = Chain.restore(recipe, state)
    np.testing.assert_array_equal(again.encode(X), chain.encode(X))
    np.testing.assert_array_equal(again.scores(Q, again.encode(X)), chain.scores(Q, chain.encode(X)))
    assert (again.code_bytes_, again.dim_in_, again.dim_out_) == (chain.code_bytes_, chain.dim_in_, chain.dim_out_)
    assert again.side_bytes_ == chain.side_bytes_ == sum(array.nbytes for array in state.values())


def test_state_names():
    chain = Chain.from_recipe("static | pca:4 | int8 | flat").fit(clustered_vectors(50, 8))
    assert "0.pca.components_" in chain.state() and "1.int8.step_" in chain.state()


def test_two_stages_of_one_name_keep_apart():
    X = clustered_vectors(100, 16)
    chain = Chain([PCA(12), PCA(4)], Int8()).fit(X)
    assert {"0.pca.components_", "1.pca.components_"} <= set(chain.state())
    again = Chain([PCA(12), PCA(4)], Int8()).load_state(chain.state())
    np.testing.assert_array_equal(again.encode(X), chain.encode(X))


def test_queries_do_not_change_the_chain():
    X = clustered_vectors(300, 16)
    chain = Chain([Center(), PCA(8)], Int8()).fit(X)
    codes = chain.encode(X)
    before = {key: array.copy() for key, array in chain.state().items()}
    chain.scores(9 * clustered_vectors(20, 16, seed=4) - 2, codes)
    for key, array in chain.state().items():
        np.testing.assert_array_equal(array, before[key])


def test_errors_name_the_stage():
    with pytest.raises(NotFittedError, match="not fitted"):
        Chain.from_recipe(RECIPES[1]).encode(clustered_vectors(3, 8))
    with pytest.raises(InputError, match="stage pca"):
        Chain.from_recipe("static | pca:40 | int8 | flat").fit(clustered_vectors(50, 16))
    chain = Chain.from_recipe(RECIPES[1]).fit(clustered_vectors(50, 8))
    with pytest.raises(InputError, match="columns, expected 8"):
        chain.scores(clustered_vectors(2, 9), chain.encode(clustered_vectors(4, 8)))
    with pytest.raises(InputError, match="does not belong"):
        Chain.restore("static | pca:4 | int8 | flat", chain.state())
    with pytest.raises(InputError, match="names were given"):
        Chain([PCA()], Int8(), names=["pca"])
