"""Coupled channels: product quantization by another name, weights by gradients, error that falls with coupling."""

from itertools import pairwise

import numpy as np
import pytest

from sememe.codec import ProductQuantizer
from sememe.codec.coupled import Coupled
from sememe.errors import InputError
from sememe.testing import clustered_vectors


def error(quantizer, X, weights=1.0):
    return float(np.mean(weights * (X - quantizer.decode(quantizer.encode(X))) ** 2))


def test_without_gradients_it_is_product_quantization():
    X, Q = clustered_vectors(800, 32), clustered_vectors(3, 32, seed=1)
    coupled, product = Coupled(4).fit(X), ProductQuantizer(8).fit(X)
    np.testing.assert_array_equal(coupled.encode(X), product.encode(X))
    np.testing.assert_array_equal(coupled.centres_, product.centres_)
    np.testing.assert_array_equal(coupled.scores(Q, coupled.encode(X)), product.scores(Q, product.encode(X)))


@pytest.mark.parametrize(("channels", "bits"), [(1, 1), (2, 2), (4, 4), (8, 8), (2, 4), (3, 8)])
def test_bits_a_channel(channels, bits):
    X = clustered_vectors(500, 48)
    codec = Coupled(channels, bits).fit(X)
    assert codec.encode(X).shape[1] == codec.bytes_per_vector(48) == 48 // channels * bits // 8


def test_coupling_more_channels_at_one_bit_each_lowers_the_error():
    """Channels that depend on each other in pairs: what a scalar code cannot see."""
    generator = np.random.default_rng(0)
    base = generator.standard_normal((6000, 4))
    X = np.repeat(base, 4, axis=1) + 0.3 * generator.standard_normal((6000, 16))
    errors = [error(Coupled(c, c).fit(X[::2]), X[1::2]) for c in (1, 2, 4, 8)]
    assert all(b < a for a, b in pairwise(errors)), errors
    assert errors[3] < 0.7 * errors[0]


def test_one_channel_and_one_bit_is_two_means():
    """Against the exact answer for a normal variable: two centres leave 1 - 2 / pi of the variance."""
    X = np.random.default_rng(0).standard_normal((20_000, 2))
    assert error(Coupled(1, 1).fit(X), X) == pytest.approx(1 - 2 / np.pi, abs=0.01)


def test_gradients_move_precision_to_the_channels_that_matter():
    X = np.random.default_rng(0).standard_normal((4000, 16))
    gradients = np.full((50, 16), 0.1)
    gradients[:, 3] = 2.0
    plain, weighted = Coupled().fit(X), Coupled().fit(X, gradients=gradients)
    weights = np.mean(gradients**2, axis=0)
    np.testing.assert_allclose(weighted.importance_**2, weights / weights.mean(), rtol=1e-5)
    assert error(weighted, X, weights) < 0.5 * error(plain, X, weights)
    assert error(weighted, X) > error(plain, X)
    restored = Coupled().load_state({name: np.array(array) for name, array in weighted.state().items()})
    np.testing.assert_array_equal(restored.encode(X), weighted.encode(X))
    again = weighted.fit(X)  # a fit without gradients forgets them
    np.testing.assert_array_equal(again.encode(X), plain.encode(X))


def test_channels_without_gradient_keep_a_little():
    X = np.random.default_rng(0).standard_normal((400, 16))
    gradients = np.zeros((5, 16))
    assert (Coupled().fit(X, gradients=gradients).importance_ == 1).all()
    gradients[:, 0] = 1
    codec = Coupled().fit(X, gradients=gradients)
    assert (codec.importance_ > 0).all() and np.isfinite(codec.decode(codec.encode(X))).all()


@pytest.mark.parametrize(
    ("codec", "gradients", "message"),
    [
        (Coupled(0), None, "whole number from 1"),
        (Coupled(2.5), None, "whole number from 1"),
        (Coupled(4, 3), None, "allowed: 8, 4, 2, 1"),
        (Coupled(), np.ones((4, 5)), "rows have 16 columns"),
        (Coupled(), np.full((4, 16), np.nan), "gradients holds NaN"),
    ],
)
def test_wrong_use_is_named(codec, gradients, message):
    with pytest.raises(InputError, match=message):
        codec.fit(clustered_vectors(20, 16), gradients=gradients)


def test_real_vectors(minilm):
    X, _ = minilm("cisi")
    alone, coupled = Coupled(1, 1).fit(X[::2]), Coupled(8).fit(X[::2])
    assert alone.code_bytes_ == coupled.code_bytes_ == 48
    assert error(coupled, X[1::2]) < 0.9 * error(alone, X[1::2])
