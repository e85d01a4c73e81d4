"""The scan of 4-bit codes and the rescoring after it, at every dispatch level, against plain loops."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sememe.errors import InputError
from sememe.index.cascade import Cascade
from sememe.index.sketch import Sketch
from sememe.kernels import bits, native, reference
from sememe.kernels.fastscan import TOP, NibbleBlocks, byte_tables
from sememe.kernels.rescore import multiply, rescore

LEVELS = native.levels()


def made(n, places, depth, queries, seed=0):
    generator = np.random.default_rng(seed)
    numbers = generator.integers(0, 16, (n, places), dtype=np.uint8)
    centres = generator.standard_normal((places, 16, depth)).astype(np.float32)
    Q = generator.standard_normal((queries, places * depth)).astype(np.float32)
    return numbers, NibbleBlocks.from_codes(bits.pack(numbers, 4), places), centres, Q


def plain(numbers, Q, centres, k, counts):
    """Scores and rows from the tables, one row at a time, by sorting."""
    tables, bias, unit = byte_tables(Q, centres)
    scores, rows = [], []
    for table, low, step in zip(tables, bias, unit, strict=True):
        sums = [(sum(int(table[p, c]) for p, c in enumerate(numbers[row])), -row) for row in np.flatnonzero(counts)]
        best = sorted(sums, reverse=True)[:k]
        scores.append([low + step * value for value, _ in best])
        rows.append([-row for _, row in best])
    return np.array(scores, dtype=np.float32), np.array(rows, dtype=np.int64)


def range_mask(n, first, last):
    row = np.arange(n)
    return (row >= first) & (row < last)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("n", "places", "depth", "queries", "k"),
    [(1, 1, 1, 1, 3), (63, 7, 2, 2, 5), (64, 8, 4, 3, 64), (65, 9, 4, 4, 1), (300, 64, 4, 5, 20), (130, 33, 3, 6, 200)],
)
def test_scan(level, n, places, depth, queries, k):
    numbers, rows, centres, Q = made(n, places, depth, queries)
    np.testing.assert_array_equal(rows.codes(), bits.pack(numbers, 4))
    allow = np.random.default_rng(1).random(n) < 0.4
    every = np.ones(n, dtype=bool)
    with native.using(level):
        for kept, first, last in ((every, 0, n), (allow, 0, n), (every, n // 3, n - n // 5), (allow, n // 4, n)):
            counts = kept & range_mask(n, first, last)
            want = plain(numbers, Q, centres, k, counts)
            got = rows.topk(Q, centres, k, allow=None if kept is every else kept, first=first, last=last)
            np.testing.assert_array_equal(got[1].reshape(queries, -1), want[1].reshape(queries, -1))
            np.testing.assert_array_equal(got[0].ravel(), want[0].ravel())


@pytest.mark.parametrize("order", ["random", "ascending", "descending", "equal"])
@pytest.mark.parametrize("queries", [1, 9])
def test_long_scan_in_any_order(order, queries, monkeypatch):
    """Enough blocks that a sample guesses the threshold; sorted rows make it wrong, equal ones make it useless."""
    numbers, _, centres, Q = made(40_000, 16, 2, queries)
    if order == "equal":
        numbers[:] = numbers[0]
    elif order != "random":
        tables, _, _ = byte_tables(Q, centres)
        rank = np.argsort(tables[0, np.arange(16), numbers].sum(axis=1), kind="stable")
        numbers = numbers[rank if order == "ascending" else rank[::-1]]
    rows = NibbleBlocks.from_codes(bits.pack(numbers, 4), 16)
    allow = np.random.default_rng(2).random(len(numbers)) < 0.5
    for kept in (None, allow):
        for k in (1, 100, 3000):
            results = []
            for level, threads in [(level, threads) for level in LEVELS for threads in ("1", "3")]:
                monkeypatch.setenv("SEMEME_THREADS", threads)
                with native.using(level):
                    results.append(rows.topk(Q, centres, k, allow=kept))
                    loose = rows.topk(Q, centres, k, allow=kept, ordered=False)
                np.testing.assert_array_equal(np.sort(loose[1], axis=1), np.sort(results[-1][1], axis=1))
            for scores, found in results[1:]:
                np.testing.assert_array_equal(found, results[0][1])
                np.testing.assert_array_equal(scores, results[0][0])
        if order == "equal":
            expected = np.arange(3000) if kept is None else np.flatnonzero(allow)[:3000]
            np.testing.assert_array_equal(results[0][1], np.tile(expected, (queries, 1)))


@pytest.mark.parametrize("level", LEVELS)
def test_many_places_do_not_overflow(level):
    places = 1100
    numbers = np.full((70, places), 15, dtype=np.uint8)
    numbers[3, 1] = 0
    rows = NibbleBlocks.from_codes(bits.pack(numbers, 4), places)
    centres = np.tile(np.arange(16, dtype=np.float32)[None, :, None], (places, 1, 1))
    with native.using(level):
        scores, found = rows.topk(np.ones((1, places), dtype=np.float32), centres, 70)
    np.testing.assert_allclose(scores[0, :69], 15 * places, rtol=1e-6)
    assert found[0, 69] == 3 and scores[0, 69] < scores[0, 68]


def test_tables_are_within_half_a_step():
    _, _, centres, Q = made(1, 12, 4, 5)
    tables, bias, unit = byte_tables(Q, centres)
    exact = np.einsum("qpj,pcj->qpc", Q.reshape(5, 12, 4).astype(float), centres.astype(float))
    low = exact.min(axis=2, keepdims=True)
    assert tables.max() == TOP
    np.testing.assert_allclose(low.sum(axis=(1, 2)), bias, rtol=1e-5)
    assert (np.abs(low + tables * unit[:, None, None] - exact) <= 0.5001 * unit[:, None, None]).all()


def test_scan_refuses_what_does_not_fit():
    _, rows, centres, Q = made(10, 4, 2, 1)
    with pytest.raises(InputError, match="bytes"):
        NibbleBlocks.from_codes(np.zeros((3, 5), dtype=np.uint8), 4)
    with pytest.raises(InputError, match="k=0"):
        rows.topk(Q, centres, 0)
    with pytest.raises(InputError, match="not possible"):
        rows.topk(Q, centres, 1, first=5, last=11)
    with pytest.raises(InputError, match="fit 4 places"):
        rows.topk(Q[:, :4], centres, 1)
    with pytest.raises(InputError, match="filter"):
        rows.topk(Q, centres, 1, allow=np.ones(9, dtype=bool))


def vectors_of(generator, shape, dtype):
    """Gaussian numbers; integers from the whole range for int8."""
    if dtype == np.int8:
        return generator.integers(-128, 128, shape).astype(np.int8)
    return generator.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("d", [1, 15, 16, 63, 64, 100, 257])
def test_rescore(level, dtype, d):
    generator = np.random.default_rng(d)
    X = vectors_of(generator, (50, d), dtype)
    X[7] = X[9]  # a tie
    Q = generator.standard_normal((4, d)).astype(np.float32)
    rows = np.stack([generator.permutation(50)[:30] for _ in range(4)])
    rows[:, :2] = (9, 7)
    rows = np.stack([np.unique(row)[:12] for row in rows])
    with native.using(level):
        scores, found, read = rescore(X, Q, rows, 5)
    assert (read == 12).all()
    for q in range(4):
        exact = reference.dots(Q[q : q + 1], X[rows[q]])[0]
        np.testing.assert_allclose(scores[q], np.sort(exact)[::-1][:5], rtol=1e-4, atol=1e-4 * float(X.max()))
        np.testing.assert_array_equal(found[q], rows[q][np.lexsort((rows[q], -exact.astype(np.float32)))[:5]])


@pytest.mark.parametrize("level", LEVELS)
def test_multiply(level):
    generator = np.random.default_rng(6)
    Q, rows = (generator.standard_normal((n, 77)).astype(np.float32) for n in (3, 20))
    with native.using(level):
        np.testing.assert_allclose(multiply(Q, rows), reference.dots(Q, rows), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(len(LEVELS) < 3, reason="one compiled level at most")
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_rescore_is_the_same_at_every_compiled_level(dtype):
    generator = np.random.default_rng(0)
    X, Q = vectors_of(generator, (90, 203), dtype), generator.standard_normal((2, 203)).astype(np.float32)
    if dtype != np.int8:
        X[5, :6] = [0.0, -0.0, 6e-8, -3e-5, 6e-5, 6e4]
    rows = np.tile(np.arange(90), (2, 1))
    results = []
    for level in LEVELS[1:]:
        with native.using(level):
            results.append(rescore(X, Q, rows, 90))
    for scores, found, _ in results[1:]:
        np.testing.assert_array_equal(scores, results[0][0])
        np.testing.assert_array_equal(found, results[0][1])


@pytest.mark.parametrize("level", LEVELS)
def test_margin_reads_fewer_rows_and_loses_little(level):
    generator = np.random.default_rng(3)
    X = generator.standard_normal((2000, 32)).astype(np.float32)
    Q = generator.standard_normal((20, 32)).astype(np.float32)
    coarse = (Q @ X.T + generator.normal(0, 4.0, (20, 2000))).astype(np.float32)
    rows = np.tile(np.arange(2000), (20, 1))
    with native.using(level):
        _, full, read = rescore(X, Q, rows, 10, coarse=coarse)
        assert (read == 2000).all()
        _, some, read = rescore(X, Q, rows, 10, coarse=coarse, margin=4.0)
        _, few, least = rescore(X, Q, rows, 10, coarse=coarse, margin=0.0)
        _, scaled, read_scaled = rescore(X, Q, rows, 10, coarse=coarse * 7 - 3, margin=4.0)
    assert (least >= 64).all() and (least <= read).all() and read.mean() < 1500
    share = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(full, some, strict=True)])
    assert share >= 0.99
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(full, few, strict=True)]) < share
    np.testing.assert_array_equal(scaled, some)  # the coarse scores may be on a scale of their own
    assert np.abs(read_scaled - read).max() <= 2


@pytest.mark.parametrize("level", LEVELS[1:])
@pytest.mark.parametrize("margin", [0.0, 1.0, 3.0])
def test_the_compiled_loop_reads_the_rows_that_numpy_reads(level, margin):
    generator = np.random.default_rng(9)
    X = generator.standard_normal((1500, 24)).astype(np.float32)
    Q = generator.standard_normal((12, 24)).astype(np.float32)
    coarse = np.round(Q @ X.T + generator.normal(0, 2.0, (12, 1500)), 1).astype(np.float32)  # with ties
    rows = np.stack([generator.permutation(1500) for _ in Q])
    given = np.take_along_axis(coarse, rows, axis=1)
    with native.using("numpy"):
        want = rescore(X, Q, rows, 10, coarse=given, margin=margin)
    with native.using(level):
        found = rescore(X, Q, rows, 10, coarse=given, margin=margin)
    np.testing.assert_array_equal(found[1], want[1])
    np.testing.assert_array_equal(found[2], want[2])
    assert (want[2] < 1500).any()


@pytest.mark.parametrize("level", LEVELS[1:])
def test_rows_that_are_no_numbers_come_last(level):
    X = np.random.default_rng(1).standard_normal((400, 20)).astype(np.float32)
    X[::2] = np.nan
    rows = np.arange(400)[None]
    with native.using(level):
        scores, found, _ = rescore(X, X[1:2], rows, 200, coarse=rows.astype(np.float32), margin=50.0)
    kept = np.isfinite(scores[0])
    assert kept.any() and (found[0][kept] % 2 == 1).all()


@pytest.mark.parametrize("bits_each", [1, 2])
@pytest.mark.parametrize("d", [30, 64])
def test_cascade(bits_each, d):
    generator = np.random.default_rng(4)
    X = (generator.standard_normal((3000, d)) + 0.3).astype(np.float32)
    Q = (X[:40] + generator.normal(0, 0.5, (40, d))).astype(np.float32)
    cascade = Cascade(X, bits=bits_each)
    want = np.argsort(-(Q @ X.T), axis=1)[:, :10]
    scores, found = cascade.topk(Q, 10)
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, want, strict=True)]) > 0.97
    np.testing.assert_allclose(scores, np.take_along_axis(Q @ X.T, found, axis=1), rtol=1e-4, atol=1e-4)
    allow = np.arange(3000) % 7 == 3
    _, found = cascade.topk(Q, 10, candidates=3000, allow=allow)  # every allowed row is a candidate: exact
    np.testing.assert_array_equal(found, np.argsort(-np.where(allow, Q @ X.T, -np.inf), axis=1)[:, :10])
    again = Cascade(X, bits=bits_each)
    np.testing.assert_array_equal(again.blocks.words, cascade.blocks.words)


def test_two_bits_are_nearer_than_one():
    X = np.random.default_rng(5).standard_normal((500, 48)).astype(np.float32)
    errors = []
    for bits_each in (1, 2):
        sketch = Sketch.fit(X, bits=bits_each)
        numbers = bits.unpack(sketch.encode(X), 4, sketch.places)
        rows = sketch.centres[np.arange(sketch.places), numbers].reshape(len(X), -1) @ sketch.rotation.T + sketch.mean
        errors.append(((rows - X) ** 2).mean() / X.var())
    np.testing.assert_allclose(errors, [0.363, 0.1175], rtol=0.05)  # what these levels lose on a Gaussian


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_threads_after_a_fork(monkeypatch):
    """Helper threads do not survive a fork: the child makes its own and answers the same."""
    monkeypatch.setenv("SEMEME_THREADS", "3")
    _, rows, centres, Q = made(40_000, 16, 2, 40)
    want = rows.topk(Q, centres, 10)
    child = os.fork()
    if not child:
        signal.alarm(20)  # a child that waits for threads that are not there is ended
        same = all(np.array_equal(a, b) for a, b in zip(rows.topk(Q, centres, 10), want))
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_calls_from_several_threads(monkeypatch):
    """Calls at the same time share the helpers."""
    monkeypatch.setenv("SEMEME_THREADS", "3")
    _, rows, centres, Q = made(40_000, 16, 2, 40)
    want = rows.topk(Q, centres, 10)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: rows.topk(Q, centres, 10), range(12)):
            np.testing.assert_array_equal(got[0], want[0])
            np.testing.assert_array_equal(got[1], want[1])
