"""Additive codes: what is particular to them, against brute force, least squares, and product codes."""

import pickle

import numpy as np
import pytest

from sememe.codec import Additive, ProductQuantizer, additive_fit
from sememe.errors import InputError
from sememe.index.scan import scan
from sememe.kernels import native
from sememe.testing import clustered_vectors


def error(quantizer, X):
    return float(((X - quantizer.decode(quantizer.encode(X))) ** 2).sum(axis=1).mean())


def sums(n=1500, d=16, books=3, seed=0):
    """Rows that truly are sums of a few centres, and a little noise."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((books, 12, d)) / np.arange(1, books + 1)[:, None, None]
    rows = sum(book[generator.integers(0, 12, n)] for book in centres)
    return (rows + 0.01 * generator.standard_normal((n, d))).astype(np.float32)


def test_an_additive_structure_is_found():
    X = sums()
    spread = float(((X - X.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert error(Additive(3, norm="none", seed=1).fit(X), X) < 0.03 * spread
    assert error(Additive(3, norm="none").fit(X), X) < 0.5 * error(ProductQuantizer(3).fit(X), X)


def test_error_falls_as_codebooks_are_added():
    X = clustered_vectors(1500, 48)
    errors = [error(Additive(m, norm="none").fit(X), X) for m in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)


def test_a_wider_beam_lowers_the_error():
    X = clustered_vectors(1500, 48)
    narrow, wide = Additive(6, "none", beam=1).fit(X), Additive(6, "none", beam=16)
    wide.load_state(narrow.state())
    assert error(wide, X) < error(narrow, X)


def test_one_codebook_is_the_nearest_centre():
    X = clustered_vectors(500, 12)
    quantizer = Additive(1, "none").fit(X)
    centred = X * np.float32(quantizer.scale_) - quantizer.mean_
    gaps = ((centred[:, None].astype(np.float64) - quantizer.centres_[0]) ** 2).sum(axis=2)
    code = quantizer.encode(X)[:, 0]
    np.testing.assert_allclose(gaps[np.arange(len(X)), code], gaps.min(axis=1), atol=1e-5)


@pytest.mark.parametrize("pull", [0.5, 10.0])
def test_refit_is_ridge_regression(pull):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((900, 5)).astype(np.float32)
    codes = generator.integers(0, 40, (900, 2)).astype(np.uint8)
    chosen = np.zeros((900, 512))
    chosen[np.arange(900), codes[:, 0]] = chosen[np.arange(900), 256 + codes[:, 1].astype(int)] = 1
    want = np.linalg.solve(chosen.T @ chosen + pull * np.eye(512), chosen.T @ X)
    found = np.zeros((2, 256, 5), dtype=np.float32)
    for _ in range(8):  # each call takes ten steps of descent
        found = additive_fit.refit(X, codes, found, pull)
    np.testing.assert_allclose(found.reshape(512, 5), want, atol=1e-3)


def test_drawn_means():
    X = np.array([[2.0, 0], [4, 0], [0, 9]], dtype=np.float32)
    means = additive_fit.drawn_means(X, np.array([3, 3, 5]), pull=1.0)
    np.testing.assert_allclose(means[3], [2.0, 0.0])
    np.testing.assert_allclose(means[5], [0.0, 4.5])
    assert not np.delete(means, [3, 5], axis=0).any()


@pytest.mark.skipif(len(native.levels()) < 2, reason="no compiled core")
@pytest.mark.parametrize("norm", ["length", "none"])
@pytest.mark.parametrize(("queries", "whole"), [(1, 48), (30, 48), (1, 2)])
def test_compiled_scan_finds_what_scores_find(queries, whole, norm, monkeypatch):
    monkeypatch.setattr("sememe.codec.additive._WHOLE", whole)
    monkeypatch.setattr("sememe.codec.additive._GROUP", 3)
    X, Q = clustered_vectors(700, 40), clustered_vectors(queries, 40, seed=5)
    quantizer = Additive(5, norm, beam=1).fit(X)
    codes = quantizer.encode(X)
    scores, rows = scan(quantizer, Q, codes, 10)
    every = Q.astype(np.float64) @ quantizer.decode(codes).astype(np.float64).T
    np.testing.assert_allclose(np.take_along_axis(every, rows, axis=1), scores, atol=1e-5)
    np.testing.assert_allclose(-np.sort(-every, axis=1)[:, :10], scores, atol=1e-5)


def test_pickled_without_tables():
    X = clustered_vectors(400, 32)
    quantizer = Additive(4).fit(X)
    codes = quantizer.encode(X)
    data = pickle.dumps(quantizer)
    assert len(data) < 2 * quantizer.centres_.nbytes
    np.testing.assert_array_equal(pickle.loads(data).encode(X), codes)


def test_decoded_rows_are_as_long_as_the_rows():
    X = clustered_vectors(900, 32) * np.linspace(0.5, 2, 900, dtype=np.float32)[:, None]
    size = np.linalg.norm(X, axis=1)
    off = {}
    for norm in ("length", "none"):
        quantizer = Additive(4, norm).fit(X)
        decoded = quantizer.decode(quantizer.encode(X))
        off[norm] = np.abs(np.log(np.linalg.norm(decoded, axis=1) / size))
    assert np.median(off["length"]) < 0.25 * np.median(off["none"])


def test_more_codebooks_than_one_search_takes_work_in_groups(monkeypatch):
    monkeypatch.setattr("sememe.codec.additive._WHOLE", 4)
    monkeypatch.setattr("sememe.codec.additive._GROUP", 3)
    X = clustered_vectors(1200, 30)
    five, nine = (Additive(m, "none").fit(X) for m in (5, 9))
    np.testing.assert_allclose(nine.rotation_ @ nine.rotation_.T, np.eye(30), atol=1e-5)
    assert nine.centres_.shape == (9, 256, 10)
    assert error(nine, X) < error(five, X) < error(Additive(2, "none").fit(X), X)
    again = Additive(9, "none").load_state(nine.state())
    np.testing.assert_array_equal(again.encode(X), nine.encode(X))


def test_length_levels():
    ratios = np.array([1, 1, 1, 1.5, 1.5, 3], dtype=np.float32)
    np.testing.assert_allclose(additive_fit.length_levels(ratios, 3), [1, 1.5, 3], rtol=1e-6)


def test_no_time_still_gives_a_code():
    X = clustered_vectors(600, 32)
    quick = Additive(4, "none", seconds=1e-9).fit(X)
    assert error(quick, X) < float(((X - X.mean(axis=0)) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"m": 0}, "from 1 to 256"), ({"m": 257}, "from 1 to 256"), ({"m": True}, "from 1 to 256"),
     ({"m": 2, "norm": "score"}, "length"),
     ({"m": 2, "beam": 0}, "from 1 to 1024"), ({"m": 2, "seconds": 0.0}, "more than 0")],
)  # fmt: skip
def test_wrong_parameters_are_named(options, message):
    with pytest.raises(InputError, match=message):
        Additive(**options).fit(clustered_vectors(20, 16))


def test_lengths_raise_recall_on_real_vectors(minilm):
    X, Q = minilm("cranfield")
    truth = np.argsort(-(Q @ X.T), axis=1)[:, :10]
    found = {}
    for norm in ("length", "none"):
        quantizer = Additive(8, norm).fit(X)
        order = np.argsort(-quantizer.scores(Q, quantizer.encode(X)), axis=1)[:, :10]
        found[norm] = np.mean([len({*a} & {*b}) for a, b in zip(order.tolist(), truth.tolist())])
    assert found["length"] > found["none"]


def test_real_vectors_beat_product_codes(minilm):
    X = minilm("cranfield")[0]
    fit, held = X[::2], X[1::2]
    assert error(Additive(8, "none").fit(fit), held) < 0.95 * error(ProductQuantizer(8).fit(fit), held)


def test_codebooks_that_fit_badly_are_not_kept(minilm, monkeypatch):
    X = minilm("cranfield")[0][:600, :32]
    quantizer = Additive(3, "none").fit(X)
    monkeypatch.setattr(additive_fit, "refit", lambda X, codes, centres, pull: 1.5 * centres)
    plain = Additive(3, "none").fit(X)
    assert not np.array_equal(quantizer.centres_, plain.centres_)
    assert error(quantizer, X) < error(plain, X)
    monkeypatch.setattr(additive_fit, "refit", lambda X, codes, centres, pull: centres)
    assert np.array_equal(Additive(3, "none").fit(X).centres_, plain.centres_)
