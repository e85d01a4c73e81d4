"""The battery every transform of the catalogue passes, and what each promises beyond it."""

import numpy as np
import pytest

from sememe import catalog
from sememe.codec import PCA, Center, Moments, Project, Truncate, Whiten
from sememe.codec.pca import randomized_svd
from sememe.errors import InputError, NotFittedError
from sememe.recipe import Recipe
from sememe.testing import clustered_vectors

VARIANTS = [
    "truncate:5", "truncate:5,renormalize=false", "center:false", "pca:5", "pca:6,whiten=true,renormalize=false",
    "pca:5,solver=randomized", "pca:variance=0.9", "pca:5,center=true",
    "whiten:4", "whiten:shrinkage=0.5", "project:7", "project:30",
    "project:5,kind=gaussian,seed=3",
]  # fmt: skip
# A technique that cannot be fitted on rows alone says what it needs, and has its own tests.
ALL = [t.name for t in catalog.techniques(room="codec", kind="transform") if "needs" not in t.traits] + VARIANTS
every = pytest.mark.parametrize("text", ALL)
pytestmark = pytest.mark.filterwarnings("ignore:whitening is ill-conditioned")


def make(text):
    # Only the transform stage matters; the others make the recipe complete.
    return Recipe.parse(f"static | {text} | flat").transforms[0].make()


@every
def test_shapes_and_unit_rows(text):
    X = clustered_vectors(300, 32)
    X[4] = 0
    transform = make(text)
    out = transform.fit_transform(X)
    assert out.dtype == np.float32 and out.flags.c_contiguous
    assert out.shape == (300, transform.dim_out(32))
    if "variance" not in text:
        assert make(text).dim_out(32) == out.shape[1]
    if getattr(transform, "renormalize", True):
        np.testing.assert_allclose(np.delete(np.linalg.norm(out, axis=1), 4), 1, rtol=1e-5)
    if text.startswith(("truncate", "normalize", "project")):
        assert not out[4].any()  # linear maps keep zero
    np.testing.assert_allclose(transform.transform(X[7:9]), out[7:9], atol=1e-6)
    assert transform.transform(X[:0]).shape == (0, out.shape[1])


@every
def test_deterministic_restored_and_unchanged_by_queries(text):
    X = clustered_vectors(300, 32)
    Q = 50 * clustered_vectors(20, 32, seed=8) + 3
    transform = make(text).fit(X)
    out = transform.transform(X)
    transform.transform(Q)
    np.testing.assert_array_equal(transform.transform(X), out)
    again = make(text).fit(clustered_vectors(50, 32, seed=2)).fit(X)
    np.testing.assert_array_equal(again.transform(X), out)
    state = {name: np.array(array) for name, array in transform.state().items()}
    np.testing.assert_array_equal(make(text).load_state(state).transform(X), out)


@every
def test_edges_and_hostile_input(text):
    X = clustered_vectors(300, 32)
    with pytest.raises(NotFittedError):
        make(text).transform(X)
    for bad in (np.nan, np.inf):
        poisoned = X.copy()
        poisoned[3, 2] = bad
        with pytest.raises(InputError, match="row 3"):
            make(text).fit(poisoned)
    transform = make(text).fit(X)
    with pytest.raises(InputError, match="features"):
        transform.transform(X[:, :20])
    for rows in (X[:1], np.zeros((5, 32)), np.ones((9, 32)), X * np.float32(1e30), X * np.float32(1e-30)):
        assert np.isfinite(make(text).fit_transform(rows)).all()
    np.testing.assert_array_equal(transform.transform(np.asfortranarray(X.astype(np.float64))), transform.transform(X))


@pytest.mark.parametrize("text", ["truncate:33", "pca:0", "whiten:33", "project:2.5"])
def test_impossible_width_is_refused(text):
    with pytest.raises(InputError, match=r"not possible .* whole number from 1 to 32") as caught:
        make(text).fit(clustered_vectors(40, 32))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("d", [1, 3])
def test_narrow_vectors(d):
    X = clustered_vectors(60, d)
    for transform in (Truncate(1), Center(), PCA(1), Whiten(1), Project(1)):
        assert transform.fit_transform(X).shape == (60, 1 if not isinstance(transform, Center) else d)


@pytest.mark.parametrize(
    "transform",
    [
        Center(renormalize=False),
        PCA(renormalize=False),
        PCA(renormalize=False, center=True),
        PCA(whiten=True, renormalize=False),
        Whiten(renormalize=False),
        Project(48, renormalize=False),
    ],
)
def test_inverse_at_full_width(transform):
    X = clustered_vectors(2000, 32)
    out = transform.fit_transform(X) if transform.__class__ is not Project else Project(32, renormalize=False).fit(X)
    if isinstance(out, Project):
        transform, out = out, out.transform(X)
    np.testing.assert_allclose(transform.inverse_transform(out), X, atol=2e-5)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("solver", ["covariance", "randomized"])
def test_pca_directions(solver, center):
    X = clustered_vectors(2000, 40) + np.float32(0.05)
    pca = PCA(8, solver=solver, renormalize=False, center=center).fit(X)
    np.testing.assert_allclose(pca.components_ @ pca.components_.T, np.eye(8), atol=1e-5)
    assert (np.diff(pca.explained_variance_) <= 0).all()
    largest = np.abs(pca.components_).argmax(axis=1)
    assert (pca.components_[np.arange(8), largest] > 0).all()
    out = pca.transform(X)
    squares = out.var(axis=0, ddof=1) if center else (out**2).mean(axis=0)
    np.testing.assert_allclose(squares, pca.explained_variance_, rtol=1e-4)
    assert center == bool(pca.mean_.any())


def test_pca_by_variance():
    X = clustered_vectors(2000, 40)
    full = PCA().fit(X).explained_variance_ratio_
    np.testing.assert_allclose(full.sum(), 1, rtol=1e-5)
    kept = PCA(variance=0.9).fit(X)
    share = kept.explained_variance_ratio_
    assert share.sum() >= 0.9 - 1e-6 > share[:-1].sum()
    assert PCA(variance=1.0).fit(X).dim_out(40) == 40
    with pytest.raises(InputError, match="either"):
        PCA(3, variance=0.9).fit(X)
    with pytest.raises(InputError, match="before fit"):
        PCA(variance=0.9).dim_out(40)


def test_randomized_svd_of_few_rows():
    X = clustered_vectors(5, 40)
    values, vectors = randomized_svd(X, 12)
    np.testing.assert_allclose(values[:5], np.linalg.svd(X, compute_uv=False), rtol=1e-4)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(12), atol=1e-5)


def test_moments_in_pieces_equal_moments_at_once():
    X = clustered_vectors(1000, 16) + 3
    whole, pieces = Moments().update(X), Moments()
    for start, stop in ((0, 1), (1, 300), (300, 300), (300, 1000)):
        pieces.update(X[start:stop])
    np.testing.assert_allclose(pieces.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(pieces.covariance, np.cov(X.T.astype(np.float64)), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(PCA(4).fit_moments(pieces).components_, PCA(4).fit(X).components_, atol=1e-6)
    with pytest.raises(InputError, match="no rows"):
        PCA().fit_moments(Moments())


def test_whitening_gives_identity_covariance():
    X = clustered_vectors(5000, 24)
    out = Whiten(renormalize=False).fit_transform(X)
    np.testing.assert_allclose(np.cov(out.T), np.eye(24), atol=1e-3)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-3)


def test_whitening_shrinks_small_samples_and_warns():
    X = clustered_vectors(60, 32)
    small = Whiten().fit(X)
    assert 0 < small.shrinkage_ < 1
    assert Whiten().fit(clustered_vectors(400, 32)).shrinkage_ == 0
    uneven = clustered_vectors(2000, 8) * (10.0 ** -np.arange(8)).astype(np.float32)
    with pytest.warns(RuntimeWarning, match="ill-conditioned"):
        whiten = Whiten().fit(uneven)
    assert whiten.condition_ > 1e6
    with pytest.raises(InputError, match="shrinkage"):
        Whiten(shrinkage=2.0).fit(X)


def test_ledoit_wolf_agrees_with_scikit_learn():
    from sklearn.covariance import ledoit_wolf

    X = clustered_vectors(90, 32)
    np.testing.assert_allclose(Whiten().fit(X).shrinkage_, ledoit_wolf(X.astype(np.float64))[1], rtol=1e-5)


@pytest.mark.parametrize("kind", ["orthonormal", "gaussian"])
def test_projection_keeps_inner_products_on_average(kind):
    X = clustered_vectors(40, 64)
    total = np.zeros((40, 40))
    for seed in range(60):
        out = Project(16, kind=kind, seed=seed, renormalize=False).fit_transform(X)
        total += out @ out.T
    # 60 draws of 16 dimensions: a standard error of about 0.05.
    assert np.abs(total / 60 - X @ X.T).mean() < 0.05
