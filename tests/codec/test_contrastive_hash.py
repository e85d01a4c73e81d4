"""Contrastive hashing: gradients against finite differences, codes of labels, codes without labels on real vectors."""

import numpy as np
import pytest

from sememe.codec import PCA, Binary, Chain, ContrastiveHash
from sememe.codec.contrastive_hash import _gradients, loss
from sememe.codec.descent import Adam, schedule, shares, unit_scale
from sememe.contracts import unit_rows
from sememe.errors import InputError, NotFittedError
from sememe.testing import clustered_vectors


def labelled(n=600, d=24, labels=6, seed=0):
    """Unit rows around one centre a label, with names as labels."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((labels, d))
    number = generator.integers(labels, size=n)
    rows = centres[number] + 0.6 * generator.standard_normal((n, d))
    return unit_rows(rows.astype(np.float32)), np.array([f"label {i}" for i in range(labels)])[number]


@pytest.mark.parametrize("hidden", [0, 5])
@pytest.mark.parametrize("kind", ["labels", "neighbours"])
def test_gradients_equal_finite_differences(hidden, kind):
    generator = np.random.default_rng(3)
    x = generator.standard_normal((9, 4))
    sizes = [(4, hidden), (hidden,), (hidden, 3), (3,)] if hidden else [(4, 3), (3,)]
    parameters = [generator.standard_normal(size) for size in sizes]
    if kind == "labels":
        same = np.arange(9)[:, None] % 4 == np.arange(9)[None] % 4
        same[8] = same[:, 8] = False  # a row without a positive must not pull at anything
        np.fill_diagonal(same, False)
        target = same / np.maximum(same.sum(axis=1, keepdims=True), 1)
    else:
        target = shares(x / np.linalg.norm(x, axis=1, keepdims=True), 0.5)
    found = _gradients(x, parameters, target, 0.7)
    for parameter, gradient in zip(parameters, found, strict=True):
        for place in np.ndindex(parameter.shape):
            before = parameter[place]
            ends = []
            for step in (1e-5, -1e-5):
                parameter[place] = before + step
                ends.append(loss(x, parameters, target, 0.7))
            parameter[place] = before
            assert gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6)


def test_codes_of_labels_replace_them():
    X, y = labelled()
    held, truth = labelled(seed=1)
    hashing = ContrastiveHash(8, epochs=60).fit(X, y)
    assert (hashing.classify(held) == truth).mean() > 0.97
    assert (hashing.classify(held, soft=False) == truth).mean() > 0.9
    assert hashing.label_codes_.shape == (6, 8) and set(np.unique(hashing.label_codes_)) == {-1, 1}
    assert len(np.unique(hashing.label_codes_, axis=0)) == 6
    signs = hashing.transform(X) > 0
    np.testing.assert_array_equal(hashing.codes(X), np.packbits(signs, axis=1))
    majority = np.where((np.where(signs, 1, -1)[y == "label 2"]).sum(axis=0) >= 0, 1, -1)
    np.testing.assert_array_equal(hashing.label_codes_[2], majority)


def test_restored_with_labels_and_hidden_units():
    X, y = labelled()
    hashing = ContrastiveHash(8, hidden=16, epochs=5).fit(X, y)
    state = {name: np.array(array) for name, array in hashing.state().items()}
    restored = ContrastiveHash(8, hidden=16).load_state(state)
    np.testing.assert_array_equal(restored.classify(X), hashing.classify(X))
    np.testing.assert_array_equal(restored.codes(X), hashing.codes(X))


def test_without_labels_there_are_none_to_predict():
    X, y = labelled(200)
    hashing = ContrastiveHash(8, epochs=1).fit(X, y)
    hashing.fit(X)  # a second fit forgets the first
    with pytest.raises(NotFittedError, match=r"fit\(X, y\) with a label"):
        hashing.classify(X)
    with pytest.raises(InputError, match="one label a row"):
        hashing.fit(X, y[:-1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 0}, "bits=0"),
        ({"bits": 2.5}, "bits=2.5"),
        ({"hidden": -1}, "hidden=-1"),
        ({"seconds": 0}, "seconds=0"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        ContrastiveHash(**settings).fit(clustered_vectors(50, 8))


def test_a_stage_before_binary_in_a_recipe():
    X = clustered_vectors(400, 24)
    chain = Chain.from_recipe("static | hash:40 | binary:zero | flat").fit(X)
    codes = chain.encode(X)
    assert codes.shape == (400, 5) and chain.bytes_per_vector(24) == 5
    np.testing.assert_array_equal(codes, chain.transforms[0].codes(X))
    restored = Chain.restore("static | hash:40 | binary:zero | flat", chain.state())
    np.testing.assert_array_equal(restored.scores(X[:4], codes), chain.scores(X[:4], codes))


def test_without_labels_codes_find_more_neighbours_than_signs_of_components(minilm):
    X, Q = minilm("cisi")
    nearest = np.argsort(-(Q @ X.T), axis=1)[:, :10]

    def recall(scores):
        found = np.argsort(-scores, axis=1)[:, :10]
        return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(nearest, found)])

    hashing = ContrastiveHash(64, epochs=20).fit(X)
    binary = Binary("zero").fit(hashing.transform(X))
    learned = recall(binary.scores(hashing.transform(Q), binary.encode(hashing.transform(X))))
    pca = PCA(64, center=True, renormalize=False).fit(X)
    signs = Binary("zero").fit(pca.transform(X))
    assert learned > 0.03 + recall(signs.scores(pca.transform(Q), signs.encode(pca.transform(X))))


def test_adam_follows_its_formula():
    generator = np.random.default_rng(0)
    value, gradients = generator.standard_normal(5).astype(np.float32), generator.standard_normal((4, 5))
    expected, first, second = value.astype(np.float64), np.zeros(5), np.zeros(5)
    optimizer = Adam([value], [0.1])
    for number, gradient in enumerate(gradients, 1):
        optimizer.step([gradient.astype(np.float32)], 0.5)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        expected -= 0.05 * (first / (1 - 0.9**number)) / (np.sqrt(second / (1 - 0.999**number)) + 1e-8)
    np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_schedule_follows_the_steps_until_time_runs_out():
    assert list(schedule(4, 60.0, clock=lambda: 0.0)) == [1.0, 0.75, 0.5, 0.25]
    ticks = iter(range(100))  # a second a step, ten seconds for a hundred steps
    found = list(schedule(100, 10.0, clock=lambda: float(next(ticks))))
    assert len(found) == 9 and found[:5] == [1.0, 0.99, 0.98, 0.97, 0.96]
    np.testing.assert_allclose(found[5:], [0.4, 0.3, 0.2, 0.1])


def test_shares_are_a_softmax_without_the_row_itself():
    rows = np.random.default_rng(2).standard_normal((5, 3)).astype(np.float32)
    odds = np.exp(rows.astype(np.float64) @ rows.T / 0.4)
    np.fill_diagonal(odds, 0)
    np.testing.assert_allclose(shares(rows, 0.4), odds / odds.sum(axis=1, keepdims=True), atol=1e-6)
    assert not shares(rows[:1], 0.4).any()


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_unit_scale_brings_rows_to_length_one(size):
    rows = clustered_vectors(50, 8) * np.float32(size)
    scaled = rows * np.float32(unit_scale(rows))
    assert np.sqrt((scaled.astype(np.float64) ** 2).sum(axis=1).mean()) == pytest.approx(1, rel=1e-4)
    assert unit_scale(np.zeros((3, 2), dtype=np.float32)) == 1
