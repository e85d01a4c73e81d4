"""The battery every quantizer of the catalogue passes: bytes, determinism, save and restore, scores, hostile input."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from sememe import catalog
from sememe.codec import Int8, Power, ProductQuantizer, Uniform
from sememe.errors import InputError, NotFittedError
from sememe.recipe import Recipe
from sememe.testing import clustered_vectors

VARIANTS = [
    "fp8:e5m2", "fp8:e3m4", "fp8:e4m3,scale=false", "int8:vector", "int4:vector", "binary:zero", "binary:median",
    "pq:3", "pq:5,bits=4", "pq:4,rotate=true", "uniform:2",
    "pq:4,norm=score", "pq:5,bits=4,norm=length", "pq:4,rotate=true,norm=score",
    "rabitq:1", "rabitq:8", "klt:9", "uniform:3", "uniform:5,minmax", "uniform:7,mse,tensor",
    "uniform:8", "power:2", "power:3,minmax", "power:4,mse,tensor", "power:6", "power:8", "power:4,exponent=0.5",
    "residual-binary:0.5", "residual-binary:3,seconds=2", "coupled:1,bits=1", "coupled:3,bits=4",
]  # fmt: skip
ALL = [t.name for t in catalog.techniques(room="codec", kind="quantizer")] + VARIANTS
every = pytest.mark.parametrize("text", ALL)


def make(text):
    # Only the quantizer stage matters; the others make the recipe complete.
    return Recipe.parse(f"static | {text} | flat").quantizer.make()


def vectors(n=400, d=21, seed=0):
    """Clustered unit rows with a constant column and a zero row; 21 is a multiple of neither 2, 5 nor 8."""
    X = clustered_vectors(n, d, seed=seed)
    X[:, 7 % d] = 0.05
    X[-1] = 0
    return X


@every
@pytest.mark.parametrize("d", [1, 3, 8, 21, 64])
def test_bytes_promised_are_bytes_stored(text, d):
    quantizer = make(text)
    X = vectors(50, d)
    if text.startswith("pq:") and d < quantizer.m:
        with pytest.raises(InputError, match="whole number from 1 to"):
            quantizer.fit(X)
        return
    promised = quantizer.bytes_per_vector(d)
    codes = quantizer.fit(X).encode(X)
    assert codes.dtype == np.uint8 and codes.flags.c_contiguous
    assert codes.shape == (50, promised) == (50, quantizer.code_bytes_)
    assert codes.nbytes == 50 * promised
    decoded = quantizer.decode(codes)
    assert decoded.dtype == np.float32 and decoded.shape == X.shape and np.isfinite(decoded).all()


@every
def test_scores_are_products_with_decoded_rows(text):
    X = vectors()
    Q = clustered_vectors(40, 21, seed=5)
    quantizer = make(text).fit(X)
    codes = quantizer.encode(X)
    expected = Q.astype(np.float64) @ quantizer.decode(codes).astype(np.float64).T
    size = np.linalg.norm(Q, axis=1)[:, None] * np.linalg.norm(quantizer.decode(codes), axis=1)[None] + 0.5
    for few in (1, 2, 3, 8, 9, 40):
        scores = quantizer.scores(Q[:few], codes)
        assert scores.dtype == np.float32 and scores.shape == (few, len(X))
        assert (np.abs(scores - expected[:few]) / size[:few]).max() < 1e-6


@every
def test_deterministic_and_restored(text):
    X = vectors()
    Q = clustered_vectors(4, 21, seed=5)
    quantizer = make(text).fit(X)
    codes = quantizer.encode(X)
    again = make(text).fit(clustered_vectors(100, 21, seed=9)).fit(X)  # a second fit forgets the first
    np.testing.assert_array_equal(again.encode(X), codes)
    state = {name: np.array(array) for name, array in quantizer.state().items()}
    assert all(array.dtype != object for array in state.values())
    restored = make(text).load_state(state)
    np.testing.assert_array_equal(restored.encode(X), codes)
    np.testing.assert_array_equal(restored.decode(codes), quantizer.decode(codes))
    np.testing.assert_array_equal(restored.scores(Q, codes), quantizer.scores(Q, codes))
    assert restored.side_bytes_ == quantizer.side_bytes_


@every
def test_queries_never_change_what_was_learned(text):
    X = vectors()
    quantizer = make(text).fit(X)
    codes = quantizer.encode(X)
    before = {name: array.copy() for name, array in quantizer.state().items()}
    quantizer.scores(100 * clustered_vectors(30, 21, seed=3) + 5, codes)
    quantizer.encode(100 * clustered_vectors(30, 21, seed=4) - 5)
    for name, array in quantizer.state().items():
        np.testing.assert_array_equal(array, before[name])
    np.testing.assert_array_equal(quantizer.encode(X), codes)


@every
def test_rows_do_not_depend_on_their_neighbours(text):
    X = vectors()
    quantizer = make(text).fit(X)
    codes = quantizer.encode(X)
    rows = np.array([5, 17, 399])
    np.testing.assert_allclose(quantizer.decode(codes[rows]), quantizer.decode(codes)[rows], atol=1e-6)
    Q = X[:3]
    np.testing.assert_allclose(quantizer.scores(Q, codes[rows]), quantizer.scores(Q, codes)[:, rows], atol=1e-6)


@every
def test_shapes_at_the_edge(text):
    X = vectors()
    quantizer = make(text).fit(X)
    codes = quantizer.encode(X)
    assert quantizer.encode(X[:0]).shape == (0, quantizer.code_bytes_)
    assert quantizer.decode(codes[:0]).shape == (0, 21)
    assert quantizer.scores(X[:2], codes[:0]).shape == (2, 0)
    assert quantizer.scores(X[:0], codes).shape == (0, 400)
    one = make(text).fit(X[:1])
    assert np.isfinite(one.decode(one.encode(X))).all()
    zeros = make(text).fit(np.zeros((5, 21)))
    assert not zeros.decode(zeros.encode(np.zeros((5, 21)))).any()
    assert not zeros.scores(X[:2], zeros.encode(np.zeros((5, 21)))).any()


@every
def test_layouts_and_dtypes_of_input(text):
    X = vectors()
    quantizer = make(text).fit(X)
    codes = quantizer.encode(X)
    np.testing.assert_array_equal(quantizer.encode(X.astype(np.float64)), codes)
    np.testing.assert_array_equal(quantizer.encode(np.asfortranarray(X)), codes)
    wide = np.zeros((400, 42), dtype=np.float32)
    wide[:, ::2] = X
    np.testing.assert_array_equal(quantizer.encode(wide[:, ::2]), codes)
    fortran = np.asfortranarray(codes)
    read_only = codes.copy()
    read_only.flags.writeable = False
    for variant in (fortran, read_only):
        np.testing.assert_array_equal(quantizer.decode(variant), quantizer.decode(codes))
        np.testing.assert_allclose(quantizer.scores(X[:2], variant), quantizer.scores(X[:2], codes), atol=1e-6)
    integers = make(text).fit(np.arange(63).reshape(3, 21))
    assert np.isfinite(integers.decode(integers.encode([[1] * 21]))).all()


@every
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_very_large_and_very_small_values(text, size):
    X = vectors() * np.float32(size)
    quantizer = make(text).fit(X)
    decoded = quantizer.decode(quantizer.encode(X))
    assert np.isfinite(decoded).all()
    if text in ("fp16", "fp8:e4m3,scale=false"):  # formats without such numbers saturate or vanish
        return
    error = np.linalg.norm((X - decoded).astype(np.float64)) / np.linalg.norm(X.astype(np.float64))
    assert error < 0.8
    scores = quantizer.scores(vectors(3), quantizer.encode(X))
    assert np.isfinite(scores).all()


@every
def test_hostile_input_is_refused(text):
    X = vectors()
    quantizer = make(text)
    with pytest.raises(NotFittedError):
        quantizer.encode(X)
    for bad in (np.nan, np.inf, -np.inf):
        poisoned = X.copy()
        poisoned[3, 2] = bad
        with pytest.raises(InputError, match="row 3"):
            quantizer.fit(poisoned)
    with pytest.raises(InputError):
        quantizer.fit(X[:0])
    quantizer.fit(X)
    codes = quantizer.encode(X)
    for call in (quantizer.encode, lambda rows: quantizer.scores(rows, codes)):
        with pytest.raises(InputError, match="features"):
            call(X[:, :20])
        with pytest.raises(InputError):
            call(X[0])
    for wrong in (codes[:, :-1], codes.astype(np.int32), codes[0]):
        with pytest.raises(InputError, match="codes must be uint8"):
            quantizer.decode(wrong)


@pytest.mark.parametrize("family", ["uniform", "power"])
@pytest.mark.parametrize("options", ["", ",minmax", ",mse,tensor"])
def test_error_falls_as_bits_grow(family, options):
    X = clustered_vectors(600, 48)
    errors = []
    for bits in range(2, 9):
        quantizer = make(f"{family}:{bits}{options}").fit(X)
        errors.append(float(np.mean((X - quantizer.decode(quantizer.encode(X))) ** 2)))
    assert all(b < 0.6 * a for a, b in pairwise(errors)), errors


@pytest.mark.parametrize("bits", [4, 8])
def test_error_falls_as_groups_grow(bits):
    X = clustered_vectors(2000, 48)
    errors = []
    for m in (2, 4, 8, 16, 48):
        quantizer = ProductQuantizer(m, bits).fit(X)
        errors.append(float(np.mean((X - quantizer.decode(quantizer.encode(X))) ** 2)))
    assert all(b < a for a, b in pairwise(errors)), errors


def test_ladder_of_formats():
    """The formats order as their bits say."""
    X = clustered_vectors(1500, 64)

    def error(text):
        quantizer = make(text).fit(X)
        return float(np.mean((X - quantizer.decode(quantizer.encode(X))) ** 2))

    ladder = ["binary", "ternary", "int4", "fp8:e4m3", "fp8:e3m4", "int8", "bf16", "fp16", "fp32"]
    errors = [error(text) for text in ladder]
    assert errors == sorted(errors, reverse=True) and errors[-1] == 0


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("scale", ["dimension", "tensor"])
def test_power_with_exponent_one_is_uniform(bits, scale):
    X = clustered_vectors(300, 24)
    uniform = Uniform(bits, clip="minmax", scale=scale).fit(X)
    power = Power(bits, clip="minmax", scale=scale, exponent=1.0).fit(X)
    np.testing.assert_array_equal(power.encode(X), uniform.encode(X))
    np.testing.assert_array_equal(power.decode(power.encode(X)), uniform.decode(uniform.encode(X)))


def test_binary_layout_and_hamming():
    X = clustered_vectors(60, 21)
    quantizer = make("binary:zero").fit(X)
    codes = quantizer.encode(X)
    np.testing.assert_array_equal(codes, np.packbits(X > 0, axis=1))
    expected = ((X[:5, None] > 0) != (X[None] > 0)).sum(axis=2)
    np.testing.assert_array_equal(quantizer.hamming(codes[:5], codes), expected)


def test_int8_reaches_the_ends_of_the_range_and_clips_beyond():
    X = np.array([[0.0, -2.0], [1.0, 6.0], [0.5, 1.0]], dtype=np.float32)
    quantizer = Int8().fit(X)
    codes = quantizer.encode(X).view(np.int8)
    assert codes[0].tolist() == [-128, -128] and codes[1].tolist() == [127, 127]
    np.testing.assert_allclose(quantizer.decode(quantizer.encode([[9.0, -9.0]])), [[1.0, -2.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uniform:9", "give 2 to 8"),
        ("uniform:1", "give 2 to 8"),
        ("uniform:4,mes", "did you mean mse"),
        ("power:4,exponent=-1.0", "from 0 to 10"),
        ("fp8:e4m4", "did you mean e4m3"),
        ("int8:vectors", "did you mean vector"),
        ("binary:middle", "allowed: mean, median, zero"),
        ("pq:0", "whole number"),
        ("pq:8,bits=6", "allowed: 8, 4"),
    ],
)
def test_wrong_parameters_are_named(text, message):
    with pytest.raises(InputError, match=message):
        make(text).fit(clustered_vectors(20, 16))


@every
@pytest.mark.parametrize("queries", [1, 16])
def test_scoring_needs_little_memory(text, queries):
    """Beyond the scores themselves, a few MiB whatever the number of rows: never the decoded collection."""
    X = np.tile(vectors(500, 64), (80, 1))  # decoded, 10 MiB
    quantizer = make(text).fit(X[:500])
    codes = quantizer.encode(X)
    Q = X[:queries]
    quantizer.scores(Q, codes[:10])  # imports are not counted
    tracemalloc.start()
    try:
        scores = quantizer.scores(Q, codes)
        peak = tracemalloc.get_traced_memory()[1] - scores.nbytes
    finally:
        tracemalloc.stop()
    assert peak < 5 * 2**20
