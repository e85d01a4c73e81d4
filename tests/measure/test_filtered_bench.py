"""The bench of filtered search: filters of the right size in the right place, exact truth, and the crossover."""

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.measure.filtered_bench import (
    KINDS,
    Cell,
    Column,
    FilteredSearchBench,
    PreFilter,
    condition,
    crossover,
    fastest,
    matrix,
)
from sememe.testing import clustered_vectors

N, Q = 700, 12


def collection():
    X, asked = clustered_vectors(N, 24, seed=0), clustered_vectors(Q, 24, seed=1)
    generator = np.random.default_rng(2)
    return X, asked, {"size": Column(generator.integers(0, 50, N)), "first": Column(X[:, 0], asked[:, 0])}


class Blind:
    """The best rows without the filter, less those that do not pass: short where few pass."""

    name = "blind"
    settings = (5, N)
    nbytes = 7

    def build(self, X, ranks):
        self.X, self.ranks = X, ranks

    def search(self, q, k, condition, setting):
        best = np.argsort(-(self.X @ q[0]), kind="stable")[:setting]
        by_value = np.zeros(len(self.X), dtype=bool)
        for low, high in condition.ranges:
            by_value |= (self.ranks[condition.column] >= low) & (self.ranks[condition.column] <= high)
        np.testing.assert_array_equal(by_value, condition.mask)
        return best[condition.mask[best]][:k]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("relation", ["independent", "near", "far"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01])
def test_filters_have_their_size_and_their_place(kind, relation, share):
    ranks = np.random.default_rng(0).permutation(1000)
    for place in (0, 137, 500, 999):
        one = condition("x", ranks, kind, relation, share, place, np.random.default_rng(place))
        assert one.mask.sum() == pytest.approx(share * 1000, rel=0.25, abs=3)
        assert one.mask.sum() == sum(high - low + 1 for low, high in one.ranges)
        distance = np.abs(ranks[one.mask] - place)
        if share <= 0.1 and relation == "near":
            assert distance.max() <= 2.1 * share * 1000 and (kind == "among" or one.mask[ranks == place].all())
        if share <= 0.1 and relation == "far":
            assert distance.min() >= 250
        assert len(one.ranges) == (4 if kind == "among" else 1)


def test_every_cell_is_measured_against_the_exact_answer():
    X, asked, columns = collection()
    cells = matrix(columns, (0.5, 0.1, 0.004))
    assert len(cells) == 3 * 3 * 3 and {c[2] for c in cells if c[0] == "size"} == {"independent"}
    bench = FilteredSearchBench((PreFilter(), Blind()), k=5, rounds=1)
    found = bench.run(X, asked, columns, cells)
    assert len(found) == len(cells) * 3 and set(bench.built) == {"pre-filter scan", "blind"}
    assert bench.built["blind"]["bytes"] == 7
    for cell in found:
        assert 0 <= cell.recall <= 1 and cell.seconds > 0
        if cell.method == "pre-filter scan" or cell.setting == str(N):
            assert cell.recall == 1.0 and cell.short == 0
    blind = [cell for cell in found if cell.method == "blind" and cell.setting == "5" and cell.share == 0.1]
    assert all(cell.short > 0 and cell.recall < 0.9 for cell in blind if cell.relation != "near")
    again = FilteredSearchBench((PreFilter(), Blind()), k=5, rounds=1).run(X, asked, columns, cells)
    assert [(c.recall, c.short) for c in again] == [(c.recall, c.short) for c in found]


def made(method, share, seconds, recall=1.0, setting="a"):
    return Cell(method, setting, "c", "range", "near", share, recall, seconds, 0)


def test_crossover_is_the_end_of_an_unbroken_run_of_wins():
    cells = [
        *(made("scan", share, share) for share in (0.001, 0.01, 0.1, 0.5)),
        *(made("graph", share, 0.05) for share in (0.001, 0.01, 0.1, 0.5)),
        made("graph", 0.5, 0.0001, recall=0.5, setting="b"),
    ]
    assert crossover(cells, "scan", ["graph"], 0.95) == {"c range near": 0.01}
    assert crossover(cells, "graph", ["scan"], 0.95) == {"c range near": 0.0}
    best = fastest(cells, 0.95)
    assert best["c", "range", "near", 0.5]["graph"].setting == "a"
    lost = [*cells, made("graph", 0.001, 1e-9, setting="c")]
    assert crossover(lost, "scan", ["graph"], 0.95) == {"c range near": 0.0}
    alone = [made("scan", 0.1, 1.0), made("graph", 0.1, 0.1, recall=0.2)]
    assert crossover(alone, "scan", ["graph"], 0.95) == {"c range near": 0.1}


def test_what_cannot_be_measured_is_refused():
    X, asked, columns = collection()
    with pytest.raises(InputError, match="different names"):
        FilteredSearchBench((PreFilter(), PreFilter()))
    bench = FilteredSearchBench((PreFilter(),), rounds=1)
    with pytest.raises(InputError, match="does not fit"):
        bench.run(X, asked, {"size": Column(np.zeros(3))}, [])
    with pytest.raises(InputError, match="cannot lie"):
        bench.run(X, asked, columns, [("first", "range", "beside", 0.1)])
    with pytest.raises(InputError, match="own values"):
        bench.run(X, asked, columns, [("size", "range", "near", 0.1)])
    for kind, share in (("between", 0.1), ("range", 0.0), ("range", 1.5)):
        with pytest.raises(InputError, match="not possible"):
            bench.run(X, asked, columns, [("size", kind, "independent", share)])
