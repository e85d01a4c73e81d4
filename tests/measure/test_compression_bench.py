"""The compression bench: nesting, exact baseline, ranking with ties, and the paired test."""

import numpy as np
import pytest

from sememe.errors import InputError, UsageError
from sememe.measure.compression_bench import CompressionBench, sign_flip_test, top_rows
from sememe.measure.retrieval import evaluate
from sememe.testing import clustered_vectors


def collection(n=600, q=40, seed=0):
    corpus = clustered_vectors(n, 32, seed=seed)
    generator = np.random.default_rng(seed)
    relevant = generator.permutation(n)[:q]
    queries = corpus[relevant] + 0.35 * clustered_vectors(q, 32, seed=seed + 1)
    documents, names = [f"d{i}" for i in range(n)], [f"q{i}" for i in range(q)]
    return (
        corpus,
        queries.astype(np.float32),
        {f"q{i}": {f"d{row}": 1} for i, row in enumerate(relevant)},
        documents,
        names,
    )


def test_rows_nesting_and_float_baseline():
    corpus, queries, qrels, documents, names = collection()
    bench = CompressionBench(("fp16", "binary"), metrics=("ndcg@10", "recall@5"), distractors=3)
    rows = bench.run(corpus, queries, qrels, documents, names, (200, 600))
    assert [(row.compressor, row.size) for row in rows] == [
        (name, size) for size in (200, 600) for name in ("fp32", "fp16", "binary")
    ]
    assert [row.bits for row in rows[:3]] == [1024, 512, 32]
    exact = {name: [documents[i] for i in top] for name, top in zip(names, top_rows(queries @ corpus.T, 10))}
    expected = np.mean(list(evaluate(exact, qrels, ("ndcg@10",))["ndcg@10"].values()))
    assert rows[3].quality["ndcg@10"].value == pytest.approx(expected)
    assert rows[3].change["ndcg@10"].value == 0 and rows[3].p_value["ndcg@10"] == 1.0
    assert rows[5].quality["ndcg@10"].value < rows[4].quality["ndcg@10"].value
    assert rows[5].p_value["ndcg@10"] < 0.01
    # a larger corpus is harder, and random passages push the hard distractors out
    assert rows[3].quality["recall@5"].value <= rows[0].quality["recall@5"].value
    assert rows[3].distractors <= rows[0].distractors


def test_smallest_corpus_holds_relevant_and_hard_passages():
    corpus, queries, qrels, documents, names = collection()
    (row,) = CompressionBench((), metrics=("recall@10",), distractors=2).run(
        corpus, queries, qrels, documents, names, (1,)
    )
    assert 40 < row.size <= 40 + 2 * 40
    assert row.compressor == "fp32" and row.relevant > 0.5


def test_top_rows_breaks_ties_by_row_on_both_paths():
    generator = np.random.default_rng(1)
    scores = generator.integers(0, 6, size=(30, 200)).astype(np.float32)
    expected = np.argsort(-scores, axis=1, kind="stable")
    np.testing.assert_array_equal(top_rows(scores, 7), expected[:, :7])
    np.testing.assert_array_equal(top_rows(scores, 120), expected[:, :120])


def test_sign_flip_test_is_calibrated_and_agrees_with_counting():
    # all eight sign patterns of three equal gains: two are as extreme
    assert sign_flip_test(np.array([1.0, 1.0, 1.0, 0.0]), samples=20_000) == pytest.approx(0.25, abs=0.02)
    assert sign_flip_test(np.zeros(5)) == 1.0
    generator = np.random.default_rng(2)
    p = [sign_flip_test(generator.normal(size=30), samples=400, seed=i) for i in range(200)]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.10
    assert sign_flip_test(generator.normal(1.0, 0.5, size=40)) < 0.001


def test_bad_input_is_refused():
    corpus, queries, _, documents, names = collection(60, 4)
    with pytest.raises(UsageError, match="ndcg@k"):
        CompressionBench(metrics=("hits@3",))
    with pytest.raises(InputError, match="no query"):
        CompressionBench(()).run(corpus, queries, {}, documents, names, (60,))
