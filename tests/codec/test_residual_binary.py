"""Recurrent residual binary codes: against a loop in float64, the derivative of the loss, and the compiled scan."""

from itertools import pairwise

import numpy as np
import pytest

from sememe.codec.residual_binary import ResidualBinary
from sememe.codec.straight_through import Maps, backward, forward, loss_gradient, steps_for
from sememe.codec.uniform import Uniform
from sememe.errors import InputError
from sememe.kernels import native
from sememe.testing import clustered_vectors


def rounds_by_hand(x, quantizer):
    """The levels of one row, written as the paper writes them."""
    f = x.astype(np.float64) * quantizer.scale_ - quantizer.mean_
    levels = np.zeros(len(quantizer.decoder_))
    for j in range(quantizer.depth_):
        shared = len(quantizer.encoder_) == 1
        encode = quantizer.encoder_[0 if shared else j].astype(np.float64)
        feedback = quantizer.decoder_ if shared or not j else quantizer.feedback_[j - 1]
        missing = f - levels @ feedback.astype(np.float64)
        levels += 2.0**-j * np.where(missing @ encode >= 0, 1, -1)
    return levels


@pytest.mark.parametrize("bits", [0.5, 1, 2, 3, 4])
@pytest.mark.parametrize("seconds", [0, 5])
def test_codes_are_those_of_the_recurrence(bits, seconds):
    X = clustered_vectors(600, 24)
    quantizer = ResidualBinary(bits, seconds=seconds).fit(X)
    assert (quantizer.steps_ > 0) == (seconds > 0)
    for row in X[:20]:
        levels = rounds_by_hand(row, quantizer)
        decoded = levels @ quantizer.decoder_ + quantizer.mean_
        decoded *= np.linalg.norm(row) / np.linalg.norm(decoded)  # the code carries the length
        found = quantizer.decode(quantizer.encode(row[None]))[0]
        np.testing.assert_allclose(found, decoded, atol=1e-3)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_bytes_and_depth(depth):
    X = clustered_vectors(300, 32)
    for bits in (0.5, 0.7, 1, 2, 4):
        quantizer = ResidualBinary(bits, depth).fit(X)
        assert quantizer.encode(X).shape[1] == quantizer.bytes_per_vector(32) == int(np.ceil(32 * bits / 8)) + 2
        assert quantizer.depth_ == depth and 1 <= len(quantizer.decoder_) <= 32


def test_error_falls_as_bits_grow():
    X = clustered_vectors(2000, 48)
    errors = []
    for bits in (0.25, 0.5, 1, 2, 3, 4):
        quantizer = ResidualBinary(bits).fit(X)
        errors.append(float(np.mean((X - quantizer.decode(quantizer.encode(X))) ** 2)))
    assert all(b < 0.75 * a for a, b in pairwise(errors)), errors
    plain = Uniform(2).fit(X)
    assert errors[3] < 0.6 * float(np.mean((X - plain.decode(plain.encode(X))) ** 2))


def test_chosen_depth_is_the_best_of_all():
    for spectrum in (0.2, 1.0):  # nearly flat, and steep
        X = np.random.default_rng(0).standard_normal((3000, 40)) / (1 + np.arange(40)) ** spectrum

        def error(depth, X=X):
            quantizer = ResidualBinary(2, depth).fit(X)
            return float(np.mean((X - quantizer.decode(quantizer.encode(X))) ** 2))

        chosen = ResidualBinary(2).fit(X).depth_
        assert error(chosen) <= 1.03 * min(error(depth) for depth in (1, 2, 3, 4))


def test_gradient_is_that_of_the_loss():
    """Of what does not pass through a sign: the decoder; and of the loss in the decoded rows."""
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((12, 6)).astype(np.float32)
    mean = generator.standard_normal(6).astype(np.float32)
    keys = (0.05 * generator.standard_normal((20, 6))).astype(np.float32)  # small: the difference quotient is good

    def draw(*shape):
        return (0.5 * generator.standard_normal(shape)).astype(np.float32)

    maps = Maps([draw(6, 4), draw(6, 4)], [draw(4, 6)], draw(4, 6))
    levels, tape = forward(rows, maps)
    assert set(np.unique(levels)) <= {-1.5, -0.5, 0.5, 1.5}
    _, gradient = loss_gradient(levels @ maps.decode, rows, keys, mean)
    slopes = backward(gradient, levels, tape, maps)
    assert [slope.shape for slope in slopes] == [weight.shape for weight in maps.all()]
    for place in ((0, 0), (2, 5), (3, 1)):
        bump = np.zeros_like(maps.decode)
        bump[place] = 1e-2
        up, _ = loss_gradient(levels @ (maps.decode + bump), rows, keys, mean)
        down, _ = loss_gradient(levels @ (maps.decode - bump), rows, keys, mean)
        assert slopes[-1][place] == pytest.approx((up - down) / 2e-2, rel=2e-2, abs=1e-3)


def test_signs_pass_gradients_as_the_identity():
    """With the sign replaced by the identity the gradient of the first map is that of a linear network."""
    generator = np.random.default_rng(1)
    rows = (0.1 * generator.standard_normal((8, 5))).astype(np.float32)  # all within reach of the clip
    encode, decode = (generator.standard_normal(shape).astype(np.float32) for shape in ((5, 3), (3, 5)))
    maps = Maps([encode], [], decode)
    levels, tape = forward(rows, maps)
    gradient = generator.standard_normal((8, 5)).astype(np.float32)
    np.testing.assert_allclose(backward(gradient, levels, tape, maps)[0], rows.T @ gradient @ decode.T, rtol=1e-5)


def test_training_lowers_the_error_and_repeats():
    X = clustered_vectors(1000, 32, clusters=8)
    closed, trained = ResidualBinary(1).fit(X), ResidualBinary(1, seconds=20).fit(X)
    again = ResidualBinary(1, seconds=20).fit(X)
    np.testing.assert_array_equal(trained.encode(X), again.encode(X))

    def error(quantizer):
        return float(np.mean((X - quantizer.decode(quantizer.encode(X))) ** 2))

    assert error(trained) < 0.98 * error(closed)
    assert steps_for(0, 1000, 32, 16, 2) == 0 and steps_for(1e-9, 1000, 32, 16, 2) == 0
    assert steps_for(1e9, 1000, 32, 16, 2) < 60  # twelve passes


def test_symmetric_scores_are_products_of_decoded_codes():
    X, Q = clustered_vectors(500, 40), clustered_vectors(12, 40, seed=1)
    for size in (1.0, 1e15):
        quantizer = ResidualBinary(2, seconds=5).fit(X * size)
        left, right = quantizer.encode(Q * size), quantizer.encode(X * size)
        exact = quantizer.decode(left).astype(np.float64) @ quantizer.decode(right).astype(np.float64).T
        for few in (1, 12):
            found = quantizer.symmetric(left[:few], right)
            np.testing.assert_allclose(found / size**2, exact[:few] / size**2, atol=2e-6)
    with pytest.raises(InputError, match="codes must be uint8"):
        quantizer.symmetric(left, right[:, 1:])


@pytest.mark.skipif(native.core() is None, reason="the compiled core was not built")
@pytest.mark.parametrize("bits", [0.5, 1, 2, 4])
def test_compiled_scan_finds_what_scores_find(bits):
    X, Q = clustered_vectors(3000, 32), clustered_vectors(5, 32, seed=1)
    quantizer = ResidualBinary(bits).fit(X)
    codes, queries = quantizer.encode(X), quantizer.encode(Q)
    for scan, scores in (
        (quantizer.native_scan(Q), quantizer.scores(Q, codes)),
        (quantizer.symmetric_scan(queries), quantizer.symmetric(queries, codes)),
    ):
        found, rows = scan.topk(codes, 10)
        np.testing.assert_allclose(found, -np.sort(-scores, axis=1)[:, :10], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.take_along_axis(scores, rows, axis=1), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bits_per_dim": 0}, "over 0, at most 4"),
        ({"bits_per_dim": 5}, "over 0, at most 4"),
        ({"bits_per_dim": "2"}, "over 0, at most 4"),
        ({"depth": 5}, "allowed: 1, 2, 3, 4"),
        ({"depth": 3, "bits_per_dim": 0.1}, "does not fit 1 bytes"),
        ({"seconds": -1}, "0 or more seconds"),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    with pytest.raises(InputError, match=message):
        ResidualBinary(**parameters).fit(clustered_vectors(20, 16))


def test_real_vectors_beat_equal_bytes(minilm):
    from sememe.codec import ProductQuantizer

    X, Q = minilm("cisi")
    best = np.argsort(-(Q @ X.T), axis=1)[:, :10]

    def recall(quantizer):
        codes = quantizer.fit(X).encode(X)
        found = np.argsort(-quantizer.scores(Q, codes), axis=1)[:, :10]
        return np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, best, strict=True)])

    ours = np.mean([recall(ResidualBinary(1, seed=seed)) for seed in range(2)])
    assert ours > recall(ProductQuantizer(48)) + 0.02
