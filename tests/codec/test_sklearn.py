"""scikit-learn's own estimator checks over every transform and quantizer of the catalogue, and Pipeline and clone."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sememe import catalog
from sememe.codec import PCA, Int8, Normalize
from sememe.testing import clustered_vectors

ESTIMATORS = [
    t.make()
    for kind in ("transform", "quantizer")
    for t in catalog.techniques(room="codec", kind=kind)
    if "needs" not in t.traits  # those cannot be fitted on rows alone
]


@pytest.mark.filterwarnings("ignore:whitening is ill-conditioned")
@parametrize_with_checks(ESTIMATORS)
def test_sklearn_checks(estimator, check):
    check(estimator)


def test_clone_and_pipeline():
    X = clustered_vectors(300, 32)
    pipeline = clone(make_pipeline(Normalize(), PCA(8), Int8()))
    pipeline.fit(X)
    rows = pipeline[:-1].transform(X)
    codes = pipeline[-1].encode(rows)
    assert codes.shape == (300, 8)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert clone(pipeline[1]).get_params() == PCA(8).get_params()
