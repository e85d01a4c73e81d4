"""Any damage to any file of a whole index: an error that says so, or the answers of the undamaged index."""

import random
import shutil
from itertools import pairwise

import pytest
from faulty_fs import NoSync

from sememe.contracts import Record
from sememe.errors import CorruptIndex, FormatError
from sememe.index import engine
from sememe.index.storage import check
from sememe.testing import HashingEncoder, toy_records

ENCODER = HashingEncoder(32)
QUERIES = ["rook and knight", "comet", "bread in the oven"]
WHERE = "year >= 2005 and not tags has 'odd'"
RECIPES = [
    "static | pca:16 | int8 | hnsw:4,build=16 | rescore:fp16",
    "sentences:1 | static | binary | flat | hybrid:bm25",
]


def answers(path):
    with engine.open(path, encoder=ENCODER, fs=NoSync()) as index:
        whole = index.search(QUERIES, k=5)
        some = index.search(QUERIES, k=5, where=WHERE)
        return index.results(whole), index.results(some)


@pytest.fixture(scope="module", params=RECIPES)
def built(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "i"
    records = [Record(r.id, r.text.replace(". ", ". A"), r.title, r.source, r.metadata) for r in toy_records(150)]
    index = engine.build(records[:120], path, request.param, encoder=ENCODER, fs=NoSync())
    index.add(records[120:])
    index.delete(["doc-8"])
    index.close()
    engine.open(path).store.vacuum(keep=1)
    return path, answers(path)


def mutate(data, rng):
    kind = rng.choice(["bit", "byte", "zero", "cut", "grow", "head", "tail"])
    data = bytearray(data)
    at = rng.randrange(len(data))
    if kind == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        data[at] = (data[at] + rng.randrange(1, 256)) % 256
    elif kind == "zero":
        data[at : at + 512] = bytes(len(data[at : at + 512]))
    elif kind == "cut":
        del data[at:]
    elif kind == "grow":
        data += rng.randbytes(rng.randrange(1, 100))
    else:
        at = rng.randrange(min(64, len(data))) if kind == "head" else len(data) - 1 - rng.randrange(min(64, len(data)))
        data[at] ^= 255
    return bytes(data)


def test_mutated_files(built, tmp_path):
    path, expected = built
    rng = random.Random(0)
    names = sorted(file.name for file in path.iterdir() if file.name.startswith("manifest") or file.suffix == ".seg")
    outcomes = {"error": 0, "same": 0}
    copy = tmp_path / "c"
    shutil.copytree(path, copy)
    for round_ in range(800):
        name = names[round_ % len(names)]
        original = (path / name).read_bytes()
        (copy / name).unlink()
        if rng.random() > 0.05:
            (copy / name).write_bytes(mutate(original, rng))
        changed = not (copy / name).exists() or (copy / name).read_bytes() != original
        try:
            assert answers(copy) == expected, name
            outcomes["same"] += 1
        except (CorruptIndex, FormatError) as error:
            assert changed, error
            outcomes["error"] += 1
        if changed:
            assert not check.verify(copy, NoSync()).ok, name
        (copy / name).write_bytes(original)
    assert outcomes["error"] > 400
    assert answers(copy) == expected


def test_swapped_files(built, tmp_path):
    path, _ = built
    segments = sorted(path.glob("*.seg"))
    for a, b in pairwise(segments):
        copy = tmp_path / a.stem
        shutil.copytree(path, copy)
        (copy / a.name).write_bytes(b.read_bytes())
        (copy / b.name).write_bytes(a.read_bytes())
        with pytest.raises(CorruptIndex):
            answers(copy)
        shutil.rmtree(copy)


def test_full_verification_finds_what_no_answer_touches(built, tmp_path):
    path, _ = built
    copy = tmp_path / "c"
    shutil.copytree(path, copy)
    for file in sorted(copy.glob("*.seg")):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 4
        file.write_bytes(data)
        with pytest.raises(CorruptIndex, match=file.name):
            engine.open(copy, verify="full", encoder=ENCODER)
        data[len(data) // 2] ^= 4
        file.write_bytes(data)
    assert engine.open(copy, verify="full", encoder=ENCODER).verify().ok


def test_a_damaged_graph_is_never_parsed(built, tmp_path):
    path, _ = built
    graphs = sorted(path.glob("graph-*.seg"))
    if not graphs:
        pytest.skip("this recipe has no graph")
    copy = tmp_path / "c"
    shutil.copytree(path, copy)
    for file in graphs:
        data = bytearray(file.read_bytes())
        data[100:2000] = bytes(255 for _ in data[100:2000])
        (copy / file.name).write_bytes(data)
    index = engine.open(copy, verify="off", encoder=ENCODER)
    with pytest.raises(CorruptIndex, match="graph"):
        index.search("comet", k=3)
