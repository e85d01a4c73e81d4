"""Files whose numbers are wrong and whose checksums are right: an error that says so, never a crash or a hang."""

import re
from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest
from faulty_fs import NoSync

from sememe.contracts import Record
from sememe.errors import CorruptIndex, SememeError
from sememe.index import engine
from sememe.index.keyed import KeyedVectors
from sememe.index.storage.store import Store
from sememe.index.vectors import VectorIndex
from sememe.testing import HashingEncoder, toy_records

sparse = pytest.importorskip("scipy.sparse")

QUERIES = ["rook and knight", "comet", "bread in the oven"]
RECIPES = [
    "bm25 | inverted",
    "bm25 | impact",
    "static | int8 | hnsw:4,build=16 | rescore:fp16 | hybrid:bm25",
    "static | residual:2,cells=16 | multivector:4",
]


class Words(HashingEncoder):
    """Vectors for dense recipes, terms for bm25."""

    def terms(self, text):
        return re.findall(r"\w+", text.lower())


class Weights:
    """A weight for each word: what learned sparse encoders give."""

    name, dim, digest = "weights", 0, "weights"

    def encode_sparse(self, texts, *, kind="passage", batch_size=64, progress=False):
        words = [sorted({crc32(word.encode()) % 1000 for word in re.findall(r"\w+", text.lower())}) for text in texts]
        columns = np.concatenate([np.array(line, dtype=np.int64) for line in words])
        ends = np.concatenate([[0], np.cumsum([len(line) for line in words])])
        values = 1 + (columns % 7).astype(np.float32)
        return sparse.csr_array((values, columns, ends), shape=(len(texts), 1000))


def encoder(recipe):
    return Weights() if "impact" in recipe else Words(24)


def make(path, records, recipe):
    engine.build(records, path, recipe, encoder=encoder(recipe), fs=NoSync()).close()


def ask(path, recipe):
    with engine.open(path, encoder=encoder(recipe), fs=NoSync()) as index:
        for k in (3, 300):
            index.results(index.search(QUERIES, k=k))
        index.search(QUERIES, k=3, where="tags has 'odd' or title contains 'a' or year < 2003")


def forge(path, role, change=None, layout=None, name="postings_layout"):
    """Rewrite a file of the first segment, or what the manifest says of an array in it, with new checksums."""
    with Store.open(path, NoSync()) as store, store.begin() as transaction:
        segment = store.manifest.segments[0]
        data = bytearray(store.file(segment.files[role]).read())
        info = {**segment.info}
        if layout:
            info[name] = {**info[name], **{key: layout(key, value) for key, value in info[name].items()}}
        if change:
            change(data, info.get(name))
        changed = replace(segment, info=info, files={**segment.files, role: transaction.write(role, bytes(data))})
        transaction.commit(lambda manifest: replace(manifest, segments=(changed, *manifest.segments[1:])))


@pytest.fixture(scope="module")
def records():
    return [Record(r.id, r.text, r.title, r.source, r.metadata) for r in toy_records(150)]


def put(data, place, array, at, value):
    """Write one number of an array that the layout places."""
    dtype, _, offset = place[array]
    size = np.dtype(dtype).itemsize
    data[offset + at * size : offset + (at + 1) * size] = np.array([value], dtype).tobytes()


@pytest.mark.parametrize("recipe", ["bm25 | inverted", "bm25 | impact"])
def test_rows_of_a_type_that_can_be_negative_are_refused(tmp_path, records, recipe):
    """As unsigned numbers, which the loops take them for, they would lie far outside the totals."""
    make(tmp_path / "i", records, recipe)
    signed = {"<u4": "<i4", "<u2": "<i2"}
    lie = lambda name, place: [signed.get(place[0], place[0]), *place[1:]] if name in ("rows", "own") else place  # noqa: E731
    forge(tmp_path / "i", "postings", lambda data, place: put(data, place, "rows", 0, -5), lie)
    with pytest.raises(CorruptIndex, match="of type int"):
        ask(tmp_path / "i", recipe)


@pytest.mark.parametrize("dtype", ["|S0", "<U3", "<c8", "<f4"])
def test_arrays_of_other_types_are_refused(tmp_path, records, dtype):
    make(tmp_path / "i", records, "bm25 | inverted")
    forge(tmp_path / "i", "postings", layout=lambda name, place: [dtype, *place[1:]] if name == "rows" else place)
    with pytest.raises(CorruptIndex):
        ask(tmp_path / "i", "bm25 | inverted")


def test_arrays_that_do_not_lie_as_they_should_are_refused(tmp_path, records):
    make(tmp_path / "i", records, "bm25 | inverted")
    forge(tmp_path / "i", "postings", layout=lambda name, place: [place[0], place[1] - 1, place[2] + 1])
    with pytest.raises(CorruptIndex, match="none of ours"):
        ask(tmp_path / "i", "bm25 | inverted")


@pytest.mark.parametrize("recipe", RECIPES)
def test_any_forged_file_gives_an_answer_or_one_line(tmp_path, records, recipe):
    whole = tmp_path / "i"
    make(whole, records, recipe)
    rng = np.random.default_rng(0)
    refused = 0
    with Store.open(whole, NoSync()) as store:
        original = store.manifest.segments[0]
        roles = {role: bytes(store.file(entry).read()) for role, entry in original.files.items()}
    for _ in range(40):
        role = str(rng.choice(sorted(roles)))
        worst = rng.choice([0, 0x7F, 0x80, 0xFF], 64).astype(np.uint8).tobytes()
        at = 4 * int(rng.integers(0, max(1, len(roles[role]) // 4)))

        def change(data, _, role=role, at=at, worst=worst):
            data[:] = roles[role]
            data[at : at + 64] = worst[: len(data[at : at + 64])]

        forge(whole, role, change)
        try:
            ask(whole, recipe)
        except SememeError:
            refused += 1
        forge(whole, role, lambda data, _, role=role: data.__setitem__(slice(None), roles[role]))
    assert refused
    ask(whole, recipe)


def rewrite(path, name, change, body=None):
    with Store.open(path, NoSync()) as store, store.begin() as transaction:
        data = bytearray(store.file(store.manifest.files[name]).read())
        change(data, store.manifest.body["layout"])
        entry = transaction.write(name, bytes(data))
        update = lambda manifest: replace(  # noqa: E731
            manifest, files={**manifest.files, name: entry}, body={**manifest.body, **(body or {})}
        )
        transaction.commit(update)


def test_a_table_of_words_without_a_free_place_ends_a_search(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    KeyedVectors([f"w{row}" for row in range(50)], vectors).save(tmp_path / "k")

    def fill(value):
        def change(data, layout):
            dtype, length, offset = layout["table"]
            data[offset : offset + 4 * length] = np.full(length, value, dtype).tobytes()

        return change

    rewrite(tmp_path / "k", "words", fill(7))
    assert "another" not in KeyedVectors.open(tmp_path / "k")
    rewrite(tmp_path / "k", "words", fill(10_000))
    with pytest.raises(CorruptIndex, match="names row 10000"):
        KeyedVectors.open(tmp_path / "k").row("w3")
    rewrite(tmp_path / "k", "words", fill(7), {"error": 1e300})
    with pytest.raises(CorruptIndex, match="away from"):
        KeyedVectors.open(tmp_path / "k")


def test_vectors_that_are_no_numbers_end_a_search_for_neighbours(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    KeyedVectors([f"w{row}" for row in range(300)], vectors).save(tmp_path / "k")
    rewrite(tmp_path / "k", "vectors", lambda data, _: data.__setitem__(slice(None), b"\xff" * len(data)))
    assert len(KeyedVectors.open(tmp_path / "k").neighbours(np.ones(8, np.float32), 3)) <= 3  # and it ends


@pytest.mark.parametrize("recipe", ["rabitq:2 | flat", "rabitq:2 | ivf:4", "rabitq:2 | flat | rescore:fp16"])
def test_codes_without_a_scale_are_not_found(tmp_path, recipe):
    vectors = np.random.default_rng(0).standard_normal((200, 24)).astype(np.float32)
    VectorIndex.build(tmp_path / "v", vectors, recipe).close()
    forge(tmp_path / "v", "codes", lambda data, _: data.__setitem__(slice(None), b"\xff" * len(data)))
    with VectorIndex.open(tmp_path / "v") as index:
        scores, rows = index.search(vectors[:3], k=250)
    assert scores.shape == rows.shape == (3, 250) and rows.max() < 200


def test_an_order_that_names_a_row_twice_is_refused(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((200, 24)).astype(np.float32)
    VectorIndex.build(tmp_path / "v", vectors, "int8 | ivf:4").close()

    def twice(data, _):
        data[:4] = data[4:8]

    forge(tmp_path / "v", "order", twice)
    with VectorIndex.open(tmp_path / "v") as index, pytest.raises(CorruptIndex, match="twice"):
        index.search(vectors[:1], rows=np.arange(10))
