"""Inverted lists against brute force: BM25 with live statistics, and learned sparse vectors."""

import math
import re
from collections import Counter

import numpy as np
import pytest
from faulty_fs import NoSync

from sememe.contracts import Record
from sememe.encode.bm25 import K1, B
from sememe.errors import InputError, RecipeError
from sememe.index import engine, inverted
from sememe.index.arrays import Packed
from sememe.index.ledger import predict
from sememe.index.postings import Postings, PostingsWriter
from sememe.kernels import native
from sememe.testing import HashingEncoder, toy_records

sparse = pytest.importorskip("scipy.sparse")


class Words:
    """Terms for bm25, and sparse vectors of hashed word counts."""

    name, dim, digest = "words", 0, "words"

    def terms(self, text):
        return re.findall(r"\w+", text.lower())


class Weights:
    """Learned-sparse stand-in: the square root of each word's count, one column a word."""

    name, dim, digest = "weights", 0, "weights"

    def __init__(self):
        self.columns = {}

    def encode_sparse(self, texts, *, kind="passage", batch_size=64, progress=False):
        rows, columns, values = [], [], []
        for row, text in enumerate(texts):
            for word, count in Counter(re.findall(r"\w+", text.lower())).items():
                rows.append(row)
                columns.append(self.columns.setdefault(word, 7 * len(self.columns)))
                values.append(math.sqrt(count))
        return sparse.csr_array((values, (rows, columns)), shape=(len(texts), 10_000), dtype=np.float32)


QUERIES = ["bread oven yeast", "comet comet star", "rook pawn bishop soil", "sailing 26", "nothing-matches-this zzz"]


def brute_force(texts, query, k):
    docs = [Counter(re.findall(r"\w+", text.lower())) for text in texts]
    lengths = [sum(doc.values()) for doc in docs]
    mean = sum(lengths) / len(lengths)
    scores = np.zeros(len(docs))
    for term in re.findall(r"\w+", query.lower()):
        df = sum(term in doc for doc in docs)
        idf = math.log(1 + (len(docs) - df + 0.5) / (df + 0.5))
        for i, doc in enumerate(docs):
            scores[i] += idf * doc[term] / (doc[term] + 1.2 * (0.25 + 0.75 * lengths[i] / mean))
    order = np.lexsort((np.arange(len(docs)), -scores.astype(np.float32)))
    return [(i, scores[i]) for i in order if scores[i] > 0][:k]


def check(index, records, where=None, allowed=lambda record: True):
    texts = [record.content for record in records]
    for query in QUERIES:
        wanted = [(i, s) for i, s in brute_force(texts, query, len(records)) if allowed(records[i])][:10]
        hits = index.search(query, k=10, where=where)
        assert hits.ids[0].tolist() == [records[i].id for i, _ in wanted]
        np.testing.assert_allclose(hits.scores[0], [s for _, s in wanted], rtol=1e-5)


@pytest.fixture
def index(tmp_path):
    return engine.build(toy_records(200), tmp_path / "i", "bm25 | inverted", encoder=Words(), fs=NoSync())


def test_bm25_is_brute_force(index):
    check(index, toy_records(200))
    check(index, toy_records(200), "year >= 2010", lambda record: record.metadata["year"] >= 2010)


@pytest.mark.skipif(native.core() is None, reason="the native core was not built here")
def test_one_call_gives_what_the_steps_give(monkeypatch):
    generator = np.random.default_rng(0)
    words = [f"w{number}" for number in range(300)] + ["\ud800", "größe"]
    texts = [generator.choice(words, generator.integers(1, 30)).tolist() for _ in range(500)]
    writer = PostingsWriter(named=True)
    for text in texts:
        writer.add_terms(text)
    info, arrays = writer.arrays()
    queries = [generator.choice([*words, "nowhere"], generator.integers(0, 9)).tolist() for _ in range(40)]
    queries += [["w1", "w1", "w2"], ["\ud800", "größe"], words[:100]]
    for allowed in (None, generator.random(500) < 0.2):
        part = inverted.Part(Postings(Packed.in_memory(arrays), info, 500), 1000, None, allowed)
        asked = [*queries[:-1], []]
        fresh = inverted.bm25([part], asked, 12)  # lists are verified on the way
        assert part.postings.words(K1, B).search(asked, None, 12, 1) is not None
        assert part.postings.words(K1, B).search(queries, None, 12, 1) is None  # too long a query for one call
        at_once = inverted.bm25([part], asked, 12)
        with monkeypatch.context() as patch:
            patch.setattr(Postings, "words", lambda *_: None)
            stepwise = inverted.bm25([part], asked, 12)
        for found in (fresh, at_once):
            for given, wanted in zip(found, stepwise):
                np.testing.assert_array_equal(given, wanted)


def test_statistics_follow_the_live_collection(index):
    records = [*toy_records(200), Record("new", "rook rook comet yeast", title="odd one")]
    index.add(records[200:])
    check(index, records)
    gone = {f"doc-{i}" for i in range(0, 120, 3)}
    assert index.delete(gone) == 40
    left = [record for record in records if record.id not in gone]
    check(index, left)
    index.compact()
    check(index, left)
    assert len(index.segments) == 1


def test_lines_of_different_length_are_padded(index):
    hits = index.search(["rook", "zzz", "sailing"], k=300)
    assert hits.ids.shape == hits.scores.shape == hits.rows.shape
    assert set(hits.ids[1]) == {""}
    assert (hits.rows[1] == -1).all()
    assert [len(line) for line in index.results(hits)][1] == 0


def test_vectors_are_refused(index):
    with pytest.raises(InputError, match="needs the text"):
        index.search(np.ones((1, 3)))


def test_lucene_variant_agrees_with_bm25s(index):
    bm25s = pytest.importorskip("bm25s")
    texts = [record.content for record in toy_records(200)]
    peer = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
    peer.index([re.findall(r"\w+", t.lower()) for t in texts], show_progress=False)
    for query in QUERIES[:4]:
        words = [w for w in re.findall(r"\w+", query.lower()) if any(w in t for t in texts)]
        theirs = np.sort(peer.get_scores(words))[::-1][:10]
        np.testing.assert_allclose(index.search(query, k=10).scores[0], theirs[theirs > 0], rtol=1e-5)


@pytest.mark.parametrize("level", native.levels())
@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [("inverted:weights=fp16", 1e-3), ("inverted:weights=u8", 0.02), ("impact:share=0", 0.02), ("impact", 0.02)],
)
def test_learned_sparse_is_an_inner_product(tmp_path, kind, tolerance, level):
    with native.using(level):
        check_inner_product(tmp_path, f"bm25 | {kind}", tolerance)


def check_inner_product(tmp_path, recipe, tolerance):
    encoder, records = Weights(), toy_records(150)
    index = engine.build(records[:100], tmp_path / "i", recipe, encoder=encoder, fs=NoSync())
    index.add(records[100:])
    index.delete(["doc-3"])
    X = encoder.encode_sparse([r.content for r in records]).toarray()
    X[3] = 0
    for _ in range(2):
        hits = index.search(QUERIES[:4], k=150)
        for line, query in enumerate(encoder.encode_sparse(QUERIES[:4]).toarray()):
            scores = X @ query
            found = {i: s for i, s in zip(hits.ids[line], hits.scores[line]) if i}
            assert set(found) == {records[i].id for i in np.flatnonzero(scores > 0)}
            np.testing.assert_allclose(
                [found[r.id] for r in records if r.id in found], scores[scores > 0], rtol=tolerance
            )
        index.compact()


def test_impact_finds_most_and_a_filter_finds_all(tmp_path):
    encoder, records = Weights(), toy_records(300)
    wide = engine.build(records[:200], tmp_path / "a", "bm25 | impact", encoder=encoder, fs=NoSync())
    wide.add(records[200:])
    wide.delete([f"doc-{i}" for i in range(0, 60, 2)])
    exact = engine.build(records[:200], tmp_path / "b", "bm25 | impact:share=0", encoder=encoder, fs=NoSync())
    exact.add(records[200:])
    exact.delete([f"doc-{i}" for i in range(0, 60, 2)])
    found, wanted = (index.search(QUERIES[:4], k=10) for index in (wide, exact))
    shared = [len(set(a) & set(b)) for a, b in zip(found.ids, wanted.ids)]
    assert np.mean(shared) >= 8
    for where in ("year >= 2010", "year == 2003"):
        np.testing.assert_array_equal(
            wide.search(QUERIES[:4], k=10, where=where).ids, exact.search(QUERIES[:4], k=10, where=where).ids
        )


@pytest.mark.parametrize("kind", ["inverted:weights=fp16", "inverted:weights=u8", "impact"])
def test_the_ledger_knows_learned_postings(tmp_path, kind):
    encoder, records = Weights(), toy_records(300)
    index = engine.build(records, tmp_path / "i", f"splade | {kind}", encoder=encoder, fs=NoSync())
    matrix = encoder.encode_sparse([r.content for r in records])
    terms = len(np.unique(matrix.indices))
    counts = {"passages": 300, "records": 300, "dim": 0, "id_bytes": 1}
    predicted = predict(f"splade | {kind}", postings=matrix.nnz, terms=terms, **counts).postings
    assert abs(predicted - index.ledger().postings) <= max(0.01 * index.ledger().postings, 8 * 64)  # padding


def test_old_answers_without_the_core(index):
    hits = index.search(QUERIES, k=20)
    for level in native.levels():
        with native.using(level):
            again = index.search(QUERIES, k=20)
        np.testing.assert_array_equal(again.ids, hits.ids)
        np.testing.assert_array_equal(again.scores, hits.scores)


def test_negative_weights_are_searched_or_refused(tmp_path):
    class Signed(Weights):
        def encode_sparse(self, texts, *, kind="passage", batch_size=64, progress=False):
            matrix = super().encode_sparse(texts, kind=kind)
            matrix.data[matrix.indices % 3 == 0] *= -1
            return matrix

    encoder, records = Signed(), toy_records(60)
    index = engine.build(records, tmp_path / "i", "splade | inverted", encoder=encoder, fs=NoSync())
    X = encoder.encode_sparse([r.content for r in records]).toarray()
    query = encoder.encode_sparse(["bread oven comet"]).toarray()[0]
    wanted = np.sort((X @ query)[X @ query > 0])[::-1][:10]
    np.testing.assert_allclose(index.search("bread oven comet", k=10).scores[0], wanted, rtol=1e-3)
    with pytest.raises(InputError, match="negative"):
        engine.build(records, tmp_path / "j", "splade | impact", encoder=encoder, fs=NoSync())


def test_hybrid_finds_what_either_finds(tmp_path):
    records = [*toy_records(100), Record("code", "the part number is XK-4411-B", title="parts")]
    recipe = "static | int8 | flat | hybrid:bm25,depth=20"
    index = engine.build(records, tmp_path / "i", recipe, encoder=HashingEncoder(16), fs=NoSync())
    assert index.search("4411", k=3).ids[0, 0] == "code"
    assert index.ledger().postings > 0
    for fusion in ("score", "rrf"):
        other = engine.build(
            records,
            tmp_path / fusion,
            f"static | flat | hybrid:bm25,fusion={fusion},weight=1.0",
            encoder=HashingEncoder(16),
            fs=NoSync(),
        )
        lexical = engine.build(
            records, tmp_path / f"{fusion}l", "bm25 | inverted", encoder=index.pipeline.analyzer, fs=NoSync()
        )
        count = 1 if fusion == "score" else 5
        assert (
            other.search("rook pawn", k=5).ids[0, :count].tolist()
            == lexical.search("rook pawn", k=5).ids[0, :count].tolist()
        )


@pytest.mark.parametrize(
    "recipe",
    [
        "static | inverted",
        "bm25 | flat",
        "bm25 | impact",
        "bm25 | int8 | inverted",
        "static | flat | hybrid:bm25 | rescore:fp16",
        "static | flat | rescore:fp16 | rescore:fp32",
    ],
)
def test_recipes_that_make_no_sense(tmp_path, recipe):
    with pytest.raises(RecipeError):
        engine.build(toy_records(3), tmp_path / "i", recipe)
    assert not (tmp_path / "i").exists()
