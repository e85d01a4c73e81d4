"""The cascade inside an index: nearly the flat ranking, exact scores, filters, changes, bytes as predicted, damage."""

from pathlib import Path

import numpy as np
import pytest
from faulty_fs import NoSync

from sememe.contracts import Vectors
from sememe.errors import CorruptIndex, InputError
from sememe.index import cascade_kind, engine
from sememe.index.cascade_kind import FEWEST, CascadeKind
from sememe.index.code_rows import CodeRows
from sememe.index.sketch import Sketch
from sememe.index.vectors import VectorIndex
from sememe.kernels import native
from sememe.recipe import Recipe
from sememe.testing import HashingEncoder, clustered_vectors, toy_records

N, D, K = 10_500, 40, 10
RECIPES = ("fp32 | cascade", "fp16 | cascade:2", "int8 | cascade", "power:4 | cascade:2",
           "pca:32 | int8 | cascade | rescore:fp32,full=true,oversample=20")  # fmt: skip


@pytest.fixture(scope="module")
def data() -> Vectors:
    return clustered_vectors(N, D, clusters=60)


@pytest.fixture(scope="module")
def queries() -> Vectors:
    return clustered_vectors(N + 20, D, clusters=60)[N:]


def built(tmp_path: Path, data: Vectors, recipe: str, **options: object) -> VectorIndex:
    return VectorIndex.build(tmp_path / "v", data, recipe, checkpoint=6000, fs=NoSync(), **options)


def decoded(index: VectorIndex) -> Vectors:
    quantizer, fine = index._pipeline.chain.quantizer, index._pipeline.fine
    return np.concatenate([s.vectors(quantizer, fine, np.arange(s.passages)) for s in index._segments])


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found.tolist(), truth.tolist(), strict=True)]))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("level", ["numpy", "native"])
def test_it_finds_nearly_what_a_scan_of_the_codes_finds(
    recipe: str, level: str, data: Vectors, queries: Vectors, tmp_path: Path
) -> None:
    if level == "native" and native.core() is None:
        pytest.skip("the native core is not built")
    index = built(tmp_path, data, recipe)
    assert [s.passages for s in index._segments] == [6000, 4500]
    exact = queries @ decoded(index).T
    truth = np.argsort(-exact, axis=1, kind="stable")[:, :K]
    with native.using(level if level == "numpy" else native.level()):
        scores, rows = index.search(queries, K)
        one = [index.search(queries[i : i + 1], K) for i in range(3)]
        _, whole = index.search(queries, K, probes=6000)
    np.testing.assert_allclose(scores, np.take_along_axis(exact, rows, axis=1), atol=3e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert recall(rows, truth) >= 0.99
    for i, (_, alone) in enumerate(one):
        np.testing.assert_array_equal(alone[0], rows[i])
    assert recall(whole, truth) >= recall(rows, truth) - 0.005


@pytest.mark.parametrize("recipe", RECIPES[:4])
def test_filters_and_deletions_never_leave_a_search_short(
    recipe: str, data: Vectors, queries: Vectors, tmp_path: Path
) -> None:
    index = built(tmp_path, data, recipe)
    exact = queries @ decoded(index).T
    generator = np.random.default_rng(3)
    gone = np.zeros(N, dtype=bool)
    for part in (0, 100, 3000):
        if part:
            more = np.flatnonzero(generator.permutation(N) < part)
            index.delete(more)
            gone[more] = True
        for share in (1.0, 0.5, 0.05, 0.002, 0.0):
            allow = generator.random(N) < share
            left = np.where(allow & ~gone, exact, -np.inf)
            count = min(K, int((allow & ~gone).sum()))
            truth = np.argsort(-left, axis=1, kind="stable")[:, :count]
            for given in ({"allow": allow}, {"rows": np.flatnonzero(allow)}):
                scores, rows = index.search(queries, K, **given)
                assert (rows[:, count:] == -1).all() and (rows[:, :count] >= 0).all()
                assert (allow & ~gone)[rows[:, :count]].all()
                if share <= 0.05:  # few enough to score every one
                    np.testing.assert_allclose(scores[:, :count], np.take_along_axis(left, truth, axis=1), atol=3e-5)
                elif count:
                    assert recall(rows, truth) >= 0.98
    with VectorIndex.open(tmp_path / "v", "full") as again:
        np.testing.assert_array_equal(again.search(queries, K)[1], index.search(queries, K)[1])


def test_rows_that_come_later_are_found(data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    index = VectorIndex.build(tmp_path / "v", data[:5000], "fp32 | cascade", fs=NoSync())
    index.add(data[5000:])
    _, rows = index.search(queries, K)
    assert recall(rows, np.argsort(-(queries @ data.T), axis=1)[:, :K]) >= 0.99


def test_a_small_segment_has_no_sketches_and_is_exact(data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    X = data[: FEWEST - 1]
    index = VectorIndex.build(tmp_path / "v", X, "fp32 | cascade", fs=NoSync())
    assert "graph" not in index.info()["disk"] and CascadeKind().graph_bytes(len(X), D) == 0
    np.testing.assert_array_equal(index.search(queries, K)[1], np.argsort(-(queries @ X.T), axis=1)[:, :K])


@pytest.mark.parametrize("bits", [1, 2])
@pytest.mark.parametrize("d", [8, 37])
def test_the_bytes_are_those_that_were_promised(bits: int, d: int) -> None:
    X = clustered_vectors(FEWEST + 77, d)
    kind = CascadeKind(bits, seed=5)
    made = kind.build([X[:3000], X[3000:]], d)
    assert made is not None and made.nbytes == kind.graph_bytes(len(X), d)
    opened = kind.open(made, len(X), d)
    sketch = Sketch.fit(X, bits=bits, seed=5)
    np.testing.assert_array_equal(opened.blocks.codes(), sketch.encode(X))
    np.testing.assert_array_equal(opened.sketch.spread, sketch.spread)
    with pytest.raises(CorruptIndex, match="do not fit"):
        kind.open(made[:-64], len(X), d)


def test_memory_is_what_is_scanned(data: Vectors, tmp_path: Path) -> None:
    info = built(tmp_path, data, "fp32 | cascade").info()
    assert info["disk"]["codes"] == data.nbytes and "codes" not in info["ram"]
    assert info["ram"]["graph"] == sum(CascadeKind().graph_bytes(n, D) for n in (6000, 4500))


def test_damage_is_found(data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    index = built(tmp_path, data, "int8 | cascade")
    names = [s.files["graph"].name for s in index._store.manifest.segments]
    index.close()
    for role in names[:1]:
        path = tmp_path / "v" / role
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 4
        path.write_bytes(raw)
    with VectorIndex.open(tmp_path / "v") as opened, pytest.raises(CorruptIndex, match="damaged"):
        opened.search(queries, K)


def test_damaged_codes_are_found_when_they_are_read(data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    index = built(tmp_path, data, "fp32 | cascade")
    names = [s.files["codes"].name for s in index._store.manifest.segments]
    index.close()
    for name in names:
        path = tmp_path / "v" / name
        raw = np.fromfile(path, dtype=np.uint8)
        raw[100 : 1_000 * 4 * D : 64] ^= 1
        raw.tofile(path)
    with VectorIndex.open(tmp_path / "v") as opened:
        for given in ({}, {"allow": np.arange(N) % 3000 < 10}, {"rows": [1, 2, 3]}):
            with pytest.raises(CorruptIndex, match="damaged"):
                opened.search(queries, K, **given)


def test_a_collection_of_text_changes_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade_kind, "FEWEST", 300)
    records = toy_records(800)
    made = {
        kind: engine.build(records, tmp_path / kind, f"static | int8 | {kind}", encoder=HashingEncoder(64), fs=NoSync())
        for kind in ("flat", "cascade")
    }
    texts = [r.text for r in records[::90]]

    def same(where: str | None = None) -> None:
        flat, cascade = (index.search(texts, 5, where=where).scores for index in made.values())
        np.testing.assert_allclose(cascade, flat, atol=1e-5)

    same()
    field = next(iter(records[0].metadata))
    value = records[0].metadata[field]
    same(f"{field} == {value!r}")
    for index in made.values():
        index.delete([r.id for r in records[:350]])
    same()
    for index in made.values():
        index.compact()
    same()
    assert made["cascade"].ledger().graph == CascadeKind().graph_bytes(450, 64) > 0


@pytest.mark.parametrize(
    "text", ["cascade:3", "cascade:1,candidates=0", "cascade:1,margin=-1", "cascade:1,seed=-2", "cascade:true"]
)
def test_bad_arguments(text: str) -> None:
    with pytest.raises(InputError):
        Recipe.parse(f"fp32 | {text}", bare=True).index.make()


def test_codes_of_other_kinds_are_left_to_the_scan(data: Vectors) -> None:
    for stage in ("int4", "rabitq:2", "int8:vector", "binary"):
        quantizer = Recipe.parse(f"{stage} | flat", bare=True).quantizer.make().fit(data)
        assert CodeRows.of(quantizer, data[:2], quantizer.encode(data)) is None
