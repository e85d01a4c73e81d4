"""The cores of the experiments on small settings, and whole quick ones on the real data."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from sememe.codec import Power, Uniform
from sememe.contracts import Span
from sememe.evidence import reproduce
from sememe.evidence.articles import _join
from sememe.evidence.compression_bench import scaled
from sememe.evidence.data import DataFolder, RetrievalSet
from sememe.evidence.late import paragraph_ndcg, sampled
from sememe.evidence.max_margin import order, projected_share, reached
from sememe.evidence.power import squared_error
from sememe.evidence.whiten import cosine, interval, ranks, spearman, whitened
from sememe.measure.limits import all_subsets, best_margin, margin
from sememe.testing import clustered_vectors

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[3] / "shared" / "data"))
real = pytest.mark.skipif(not (DATA / "embeddings-minilm").is_dir(), reason="the evaluation data is not here")


def test_spearman_equals_scipy_with_ties():
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 9, size=200).astype(float), generator.normal(size=200)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    np.testing.assert_allclose(ranks(a), stats.rankdata(a) - 1)


def test_interval_of_spearman_gain_holds_the_gain():
    generator = np.random.default_rng(1)
    gold = generator.normal(size=300)
    before, after = gold + generator.normal(0, 2, 300), gold + generator.normal(0, 0.5, 300)
    low, high = interval(before, after, gold, seed=0, samples=200)
    assert 0 < low < spearman(after, gold) - spearman(before, gold) < high


def test_whitened_pairs_have_unit_cosines_with_themselves():
    rows = whitened(clustered_vectors(300, 16))
    np.testing.assert_allclose(cosine(rows, np.array([[0, 0], [5, 5]])), 1, atol=1e-5)


def test_projected_share_equals_the_margin_of_the_projected_points():
    n, d, seed = 24, 12, 3
    points = (np.eye(n) - 1 / n) @ np.random.default_rng(seed).standard_normal((n, d))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    relevance = all_subsets(n, 2)
    queries = relevance @ points
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    expected = margin(queries, points, relevance) / best_margin(n, 2, free_threshold=True)
    assert projected_share(n, d, seed) == pytest.approx(expected, abs=1e-5)
    assert order(64) == 160


def test_losses_separate_a_small_case():
    relevance = all_subsets(10, 2)
    assert reached(relevance, 10, "sigmoid", (5.0, 50.0), 0.03, 0) > 0.3
    assert reached(relevance, 10, "infonce", (5.0, 50.0), 0.03, 0) > 0.2


def test_squared_error_is_the_distance_to_the_decoded():
    rows = clustered_vectors(200, 16)
    quantizer = Uniform(4).fit(rows)
    expected = [np.sum((row - quantizer.decode(quantizer.encode(row[None]))[0]) ** 2) for row in rows[:5]]
    np.testing.assert_allclose(squared_error(quantizer, rows)[:5], expected, rtol=1e-4)
    assert (
        squared_error(Power(4).fit(rows), rows).mean() < squared_error(Uniform(4, clip="minmax").fit(rows), rows).mean()
    )


def test_stitched_places_are_those_of_the_text():
    articles = _join({"0-0": ("0", "First one."), "0-1": ("0", "Second."), "1-0": ("1", "Other.")}, {}, {})
    assert articles.documents == {"0": "First one. Second.", "1": "Other."}
    for name, (document, span) in articles.paragraphs.items():
        text = articles.documents[document][span.start : span.stop]
        assert text == {"0-0": "First one.", "0-1": "Second.", "1-0": "Other."}[name]


def test_late_scoring_takes_the_best_chunk_of_a_paragraph():
    texts = {"0-0": ("0", "aa bb"), "0-1": ("0", "cc dd"), "1-0": ("1", "ee ff")}
    articles = _join(texts, {"q": "?"}, {"q": {"0-1": 1}})
    spans = {"0": [Span(0, 2), Span(3, 5), Span(6, 8), Span(9, 11)], "1": [Span(0, 2), Span(3, 5)]}
    chunks = np.eye(6, dtype=np.float32)
    query = np.array([[0.1, 0.6, 0.2, 0.5, 0.9, 0.0]], dtype=np.float32)
    # paragraphs score .6, .5 and .9, so the right one stands third
    assert paragraph_ndcg(articles, spans, query, chunks)[0] == pytest.approx(0.5)


def test_sampled_collection_keeps_what_is_judged():
    documents = {f"d{i}": f"text {i}" for i in range(20)}
    data = RetrievalSet("toy", documents, {"q0": "a", "q1": "b", "q2": "c"}, {"q0": {"d3": 1}, "q1": {"d5": 1}}, {})
    small = sampled(data, 2, 4, seed=0)
    assert len(small.documents) == 6 and {"d3", "d5"} <= small.documents.keys()
    assert set(small.queries) == set(small.qrels) == {"q0", "q1"}
    assert small.paragraphs["d3"] == ("d3", Span(0, len("text 3")))


def test_widths_scale_with_the_encoder():
    assert scaled("pca:128 | int8", 384) == "pca:128 | int8"
    assert scaled("truncate:192 | fp32", 256) == "truncate:128 | fp32"
    assert scaled("fp8", 256) == "fp8"


@real
def test_retrieval_sets_and_their_vectors_belong_together():
    data = DataFolder(str(DATA)).retrieval("cranfield")
    assert data.corpus_vectors.shape == (len(data.documents), 384) and len(data.query_vectors) == len(data.queries)
    np.testing.assert_allclose(np.linalg.norm(data.corpus_vectors, axis=1), 1, atol=2e-3)
    assert all(document in data.documents for found in data.qrels.values() for document in found)


@real
@pytest.mark.parametrize("name", ["power", "fp8", "pca"])
def test_quick_experiments_run_on_the_real_data(name):
    answer = reproduce(name, str(DATA), seeds=1).as_json()
    low, high = answer["interval"]
    assert low <= answer["measured"] <= high
    assert json.loads(json.dumps(answer)) == answer
    assert answer["held"] == all(answer["checks"].values())
    assert answer["held"] or answer["reason"]
    if name == "power":
        assert answer["held"] and answer["measured"] < 0.95
    else:
        assert answer["measured"] == pytest.approx(0, abs=0.05)
