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
    assert error(Additive(3, seed=1).fit(X), X) < 0.03 * spread
    assert error(Additive(3).fit(X), X) < 0.5 * error(ProductQuantizer(3).fit(X), X)


def test_error_falls_as_codebooks_are_added():
    X = clustered_vectors(1500, 48)
    errors = [error(Additive(m).fit(X), X) for m in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)


def test_a_wider_beam_lowers_the_error():
    X = clustered_vectors(1500, 48)
    narrow, wide = Additive(6, beam=1).fit(X), Additive(6, beam=16)
    wide.load_state(narrow.state())
    assert error(wide, X) < error(narrow, X)


def test_one_codebook_is_the_nearest_centre():
    X = clustered_vectors(500, 12)
    quantizer = Additive(1).fit(X)
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
@pytest.mark.parametrize("queries", [1, 30])
def test_compiled_scan_finds_what_scores_find(queries):
    X, Q = clustered_vectors(700, 40), clustered_vectors(queries, 40, seed=5)
    quantizer = Additive(5).fit(X)
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


def test_no_time_still_gives_a_code():
    X = clustered_vectors(600, 32)
    quick = Additive(4, seconds=1e-9).fit(X)
    assert error(quick, X) < float(((X - X.mean(axis=0)) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"m": 0}, "from 1 to 64"), ({"m": 65}, "from 1 to 64"), ({"m": True}, "from 1 to 64"),
     ({"m": 2, "beam": 0}, "from 1 to 1024"), ({"m": 2, "seconds": 0.0}, "more than 0")],
)  # fmt: skip
def test_wrong_parameters_are_named(options, message):
    with pytest.raises(InputError, match=message):
        Additive(**options).fit(clustered_vectors(20, 16))


def test_real_vectors_beat_product_codes(minilm):
    X = minilm("cranfield")[0]
    fit, held = X[::2], X[1::2]
    assert error(Additive(8).fit(fit), held) < 0.95 * error(ProductQuantizer(8).fit(fit), held)
