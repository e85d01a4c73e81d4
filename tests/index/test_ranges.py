"""Ranges by the order of a column: the same records as comparing every value finds."""

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.contracts import Record
from sememe.index import engine
from sememe.index.columns import NO_DATE
from sememe.index.ranges import NARROW, SORT_AFTER, Order
from sememe.testing import HashingEncoder

SIGNS = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
BOUNDS = st.lists(st.tuples(st.sampled_from(sorted(SIGNS)), st.integers(-9, 9)), min_size=1, max_size=3)


def compared(values, missing, bounds):
    return np.logical_and.reduce([SIGNS[sign](values, value) & ~missing for sign, value in bounds])


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(-9, 9), max_size=300), BOUNDS, st.booleans())
def test_a_range_is_what_comparing_finds(given, bounds, days):
    if days:
        values = np.array([NO_DATE if each is None else each for each in given], dtype=np.int32)
    else:
        values = np.array([np.nan if each is None else each for each in given], dtype=np.float64)
    missing = np.array([each is None for each in given], dtype=bool)
    wanted, found = compared(values, missing, bounds), Order(values, missing).mask(bounds)
    if found is None:
        assert wanted.sum() * NARROW > len(values)
    else:
        assert np.array_equal(found, wanted)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    records = [
        Record(str(row), "x", metadata={"n": (row * 37) % 500, "day": f"20{row % 60 + 10}-01-01"} if row % 7 else {})
        for row in range(500)
    ]
    return engine.build(records, tmp_path_factory.mktemp("r") / "i", encoder=HashingEncoder(8))


@pytest.mark.parametrize(
    "where",
    ["n between {0} and {1}", "n >= {0} and n <= {1}", "n > {0} and n < {1} and n != 30", "not (n < {0} or n > {1})"],
)
def test_answers_are_the_same_before_and_after_the_column_is_in_order(index, where):
    query = np.ones((1, 8), dtype=np.float32)
    columns = index.segments[0].records.columns
    columns._asked.clear(), columns._orders.clear()
    seen = set()
    for step in range(SORT_AFTER + 8):
        low = 5 * (step % 4)
        text = where.format(low, low + 6) + " " * step  # not one that is remembered
        numbers = {
            index.segments[0].records.columns.metadata(int(row))["n"]
            for row in index.search(query, 20, text).rows[0]
            if row >= 0
        }
        kept = {(row * 37) % 500 for row in range(500) if row % 7}
        open_ends = "n > " in where and "not" not in where
        wanted = {n for n in kept if low <= n <= low + 6 and not (open_ends and n in (low, low + 6, 30))}
        assert numbers == wanted
        seen.add(bool(columns._orders))
    assert seen == {False, True}
