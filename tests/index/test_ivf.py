"""Inverted lists: their cells, what probes find, and the same kind in an index of records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sememe
from sememe.contracts import Vectors
from sememe.errors import CorruptIndex, InputError
from sememe.index.ivf import Ivf, arranged
from sememe.index.vectors import VectorIndex
from sememe.kernels import cells as cells_module
from sememe.kernels.cells import Cells
from sememe.testing import HashingEncoder, clustered_vectors, toy_records

N, D = 20_000, 32


@pytest.fixture(scope="module")
def data() -> Vectors:
    return clustered_vectors(N, D, clusters=300)


@pytest.fixture(scope="module")
def queries() -> Vectors:
    return clustered_vectors(N + 50, D, clusters=300)[N:]


@pytest.mark.parametrize("count", [1, 7, 256, 400])
def test_rows_go_to_the_cell_with_the_highest_score(count: int, data: Vectors) -> None:
    cells = Cells.fit(data[::4], count)
    assert len(cells) == count and cells.first[-1] == count
    best = (data.astype(np.float64) @ cells.centres.T.astype(np.float64) - cells.handicap).argmax(axis=1)
    same = (cells.assign(data) == best).mean()
    assert same == 1.0 if count <= 256 else same > 0.93  # beyond, only the nearest groups are looked at


def test_cells_are_evenly_filled_and_near_their_rows(data: Vectors) -> None:
    cells = Cells.fit(data, 400)
    owner = cells.assign(data)
    sizes = np.bincount(owner, minlength=400)
    assert 400 * np.sum((sizes / N) ** 2) < 1.5 and sizes.max() < 6 * N / 400
    gap = np.square(data - cells.centres[owner]).sum(axis=1).mean()
    drawn = data[np.random.default_rng(0).choice(N, 400, replace=False)]
    apart = (1 + np.square(drawn).sum(axis=1) - 2 * data @ drawn.T).min(axis=1).mean()
    assert gap < 0.75 * apart  # learned centres lie nearer than rows drawn at random


def test_the_handicap_evens_out_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    middles = generator.standard_normal((300, 16))
    crowd = 1 / np.arange(1, 301)
    chosen = generator.choice(300, 8000, p=crowd / crowd.sum())
    X = (middles[chosen] + 0.7 * generator.standard_normal((8000, 16))).astype(np.float32)
    spread = []
    for rate, refine in ((0.0, 4), (cells_module._RATE, 4), (10 * cells_module._RATE, 20)):
        monkeypatch.setattr(cells_module, "_RATE", rate)
        sizes = np.bincount(Cells.fit(X, 40, refine=refine).assign(X), minlength=40)
        spread.append(40 * np.sum((sizes / len(X)) ** 2))
    assert spread[1] < spread[0] - 0.03
    assert spread[2] < spread[0]  # and it cannot run away, however hard it pushes


def test_degenerate_rows_make_cells_too() -> None:
    same = np.ones((500, 4), dtype=np.float32)
    cells = Cells.fit(same, 300)
    assert np.isfinite(cells.centres).all() and np.isfinite(cells.handicap).all()
    offsets, order = arranged(cells, [same[:200], same[200:]])
    assert offsets[-1] == 500 and sorted(order.tolist()) == list(range(500))
    few = Cells.fit(same[:3], 10)
    assert len(few) == 10


def test_the_same_seed_gives_the_same_cells(data: Vectors) -> None:
    one, two, other = (Cells.fit(data[:4000], 300, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.centres, two.centres)
    assert not np.array_equal(one.centres, other.centres)


def test_more_probes_find_more_and_all_find_all(data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    index = VectorIndex.build(tmp_path / "v", data, "fp32 | ivf:256")
    exact = np.argsort(-(queries @ data.T), axis=1, kind="stable")[:, :10]
    shares = []
    for probes in (1, 4, 16, 64, 256):
        scores, rows = index.search(queries, 10, probes=probes)
        found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), exact.tolist())])
        shares.append(found)
        np.testing.assert_allclose(scores, np.take_along_axis(queries @ data.T, rows, axis=1), atol=1e-5)
    assert shares == sorted(shares) and shares[2] > 0.9 and shares[-1] == 1.0
    assert shares[0] < 0.95  # one list does not hold everything


def test_probes_grow_until_k_rows_are_found(data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    index = VectorIndex.build(tmp_path / "v", data, "int8 | ivf:256,probes=1")
    _, rows = index.search(queries[:5], 900)
    assert (rows >= 0).all() and all(len(set(line)) == 900 for line in rows.tolist())


def test_a_filter_does_not_lower_recall(data: Vectors, queries: Vectors, tmp_path: Path) -> None:
    index = VectorIndex.build(tmp_path / "v", data, "fp32 | ivf:256,probes=16")
    generator = np.random.default_rng(3)
    for share in (0.9, 0.5, 0.2, 0.1):
        allow = generator.random(N) < share
        scores = queries @ data.T
        scores[:, ~allow] = -np.inf
        exact = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        _, rows = index.search(queries, 10, allow=allow)
        assert allow[rows].all()
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows.tolist(), exact.tolist())]) > 0.9


def test_lists_in_an_index_of_records(tmp_path: Path) -> None:
    records, encoder = toy_records(1500), HashingEncoder(24)
    flat = sememe.build(records, tmp_path / "flat", recipe="static | int8 | flat", encoder=encoder)
    recipe = "static | int8 | ivf:32,probes=32"
    whole = sememe.build(records[:1000], tmp_path / "ivf", recipe=recipe, encoder=encoder)
    whole.add(records[1000:])
    query = ["yeast dough butter", "comet orbit"]
    one, two = flat.search(query, 10), whole.search(query, 10)
    np.testing.assert_allclose(two.scores, one.scores, atol=0.02)  # codes are fitted on different samples
    narrow = sememe.build(records, tmp_path / "few", recipe="static | int8 | ivf:32,probes=8", encoder=encoder)
    found = narrow.search(query, 10)
    np.testing.assert_allclose(found.scores[:, 0], one.scores[:, 0], atol=1e-6)
    where = "topic = 'chess' and year = 2003"
    np.testing.assert_array_equal(narrow.search(query, 5, where=where).ids, flat.search(query, 5, where=where).ids)
    narrow.delete([found.ids[0, 0]])
    assert found.ids[0, 0] not in narrow.search(query, 10).ids[0]
    narrow.compact()
    assert sememe.open(tmp_path / "few", "full", encoder=encoder).search(query, 10).ids.shape == (2, 10)


def test_the_bytes_of_lists_are_predicted(data: Vectors) -> None:
    for n in (1, 15, 100, 5000):
        for lists in (1, 64, 300):
            kind = Ivf(lists)
            made = kind.build([data[: n // 2], data[n // 2 : n]], D)
            assert made is not None and len(made) == kind.graph_bytes(n, D)
            opened = kind.open(made, n, D)
            assert opened.order is not None and sorted(opened.order.tolist()) == list(range(n))
    assert Ivf(8).build([], D) is None and Ivf(8).graph_bytes(0, D) == 0


def test_lists_that_do_not_fit_are_refused(data: Vectors) -> None:
    kind = Ivf(16)
    made = kind.build([data[:800]], D)
    assert made is not None
    with pytest.raises(CorruptIndex, match="do not fit"):
        kind.open(made, 801, D)
    bad = made.copy()
    bad[-64:] = 255
    with pytest.raises(CorruptIndex, match="rows that are not there"):
        kind.open(bad, 800, D)
    for options in ({"lists": 0}, {"lists": 1 << 20}, {"lists": 8, "probes": 9}, {"lists": 8, "probes": True}):
        with pytest.raises(InputError, match="whole number"):
            Ivf(**options)
