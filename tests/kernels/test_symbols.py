"""The compiled scan of symbol codes against the formula in float64, at every level that this machine has."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.codec import FP8, KLT, Binary, Int4, Int8, Power, ProductQuantizer, RaBitQ, Ternary, Uniform
from sememe.errors import InputError
from sememe.index.scan import scan
from sememe.kernels import bits, native, reference
from sememe.kernels.symbols import TRITS, SymbolScan
from sememe.kernels.tables import TableScan

COMPILED = [name for name in native.levels() if name != "numpy"]
needs_core = pytest.mark.skipif(not COMPILED, reason="the native core was not built here")


def expected(scores, k, rows=None):
    """The first k of each line by (score descending, row ascending), after rounding to float32."""
    narrow = scores.astype(np.float32)
    rows = np.arange(scores.shape[1]) if rows is None else rows
    order = np.lexsort((np.broadcast_to(rows, (len(scores), len(rows))), -narrow[:, rows]), axis=-1)[:, :k]
    return np.take_along_axis(narrow[:, rows], order, axis=1), rows[order]


def packed(symbols, width, signed):
    if width == TRITS:
        return bits.pack_trits(symbols)
    return symbols ^ np.uint8(128) if signed else bits.pack(symbols, width)


@needs_core
@pytest.mark.parametrize("level", COMPILED)
@given(
    width=st.integers(0, 8),
    d=st.integers(1, 150),
    n=st.integers(1, 70),
    q=st.integers(1, 6),
    k=st.integers(1, 80),
    tail=st.sampled_from(["none", "bfloat16", "half", "single", "table"]),
    first=st.integers(0, 3),
    even=st.booleans(),
    subset=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150, deadline=None)
def test_every_layout_equals_the_formula(level, width, d, n, q, k, tail, first, even, subset, seed):
    rng = np.random.default_rng(seed)
    kinds = 3 if width == TRITS else 1 << width
    symbols = rng.integers(0, kinds, (n, d), dtype=np.uint8)
    levels = np.arange(kinds) * 0.5 - 1.0 if even else rng.standard_normal(kinds)
    signed = width == 8 and bool(seed & 1)
    codes, scales, offset, table = packed(symbols, width, signed), np.ones(n), 0, None
    if tail == "table":
        table, offset = rng.random(256).astype(np.float32), codes.shape[1]
        picked = rng.integers(0, 256, n, dtype=np.uint8)
        codes, scales = np.hstack([codes, picked[:, None]]), table[picked]
    elif tail != "none":
        scales, offset = rng.random(n), codes.shape[1]
        kind = {"half": np.float16, "single": np.float32, "bfloat16": np.float32}[tail]
        stored = scales.astype(kind)
        if tail == "bfloat16":
            pattern = stored.view(np.uint32) >> np.uint32(16)
            end = pattern.astype(np.uint16)[:, None].view(np.uint8)
            scales = (pattern << np.uint32(16)).view(np.float32)
        else:
            end, scales = stored[:, None].view(np.uint8), stored
        codes = np.hstack([codes, end])
    codes = np.hstack([rng.integers(0, 256, (n, first), dtype=np.uint8), codes])
    weights, constants, inner = rng.standard_normal((q, d)), rng.standard_normal(q), rng.standard_normal(q)
    rows = np.flatnonzero(rng.random(n) < 0.5) if subset else None
    query = SymbolScan(weights, constants, levels, width, signed, tail, first + offset, first, table, inner)
    with native.using(level):
        scores, found = query.topk(codes, k, rows)
    exact = reference.symbol_scores(weights, constants, levels, symbols, scales, inner)
    want_scores, want_rows = expected(exact, k, rows)
    assert found.shape == want_rows.shape
    np.testing.assert_allclose(scores, want_scores, rtol=1e-6, atol=1e-9)
    # A sum in another order may round to another float32, so rows may swap where scores are that close.
    same = np.take_along_axis(exact, found, axis=1)
    np.testing.assert_allclose(same, np.take_along_axis(exact, want_rows, axis=1), rtol=1e-6, atol=1e-9)
    assert all(len(set(line)) == len(line) for line in found.tolist())


@needs_core
def test_all_levels_agree_to_the_last_bit():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 100)).astype(np.float32)
    X[1500:] = X[:1500]  # ties everywhere
    for quantizer in (Int4(), Int8(), Power(3), Ternary(), Binary(), Int8(scale="vector"), FP8()):
        codes = quantizer.fit(X).encode(X)
        answers = []
        for level in COMPILED:
            with native.using(level):
                answers.append(quantizer.native_scan(X[:5]).topk(codes, 20))
        for scores, rows in answers[1:]:
            np.testing.assert_array_equal(scores, answers[0][0])
            np.testing.assert_array_equal(rows, answers[0][1])
        assert (answers[0][1][:, 0] < 1500).all()  # of two equal rows the lower comes first


@needs_core
@pytest.mark.parametrize(
    "quantizer",
    [
        *(Int8(), Int4(), Int8(scale="vector"), Int4(scale="vector"), Uniform(3), Uniform(8), Power(4), Power(8)),
        *(Ternary(), Binary(), RaBitQ(1), RaBitQ(4), KLT(20), FP8(), FP8("e5m2"), FP8("e3m4", scale=False)),
    ],
    ids=repr,
)
def test_the_compiled_scan_gives_what_numpy_gives(quantizer):
    rng = np.random.default_rng(1)
    X = (rng.standard_normal((900, 48)) * np.linspace(0.1, 3, 48)).astype(np.float32)
    codes, queries = quantizer.fit(X).encode(X), X[:12] + rng.standard_normal((12, 48)).astype(np.float32) * 0.3
    rows = np.arange(3, 900, 7)
    for some in (None, rows):
        for few in (queries[:1], queries):
            scores, found = scan(quantizer, few, codes, 10, some)
            with native.using("numpy"):
                want, other = scan(quantizer, few, codes, 10, some)
            np.testing.assert_allclose(scores, want, rtol=2e-6, atol=2e-6)
            assert (found == other).mean() > 0.95


@needs_core
@pytest.mark.parametrize("quantizer", [Int8(), Int4(), Power(4), Int8(scale="vector"), Uniform(3)], ids=repr)
@pytest.mark.parametrize("d", [8, 50, 100, 256])
def test_many_queries_at_once(quantizer, d):
    """Queries are multiplied sixteen, eight, four and one at a time, and more than 256 in several turns."""
    rng = np.random.default_rng(d)
    X = rng.standard_normal((170, d)).astype(np.float32)
    quantizer = type(quantizer)(**quantizer.get_params()).fit(X)
    codes, queries, rows = quantizer.encode(X), rng.standard_normal((285, d)).astype(np.float32), np.arange(0, 170, 3)
    for chosen in (None, rows):
        answers = []
        for level in COMPILED:
            with native.using(level):
                answers.append(quantizer.native_scan(queries).topk(codes, 7, chosen))
        for scores, found in answers[1:]:
            np.testing.assert_array_equal(scores, answers[0][0])
            np.testing.assert_array_equal(found, answers[0][1])
        exact = quantizer.scores(queries, codes)
        want, _ = expected(exact, 7, chosen)
        np.testing.assert_allclose(answers[0][0], want, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(np.take_along_axis(exact, answers[0][1], axis=1), want, rtol=1e-5, atol=1e-5)


@needs_core
def test_threads_do_not_change_the_answer(monkeypatch):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((200_000, 64)).astype(np.float32)
    quantizer = Int4().fit(X)
    codes, query = quantizer.encode(X), quantizer.native_scan(X[:3])
    answers = []
    for count in ("1", "2", "5"):
        monkeypatch.setenv("SEMEME_THREADS", count)
        answers.append(query.topk(codes, 50))
    for scores, rows in answers[1:]:
        np.testing.assert_array_equal(scores, answers[0][0])
        np.testing.assert_array_equal(rows, answers[0][1])


@needs_core
@pytest.mark.parametrize("level", COMPILED)
def test_what_has_no_order_is_not_found(level):
    """A damaged scale, or a query that overflowed on its way, must not make the answer longer than what was scored."""
    rng = np.random.default_rng(4)
    codes = rng.integers(0, 256, (300, 34), dtype=np.uint8)
    codes[:, 32:] = np.array([0, 0x3F], dtype=np.uint8)  # bfloat16, one half
    codes[20:, 32:] = 255  # NaN
    levels = np.arange(256) - 128.0
    for count in (1, 5):
        ask = lambda weights, tail: SymbolScan(  # noqa: E731
            weights, np.zeros(len(weights)), levels, 8, True, tail, 32 if tail != "none" else 0
        )
        with native.using(level):
            scores, rows = ask(rng.standard_normal((count, 32)), "bfloat16").topk(codes, 50)
            assert rows.shape == scores.shape == (count, 20)
            assert all(sorted(line) == list(range(20)) for line in rows.tolist())
            for bad in (np.nan, np.inf):
                assert ask(np.full((count, 32), bad), "none").topk(codes, 50)[1].shape == (count, 0)


@needs_core
def test_wrong_arguments_are_refused():
    codes = np.zeros((4, 3), dtype=np.uint8)
    scan_of = SymbolScan(np.ones((1, 8)), np.zeros(1), np.arange(16.0), 4)
    with pytest.raises(ValueError, match="do not fit"):
        scan_of.topk(codes, 1)
    wide = np.zeros((4, 4), dtype=np.uint8)
    with pytest.raises(IndexError, match="outside"):
        scan_of.topk(wide, 1, np.array([4]))
    with pytest.raises(InputError, match="no level"), native.using("mmx"):
        pass


@needs_core
@pytest.mark.parametrize(
    "quantizer",
    [
        ProductQuantizer(6),
        ProductQuantizer(5, bits=4),
        ProductQuantizer(8, norm="score"),
        ProductQuantizer(4, rotate=True),
    ],
    ids=repr,
)
def test_table_scans_give_what_numpy_gives(quantizer):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((2100, 24)).astype(np.float32)
    X[1000:] = X[: len(X) - 1000]  # ties
    codes = quantizer.fit(X[:1000]).encode(X)
    for count in (1, 5):
        for rows in (None, np.arange(3, 2100, 5)):
            queries = X[:count] + np.float32(0.1)
            assert quantizer.native_scan(queries) is not None
            scores, found = scan(quantizer, queries, codes, 12, rows)
            with native.using("numpy"):
                want, other = scan(quantizer, queries, codes, 12, rows)
            np.testing.assert_array_equal(scores, want)
            np.testing.assert_array_equal(found, other)


@needs_core
def test_wrong_tables_are_refused():
    codes, zeros = np.zeros((4, 3), dtype=np.uint8), np.zeros(1, dtype=np.float32)
    with pytest.raises(ValueError, match="do not fit"):
        TableScan(np.zeros((1, 4, 256), dtype=np.float32), zeros, zeros).topk(codes, 1)
    with pytest.raises(IndexError, match="outside"):
        TableScan(np.zeros((1, 3, 256), dtype=np.float32), zeros, zeros).topk(codes, 1, np.array([4]))
