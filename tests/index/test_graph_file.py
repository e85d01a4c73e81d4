"""The file of a graph of our own: exact size, hostile bytes, filters, old files, and life without the native core."""

import tempfile
from functools import cache

import numpy as np
import pytest
from faulty_fs import NoSync
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.errors import CorruptIndex, FormatError, SememeError
from sememe.index import graph_file, ledger
from sememe.index.graph import Hnsw
from sememe.index.graph_usearch import Usearch
from sememe.index.vectors import VectorIndex
from sememe.kernels import native
from sememe.kernels.graph import LinkGraph
from sememe.testing import clustered_vectors

pytestmark = pytest.mark.skipif(native.core() is None, reason="the native core was not built here")
N, D = 6000, 24
X = clustered_vectors(N + 60, D, clusters=80, seed=2)
Q = X[N:]
SMALL = X[:400]


@pytest.fixture(scope="module", params=["int8", "int4", "fp16"])
def index(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("graph") / "i"
    return VectorIndex.build(place, X[:N], f"{request.param} | hnsw:12,ef=16,build=60", fs=NoSync())


def exact(rows, k=10):
    return rows[np.argsort(-(Q @ X[rows].T), axis=1, kind="stable")[:, :k]]


def share(found, truth):
    return np.mean([len({*a} & {*b}) / len(b) for a, b in zip(found.tolist(), truth.tolist())])


def flat_scores(index, rows):
    """What the codes say of each query's rows ``(q, k)``."""
    segment, chain = index._segments[0], index._pipeline.chain
    return np.concatenate([chain.scores(Q[i : i + 1], segment.codes[some]) for i, some in enumerate(rows)])


def test_walks_find_most_and_score_as_the_codes_do(index, monkeypatch):
    truth = exact(np.arange(N))
    by_scan = share(index.search(Q, 10, probes=4096)[1], truth)
    asked = []
    search = LinkGraph.search
    monkeypatch.setattr(LinkGraph, "search", lambda *given, **more: asked.append(given) or search(*given, **more))
    scores, rows = index.search(Q, 10, probes=16)
    assert asked  # it was a walk
    assert share(rows, truth) > by_scan - 0.1
    np.testing.assert_allclose(scores, flat_scores(index, rows), atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("part", [0.8, 0.5, 0.3])
def test_filters_are_kept_and_lines_are_full(index, part):
    mask = np.random.default_rng(7).random(N) < part
    scores, rows = index.search(Q, 10, allow=mask, probes=10)
    assert mask[rows].all() and rows.shape == (len(Q), 10)
    np.testing.assert_allclose(scores, flat_scores(index, rows), atol=1e-5)
    wide = index.search(Q, 10, allow=mask, probes=4096)[1]  # a scan
    assert share(rows, wide) > 0.55  # ten candidates are kept for ten answers
    same = index.search(Q, 10, rows=np.flatnonzero(mask), probes=10)[1]
    np.testing.assert_array_equal(same, rows)


@given(seed=st.integers(0, 2**32), passing=st.integers(0, N), k=st.integers(1, 300), spread=st.booleans())
@settings(max_examples=25, deadline=None)
def test_never_short_of_k(seed, passing, k, spread):
    index, _ = _shared()
    mask = np.zeros(N, dtype=bool)
    if spread:
        mask[np.random.default_rng(seed).choice(N, passing, replace=False)] = True
    else:
        mask[np.argsort(X[:N] @ Q[seed % len(Q)])[:passing]] = True
    scores, rows = index.search(Q[:3], k, allow=mask, probes=1 + seed % 20)
    wanted = min(k, passing)
    assert (rows[:, :wanted] >= 0).all() and (rows[:, wanted:] == -1).all()
    assert mask[rows[:, :wanted]].all() and np.isneginf(scores[:, wanted:]).all()
    assert all(len({*line}) == wanted for line in rows[:, :wanted].tolist())


@cache
def _shared():
    place = tempfile.TemporaryDirectory()
    return VectorIndex.build(f"{place.name}/i", X[:N], "int8 | hnsw:12,build=60", fs=NoSync()), place


def test_deleted_rows_are_walked_around(tmp_path):
    index = VectorIndex.build(tmp_path / "i", X[:N], "int8 | hnsw:12,ef=16,build=60", fs=NoSync())
    before = index.search(Q, 10)[1]
    gone = np.unique(before[:, :5])
    index.delete(gone)
    after = index.search(Q, 10)[1]
    assert not np.isin(after, gone).any() and (after >= 0).all()
    assert share(after, exact(np.setdiff1d(np.arange(N), gone))) > 0.8
    index.add(X[:200])
    assert index.search(Q, 10)[1].shape == (len(Q), 10)
    assert VectorIndex.open(tmp_path / "i", fs=NoSync()).search(Q, 10)[1].shape == (len(Q), 10)


@pytest.mark.parametrize("codec", ["int8", "int4"])
@pytest.mark.parametrize("n", [1, 63, 900])
def test_bytes_are_exactly_those_promised(codec, n):
    kind = Hnsw(7, build=16)
    kind.over({"int8": _int8, "int4": object}[codec]())
    file = kind.build([X[: n // 2], X[n // 2 : n]], D)
    assert len(file) == kind.graph_bytes(n, D)
    promised = ledger.predict(f"static | {codec} | hnsw:7,build=16", passages=n, records=n, dim=D, id_bytes=1).graph
    assert promised == len(file)
    assert kind.graph_bytes(0, D) == 0 and kind.build([], D) is None


def _int8():
    from sememe.codec import Int8

    return Int8()


@cache
def _file(own=True):
    file = graph_file.write([SMALL], 8, 20, own=own)
    assert file is not None
    return file


@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_hostile_bytes_give_an_error_or_an_answer(data):
    file = _file().copy()
    kind = Hnsw(4)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, 63) | st.integers(0, len(file) - 1))
        file[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        file = file[: data.draw(st.integers(8, len(file)))]
    if not graph_file.is_ours(file):
        return
    try:
        opened = kind.open(file, len(SMALL), D)
    except SememeError:
        return
    found = kind.candidates(opened, None, np.empty((len(SMALL), 0), dtype=np.uint8), Q[:4], 20)
    assert found.shape[0] == 4 and ((found >= -1) & (found < len(SMALL))).all()


def test_files_of_others(tmp_path):
    file = _file()
    kind = Hnsw(4)
    for n, dim in ((len(SMALL) + 1, D), (len(SMALL), D + 1), (0, D)):
        with pytest.raises(CorruptIndex, match="does not fit"):
            kind.open(file, n, dim)
    later = file.copy()
    later[8] = 2
    with pytest.raises(FormatError, match="later version"):
        kind.open(later, len(SMALL), D)
    beyond = file.copy()
    beyond[64:68].view("<u4")[:] = len(SMALL)
    with pytest.raises(CorruptIndex, match="does not fit"):
        kind.open(beyond, len(SMALL), D)
    opened = kind.open(_file(own=False), len(SMALL), D)
    with pytest.raises(CorruptIndex, match="int8 codes"):
        kind.candidates(opened, object(), np.empty((len(SMALL), D), dtype=np.uint8), Q, 5)


def test_without_the_native_core(tmp_path, index):
    walked = index.search(Q, 10, probes=4096)
    with native.using("numpy"):
        reopened = VectorIndex.open(index.path, fs=NoSync())
        scanned = reopened.search(Q, 10)  # exact where no walk can be made
        np.testing.assert_allclose(scanned[0], walked[0], atol=1e-5)
        other = VectorIndex.build(tmp_path / "u", X[:2000], "int8 | hnsw:8,ef=16,build=30", fs=NoSync())
        mask = np.arange(2000) % 2 == 0
        assert mask[other.search(Q, 10, allow=mask)[1]].all()
    # An index of the stand-in, as old ones are, opens and is searched where the core is there.
    old = VectorIndex.open(tmp_path / "u", fs=NoSync())
    assert not isinstance(old._segments[0].graph(old._pipeline.kind), graph_file.OpenGraph)
    rows = old.search(Q, 10, probes=20)[1]
    truth = np.argsort(-(Q @ X[:2000].T), axis=1)[:, :10]
    assert share(rows, truth) > 0.8
    old.delete(rows[:, 0])
    assert not np.isin(old.search(Q, 10, probes=12)[1], rows[:, 0]).any()


def test_the_stand_in_reads_what_it_wrote():
    engine = Usearch(8, 32, "i8")
    graph = engine.open(engine.build([SMALL], D), len(SMALL), D)
    assert engine.candidates(graph, Q[:2], 30).shape == (2, 30)


def test_lengths_that_differ_are_evened_out(tmp_path):
    generator = np.random.default_rng(3)
    rows = X[:N] * generator.lognormal(0.0, 0.5, (N, 1)).astype(np.float32)
    index = VectorIndex.build(tmp_path / "i", rows, "int8 | hnsw:12,build=60", fs=NoSync())
    best = np.argsort(-(Q @ rows.T), axis=1, kind="stable")[:, :10]
    assert share(index.search(Q, 10, probes=50)[1], best) > 0.8


@pytest.mark.parametrize("rows", [np.zeros((7000, 8)), np.ones((7000, 8)), np.full((7000, 8), 1e-38)])
def test_rows_that_are_all_the_same(tmp_path, rows):
    index = VectorIndex.build(tmp_path / "i", rows.astype(np.float32), "int8 | hnsw:4,build=20", fs=NoSync())
    found = index.search(np.ones((2, 8), dtype=np.float32), 10, probes=10)[1]
    assert all(len({*line}) == 10 and min(line) >= 0 for line in found.tolist())
