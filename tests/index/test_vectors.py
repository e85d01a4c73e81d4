"""The index over bare vectors: exact answers, filters, changes, resumed builds, limits on memory, damage, bad input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sememe.contracts import Vectors
from sememe.errors import ConflictError, CorruptIndex, FormatError, InputError, RecipeError, StorageError
from sememe.index import vector_build
from sememe.index.vector_source import Source
from sememe.index.vectors import VectorIndex
from sememe.kernels import native
from sememe.kernels.select import select
from sememe.testing import clustered_vectors

N, D = 12_000, 32
RECIPES = (
    "flat",
    "int4 | flat",
    "pca:16 | int8 | flat | rescore:fp32,full=true,oversample=400",
    "binary | ivf:64,probes=64 | rescore:fp16,oversample=1000",
    "int8 | ivf:64,probes=16",
    "rabitq:2 | flat | rescore:int8",
    "fp32 | cascade",
)


@pytest.fixture(scope="module")
def data() -> Vectors:
    return clustered_vectors(N, D, clusters=60)


@pytest.fixture(scope="module")
def queries(data: Vectors) -> Vectors:
    return clustered_vectors(N + 12, D, clusters=60)[N:]


def exact(X: Vectors, Q: Vectors, k: int, allow: np.ndarray | None = None) -> np.ndarray:
    scores = Q @ X.T
    if allow is not None:
        scores[:, ~allow] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def recall(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), wanted.tolist())]))


def decoded(index: VectorIndex) -> Vectors:
    """What the finest codes stand for, by row."""
    quantizer, fine = index._pipeline.chain.quantizer, index._pipeline.fine
    return np.concatenate([s.vectors(quantizer, fine, np.arange(s.passages)) for s in index._segments])


def payloads(index: VectorIndex) -> list[dict[str, str]]:
    return [{role: e.digest for role, e in s.files.items()} for s in index._store.manifest.segments]


@pytest.mark.parametrize("recipe", ["flat", "int8 | flat", "binary | flat", "int8 | ivf:64,probes=64"])
@pytest.mark.parametrize("level", ["numpy", "native"])
def test_all_rows_are_ranked_by_their_codes(
    recipe: str, level: str, data: Vectors, queries: Vectors, tmp_path: Path
) -> None:
    if level == "native" and native.core() is None:
        pytest.skip("the native core is not built")
    index = VectorIndex.build(tmp_path / "v", data, recipe, checkpoint=5000)
    truth = np.sort(queries @ decoded(index).T, axis=1)[:, ::-1][:, :10]
    with native.using(level if level == "numpy" else native.level()):
        scores, rows = index.search(queries, 10)
    np.testing.assert_allclose(scores, truth, atol=2e-5)
    np.testing.assert_allclose(np.take_along_axis(queries @ decoded(index).T, rows, axis=1), scores, atol=2e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_filters_are_exact_at_every_selectivity(recipe: str, data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    index = VectorIndex.build(tmp_path / "v", data, recipe, checkpoint=5000)
    space = decoded(index)
    generator = np.random.default_rng(1)
    for share in (0.5, 0.05, 0.005, 0.0005, 0.0):
        allow = generator.random(N) < share
        for scores, rows in (
            index.search(queries, 10, allow=allow),
            index.search(queries, 10, rows=np.flatnonzero(allow)[::-1]),
            index.search(queries, 10, allow=select(allow, N).bits),
        ):
            count = min(10, int(allow.sum()))
            assert (rows[:, count:] == -1).all() and np.isneginf(scores[:, count:]).all()
            assert allow[rows[:, :count]].all()
            assert all(len(set(line)) == count for line in rows[:, :count].tolist())
            if share <= 0.05 or recipe in ("flat", "int4 | flat"):  # all are scanned, so only the codes decide
                best = exact(space, queries, count, allow)
                wanted = np.take_along_axis(queries @ space.T, best, axis=1)
                np.testing.assert_allclose(scores[:, :count], wanted, atol=3e-5)


@pytest.mark.parametrize("recipe", ["int4 | flat | rescore:fp16", "int8 | hnsw:8", "fp32 | cascade", "fp16 | flat"])
def test_bits_give_what_the_mask_gives(recipe: str, data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    index = VectorIndex.build(tmp_path / "v", data, recipe)
    generator = np.random.default_rng(2)
    for deleted in ([], [3, 77, N - 1]):
        index.delete(deleted)
        for allow in (generator.random(N) < share for share in (0.9, 0.2, 0.02, 0.001)):
            by_mask, by_bits = (index.search(queries, 10, allow=a) for a in (allow, select(allow, N).bits))
            np.testing.assert_array_equal(by_bits[1], by_mask[1])
            np.testing.assert_array_equal(by_bits[0], by_mask[0])
            assert not np.isin(by_bits[1], deleted).any()
    with pytest.raises(InputError, match="uint64 of shape"):
        index.search(queries, 10, allow=np.ones(3, dtype=np.uint64))


def test_a_filter_far_from_the_query_is_answered_in_full(data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    index = VectorIndex.build(tmp_path / "v", data, "int8 | ivf:64,probes=1")
    far = np.argsort(queries[0] @ data.T)[:40]
    allow = np.zeros(N, dtype=bool)
    allow[far] = True
    _, rows = index.search(queries[:1], 20, allow=allow)
    assert set(rows[0]) <= set(far.tolist()) and len(set(rows[0])) == 20


def test_rescoring_finds_nearly_what_floats_find(data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    coarse = VectorIndex.build(tmp_path / "c", data, "binary | flat")
    both = VectorIndex.build(tmp_path / "b", data, "binary | flat | rescore:fp32")
    wanted = exact(data, queries, 10)
    assert recall(coarse.search(queries, 10)[1], wanted) < 0.8
    scores, rows = both.search(queries, 10, oversample=60)
    assert recall(rows, wanted) > 0.97
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ data.T, rows, axis=1), atol=1e-6)


def test_blocks_files_and_arrays_give_the_same_index(data: Vectors, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", data.astype(np.float64))
    with (tmp_path / "x.fbin").open("wb") as file:
        file.write(np.array(data.shape, dtype="<i4").tobytes() + data.tobytes())
    shared = np.empty((777, D), dtype=np.float32)

    def blocks() -> Iterator[Vectors]:
        for start in range(0, N, len(shared)):  # the same array again and again, as a careful reader does
            part = data[start : start + len(shared)]
            shared[: len(part)] = part
            yield shared[: len(part)]

    given = {"array": data, "npy": tmp_path / "x.npy", "fbin": tmp_path / "x.fbin", "blocks": blocks()}
    made = {
        name: payloads(VectorIndex.build(tmp_path / name, source, "int4 | ivf:32 | rescore:int8", train=data[::3]))
        for name, source in given.items()
    }
    assert made["npy"] == made["fbin"] == made["blocks"] == made["array"]


def test_samples_are_drawn_from_files_as_from_arrays(data: Vectors, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", data.astype(np.float16))
    half = data.astype(np.float16)
    with (tmp_path / "x.hbin").open("wb") as file:
        file.write(np.array(data.shape, dtype="<i4").tobytes() + half.tobytes())
    drawn = Source(half).sample(500, 3)
    assert not np.array_equal(drawn, half[:500].astype(np.float32))
    for name in ("x.npy", "x.hbin"):
        source = Source(tmp_path / name)
        np.testing.assert_array_equal(source.sample(500, 3), drawn)
        np.testing.assert_array_equal(np.concatenate(list(source.read(11_000))), half[11_000:])
    stream = Source(data[start : start + 300] for start in range(0, N, 300))
    np.testing.assert_array_equal(stream.sample(500, 3), data[:500])  # what a stream begins with, and it loses nothing
    np.testing.assert_array_equal(np.concatenate(list(stream.read(100))), data[100:])


def test_a_file_larger_than_the_sample(data: Vectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_build, "TRAIN", 1000)
    np.save(tmp_path / "x.npy", data)
    one = VectorIndex.build(tmp_path / "one", tmp_path / "x.npy", "int4 | flat")
    two = VectorIndex.build(tmp_path / "two", data, "int4 | flat", seed=0)
    other = VectorIndex.build(tmp_path / "other", data, "int4 | flat", seed=1)
    assert payloads(one) == payloads(two) != payloads(other)


def test_threads_do_not_change_the_answer(data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    index = VectorIndex.build(tmp_path / "v", data, "int4 | ivf:64 | rescore:fp16")
    for one, two in zip(index.search(queries, 10, threads=1), index.search(queries, 10, threads=4)):
        np.testing.assert_array_equal(one, two)


def test_add_delete_and_reopen(data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    ids = np.arange(N) * 3 + 7
    for recipe in ("int8 | flat", "int8 | ivf:64,probes=64"):
        path = tmp_path / recipe[-3:]
        index = VectorIndex.build(path, data[:7000], recipe, ids=ids[:7000])
        assert index.add(data[7000:], ids=ids[7000:]) == N - 7000
        best = exact(decoded(index), queries, 3)
        gone = best[:, 0]
        assert index.delete(ids[gone]) == len(set(gone.tolist()))
        assert index.delete(ids[gone]) == 0
        for now in (index, VectorIndex.open(path), VectorIndex.open(path, verify="full")):
            allow = ~np.isin(np.arange(N), gone)
            _, rows = now.search(queries, 10)
            np.testing.assert_array_equal(rows, exact(decoded(now), queries, 10, allow))
            np.testing.assert_array_equal(now.ids(rows), ids[rows])
            assert len(now) == N - len(set(gone.tolist())) and now.rows == N
        many = np.random.default_rng(0).choice(N, N // 2, replace=False)  # too many to ask for as many more
        index.delete(ids[many])
        allow[many] = False
        _, rows = index.search(queries, 10)
        np.testing.assert_array_equal(rows, exact(decoded(index), queries, 10, allow))


def test_a_change_by_another_writer_is_seen_after_refresh_only(data: Vectors, tmp_path: Path) -> None:
    first = VectorIndex.build(tmp_path / "v", data[:2000], "int8 | flat")
    second = VectorIndex.open(tmp_path / "v")
    assert first.delete([5]) == 1
    with pytest.raises(ConflictError, match="refresh"):
        second.delete([6])
    assert second.add(data[2000:3000]) == 1000  # additions stand beside deletions
    assert first.refresh() and first.rows == 3000 and len(first) == 2999
    assert not first.refresh()


KILLED = """
import os, sys, numpy as np
from sememe.index import vector_build
from sememe.index.vectors import VectorIndex
from sememe.testing import clustered_vectors

data, left = clustered_vectors({n}, {d}, clusters=60), int(sys.argv[2])
write = vector_build.write_portion

def killed(*arguments):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
    return write(*arguments)

vector_build.write_portion = killed
blocks = (data[start : start + 1000] for start in range(0, len(data), 1000))
VectorIndex.build(sys.argv[1], blocks, {recipe!r}, train=data[::4], checkpoint=4096)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that kills")
def test_a_killed_build_resumes_to_the_same_bytes(data: Vectors, tmp_path: Path) -> None:
    recipe = "binary | ivf:32 | rescore:fp16"
    whole = VectorIndex.build(tmp_path / "whole", data, recipe, train=data[::4], checkpoint=4096)
    script = textwrap.dedent(KILLED.format(n=N, d=D, recipe=recipe))
    path = tmp_path / "killed"
    died = subprocess.run([sys.executable, "-c", script, str(path), "2"], env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert died.returncode == -signal.SIGKILL
    with pytest.raises(FormatError, match=r"stopped after 8192 rows.*goes on from there"):
        VectorIndex.open(path)
    with pytest.raises(StorageError, match="index here already"):
        VectorIndex.build(tmp_path / "whole", data)
    wrong = data.copy()
    wrong[5000] += 1
    with pytest.raises(InputError, match="rows 4096 to 8192 are not those"):
        VectorIndex.build(path, wrong, recipe, train=data[::4], checkpoint=4096)
    with pytest.raises(InputError, match=r"recipe .*was interrupted here"):
        VectorIndex.build(path, data, "int8 | flat")
    seen: list[int] = []

    def blocks() -> Iterator[Vectors]:
        for start in range(0, N, 900):
            seen.append(start)
            yield data[start : start + 900]

    resumed = VectorIndex.build(path, blocks(), recipe, train=data[::4], checkpoint=4096)
    assert payloads(resumed) == payloads(whole) and seen[-1] < N
    assert VectorIndex.open(path, verify="full").rows == N
    assert not [name for name in os.listdir(path) if name.startswith("tmp.")]


@pytest.mark.parametrize("resume", [True, False])
def test_a_build_that_only_learned(resume: bool, data: Vectors, tmp_path: Path) -> None:
    script = KILLED.format(n=N, d=D, recipe="int4 | flat")
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "v"), "0"], env={**os.environ, "OMP_NUM_THREADS": "1"})
    with pytest.raises(FormatError, match="stopped after 0 rows"):
        VectorIndex.open(tmp_path / "v")
    recipe = "int4 | flat" if resume else "int8 | flat"
    index = VectorIndex.build(tmp_path / "v", data[:5000], recipe, resume=resume)
    assert index.rows == 5000 and str(index.recipe) == recipe


def test_memory_sets_the_portions(data: Vectors, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"too little .*give at least \d+MB"):
        VectorIndex.build(tmp_path / "a", data, "int8 | ivf:64", memory="100MB")
    wide = clustered_vectors(20_000, 256)
    tight = VectorIndex.build(tmp_path / "b", wide, "int4 | flat | rescore:int8", memory="220MB")
    loose = VectorIndex.build(tmp_path / "c", wide, "int4 | flat | rescore:int8")
    assert tight.info()["segments"] > 1 == loose.info()["segments"]
    for bad in ("much", "4 parsecs", True, -1):
        with pytest.raises(InputError, match="is not a size"):
            VectorIndex.build(tmp_path / "d", data, memory=bad)


def test_the_ledger_counts_every_byte_on_disk(data: Vectors, tmp_path: Path) -> None:
    index = VectorIndex.build(tmp_path / "v", data, "binary | ivf:64 | rescore:fp16", ids=np.arange(N))
    index.delete([1, 2])
    facts = VectorIndex.open(tmp_path / "v").info()
    assert (
        facts["ram"]["codes"] == N * D // 8 and facts["disk"]["rescore"] == N * D * 2 and facts["disk"]["ids"] == 8 * N
    )
    assert "rescore" not in facts["ram"] and facts["disk"]["order"] == 4 * N and facts["live"] == N - 2
    manifest = index._store.manifest
    named = sum((tmp_path / "v" / entry.name).stat().st_size for entry in manifest.entries())
    assert facts["disk"]["total"] == named + len(manifest.to_bytes())


@pytest.mark.parametrize("role", ["codes", "rescore", "order", "lists", "cells", "chain"])
def test_damage_is_found_and_named(role: str, data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    VectorIndex.build(tmp_path / "v", data, "int8 | ivf:64,probes=64 | rescore:fp16")
    (victim,) = (tmp_path / "v").glob(f"{role}-*.seg")
    raw = bytearray(victim.read_bytes())
    raw[100] ^= 4
    victim.write_bytes(raw)
    with pytest.raises(CorruptIndex, match=victim.name):
        VectorIndex.open(tmp_path / "v").search(queries, 10, oversample=N)
    with pytest.raises(CorruptIndex, match=victim.name):
        VectorIndex.open(tmp_path / "v", verify="full")


def test_hnsw_works_over_vectors(data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    index = VectorIndex.build(tmp_path / "v", data[:4000], "int8 | hnsw:16 | rescore:fp32")
    assert recall(index.search(queries, 10)[1], exact(data[:4000], queries, 10)) > 0.9


@pytest.mark.parametrize(
    "recipe",
    [
        *("fp32 | flat", "int8 | flat", "rabitq:2 | ivf:8", "int4 | cascade", "pq:4 | hnsw"),
        *("int4 | cascade | rescore:fp16", "rabitq:2 | flat | rescore:int8", "pq:4 | cascade"),
    ],
)
def test_queries_that_overflow_or_are_none(recipe: str, data: Vectors, tmp_path: Path) -> None:
    """Products of huge numbers have no order: such rows are not found, and other queries do not notice."""
    index = VectorIndex.build(tmp_path / "v", data[:5000], recipe)
    index.add(data[5000:5100])
    for k in (3, 300):
        alone, rows = index.search(data[:1], k)
        mixed = index.search(np.vstack([data[:1], np.full((1, D), 3e38, dtype=np.float32)]), k)
        assert mixed[1].shape == (2, k) and mixed[1].max() < 5100
        np.testing.assert_allclose(mixed[0][0], alone[0], rtol=1e-4, atol=1e-5)
        for allow in (None, np.arange(5100) % 2 == 0, np.arange(5100) < 40):
            none = index.search(data[:0], k, allow=allow)
            assert none[0].shape == none[1].shape == (0, k)
            found = index.search(np.full((2, D), -3e38, dtype=np.float32), k, allow=allow)[1]
            assert allow is None or allow[found[found >= 0]].all()
        np.testing.assert_array_equal(index.search(data[:1], k, oversample=1 << 62)[1].shape, rows.shape)


def test_bad_input_is_refused_in_one_line(data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    holed = data[:3000].copy()
    holed[2345, 3] = np.nan
    (tmp_path / "cut.fbin").write_bytes(np.array([10, D], dtype="<i4").tobytes() + data[:9].tobytes())
    (tmp_path / "x.npy").write_bytes(b"nothing")
    (tmp_path / "x.csv").write_text("1,2")
    build = lambda source, recipe="int8 | flat", **more: VectorIndex.build(tmp_path / "bad", source, recipe, **more)  # noqa: E731
    cases = [
        (lambda: build(holed), "row 2345"),
        (lambda: build(iter([data[:100], holed])), "row 2445"),
        (lambda: build(iter([data[:100], data[:5, :8]])), "row 100 has 8 columns, expected 32"),
        (lambda: build(iter([])), "there are no vectors"),
        (lambda: build(data[:0]), "there are no vectors"),
        (lambda: build(data[0]), r"shape \(n, d\)"),
        (lambda: build(7), "cannot be read from int"),
        (lambda: build(tmp_path / "cut.fbin"), "cut.fbin.*cut short"),
        (lambda: build(tmp_path / "x.npy"), "x.npy.*not a .npy file"),
        (lambda: build(tmp_path / "x.csv"), "x.csv.*unknown kind"),
        (lambda: build(tmp_path / "none.npy"), "none.npy.*cannot read"),
        (lambda: build(data, ids=np.arange(5)), "5 ids were given"),
        (lambda: build(iter([data]), ids=np.arange(N + 1)), "ids were given"),
        (lambda: build(data, ids=np.ones(N)), "whole numbers"),
        (lambda: build(data, checkpoint=10), "too few"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    for recipe, message in (
        ("static | int8 | flat", "works on text"),
        ("int8", "has no index"),
        ("inverted", "one vector a row"),
        ("int8 | flat | hybrid:bm25", "one vector a row"),
    ):
        with pytest.raises(RecipeError, match=message):
            build(data, recipe)
    index = VectorIndex.build(tmp_path / "good", data, "int8 | flat")
    for more, message in (
        ({"k": 0}, "k must be"),
        ({"allow": np.ones(5, bool)}, "allow must be bool"),
        ({"allow": np.ones(N)}, "allow must be bool"),
        ({"rows": [N]}, "there are 12000"),
        ({"rows": [0.5]}, "whole numbers"),
        ({"rows": [1], "allow": np.ones(N, bool)}, "both given"),
        ({"oversample": 0}, "oversample"),
        ({"probes": 2.5}, "probes"),
        ({"threads": 0}, "threads"),
    ):
        with pytest.raises(InputError, match=message):
            index.search(queries, **more)
    with pytest.raises(InputError, match="expected 32"):
        index.search(queries[:, :8])
    with pytest.raises(InputError, match="ids are given for all"):
        index.add(data[:10], ids=np.arange(10))
    with pytest.raises(InputError, match="expected 32"):
        index.add(data[:10, :5])


def test_records_and_vectors_are_not_mixed_up(data: Vectors, tmp_path: Path) -> None:
    import sememe
    from sememe.testing import HashingEncoder, toy_records

    sememe.build(toy_records(30), tmp_path / "r", encoder=HashingEncoder(16)).close()
    with pytest.raises(FormatError, match=r"not an index over bare vectors.*sememe\.open"):
        VectorIndex.open(tmp_path / "r")
    VectorIndex.build(tmp_path / "v", data[:100]).close()
    with pytest.raises(FormatError):
        sememe.open(tmp_path / "v")
