"""The where language: what parses, what is refused and where, and that evaluation is exact at every selectivity."""

import datetime

import numpy as np
import pytest
from faulty_fs import NoSync
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.contracts import Record
from sememe.errors import FilterError, InputError
from sememe.index import engine, filters
from sememe.index.predicates import Where, fields_of
from sememe.testing import HashingEncoder, toy_records

DAY = datetime.date(2024, 1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("year >=", "filter ends here"),
        ("year >= 3 lang = 'en'", "expected 'and' or 'or'"),
        ("year ! 3", "has no meaning"),
        ("name = 'open", "quote is not closed"),
        ("(year = 3", "expected '.'"),
        ("year in ()", "expected a value"),
        ("year = null", "is null"),
        ("date '2024-02-30' = 3", "keyword"),
        ("day = date '2024-02-30'", "no date"),
        ("in = 3", "keyword"),
        ("tags has 3", "put it in quotes"),
        ("x = 1 and " * 200 + "x = 1", "more than 256"),
        ("(" * 100 + "x = 1" + ")" * 100, "levels"),
        ("x = '" + "a" * 70_000 + "'", "characters"),
        ("day = 2024-01-31", "expected 'and' or 'or'"),
    ],
)
def test_refused_with_position(text, message):
    with pytest.raises(FilterError, match=message) as caught:
        filters.parse(text)
    assert "\n" not in str(caught.value)


def test_position_points_at_the_fault():
    with pytest.raises(FilterError) as caught:
        filters.parse("year >= 2024 and and lang = 'en'")
    assert "▸and lang" in str(caught.value)
    assert "character 18" in str(caught.value)


def test_shape_of_the_tree():
    node = filters.parse("NOT a = 1 Or b <> 'x''y' aNd `odd name` is NOT null")
    assert isinstance(node, filters.Some)
    first, second = node.parts
    assert isinstance(first, filters.Not)
    assert isinstance(second, filters.Every)
    assert second.parts[0].value == "x'y"
    assert second.parts[1].part.field.name == "odd name"
    assert filters.parse("a between 1 and 2 and b = 3").parts[0] == filters.parse("a between 1 and 2")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text):
    try:
        filters.parse(text)
    except FilterError as error:
        assert "\n" not in str(error)


RECORDS = [
    Record("a", "x", metadata={"year": 2020, "lang": "en", "day": DAY, "tags": ["p", "q"]}),
    Record("b", "x", title="T", metadata={"year": 2021.5, "lang": "de", "tags": []}),
    Record("c", "x", source="f:3", metadata={"lang": "en-GB", "day": DAY.replace(month=7)}),
    Record("d", "x", metadata={"year": "unknown", "mixed": 3}),
    Record("é", "x", metadata={"mixed": "three", "odd name": True}),
]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return engine.build(
        RECORDS, tmp_path_factory.mktemp("w") / "i", "static | int8 | flat", encoder=HashingEncoder(8), fs=NoSync()
    )


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("year = 2020", "a"),
        ("year != 2020", "b"),
        ("not year = 2020", "b"),
        ("year = 'unknown'", "d"),
        ("year is null", "cé"),
        ("year > 2020 or lang = 'en'", "ab"),
        ("year < 1 or not year < 1", "ab"),
        ("lang > 'en'", "c"),
        ("lang contains 'en'", "ac"),
        ("lang in ('de', 'en')", "ab"),
        ("lang not in ('de', 'en')", "c"),
        ("day = '2024-01-01'", "a"),
        ("day > date '2024-01-01'", "c"),
        ("day between '2023-01-01' and '2024-06-30'", "a"),
        ("day is not null", "ac"),
        ("tags has 'q'", "a"),
        ("'p' in tags", "a"),
        ("tags contains 'p'", "a"),
        ("not tags has 'p'", "b"),
        ("tags is null", "cdé"),
        ("mixed = 3", "d"),
        ("mixed = 'three'", "é"),
        ("mixed is not null", "dé"),
        ("`odd name` = true", "é"),
        ("id in ('a', 'é')", "aé"),
        ("id >= 'b' and id < 'd'", "bc"),
        ("title = 'T'", "b"),
        ("title is null", "acdé"),
        ("source contains ':3'", "c"),
        ("id != 'a' and lang = 'en'", ""),
    ],
)
def test_answers(small, where, found):
    hits = small.search(np.ones((1, 8), dtype=np.float32), k=10, where=where)
    assert "".join(sorted(hits.ids[0], key="abcdé".index)) == found


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("yaer = 3", "did you mean year"),
        ("zzzzzz = 3", "the fields are"),
        ("lang = 3", "holds text"),
        ("day > 3", "holds date"),
        ("day = 'soon'", "holds date"),
        ("tags = 'p'", "tags has"),
        ("year has 'p'", "needs tags"),
        ("lang = date '2024-01-01'", "holds text"),
    ],
)
def test_wrong_field_or_type(small, where, message):
    with pytest.raises(FilterError, match=message):
        small.search(np.ones((1, 8), dtype=np.float32), where=where)


def test_metadata_comes_back_with_its_types(small):
    for row, record in enumerate(RECORDS):
        assert small.segments[0].records.record(row) == record
        for name, value in small.segments[0].records.columns.metadata(row).items():
            if name != "year" and name != "odd name":  # numbers are whole only where all of a field's are
                assert type(value) is type(record.metadata[name])


@pytest.mark.parametrize("value", [2**60, datetime.datetime(2024, 1, 1, 3), {"a": 1}, [1, 2]])
def test_metadata_that_cannot_be_kept(tmp_path, value):
    with pytest.raises(InputError, match="field 'f'"):
        engine.build([Record("a", "x", metadata={"f": value})], tmp_path / "i", encoder=HashingEncoder(8), fs=NoSync())


# -- a brute-force oracle: three-valued logic over Python values ----------------------------------------------------

N = 20_000
VECTORS = np.random.default_rng(5).standard_normal((N, 8), dtype=np.float32)
GENERATOR = np.random.default_rng(6)
META = [
    {
        "n": i,
        **({} if i % 11 == 3 else {"r": float(GENERATOR.integers(0, 2000))}),
        "day": DAY + datetime.timedelta(days=int(GENERATOR.integers(0, 2000))),
        **({} if i % 7 == 1 else {"word": f"w{GENERATOR.integers(0, 2000):04d}"}),
        "tags": [f"t{t}" for t in GENERATOR.integers(0, 2000, GENERATOR.integers(0, 3))],
    }
    for i in range(N)
]


class Rows:
    """An encoder whose vectors are rows of a table; the text is the row number."""

    name, dim, digest = "rows", 8, "rows"

    def encode(self, texts, *, kind="passage", batch_size=64, progress=False):
        return VECTORS[[int(text) for text in texts]]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("f") / "i"
    records = [Record(f"r{i}", str(i), metadata=META[i]) for i in range(N)]
    index = engine.build(records[:15_000], path, "static | flat", encoder=Rows(), fs=NoSync())
    index.add(records[15_000:])
    return index


def _leaf(share):
    edge = max(1, round(2000 * share))
    return st.one_of(
        st.integers(0, N - 1).map(
            lambda a: ("n", lambda m: a <= m["n"] < a + N * share, f"n >= {a} and n < {a + N * share}")
        ),
        st.just(("r", lambda m: None if "r" not in m else m["r"] < edge, f"r < {edge}")),
        st.just(("w", lambda m: None if "word" not in m else m["word"] < f"w{edge:04d}", f"word < 'w{edge:04d}'")),
        st.integers(0, 1999).map(
            lambda d: (
                "d",
                lambda m: DAY + datetime.timedelta(days=d) <= m["day"] < DAY + datetime.timedelta(days=d + edge),
                f"day between '{DAY + datetime.timedelta(days=d)}' and '{DAY + datetime.timedelta(days=d + edge - 1)}'",
            )
        ),
        st.integers(0, 1999).map(lambda t: ("t", lambda m: f"t{t}" in m["tags"], f"tags has 't{t}'")),
    )


def _expressions(share):
    def invert(x):
        return ("not", lambda m: None if x[1](m) is None else not x[1](m), f"not ({x[2]})")

    def both(pair):
        def test(m):
            a, b = pair[0][1](m), pair[1][1](m)
            return False if a is False or b is False else None if a is None or b is None else True

        return ("and", test, f"({pair[0][2]}) and ({pair[1][2]})")

    def either(pair):
        def test(m):
            a, b = pair[0][1](m), pair[1][1](m)
            return True if a is True or b is True else None if a is None or b is None else False

        return ("or", test, f"({pair[0][2]}) or ({pair[1][2]})")

    return st.recursive(
        _leaf(share),
        lambda inner: st.one_of(
            inner.map(invert), st.tuples(inner, inner).map(both), st.tuples(inner, inner).map(either)
        ),
        max_leaves=3,
    )


@pytest.mark.parametrize("share", [0.5, 0.05, 0.005, 0.0005])
def test_exact_at_every_selectivity(large, share):
    @settings(max_examples=8, deadline=None, derandomize=True)
    @given(_expressions(share), st.integers(0, N - 1))
    def run(expression, query):
        allowed = np.array([expression[1](meta) is True for meta in META])
        where = Where(expression[2], fields_of(s.records for s in large.segments))
        mask = np.concatenate([where.mask(s.records) for s in large.segments])
        assert np.array_equal(mask, allowed), expression[2]
        hits = large.search(VECTORS[query : query + 1], k=10, where=expression[2])
        rows = np.flatnonzero(allowed)
        scores = VECTORS[rows] @ VECTORS[query]
        best = rows[np.lexsort((rows, -scores))][:10]
        assert hits.ids[0].tolist() == [f"r{row}" for row in best]

    run()


def test_toy_dates_compare_as_dates(tmp_path):
    index = engine.build(toy_records(100), tmp_path / "i", encoder=HashingEncoder(16), fs=NoSync())
    hits = index.search("bread", k=100, where="published >= '2009-11-01' and published < date '2010-02-28'")
    wanted = {
        r.id
        for r in toy_records(100)
        if datetime.date(2009, 11, 1) <= r.metadata["published"] < datetime.date(2010, 2, 28)
    }
    assert set(hits.ids[0]) == wanted
