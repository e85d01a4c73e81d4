from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from samples_of_text import HOSTILE, SENTENCES

from sememe.encode.bm25 import BM25, BM25Scorer
from sememe.errors import InputError

QUERIES = ["who approves budgets", "stock prices", "cats and cats and kittens", "nothing-shared zzz", "", "Öl"]


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4), (2.0, 0.0)])
def test_same_scores_as_bm25s(scifact, k1, b):
    """bm25s with its Lucene method, over the same terms."""
    bm25s = pytest.importorskip("bm25s")
    encoder, texts = BM25(), scifact + SENTENCES
    queries = [*QUERIES, *(text.split(".")[0] for text in scifact[:8])]
    tokens = [encoder.terms(text) for text in texts]
    peer = bm25s.BM25(method="lucene", k1=k1, b=b)
    peer.index(tokens, show_progress=False)
    expected = np.zeros((len(queries), len(texts)), dtype=np.float32)
    known = {term for row in tokens for term in row}
    for row, query in enumerate(queries):
        # bm25s wants a known term at least, and counts a repeated one once; each is asked for on its own here.
        for term, times in Counter(encoder.terms(query)).items():
            if term in known:
                expected[row] += times * peer.get_scores([term])
    assert (expected > 0).sum() > 100
    np.testing.assert_allclose(BM25Scorer(texts, k1, b).scores(queries), expected, atol=1e-4)


def test_scores_by_hand():
    scorer = BM25Scorer(["red red fish", "blue fish", "tree"], encoder=BM25(stop="none", stem="none"))
    idf = np.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    expected = idf * 2 / (2 + 1.2 * (1 - 0.75 + 0.75 * 3 / 2))
    np.testing.assert_allclose(scorer.scores(["red"]), [[expected, 0, 0]], rtol=1e-6)


def test_topk_is_the_head_of_a_stable_sort(scifact):
    scorer = BM25Scorer(scifact)
    scores, rows = scorer.topk(QUERIES, 7)
    full = scorer.scores(QUERIES)
    for row in range(len(QUERIES)):
        expected = sorted(range(len(scifact)), key=lambda i: (-full[row, i], i))[:7]
        assert rows[row].tolist() == expected
        np.testing.assert_array_equal(scores[row], full[row, expected])
    assert scorer.topk(["x"], 1000)[1].shape == (1, len(scifact))


@pytest.mark.parametrize("texts", [[], [""], ["", "the of and"], HOSTILE])
def test_collections_with_little_in_them(texts):
    scores = BM25Scorer(texts).scores(["who approves", *HOSTILE])
    assert scores.shape == (1 + len(HOSTILE), len(texts))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The Cats, and the DOG's 2 studies!", ["cat", "dog", "s", "2", "study"]),
        ("glass buses horses ties", ["glass", "buse", "horse", "ty"]),
        ("Straße café cafe\u0301", ["straße", "café", "café"]),
        ("東京 tower", ["東", "京", "tower"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("snake_case x²", ["snake_case", "x²"]),
        ("", []),
    ],
)
def test_terms(text, terms):
    assert BM25().terms(text) == terms


def test_options():
    assert BM25(stop="none", stem="none").terms("The cats") == ["the", "cats"]
    assert BM25(stem="none").terms("The cats") == ["cats"]
    with pytest.raises(InputError, match="no stop list"):
        BM25(stop="klingon")
    with pytest.raises(InputError, match="no stemmer"):
        BM25(stem="porter")
    with pytest.raises(InputError, match="k1"):
        BM25Scorer(["a"], k1=-1)


def test_sparse_rows_count_terms_of_passages_and_mark_terms_of_queries():
    pytest.importorskip("scipy")
    encoder = BM25()
    passages = encoder.encode_sparse(["fish fish tree", ""])
    queries = encoder.encode_sparse(["fish fish", "tree"], kind="query")
    np.testing.assert_array_equal((queries @ passages.T).toarray(), [[2, 0], [1, 0]])
    assert passages.dtype == np.float32


def test_dense_vectors_are_refused():
    with pytest.raises(InputError, match="no dense vectors"):
        BM25().encode(["text"])
