"""The graph over int8 rows: walks equal their slow twin at every level, and every row can be reached."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.errors import InputError, MissingDependency
from sememe.kernels import native, reference
from sememe.kernels.graph import LinkGraph
from sememe.kernels.select import select
from sememe.testing import clustered_vectors

COMPILED = [name for name in native.levels() if name != "numpy"]
pytestmark = pytest.mark.skipif(not COMPILED, reason="the native core was not built here")


def table_of(n, d, seed):
    X = clustered_vectors(n, d, clusters=max(1, n // 40), seed=seed)
    return np.rint(X * (127 / np.abs(X).max())).astype(np.int8)


def narrowed(weights):
    """A query as the walk rounds it."""
    largest = max(map(abs, weights), default=0.0)
    return [round(float(w) * (127 / largest)) if largest else 0 for w in weights]


def reached(graph):
    seen, stack = set(graph.starts.tolist()), graph.starts.tolist()
    while stack:
        for link in graph.links[stack.pop()].tolist():
            if link not in seen:
                seen.add(link)
                stack.append(link)
    return seen


@pytest.mark.parametrize("level", COMPILED)
@given(
    n=st.integers(1, 260),
    d=st.sampled_from([1, 3, 16, 63, 64, 65, 130]),
    degree=st.integers(2, 12),
    wide=st.sampled_from([1, 5, 40]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25, deadline=None)
def test_a_walk_is_its_slow_twin(level, n, d, degree, wide, seed):
    rows = np.random.default_rng(seed).integers(-128, 128, (n, d), dtype=np.int8)
    weights = np.random.default_rng(seed + 1).standard_normal((2, d))
    with native.using(level):
        graph = LinkGraph.build(rows, degree, 20, seed=seed)
        scores, found = graph.search(rows, weights, wide, wide)
        assert graph.sound and graph.links.shape == (n, degree)
    for line, query in enumerate(weights):
        kept = reference.graph_walk(graph.links, graph.starts.tolist(), rows, narrowed(query), wide)
        assert found[line, : len(kept)].tolist() == [row for _, row in kept]
        assert scores[line, : len(kept)].tolist() == [np.float32(score) for score, _ in kept]
        assert (found[line, len(kept) :] == -1).all() and np.isneginf(scores[line, len(kept) :]).all()
        assert len(kept) == min(n, wide)  # every row can be reached, so a walk is never short


@pytest.mark.parametrize("level", COMPILED)
@given(share=st.sampled_from([0.02, 0.2, 0.7, 1.0]), wide=st.sampled_from([1, 8, 30]), seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_a_filtered_walk_is_its_slow_twin(level, share, wide, seed):
    n, d = 700, 20
    rows = table_of(n, d, seed % 100)
    generator = np.random.default_rng(seed)
    mask = generator.random(n) < share
    mask[generator.integers(n)] = True
    passing = np.flatnonzero(mask)
    count = min(64, len(passing))
    seeds = [int(passing[i * len(passing) // count]) for i in range(count)]
    # Rows that pass lie no farther from such a query than others, so the walk is not widened.
    weights = rows[passing].astype(np.float64).sum(axis=0, keepdims=True)
    weights += 0.5 * np.abs(weights).max() * generator.standard_normal((1, d)) * (share == 1.0)
    with native.using(level):
        graph = LinkGraph.build(rows, 6, 20, seed=1)
        bits = select(mask, n, most=0).bits
        _, found = graph.search(rows, weights, wide, wide, allow=bits)
        assert not graph.search(rows, weights, wide, wide, allow=bits, widest=wide - 1)[1].size
        assert not graph.search(rows, weights, wide, wide, allow=np.zeros_like(bits))[1].size
    query = narrowed(weights[0])
    below = [np.mean(rows[some].astype(int) @ query) for some in (graph.starts, seeds)]
    if below[0] - below[1] > 0.3 * np.std(rows[graph.starts].astype(int) @ query):
        return
    kept = reference.graph_walk(graph.links, seeds, rows, query, wide, mask)
    assert found[0].tolist() == [row for _, row in kept]
    assert mask[found[0]].all()


@given(seed=st.integers(0, 2**32), n=st.integers(1, 900))
@settings(max_examples=10, deadline=None)
def test_the_same_graph_at_every_level_and_with_any_threads(seed, n):
    rows = table_of(n, 24, seed % 50)
    graphs = []
    for level in COMPILED:
        for threads in (1, 3):
            with native.using(level), native.limited(threads):
                graphs.append(LinkGraph.build(rows, 8, 24, seed=seed))
    for other in graphs[1:]:
        np.testing.assert_array_equal(other.links, graphs[0].links)
    assert len(reached(graphs[0])) == n


@pytest.mark.parametrize("rows", [
    np.zeros((500, 8), dtype=np.int8),
    np.repeat(table_of(10, 16, 0), 60, axis=0),
    np.concatenate([np.full((300, 4), 100), np.full((300, 4), -100), [[0, 0, 0, 1]]]).astype(np.int8),
])  # fmt: skip
def test_equal_rows_can_all_be_reached(rows):
    graph = LinkGraph.build(rows, 4, 10)
    assert reached(graph) == set(range(len(rows)))
    _, found = graph.search(rows, np.ones((1, rows.shape[1])), len(rows), len(rows))
    assert sorted(found[0].tolist()) == list(range(len(rows)))


@pytest.mark.parametrize("level", COMPILED)
def test_exact_scores_and_recall(level):
    X = clustered_vectors(4100, 48, clusters=60, seed=3)
    rows, Q = np.rint(X[:4000] * 300).clip(-127, 127).astype(np.int8), X[4000:].astype(np.float64)
    with native.using(level):
        graph = LinkGraph.build(rows, 24, 60)
        scores, found = graph.search(rows, Q, 10, 60, constants=np.arange(100.0))
    exact = Q @ rows.T.astype(np.float64) + np.arange(100.0)[:, None]
    np.testing.assert_array_equal(scores, np.take_along_axis(exact, found, axis=1).astype(np.float32))
    best = np.argsort(-exact, axis=1, kind="stable")[:, :10]
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(found.tolist(), best.tolist())]) > 0.97


def test_several_threads_find_the_same():
    rows = table_of(3000, 32, 5)
    Q = np.random.default_rng(0).standard_normal((40, 32))
    graph = LinkGraph.build(rows, 12, 40)
    with native.limited(1):
        one = graph.search(rows, Q, 10, 30)
    with native.limited(4):
        many = graph.search(rows, Q, 10, 30)
    np.testing.assert_array_equal(one[1], many[1])


def test_faults():
    rows = table_of(100, 16, 0)
    graph = LinkGraph.build(rows, 6, 20)
    assert not LinkGraph(graph.links + np.uint32(50), graph.starts).sound
    assert not LinkGraph(graph.links, graph.starts[:0]).sound
    Q = np.ones((1, 16))
    with pytest.raises(ValueError, match="do not fit"):
        graph.search(rows[:99], Q, 5, 5)
    with pytest.raises(ValueError, match="do not fit"):
        graph.search(rows, Q, 5, 4)
    with pytest.raises(IndexError, match="not there"):
        LinkGraph(graph.links, np.array([100], dtype=np.uint32)).search(rows, Q, 5, 5)
    with pytest.raises(IndexError, match="not there"):
        graph.search(rows, Q, 5, 5, allow=np.full(2, ~np.uint64(0)))
    with pytest.raises(InputError, match="columns"):
        LinkGraph.build(np.zeros((2, 20_000), dtype=np.int8), 4, 10)
    with native.using("numpy"), pytest.raises(MissingDependency, match="native core"):
        graph.search(rows, Q, 5, 5)


def test_more_rows_may_be_asked_for_than_there_are():
    rows = table_of(70, 16, 3)
    graph, query = LinkGraph.build(rows, 8, 20), np.ones((3, 16))
    found = graph.search(rows, query, 1 << 40, 1 << 40)[1]
    assert found.shape == (3, 70)
    allow = select(np.arange(70) % 2 == 0, 70).bits
    some = graph.search(rows, query, 1 << 40, 1 << 40, allow=allow)[1]
    assert some.shape == (3, 35) and not (some % 2).any()
