"""Every kernel against its slow twin in ``kernels.reference``."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.kernels import bits, dots, floats, reference
from sememe.kernels.kmeans import kmeans, nearest
from sememe.kernels.tables import byte_tables, table_sums


@pytest.mark.parametrize("width", range(1, 9))
@pytest.mark.parametrize("d", [1, 2, 3, 7, 8, 9, 16, 21, 64])
def test_pack(width, d):
    values = np.random.default_rng(d).integers(0, 1 << width, (5, d), dtype=np.uint8)
    packed = bits.pack(values, width)
    assert packed.shape == (5, bits.packed_bytes(d, width))
    if d % 8 == 0:
        assert packed.shape[1] == d * width // 8
    np.testing.assert_array_equal(packed, reference.pack(values, width))
    np.testing.assert_array_equal(bits.unpack(packed, width, d), values)


@pytest.mark.parametrize("d", [1, 4, 5, 6, 11, 24, 25, 26, 100])
def test_trits(d):
    digits = np.random.default_rng(d).integers(0, 3, (6, d), dtype=np.uint8)
    packed = bits.pack_trits(digits)
    assert packed.shape == (6, -(-d // 5)) and packed.max() < 243
    np.testing.assert_array_equal(packed, reference.pack_trits(digits))
    np.testing.assert_array_equal(bits.unpack_trits(packed, d), digits)


@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 5), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_pack_any_shape(width, d, n, seed):
    values = np.random.default_rng(seed).integers(0, 1 << width, (n, d), dtype=np.uint8)
    np.testing.assert_array_equal(bits.unpack(bits.pack(values, width), width, d), values)


@pytest.mark.parametrize("form", floats.MINIFLOATS.values(), ids=lambda form: form.name)
def test_minifloat_codes(form):
    codes = np.array([c for c in range(256) if c & 0x7F <= form.top], dtype=np.uint8)
    values = floats.decode_minifloat(codes, form)
    np.testing.assert_array_equal(values, [reference.decode_minifloat(int(c), form) for c in codes])
    np.testing.assert_array_equal(floats.encode_minifloat(values, form), codes)
    half = floats.minifloat_to_half(codes, form).astype(np.float64) * form.half_factor
    np.testing.assert_array_equal(half, values)
    some = np.random.default_rng(0).standard_normal(300).astype(np.float32) * np.float32(form.largest / 8)
    some = np.concatenate([some, some * np.float32(1e-3), [0.0, -0.0, 1e9, -1e9]]).astype(np.float32)
    expected = [reference.encode_minifloat(float(v), form) for v in some]
    np.testing.assert_array_equal(floats.encode_minifloat(some, form), expected)


def integer_rows(Q):
    score = dots.integer_dots(Q, [bits.Plane(0, Q.shape[1])])
    return lambda block: score([block])


@pytest.mark.parametrize("queries", [1, 3, 9])
@pytest.mark.parametrize("width", range(1, 9))
@pytest.mark.parametrize("d", [1, 8, 21])
def test_integer_dots_of_planes(width, d, queries):
    generator = np.random.default_rng(d)
    values = generator.integers(0, 1 << min(width, 7), (11, d), dtype=np.uint8)
    Q = generator.standard_normal((queries, d))
    planes = [plane.view(np.int8) for plane in bits.planes(bits.pack(values, width), width, d)]
    layout = bits.layout(d, width)
    np.testing.assert_array_equal(dots.widened(planes, layout), values)
    scores = dots.integer_dots(Q, layout)(planes)
    np.testing.assert_allclose(scores, reference.dots(Q, values), atol=2e-6 * (1 << width) * d)


def rows(kind, n, d):
    generator = np.random.default_rng(n + d)
    if kind == "integer":
        block = generator.integers(-128, 128, (n, d), dtype=np.int8)
        return integer_rows, block, block
    X = generator.standard_normal((n, d)).astype(np.float32)
    if kind == "half":
        return dots.half_dots, X.astype(np.float16), X.astype(np.float16)
    if kind == "bfloat16":
        patterns = floats.encode_bfloat16(X)
        return dots.bfloat16_dots, patterns, floats.decode_bfloat16(patterns)
    return dots.float_dots, X, X


@pytest.mark.parametrize("kind", ["integer", "half", "bfloat16", "float"])
@pytest.mark.parametrize("d", [1, 3, 31, 64, 100])
@pytest.mark.parametrize("queries", [1, 2, 5, 8, 9, 13])
def test_dots(kind, d, queries):
    prepare, block, values = rows(kind, 17, d)
    Q = np.random.default_rng(queries).standard_normal((queries, d)).astype(np.float32)
    Q[0] *= 1e-3
    expected = reference.dots(Q, values)
    scores = prepare(Q)(block)
    assert scores.dtype == np.float32 and scores.shape == (queries, 17)
    lengths = np.linalg.norm(Q, axis=1)[:, None] * np.linalg.norm(values.astype(np.float64), axis=1)[None]
    assert (np.abs(scores - expected) <= 5e-7 * lengths).all()


@pytest.mark.parametrize("kind", ["integer", "half", "bfloat16"])
def test_dots_of_odd_queries_and_layouts(kind):
    prepare, block, values = rows(kind, 40, 24)
    outlier = np.full((1, 24), 1e-4)
    outlier[0, 3] = 1e4
    for Q in (np.zeros((1, 24)), np.full((1, 24), 1e25), np.full((2, 24), 1e-25), outlier):
        expected = reference.dots(Q, values)
        lengths = np.linalg.norm(Q, axis=1)[:, None] * np.linalg.norm(values.astype(np.float64), axis=1)[None]
        assert (np.abs(prepare(Q)(block) - expected) <= 5e-7 * lengths).all()
    Q = np.random.default_rng(0).standard_normal((2, 24))
    wide = np.zeros((40, 30), dtype=block.dtype)
    wide[:, :24] = block
    if kind == "integer":  # the only one that is given strided rows
        np.testing.assert_array_equal(prepare(Q)(wide[:, :24]), prepare(Q)(block))
    frozen = block.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(prepare(Q)(frozen), prepare(Q)(block))
    assert prepare(Q)(block[:0]).shape == (2, 0)


def test_table_sums():
    generator = np.random.default_rng(0)
    tables = generator.standard_normal((3, 5, 256)).astype(np.float32)
    codes = generator.integers(0, 256, (20, 5), dtype=np.uint8)
    np.testing.assert_allclose(table_sums(tables, codes), reference.table_sums(tables, codes), atol=1e-5)


@pytest.mark.parametrize("width", [2, 4, 8])
@pytest.mark.parametrize("places", [1, 3, 8, 9])
def test_byte_tables(width, places):
    generator = np.random.default_rng(places)
    values = generator.standard_normal((2, places, 1 << width)).astype(np.float32)
    numbers = generator.integers(0, 1 << width, (12, places), dtype=np.uint8)
    expected = reference.table_sums(values, numbers)
    np.testing.assert_allclose(table_sums(byte_tables(values, width), bits.pack(numbers, width)), expected, atol=1e-5)


def test_nearest():
    generator = np.random.default_rng(0)
    X, centres = (
        generator.standard_normal((300, 6)).astype(np.float32),
        generator.standard_normal((40, 6)).astype(np.float32),
    )
    np.testing.assert_array_equal(nearest(X, centres), reference.nearest(X, centres))


def test_kmeans_finds_separate_clusters_and_leaves_none_empty():
    generator = np.random.default_rng(0)
    middles = 20 * generator.standard_normal((12, 4)).astype(np.float32)
    X = middles[np.arange(600) % 12] + generator.standard_normal((600, 4)).astype(np.float32) * 0.1
    centres = kmeans(X, 64, iterations=15, seed=0)
    assert len(np.unique(nearest(X, centres))) == 64
    assert np.linalg.norm(X - centres[nearest(X, centres)], axis=1).max() < 1
    np.testing.assert_array_equal(kmeans(X, 64, iterations=15, seed=0), centres)
    assert np.isfinite(kmeans(X[:3], 16, iterations=3, seed=0)).all()
    assert np.isfinite(kmeans(np.zeros((30, 4), np.float32), 16, iterations=3, seed=0)).all()
