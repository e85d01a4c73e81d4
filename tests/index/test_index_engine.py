"""Build, open and search, end to end: what comes back, what is refused, and how odd input is treated."""

import json

import numpy as np
import pytest
from faulty_fs import NoSync

import sememe
from sememe import progress
from sememe.contracts import Record
from sememe.errors import FormatError, InputError, StorageError
from sememe.index import engine
from sememe.index.writer import BATCH
from sememe.testing import HashingEncoder, toy_records

ENCODER = HashingEncoder(64)


def make(tmp_path, records, recipe="static | int8 | flat", **options):
    options.setdefault("encoder", ENCODER)
    return engine.build(records, tmp_path / "i", recipe, fs=NoSync(), **options)


def test_build_open_search(tmp_path):
    built = make(tmp_path, toy_records(300))
    hits = built.search("telescope orbit of a comet", k=3)
    with sememe.open(tmp_path / "i", encoder=ENCODER) as opened:
        again = opened.search("telescope orbit of a comet", k=3)
        assert again.ids.tolist() == hits.ids.tolist()
        result = opened.results(again)[0][0]
    assert all(identity.startswith("doc-") for identity in hits.ids[0])
    row = int(result["id"].partition("-")[2])
    record = toy_records(300)[row]
    assert result["metadata"]["topic"] == "astronomy"
    assert (result["text"], result["title"], result["source"]) == (record.text, record.title, record.source)
    assert result["metadata"]["published"] == record.metadata["published"].isoformat()
    assert json.loads(json.dumps(result)) == result
    assert built.verify().ok


@pytest.mark.parametrize(
    "recipe",
    [
        "static | flat",
        "static | fp16 | flat",
        "static | pca:24 | int8 | flat",
        "static | binary | flat | rescore:fp32,n=300",
    ],
)
def test_nearly_the_exact_ranking(tmp_path, recipe):
    records = toy_records(300)
    index = make(tmp_path, records, recipe)
    X = ENCODER.encode([record.content for record in records])
    Q = ENCODER.encode([record.text for record in records[:40]], kind="query")
    wanted = np.argsort(-(Q @ X.T), axis=1, kind="stable")[:, :10]
    hits = index.search(Q, k=10)
    overlap = np.mean([len({*a} & {f"doc-{i}" for i in b}) / 10 for a, b in zip(hits.ids, wanted)])
    assert overlap > {"static | flat": 0.999, "static | pca:24 | int8 | flat": 0.7}.get(recipe, 0.99)


def test_rescoring_with_full_vectors_undoes_the_projection(tmp_path):
    records = toy_records(200)
    X = ENCODER.encode([record.content for record in records])
    index = make(tmp_path, records, "static | pca:4 | int8 | flat | rescore:fp32,n=200,full=true")
    hits = index.search(X[:30], k=5)
    np.testing.assert_allclose(hits.scores, -np.sort(-(X[:30] @ X.T), axis=1)[:, :5], atol=1e-5)
    assert index.ledger().rescore == 200 * 64 * 4


def test_a_record_is_found_once_by_its_best_passage(tmp_path):
    text = "Bread in the oven. Comets and stars. The king lost a rook. Bread and more bread."
    records = [Record(f"r{i}", text, title=f"t{i}") for i in range(30)] + [Record("x", "A comet.")]
    index = make(tmp_path, records, "sentences:1 | static | flat")
    assert index.passages == 121
    hits = index.search("bread oven", k=31)
    assert len(set(hits.ids[0])) == 31
    assert (np.diff(hits.scores[0]) <= 0).all()
    passages = index.search("bread oven", k=121, unit="passage")
    best = {}
    for identity, score in zip(passages.ids[0], passages.scores[0]):
        best.setdefault(identity, score)
    assert dict(zip(hits.ids[0], hits.scores[0])) == best
    first = index.describe(int(hits.rows[0, 0]))
    assert first["text"] == "Bread in the oven."
    assert text[first["span"][0] : first["span"][1]] == first["text"]


def test_late_chunking_sees_the_document(tmp_path):
    records = [
        Record("berlin", "The city lies on the Spree. It has many bakers.", title="Berlin"),
        Record("other", "It has many sailors. The wind is strong.", title=""),
        Record("title only", " ", title="Comet"),
    ]
    index = make(tmp_path, records, "late:sentences,1 | static | flat")
    assert index.passages == 5
    assert index.search("Comet", k=1).ids[0, 0] == "title only"
    assert {tuple(index.describe(row)["span"]) for row in (0, 1)} == {(0, 27), (28, 47)}


def test_odd_records(tmp_path):
    odd = "lone \ud800 surrogate, NUL \0, right-to-left \u202e, and " + "long " * 1000
    records = [
        Record("a", odd, title="\ud800", metadata={"t\ud800": "\ud800", "empty": ""}),
        Record("title only", "  \n", title="Comet"),
        Record("nothing", ""),
        Record("é" * 256, "x"),
    ]
    index = make(tmp_path, records)
    assert (index.records, index.passages, index.report.empty) == (4, 3, 1)
    index = engine.open(tmp_path / "i", encoder=ENCODER)
    for row, record in enumerate(records):
        assert index.segments[0].records.record(row) == record
    assert index.search("comet", k=9).ids[0, 0] == "title only"
    assert "nothing" not in index.search("comet", k=9).ids[0]
    assert index.delete(["nothing", "not there"]) == 1
    assert index.describe(1)["text"] == ""


@pytest.mark.parametrize("record", [Record("", "x"), Record("é" * 257, "x"), "text", Record(7, "x")])
def test_records_that_are_refused(tmp_path, record):
    with pytest.raises(InputError):
        make(tmp_path, [record])
    with pytest.raises(FormatError):
        engine.open(tmp_path / "i")


def test_duplicates(tmp_path):
    records = [Record("a", "bread"), Record("b", "comet"), Record("a", "rook", source="f:3")]
    with pytest.raises(InputError, match=r"f:3: the id 'a' appears twice"):
        make(tmp_path, records)
    first = make(tmp_path / "1", records, on_duplicate="first")
    assert (first.records, first.report.duplicates) == (2, 1)
    assert first.results(first.search("rook bread", k=5))[0][0]["text"] == "bread"
    last = make(tmp_path / "2", records, on_duplicate="replace")
    assert last.records == 2
    assert {r["text"] for r in last.results(last.search("rook", k=5))[0]} == {"rook", "comet"}
    last.add([Record("b", "sail"), Record("c", "soil"), Record("c", "seed")])
    assert {r["text"] for r in last.results(last.search("rook", k=5))[0]} == {"rook", "sail", "seed"}
    with pytest.raises(InputError, match="policy"):
        make(tmp_path / "3", records, on_duplicate="perhaps")


@pytest.mark.parametrize(
    "recipe", ["static | pca:16 | int8 | hnsw | rescore:fp16", "bm25 | inverted", "static | flat | hybrid:bm25"]
)
def test_an_empty_index(tmp_path, recipe):
    encoder = None if "inverted" in recipe else ENCODER
    index = make(tmp_path, [], recipe, encoder=encoder)
    index = engine.open(tmp_path / "i", encoder=encoder)
    assert index.search("anything", k=5).ids.shape == (1, 0)
    assert index.search("anything", k=5, unit="passage").ids.shape == (1, 0)
    assert index.results(index.search(["a b", "c"]))[1] == []
    assert index.add(toy_records(60)) == 60
    assert index.search("rook", k=5).ids.shape == (1, 5)
    assert index.delete([f"doc-{i}" for i in range(60)]) == 60
    assert index.search("rook", k=5).ids.shape == (1, 0)
    index.compact()
    assert (len(index.segments), index.records) == (0, 0)
    index.add(toy_records(5))
    assert "doc-3" in engine.open(tmp_path / "i", encoder=encoder).search("chess", k=5).ids[0]


def test_queries_that_are_refused(tmp_path):
    index = make(tmp_path, toy_records(20))
    vector = np.ones((1, 64), dtype=np.float32)
    for query, options, message in [
        ("rook", {"k": 0}, "k must be"),
        ("rook", {"k": True}, "k must be"),
        ("rook", {"k": 10**9}, "k must be"),
        ("rook", {"ef": 0}, "ef must be"),
        ("rook", {"unit": "chapter"}, "unit"),
        (" ", {}, "blank"),
        (["rook", ""], {}, "query 1 is blank"),
        ([3], {}, "query 0 is a int"),
        (vector * np.nan, {}, "NaN"),
        (vector[:, :5], {}, "columns"),
        (vector[0], {}, "shape"),
    ]:
        with pytest.raises(InputError, match=message):
            index.search(query, **options)
    assert index.search([], k=3).ids.shape[0] == 0
    assert index.search(vector[:0], k=3).ids.shape[0] == 0
    assert index.search("rook", k=100).ids.shape == (1, 20)


def test_another_encoder_is_refused(tmp_path):
    make(tmp_path, toy_records(20))
    with pytest.raises(InputError, match=r"testing-hashing-64-0.*testing-hashing-64-1"):
        engine.open(tmp_path / "i", encoder=HashingEncoder(64, seed=1))
    with pytest.raises(InputError, match="built with the encoder hashing"):
        engine.open(tmp_path / "i").search("rook")  # the recipe's own encoder is not the one it was built with


class Broken(HashingEncoder):
    def encode(self, texts, **options):
        X = super().encode(texts, **options)
        X[[i for i, text in enumerate(texts) if "doomed" in text]] = np.nan
        return X


def test_an_encoder_that_fails_is_named_with_the_record(tmp_path):
    records = [*toy_records(BATCH + 7), Record("culprit", "doomed"), Record("z", "x")]
    with pytest.raises(InputError, match="culprit"):
        make(tmp_path, records, encoder=Broken(8))
    assert not list((tmp_path / "i").glob("*.seg"))


def test_overwrite(tmp_path):
    make(tmp_path, toy_records(20))
    with pytest.raises(StorageError):
        make(tmp_path, toy_records(5))
    assert make(tmp_path, toy_records(5), overwrite=True).records == 5
    assert engine.open(tmp_path / "i", verify="full").records == 5


def test_the_same_build_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        engine.build(
            toy_records(2000),
            tmp_path / name,
            "static | pca:16 | int8 | hnsw:8,build=16",
            encoder=HashingEncoder(32),
            sample=500,
            seed=3,
            fs=NoSync(),
        )
    entries = [
        [(role, e.digest) for s in engine.open(tmp_path / n).store.manifest.segments for role, e in s.files.items()]
        for n in ("a", "b")
    ]
    assert entries[0] == entries[1]


def test_a_build_resumes_from_the_cache(tmp_path):
    class Counting(HashingEncoder):
        texts = 0

        def encode(self, texts, **options):
            type(self).texts += len(texts)
            if self.texts > self.limit:
                raise KeyboardInterrupt
            return super().encode(texts, **options)

    encoder = Counting(32)
    encoder.limit = 2 * BATCH
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, toy_records(4 * BATCH), encoder=encoder, cache=tmp_path / "cache")
    with pytest.raises(FormatError):
        engine.open(tmp_path / "i")
    Counting.texts, encoder.limit = 0, 10**9
    index = make(tmp_path, toy_records(4 * BATCH), encoder=encoder, cache=tmp_path / "cache")
    assert index.records == 4 * BATCH
    assert Counting.texts <= 2 * BATCH + 64


def test_build_from_files(tmp_path):
    (tmp_path / "c.jsonl").write_text(
        "\n".join(json.dumps({"_id": f"d{i}", "text": f"about number {i}", "year": i}) for i in range(30))
    )
    index = make(tmp_path, tmp_path / "c.jsonl")
    assert index.records == 30
    assert index.search("number 7", k=1, where="year <= 7").ids[0, 0] == "d7"
    assert index.info()["fields"]["year"] == ["number"]


def test_progress_is_shown_for_the_time_of_the_build(tmp_path):
    seen = []

    class Watching(HashingEncoder):
        def encode(self, texts, **options):
            seen.append(progress._mode)
            return super().encode(texts, **options)

    before = progress._mode
    make(tmp_path / "a", toy_records(3), encoder=Watching(8), progress=True)
    make(tmp_path / "b", toy_records(3), encoder=Watching(8))
    assert (seen, progress._mode) == (["auto", before], before)


def test_nothing_never_replaces_an_index(tmp_path):
    built = sememe.build(toy_records(5), tmp_path / "index", "static | int8 | flat", encoder=HashingEncoder())
    assert built.records == 5
    with pytest.raises(InputError, match="no records"):
        sememe.build([], tmp_path / "index", "static | int8 | flat", encoder=HashingEncoder(), overwrite=True)
    assert sememe.open(tmp_path / "index", encoder=HashingEncoder()).records == 5
