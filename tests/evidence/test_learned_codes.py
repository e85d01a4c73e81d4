"""The cores of the experiments on learned codes, coupled channels, weights and the unembedding filter."""

import numpy as np
import pytest

from sememe.codec import Coupled, CrossLayerEqualizer, Truncate
from sememe.codec.weights import Layer
from sememe.evidence import coupled, cross_layer, residual_binary, smollm, unembed_filter
from sememe.testing import clustered_vectors


def test_overlap_counts_what_both_found():
    ranked, exact = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 9, 1], [7, 8, 9]])
    np.testing.assert_allclose(residual_binary.overlap(ranked, exact), [2 / 3, 0])


def test_candidates_of_equal_bits_have_equal_bytes():
    for d in (256, 384):
        size = {name: make(0).bytes_per_vector(d) for name, make in residual_binary.candidates(d).items()}
        assert size["2 bits"] - 2 == size["pq, 2 bits"] == size["uniform, 2 bits"] == d // 4
        assert size["1 bit, not trained"] - 2 == size["pq, 1 bit"] == size["plain signs"] == d // 8


def test_entropy_of_independent_and_of_equal_channels():
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((4000, 8)).astype(np.float32)
    assert coupled.entropy_share(rows, 2) == pytest.approx(1, abs=0.005)
    assert coupled.entropy_share(rows, 4) == pytest.approx(1, abs=0.01)
    assert coupled.entropy_share(np.repeat(rows[:, :4], 2, axis=1), 2) == pytest.approx(0.5, abs=0.01)


def test_relative_error_is_a_share_of_the_variance():
    rows = np.random.default_rng(0).standard_normal((20_000, 1)).astype(np.float32)
    assert coupled.relative_error(Coupled(1, 1).fit(rows), rows) == pytest.approx(1 - 2 / np.pi, abs=0.01)


def test_planting_keeps_the_function_and_spoils_the_ranges():
    X = clustered_vectors(200, 16)
    generator = np.random.default_rng(0)
    layers = [
        Layer.of(generator.standard_normal((16, 9)), generator.standard_normal(9)),
        Layer.of(generator.standard_normal((9, 4))),
    ]
    spoiled = cross_layer.planted(layers, 0)
    exact = cross_layer.apply(layers, X)
    np.testing.assert_allclose(cross_layer.apply(spoiled, X), exact, rtol=1e-3, atol=1e-3)
    naive = cross_layer.apply(CrossLayerEqualizer().quantize(spoiled), X)
    even = cross_layer.apply(CrossLayerEqualizer().quantize(CrossLayerEqualizer().equalize(spoiled)), X)
    assert np.abs(even - exact).mean() < 0.3 * np.abs(naive - exact).mean()


def test_classifier_learns_clusters():
    generator = np.random.default_rng(0)
    y = generator.integers(5, size=1500)
    X = (np.eye(5)[y] @ generator.standard_normal((5, 12)) + 0.3 * generator.standard_normal((1500, 12))).astype("f4")
    layers = cross_layer.trained(X, y, 5, 0, passes=3)
    assert (cross_layer.apply(layers, X).argmax(axis=1) == y).mean() > 0.95
    means, deviations = cross_layer.statistics(layers, X)
    np.testing.assert_allclose(means[0], layers[0](X).mean(axis=0), atol=1e-4)
    assert len(deviations) == 2


def test_neighbours_vote_by_cosine():
    X = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [0, 0.9]], dtype=np.float32)
    labels = np.array(["a", "a", "b", "b", "b"])
    found = unembed_filter.neighbours(Truncate().fit(X), X, np.array([[1, 0.05], [0.2, 1]], dtype=np.float32), labels)
    assert found.tolist() == ["a", "b"]


def test_rotated_pairs_become_halves():
    weight = np.arange(8, dtype=np.float32).reshape(8, 1)  # two heads of four rows, pairs as neighbours
    assert smollm._unpaired(weight, 4).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert smollm._name("blk.3.attn_q.weight") == "model.layers.3.self_attn.q_proj.weight"
