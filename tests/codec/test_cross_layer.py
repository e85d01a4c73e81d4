"""Cross-layer equalization: the function stays, ranges become even, the mean of the outputs comes back."""

from itertools import pairwise

import numpy as np
import pytest

from sememe.codec.weights import CrossLayerEqualizer, Layer, quantized, relu_mean
from sememe.errors import InputError


def network(widths=(12, 20, 16, 8), seed=0, spread=3.0):
    """Layers whose hidden channels have ranges that differ by ``spread`` decades, the next layer's the other way."""
    generator = np.random.default_rng(seed)
    layers, before = [], np.ones(widths[0])
    for a, b in pairwise(widths):
        scale = 10 ** generator.uniform(-spread / 2, spread / 2, b)
        weight = generator.standard_normal((a, b)) * scale / before[:, None] / np.sqrt(a)
        layers.append(Layer.of(weight, generator.standard_normal(b) * scale))
        before = scale
    return layers


def run(layers, X):
    for layer in layers[:-1]:
        X = np.maximum(layer(X), 0)
    return layers[-1](X)


def test_function_is_kept_and_ranges_are_even():
    X = np.random.default_rng(1).standard_normal((200, 12)).astype(np.float32)
    layers = network()
    equalizer = CrossLayerEqualizer(rounds=200)
    even = equalizer.equalize(layers)
    before, after = run(layers, X), run(even, X)
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4 * np.abs(before).max())
    for first, second in pairwise(even):
        np.testing.assert_allclose(np.abs(first.weight).max(axis=0), np.abs(second.weight).max(axis=1), rtol=1e-2)
    for layer, moved, scale in zip(layers, even, equalizer.scales_):
        np.testing.assert_allclose(moved.bias, layer.bias / scale, rtol=1e-5)


def test_a_pair_by_the_formula():
    first, second = network((5, 4, 3))
    even = CrossLayerEqualizer(rounds=1).equalize([first, second])
    r1, r2 = np.abs(first.weight).max(axis=0), np.abs(second.weight).max(axis=1)
    scale = np.sqrt(r1 * r2) / r2
    np.testing.assert_allclose(even[0].weight, first.weight / scale, rtol=1e-5)
    np.testing.assert_allclose(even[1].weight, second.weight * scale[:, None], rtol=1e-5)


def test_int8_error_falls_by_far():
    X = np.random.default_rng(1).standard_normal((500, 12)).astype(np.float32)
    layers = network()
    equalizer = CrossLayerEqualizer()

    def error(rounded):
        return float(np.linalg.norm(run(rounded, X) - run(layers, X)) / np.linalg.norm(run(layers, X)))

    assert error(equalizer.quantize(equalizer.equalize(layers))) < 0.1 * error(equalizer.quantize(layers))


def test_bias_correction_brings_the_mean_back():
    generator = np.random.default_rng(0)
    X = (3 + generator.standard_normal((4000, 30))).astype(np.float32)
    layer = Layer.of(generator.standard_normal((30, 10)))
    equalizer = CrossLayerEqualizer()
    exact = layer(X).mean(axis=0)
    (naive,), (corrected,) = equalizer.quantize([layer], bits=3), equalizer.quantize([layer], [X.mean(axis=0)], bits=3)
    np.testing.assert_array_equal(naive.weight, corrected.weight)
    assert np.abs(naive(X).mean(axis=0) - exact).max() > 0.5
    np.testing.assert_allclose(corrected(X).mean(axis=0), exact, atol=1e-3)


def test_mean_of_rectified_normals_by_sampling():
    mean, deviation = np.array([-2.0, -0.3, 0.0, 0.7, 3.0, -1.0, 2.0]), np.array([1.0, 0.5, 2.0, 1.0, 0.1, 0.0, 0.0])
    draws = np.random.default_rng(0).standard_normal((400_000, len(mean))) * deviation + mean
    np.testing.assert_allclose(relu_mean(mean, deviation), np.maximum(draws, 0).mean(axis=0), atol=5e-3)


def test_large_biases_are_absorbed_exactly_where_channels_stay_positive():
    generator = np.random.default_rng(0)
    X = generator.standard_normal((1000, 6)).astype(np.float32)
    first = Layer.of(0.1 * generator.standard_normal((6, 5)), np.full(5, 4.0))
    second = Layer.of(generator.standard_normal((5, 3)))
    deviation = first(X).std(axis=0)
    plain = CrossLayerEqualizer(absorb=False).equalize([first, second], [deviation])
    absorbed = CrossLayerEqualizer().equalize([first, second], [deviation])
    assert (absorbed[0].bias < 0.5 * plain[0].bias).all()
    gap = np.abs(run(absorbed, X) - run([first, second], X))
    assert (gap < 1e-4).mean() > 0.95  # three deviations: few rows fall below


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding(bits):
    weight = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    for per_channel in (False, True):
        rounded = quantized(weight, bits, per_channel=per_channel)
        reach = np.abs(weight).max(axis=0) if per_channel else np.abs(weight).max()
        step = reach / (2 ** (bits - 1) - 1)
        assert (np.abs(rounded - weight) <= step / 2 * 1.0001).all()
        np.testing.assert_allclose(rounded / step, np.rint(rounded / step), atol=1e-3)
    assert not quantized(np.zeros((3, 3), np.float32)).any()


def test_dead_channels_and_hostile_input():
    first, second = network((5, 4, 3))
    dead = Layer(first.weight * np.array([1, 0, 1, 1], np.float32), first.bias)
    even = CrossLayerEqualizer().equalize([dead, second])
    assert all(np.isfinite(layer.weight).all() for layer in even)
    equalizer = CrossLayerEqualizer()
    with pytest.raises(InputError, match="at least two layers"):
        equalizer.equalize([first])
    with pytest.raises(InputError, match="layer 0 gives 4 channels, layer 1 takes 5"):
        equalizer.equalize([first, first])
    with pytest.raises(InputError, match="1 means were given for 2"):
        equalizer.quantize([first, second], [None])
    with pytest.raises(InputError, match="does not fit a weight"):
        equalizer.quantize([first, second], [np.ones(4), None])
    with pytest.raises(InputError, match="deviations were given"):
        equalizer.equalize([first, second], [])
    with pytest.raises(InputError, match="finite table"):
        Layer.of([[np.nan]])
    with pytest.raises(InputError, match="bias of shape"):
        Layer.of(np.ones((2, 3)), np.ones(2))
    with pytest.raises(InputError, match="2 to 8"):
        quantized(first.weight, 9)
    with pytest.raises(InputError, match="from 1"):
        CrossLayerEqualizer(rounds=0).equalize([first, second])
