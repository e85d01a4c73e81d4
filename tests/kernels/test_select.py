"""Selection of rows from masks and bits, and the symbol scan under a mask, at every level that this machine has."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.codec import Binary, Int4, Int8, Power
from sememe.errors import InputError
from sememe.kernels import native
from sememe.kernels.fastscan import NibbleBlocks
from sememe.kernels.select import all_marked, as_mask, best_selected, select

COMPILED = [name for name in native.levels() if name != "numpy"]
needs_core = pytest.mark.skipif(not COMPILED, reason="the native core was not built here")


@pytest.mark.parametrize("level", native.levels())
@given(n=st.integers(0, 300), share=st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_rows_and_bits_are_those_of_the_mask(level, n, share, seed):
    mask = np.random.default_rng(seed).random(n) < share
    rows = [i for i in range(n) if mask[i]]
    with native.using(level):
        found = select(mask, n)
        assert found.passing == len(rows) and found.rows.tolist() == rows and found.rows.dtype == np.int64
        assert found.bits.dtype == np.uint64 and len(found.bits) == -(-n // 64)
        assert [i for i in range(n) if int(found.bits[i // 64]) >> (i % 64) & 1] == rows
        assert sum(int(word).bit_count() for word in found.bits) == len(rows)
        again = select(found.bits, n)
        assert again.passing == len(rows) and again.rows.tolist() == rows
        few = select(mask, n, most=len(rows) - 1) if rows else None
        assert few is None or (few.rows is None and few.passing == len(rows))


@pytest.mark.parametrize("level", native.levels())
def test_bytes_strides_and_faults(level):
    mask = np.zeros(200, dtype=np.uint8)
    mask[[3, 64, 199]] = 1, 200, 255
    with native.using(level):
        assert select(mask, 200).rows.tolist() == [3, 64, 199]
        assert select(np.repeat(mask, 2)[::2], 200).rows.tolist() == [3, 64, 199]
        for wrong in (np.ones(199, dtype=bool), np.ones((200, 1), dtype=bool), np.ones(200), np.ones(200, np.int64)):
            with pytest.raises(InputError, match="a filter over 200 rows"):
                select(wrong, 200)
        with pytest.raises(InputError, match="does not fit"):
            select(np.ones(3, dtype=np.uint64), 200)
        beyond = np.zeros(4, dtype=np.uint64)
        beyond[3] = 1 << 8
        with pytest.raises(InputError, match="does not fit"):
            select(beyond, 200)
    assert as_mask(mask, 200) is not mask and np.shares_memory(as_mask(mask, 200), mask)


def test_bits_are_what_the_table_scan_takes():
    generator = np.random.default_rng(0)
    blocks = NibbleBlocks.from_codes(generator.integers(0, 256, (333, 4), dtype=np.uint8), 8)
    mask = generator.random(333) < 0.4
    np.testing.assert_array_equal(select(mask, 333).bits, blocks.bitmap(mask))


@needs_core
@pytest.mark.parametrize("level", COMPILED)
@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("d", [40, 128, 200, 256, 384, 520])
def test_bits_over_thin_and_thick_stretches_give_what_their_rows_give(level, queries, d):
    generator = np.random.default_rng(d)
    n = 20_011
    X = generator.standard_normal((n, d)).astype(np.float32)
    codes = (quantizer := Int4().fit(X)).encode(X)
    thick = np.repeat([0.9, 0.0, 0.02, 0.4, 1.0, 0.5, 0.001], -(-n // 7))[:n]  # shares that pass, stretch by stretch
    mask = generator.random(n) < thick
    with native.using(level):
        scan = quantizer.native_scan(X[:queries])
        wanted = scan.topk(codes, 70, np.flatnonzero(mask))
        for allow in (mask, select(mask, n).bits):
            for given, expected in zip(scan.topk(codes, 70, allow=allow), wanted):
                np.testing.assert_array_equal(given, expected)
        with native.limited(3):
            np.testing.assert_array_equal(scan.topk(codes, 70, allow=mask)[1], wanted[1])
        with pytest.raises(InputError, match="does not fit"):
            scan.topk(codes, 70, allow=np.ones(3, dtype=np.uint64))


@needs_core
@pytest.mark.parametrize("level", COMPILED)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.8])
@pytest.mark.parametrize("quantizer", [Int8(), Int4(), Binary(), Power(3)], ids=repr)
def test_a_mask_gives_what_its_rows_give(level, share, quantizer):
    generator = np.random.default_rng(1)
    X = generator.standard_normal((3000, 40)).astype(np.float32)
    X[1500:] = X[:1500]  # ties everywhere
    codes, mask = quantizer.fit(X).encode(X), generator.random(3000) < share
    for queries in (X[:1], X[:7]):
        query = quantizer.native_scan(queries)
        with native.using(level):
            scores, rows = query.topk(codes, 20, allow=mask)
            want, other = query.topk(codes, 20, np.flatnonzero(mask))
        np.testing.assert_array_equal(rows, other)
        np.testing.assert_array_equal(scores, want)


@needs_core
def test_masks_of_none_of_all_and_with_threads():
    X = np.random.default_rng(2).standard_normal((70_000, 64)).astype(np.float32)
    quantizer = Int8().fit(X)
    codes, query = quantizer.encode(X), quantizer.native_scan(X[:2])
    assert query.topk(codes, 5, allow=np.zeros(len(X), dtype=bool))[1].shape == (2, 0)
    whole = query.topk(codes, 50)
    mask = np.ones(len(X), dtype=bool)
    for threads in (1, 3):
        with native.limited(threads):
            for found, wanted in zip(query.topk(codes, 50, allow=mask), whole):
                np.testing.assert_array_equal(found, wanted)
    mask[whole[1][0]] = False
    assert not np.isin(query.topk(codes, 50, allow=mask)[1][0], whole[1][0]).any()
    with pytest.raises(ValueError, match="do not fit"):
        query.topk(codes, 5, np.arange(3), allow=mask)
    with pytest.raises(InputError, match="a filter over"):
        query.topk(codes, 5, allow=mask[:-1])


@pytest.mark.parametrize("level", native.levels())
def test_marked_blocks(level):
    generator = np.random.default_rng(4)
    for width, block in ((3, 8), (8, 8), (16, 8), (20, 64), (1, 64)):
        blocks = 40
        marks = generator.random(blocks) < 0.8
        total = blocks * block // width
        for _ in range(50):
            rows = generator.integers(0, total, generator.integers(0, 4))
            bytes_of = (rows[:, None] * width + np.arange(width)) // block
            with native.using(level):
                assert all_marked(marks, rows, width, block) == bool(marks[bytes_of].all())
        with native.using(level):
            full = np.ones(blocks, dtype=bool)
            assert all_marked(full, np.array([0, total - 1]), width, block)
            assert not all_marked(full, np.array([-1]), width, block)
            assert not all_marked(full, np.array([0, blocks * block]), width, block)
            assert not all_marked(full, np.array([2**62 // width]), width, block)


@pytest.mark.parametrize("level", native.levels())
def test_rows_whose_score_is_no_number_come_last(level):
    vectors = np.arange(40, dtype=np.float32).reshape(20, 2)
    vectors[3], vectors[7] = np.inf, -np.inf
    with native.using(level):
        _, found = best_selected(vectors, np.array([[1, -1]], np.float32), np.ones(20, dtype=bool), 20, 20)
    assert found is not None
    scores, rows = found
    assert rows[0, -2:].tolist() == [3, 7] and np.isneginf(scores[0, -2:]).all()
    assert rows[0, :-2].tolist() == [row for row in range(20) if row not in (3, 7)]
