"""Independent judges: ml_dtypes for number formats, faiss for product quantization, scikit-learn for PCA."""

import ml_dtypes
import numpy as np
import pytest

from sememe.codec import BF16, FP8, FP16, PCA, ProductQuantizer, Whiten
from sememe.kernels import floats
from sememe.testing import clustered_vectors

FP8_TYPES = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2, "e3m4": ml_dtypes.float8_e3m4}


def around(values):
    """The values, the midpoints between neighbours, and the float32 numbers just beside all of these."""
    finite = np.unique(values[np.isfinite(values)].astype(np.float64))
    points = np.concatenate([finite, (finite[1:] + finite[:-1]) / 2]).astype(np.float32)
    infinity = np.float32(np.inf)
    return np.concatenate([points, np.nextafter(points, infinity), np.nextafter(points, -infinity)])


def test_fp16_every_pattern():
    patterns = np.arange(65536, dtype=np.uint16)
    values = patterns.view(np.float16)
    finite = np.isfinite(values)
    np.testing.assert_array_equal(floats.decode_half(values[finite]), values[finite].astype(np.float32))
    points = around(values.astype(np.float32))
    inside = points[np.abs(points) <= 65504]
    np.testing.assert_array_equal(floats.encode_half(inside).view(np.uint16), inside.astype(np.float16).view(np.uint16))
    assert FP16().fit([[1.0]]).decode(FP16().fit([[1.0]]).encode([[1e6]]))[0, 0] == 65504


def test_bf16_every_pattern():
    patterns = np.arange(65536, dtype=np.uint16)
    values = patterns.view(ml_dtypes.bfloat16).astype(np.float32)
    finite = np.isfinite(values)
    np.testing.assert_array_equal(floats.decode_bfloat16(patterns[finite]), values[finite])
    points = around(values)
    inside = points[np.abs(points) <= values[finite].max()]
    ours = floats.encode_bfloat16(inside)
    np.testing.assert_array_equal(ours, inside.astype(ml_dtypes.bfloat16).view(np.uint16))
    top = BF16().fit([[1.0]])
    assert np.isfinite(top.decode(top.encode([[np.finfo(np.float32).max]])))


@pytest.mark.parametrize("name", FP8_TYPES)
def test_fp8_boundaries_and_ties(name):
    form, kind = floats.MINIFLOATS[name], FP8_TYPES[name]
    codes = np.arange(256, dtype=np.uint8)
    values = codes.view(kind).astype(np.float32)
    finite = np.isfinite(values)
    np.testing.assert_array_equal(floats.decode_minifloat(codes[finite], form), values[finite])
    assert form.largest == values[finite].max() == float(ml_dtypes.finfo(kind).max)
    points = around(values)
    inside = points[np.abs(points) <= form.largest]
    ours = floats.encode_minifloat(inside, form)
    np.testing.assert_array_equal(ours, inside.astype(kind).view(np.uint8))
    some = (np.random.default_rng(0).standard_normal(200_000) * form.largest / 6).astype(np.float32)
    some = np.concatenate([some, some * np.float32(2.0**-8)])
    some = some[np.abs(some) <= form.largest]
    np.testing.assert_array_equal(floats.encode_minifloat(some, form), some.astype(kind).view(np.uint8))


@pytest.mark.parametrize("name", FP8_TYPES)
def test_fp8_quantizer_is_a_scaled_cast(name):
    X = clustered_vectors(500, 32)
    for scale in (True, False):
        quantizer = FP8(name, scale).fit(X)
        assert np.log2(quantizer.scale_) % 1 == 0 and (scale or quantizer.scale_ == 1)
        cast = (X * np.float32(quantizer.scale_)).astype(FP8_TYPES[name])
        np.testing.assert_array_equal(quantizer.encode(X), cast.view(np.uint8))
        np.testing.assert_array_equal(quantizer.decode(quantizer.encode(X)), cast.astype(np.float32) / quantizer.scale_)
    largest = floats.MINIFLOATS[name].largest
    plain = FP8(name, scale=False).fit(X)
    np.testing.assert_array_equal(plain.decode(plain.encode(np.full((1, 32), 1e30))), np.full((1, 32), largest))


@pytest.mark.parametrize(("m", "bits"), [(48, 8), (96, 8), (96, 4)])
def test_pq_error_near_faiss(minilm, m, bits):
    faiss = pytest.importorskip("faiss")
    X, _ = minilm("cranfield")
    theirs = faiss.ProductQuantizer(X.shape[1], m, bits)
    theirs.train(X)
    error = float(np.mean((X - theirs.decode(theirs.compute_codes(X))) ** 2))
    ours = ProductQuantizer(m, bits).fit(X)
    assert np.mean((X - ours.decode(ours.encode(X))) ** 2) < 1.04 * error


def test_rotation_beats_faiss_opq_or_comes_near(minilm):
    faiss = pytest.importorskip("faiss")
    X, _ = minilm("cranfield")
    rotation = faiss.OPQMatrix(X.shape[1], 24)
    rotation.niter = 10
    rotation.train(X)
    turned = rotation.apply(X)
    theirs = faiss.ProductQuantizer(X.shape[1], 24, 8)
    theirs.train(turned)
    error = float(np.mean((turned - theirs.decode(theirs.compute_codes(turned))) ** 2))
    ours = ProductQuantizer(24, rotate=True).fit(X)
    np.testing.assert_allclose(ours.rotation_ @ ours.rotation_.T, np.eye(384), atol=1e-4)
    assert np.mean((X - ours.decode(ours.encode(X))) ** 2) < 1.05 * error


def test_pca_equals_scikit_learn_and_faiss(minilm):
    decomposition = pytest.importorskip("sklearn.decomposition")
    faiss = pytest.importorskip("faiss")
    X, Q = minilm("cranfield")
    ours = PCA(64, renormalize=False, center=True).fit(X)
    theirs = decomposition.PCA(64, svd_solver="full").fit(X.astype(np.float64))
    np.testing.assert_allclose(np.abs(np.einsum("ij,ij->i", ours.components_, theirs.components_)), 1, atol=1e-5)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(np.abs(ours.transform(Q)), np.abs(theirs.transform(Q)), atol=1e-4)
    matrix = faiss.PCAMatrix(X.shape[1], 64)
    matrix.train(X)
    basis = faiss.vector_to_array(matrix.A).reshape(-1, X.shape[1])[:64]
    np.testing.assert_allclose(np.linalg.svd(basis @ ours.components_.T, compute_uv=False), 1, atol=1e-4)
    random = PCA(64, solver="randomized", renormalize=False, center=True).fit(X)
    np.testing.assert_allclose(random.explained_variance_.sum(), ours.explained_variance_.sum(), rtol=1e-3)


def test_whitening_equals_scikit_learn(minilm):
    decomposition = pytest.importorskip("sklearn.decomposition")
    X, _ = minilm("scifact")
    ours = Whiten(32, renormalize=False).fit_transform(X)
    theirs = decomposition.PCA(32, whiten=True, svd_solver="full").fit_transform(X.astype(np.float64))
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=2e-3)
