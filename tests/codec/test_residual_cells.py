"""Residual codes: centres, levels of least error, and scores from tables, against plain arithmetic."""

from itertools import pairwise

import numpy as np
import pytest

from sememe.codec.residual_cells import Residual, _lloyd
from sememe.errors import InputError
from sememe.kernels import bits as packing
from sememe.kernels import reference
from sememe.testing import clustered_vectors


@pytest.mark.parametrize(("cells", "head"), [(1, 1), (256, 1), (257, 2)])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_a_code_is_the_nearest_centre_and_the_nearest_levels(bits, cells, head):
    X = 2 * clustered_vectors(700, 20)
    quantizer = Residual(bits, cells).fit(X)
    codes = quantizer.encode(X)
    assert codes.shape[1] == quantizer.bytes_per_vector(20) == head + -(-20 * bits // 8)
    cells_of = reference.nearest(X, quantizer.centres_ / quantizer.scale_)
    assert np.mean(quantizer.cells_of(codes) == cells_of) > 0.99  # float32 against float64 at equal distances
    centre = quantizer.centres_[quantizer.cells_of(codes)] / quantizer.scale_
    steps = quantizer.levels_[None, None, :] * (quantizer.spread_ / quantizer.scale_)[None, :, None]
    best = np.abs((X - centre)[:, :, None] - steps).min(axis=2)
    np.testing.assert_allclose(np.abs(X - quantizer.decode(codes)), best, atol=2e-5)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("queries", [1, 9, 70])
@pytest.mark.parametrize("unit", [True, False])
def test_scores_and_cell_scores(bits, queries, unit):
    X, Q = clustered_vectors(500, 21), clustered_vectors(queries, 21, seed=1)
    quantizer = Residual(bits, 30).fit(X if unit else X + 0.1)
    assert quantizer.unit_ is unit
    codes = quantizer.encode(X)
    np.testing.assert_allclose(quantizer.scores(Q, codes), Q @ quantizer.decode(codes).T, atol=2e-6)
    np.testing.assert_allclose(quantizer.cell_scores(Q), Q @ quantizer.centres_.T / quantizer.scale_, atol=2e-6)


def test_unit_vectors_are_decoded_at_unit_length():
    """From the same codes; zero rows do not count, and a row of another length says that lengths matter."""
    X = clustered_vectors(600, 24)
    X[5] = 0
    quantizer = Residual(1, 20).fit(X)
    codes = quantizer.encode(X)
    decoded = quantizer.decode(codes)
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), 1, rtol=1e-6)
    plain = Residual(1, 20).fit(X)
    plain.unit_ = False
    np.testing.assert_array_equal(plain.encode(X), codes)
    short = plain.decode(codes)
    np.testing.assert_allclose(decoded, short / np.linalg.norm(short, axis=1, keepdims=True), rtol=1e-5, atol=1e-7)
    assert np.linalg.norm(short[X.any(axis=1)], axis=1).mean() < 0.97
    X[7] *= 1.01
    assert not Residual(1, 20).fit(X).unit_
    assert not Residual(1, 20).fit(np.zeros((9, 4))).unit_


def test_what_was_stored_before_there_were_lengths_decodes_as_it_did():
    X, Q = clustered_vectors(300, 16), clustered_vectors(3, 16, seed=1)
    fitted = Residual(2, 8).fit(X)
    codes = fitted.encode(X)
    old = {name: value for name, value in fitted.state().items() if name != "unit_"}
    opened = Residual(2, 8).load_state(old)
    rows = opened.levels_[packing.unpack(codes[:, 1:], 2, 16)] * opened.spread_ + opened.centres_[codes[:, 0]]
    np.testing.assert_allclose(opened.decode(codes), rows / opened.scale_, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(opened.scores(Q, codes), Q @ opened.decode(codes).T, atol=2e-6)
    assert Residual(2, 8).load_state(fitted.state()).unit_ is True


def test_error_falls_as_bits_and_cells_grow():
    X = clustered_vectors(3000, 48)

    def error(**options):
        quantizer = Residual(**options).fit(X)
        return float(np.mean((X - quantizer.decode(quantizer.encode(X))) ** 2))

    assert all(b < 0.5 * a for a, b in pairwise(error(bits=bits, cells=16) for bits in range(1, 8)))
    assert all(b < a for a, b in pairwise(error(bits=2, cells=cells) for cells in (1, 8, 64, 512)))


def test_levels_reach_the_known_optimum():
    values = np.random.default_rng(0).standard_normal(200_000)
    np.testing.assert_allclose(_lloyd(values, 4), [-1.510, -0.4528, 0.4528, 1.510], atol=0.02)  # Max (1960)
    assert _lloyd(np.zeros(0), 4).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("options", [{"bits": 0}, {"bits": 9}, {"bits": True}, {"cells": 0}, {"cells": 65_537}])
def test_wrong_settings(options):
    with pytest.raises(InputError, match="not possible for Residual"):
        Residual(**options).fit(clustered_vectors(10, 8))
