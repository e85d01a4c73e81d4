"""Keyed vectors: reading others' files, saving and mapping, unseen words, neighbours."""

import gzip
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.errors import CorruptIndex, FormatError, InputError, SememeError, StorageError
from sememe.index import KeyedVectors
from sememe.index.spelling import edits, subwords

WORDS = [
    "oven",
    "bread",
    "flour",
    "anchor",
    "harbour",
    "Harbor",
    "café",
    "naïve",
    "東京",
    "a",
    "oven-ready",
    "New York",
]


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(0).standard_normal((len(WORDS), 8)).astype(np.float32)


def as_text(words, vectors, header):
    lines = [f"{word} {' '.join(map(repr, row))}" for word, row in zip(words, vectors.astype(float).tolist())]
    return ("".join([f"{len(words)} {vectors.shape[1]}\n"] * header) + "\n".join(lines) + "\n").encode()


def as_binary(words, vectors, newline):
    rows = [word.encode() + b" " + row.astype("<f4").tobytes() + b"\n" * newline for word, row in zip(words, vectors)]
    return f"{len(words)} {vectors.shape[1]}\n".encode() + b"".join(rows)


def as_fasttext(words, matrix, buckets, shortest=3, longest=5):
    d = matrix.shape[1]
    head = struct.pack("<ii", 793712314, 12) + struct.pack(
        "<iiiiiiiiiiiid", d, 5, 5, 1, 5, 1, 1, 2, buckets, shortest, longest, 100, 1e-4
    )
    head += struct.pack("<iiiqq", len(words), len(words), 0, 100, -1)
    entries = b"".join(word.encode() + b"\0" + struct.pack("<qb", 3, 0) for word in words)
    return head + entries + struct.pack("<?qq", False, *matrix.shape) + matrix.astype("<f4").tobytes() + b"\0" * 17


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("w2v.txt", lambda t: as_text(WORDS, t, 1)),
        ("glove.txt", lambda t: as_text(WORDS, t, 0)),
        ("glove.txt.gz", lambda t: gzip.compress(as_text(WORDS, t, 0))),
        ("w2v.bin", lambda t: as_binary([w.replace(" ", "_") for w in WORDS], t, 1)),
        ("old.bin", lambda t: as_binary([w.replace(" ", "_") for w in WORDS], t, 0)),
    ],
)
def test_files_of_others(tmp_path, table, name, write):
    (tmp_path / name).write_bytes(write(table))
    store = KeyedVectors.load(tmp_path / name)
    assert [store.key(row).replace("_", " ") for row in range(len(store))] == WORDS
    np.testing.assert_array_equal(store.vectors(["café", "東京"]), table[[6, 8]])
    assert name.split(".")[0] in ("w2v", "old") or store.report["format"] == "GloVe text"


def test_fasttext_models_give_words_and_unseen_words_their_ngrams(tmp_path, table):
    words, buckets = ["oven", "bread", "café"], 50
    matrix = np.random.default_rng(1).standard_normal((len(words) + buckets, 8)).astype(np.float32)
    (tmp_path / "model.bin").write_bytes(as_fasttext(words, matrix, buckets))
    store = KeyedVectors.load(tmp_path / "model.bin")
    grams = subwords("bread", 3, 5, buckets)
    assert len(grams) == 5 + 4 + 3  # <br bre rea ead ad>, <bre ... ead>, <brea ... read>
    want = (matrix[1] + matrix[[3 + g for g in grams]].sum(axis=0)) / (1 + len(grams))
    np.testing.assert_allclose(store["bread"], want, rtol=1e-5, atol=1e-6)
    unseen = matrix[[3 + g for g in subwords("breadth", 3, 5, buckets)]].mean(axis=0)
    np.testing.assert_allclose(store["breadth"], unseen, rtol=1e-5, atol=1e-6)
    store.save(tmp_path / "store")
    np.testing.assert_array_equal(KeyedVectors.open(tmp_path / "store")["breadth"], store["breadth"])


def test_subword_hash_is_fnv_over_signed_bytes():
    """An independent count in 32-bit arithmetic."""
    value = np.uint32(2166136261)
    with np.errstate(over="ignore"):
        for byte in np.frombuffer("<é>".encode(), dtype=np.int8):
            value = (value ^ np.uint32(int(byte) & 0xFFFFFFFF)) * np.uint32(16777619)
    assert subwords("é", 3, 3, 1 << 31) == [int(value) % (1 << 31)]


def test_gensim_reads_the_same_models(tmp_path):
    fasttext = pytest.importorskip("gensim.models.fasttext", reason="gensim, of the bench extra, is the oracle")
    from gensim.models import KeyedVectors as Theirs

    texts = [
        line.split() for line in ["the oven bakes the bread", "an anchor in the harbour", "bread and harbour café"] * 5
    ]
    model = fasttext.FastText(texts, vector_size=12, min_count=1, epochs=2, bucket=200, seed=1, workers=1)
    fasttext.save_facebook_model(model, str(tmp_path / "ft.bin"))
    ours = KeyedVectors.load(tmp_path / "ft.bin")
    for word in ["bread", "café", "breads", "anchorage", "zzz"]:
        np.testing.assert_allclose(ours[word], model.wv[word], rtol=1e-4, atol=1e-6)
    model.wv.save_word2vec_format(str(tmp_path / "w.bin"), binary=True)
    theirs = Theirs.load_word2vec_format(str(tmp_path / "w.bin"), binary=True)
    found = KeyedVectors.load(tmp_path / "w.bin").neighbours("bread", 5)
    want = theirs.most_similar("bread", topn=5)
    assert [word for word, _ in found] == [word for word, _ in want]
    np.testing.assert_allclose([value for _, value in found], [value for _, value in want], atol=1e-5)


def test_saved_and_mapped_is_the_same(tmp_path, table):
    store = KeyedVectors(WORDS, table)
    store.save(tmp_path / "store")
    opened = KeyedVectors.open(tmp_path / "store")
    assert len(opened) == len(WORDS) and opened.dim == 8 and "café" in opened and "cafe" not in opened
    for word in [*WORDS, "overn", "unknowable", "", "東"]:
        np.testing.assert_array_equal(opened[word], store[word])
        assert opened.neighbours(word, 4) == store.neighbours(word, 4)
    with pytest.raises(StorageError, match="already"):
        store.save(tmp_path / "store")


def test_damage_is_found(tmp_path, table):
    KeyedVectors(WORDS, table).save(tmp_path / "store")
    rng = np.random.default_rng(0)
    files = [path for path in sorted((tmp_path / "store").rglob("*")) if path.is_file() and path.stat().st_size]
    silent = 0
    want = {word: KeyedVectors(WORDS, table).neighbours(word, 3) for word in WORDS}
    for _ in range(60):
        path = files[rng.integers(len(files))]
        whole = path.read_bytes()
        at = int(rng.integers(len(whole)))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ int(rng.integers(1, 256))]) + whole[at + 1 :])
        try:
            opened = KeyedVectors.open(tmp_path / "store")
            silent += any(opened.neighbours(word, 3) != want[word] for word in WORDS)
        except SememeError:
            pass
        path.write_bytes(whole)
    assert silent == 0
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError):
        KeyedVectors.open(tmp_path / "empty")


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 40), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_neighbours_are_those_of_a_full_comparison(n, d, k, crowded, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, d)).astype(np.float32)
    if crowded:  # many rows nearer to each other than the codes can tell
        vectors = np.float32(1) + vectors * np.float32(1e-3)
    store = KeyedVectors([f"w{i}" for i in range(n)], vectors)
    query = rng.standard_normal(d).astype(np.float32)
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    cosine = unit @ (query.astype(np.float64) / np.linalg.norm(query.astype(np.float64)))
    found = store.neighbours(query, k)
    assert len(found) == min(k, n)
    np.testing.assert_allclose([value for _, value in found], np.sort(cosine)[::-1][:k], atol=2e-6)


def test_unseen_words_lie_near_what_they_are_spelled_like(table):
    store = KeyedVectors(WORDS, table)
    assert store.neighbours("harbuor", 1)[0][0] in ("harbour", "Harbor")
    assert store.neighbours("bred", 1)[0][0] == "bread"
    np.testing.assert_array_equal(store["xyzzy"], KeyedVectors(WORDS, table)["xyzzy"])
    assert abs(float(np.linalg.norm(store["xyzzy"])) - 1) < 1e-5
    assert edits("harbuor", "harbour") == 1 and edits("", "abc") == 3 and edits("kitten", "sitting") == 3


def test_analogy_and_the_odd_one_out():
    words = ["king", "man", "woman", "queen", "apple"]
    vectors = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 1], [0.3, -1, 0.3]], dtype=np.float32)
    store = KeyedVectors(words, vectors)
    assert store.analogy("man", "king", "woman")[0][0] == "queen"
    assert store.does_not_match(["king", "man", "queen", "apple"]) == "apple"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello\n", "neither a header"),
        (b"hello world\n", "without numbers"),
        (b"a 1 2\nb 3\n", "not a word and 2 numbers"),
        (b"a 1 2\nb 3 nan\n", "not a word and 2 numbers"),
        (b"3 2\na 1 2\nb 3 4\n", "promises 3 words"),
        (as_binary(["a", "b"], np.ones((2, 4), np.float32), 1)[:-6], "ends in word 2 of 2"),
        (as_binary(["a"], np.full((1, 4), np.nan, np.float32), 1), "NaN"),
        (struct.pack("<ii", 793712314, 12) + b"\1" * 20, "cut short"),
        (as_fasttext(["a"], np.ones((11, 4), np.float32), 10)[:150], "cut short"),
        (gzip.compress(b"a 1 2\n" * 50, mtime=0)[:-9], "damaged"),
    ],
)
def test_bad_files_get_one_line(tmp_path, data, message):
    path = tmp_path / ("file.gz" if data[:2] == b"\x1f\x8b" else "file.txt")
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        KeyedVectors.load(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_repeated_keys(tmp_path):
    with pytest.raises(InputError, match="comes twice"):
        KeyedVectors(["a", "b", "a"], np.ones((3, 2), np.float32))
    (tmp_path / "file.txt").write_bytes(b"a 1 2\nb 3 4\na 5 6\n")
    store = KeyedVectors.load(tmp_path / "file.txt")
    assert store.report["repeated"] == 1 and store["a"].tolist() == [1, 2] and len(store) == 2
    with pytest.raises(InputError, match="No such"):
        KeyedVectors.load(tmp_path / "nothing.txt")


def test_a_killed_save_leaves_nothing_that_opens(tmp_path, table):
    code = f"""
import os, numpy as np
from sememe.index import KeyedVectors
from sememe.index.storage.transaction import Transaction
Transaction.commit = lambda self, update: os._exit(9)
KeyedVectors(["a", "b"], np.ones((2, 4), np.float32)).save({str(tmp_path / "store")!r})
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    with pytest.raises(FormatError):
        KeyedVectors.open(tmp_path / "store")
    KeyedVectors(WORDS, table).save(tmp_path / "store")
    assert len(KeyedVectors.open(tmp_path / "store")) == len(WORDS)


def test_corrupt_facts_are_refused(tmp_path, table, monkeypatch):
    from sememe.index import keyed_parts

    monkeypatch.setattr(keyed_parts, "BUCKETS", 7)
    KeyedVectors(WORDS, table).save(tmp_path / "store")
    with pytest.raises(CorruptIndex, match="do not fit"):
        KeyedVectors.open(tmp_path / "store")
