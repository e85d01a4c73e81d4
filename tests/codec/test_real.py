"""What the codecs do to retrieval on real sentence vectors (all-MiniLM-L6-v2 on Cranfield)."""

import numpy as np
import pytest

from sememe.codec import FP8, PCA, Int8, Power, Uniform, Whiten


def error(quantizer, X):
    return float(np.mean((X - quantizer.fit(X).decode(quantizer.encode(X))) ** 2))


@pytest.mark.parametrize("quantizer", [FP8(), FP8("e5m2"), FP8("e3m4"), Int8(), Int8("vector")], ids=repr)
def test_one_byte_a_dimension_costs_at_most_half_a_percent(minilm, cranfield_ndcg, quantizer):
    X, Q = minilm("cranfield")
    full = cranfield_ndcg(Q @ X.T)
    assert abs(full - 0.509) < 0.002  # the published figure of these vectors
    codes = quantizer.fit(X).encode(X)
    assert codes.shape[1] <= 386
    assert cranfield_ndcg(quantizer.scores(Q, codes)) > 0.995 * full


def test_half_the_dimensions_in_fp8_cost_at_most_two_percent(minilm, cranfield_ndcg):
    X, Q = minilm("cranfield")
    pca = PCA(192).fit(X)
    quantizer = FP8().fit(pca.transform(X))
    scores = quantizer.scores(pca.transform(Q), quantizer.encode(pca.transform(X)))
    assert cranfield_ndcg(scores) > 0.98 * cranfield_ndcg(Q @ X.T)


def test_pca_to_110_dimensions(minilm, cranfield_ndcg):
    X, Q = minilm("cranfield")
    pca = PCA(110).fit(X)
    scores = pca.transform(Q) @ pca.transform(X).T
    assert cranfield_ndcg(scores) > 0.97 * cranfield_ndcg(Q @ X.T)
    plain = PCA(110, renormalize=False, center=True).fit(X)
    centred = (Q - plain.mean_) @ (X - plain.mean_).T
    kept = plain.transform(Q) @ plain.transform(X).T
    assert np.corrcoef(centred.ravel(), kept.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("scale", ["dimension", "tensor"])
def test_power_at_four_bits_beats_uniform(minilm, scale):
    X, _ = minilm("scifact")
    assert error(Power(4, "minmax", scale), X) < 0.85 * error(Uniform(4, "minmax", scale), X)
    assert error(Power(4, "mse", scale), X) < 0.95 * error(Uniform(4, "mse", scale), X)


def test_whitened_covariance_is_identity(minilm):
    X, _ = minilm("scifact")
    out = Whiten(256, renormalize=False).fit_transform(X)
    np.testing.assert_allclose(np.cov(out.T), np.eye(256), atol=1e-3)
