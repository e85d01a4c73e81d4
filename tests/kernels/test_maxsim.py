"""MaxSim against its slow twin, at every size of block and with empty rows."""

import numpy as np
import pytest

from sememe import codec
from sememe.contracts import unit_rows
from sememe.errors import InputError
from sememe.kernels import maxsim, native, reference
from sememe.kernels.maxsim import TokenCodes

COMPILED = [level for level in native.levels() if level != "numpy"]
CODES = [
    codec.FP32(),
    codec.FP16(),
    codec.Int8(),
    codec.Int4(),
    codec.FP8(),
    codec.Residual(1, 20),
    codec.Residual(2, 300),
    codec.Residual(3, 20),
    codec.Residual(4, 300),
    codec.Residual(6, 20),
    codec.Residual(8, 1),
]


def ragged(generator, counts, d):
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return generator.standard_normal((int(offsets[-1]), d)).astype(np.float32), offsets


@pytest.mark.parametrize("level", native.levels())
@pytest.mark.parametrize("scratch", [1, 7, 100, 1 << 20])
def test_equals_the_reference(monkeypatch, scratch, level):
    monkeypatch.setattr(maxsim, "_SCRATCH", scratch)
    generator = np.random.default_rng(0)
    Q, queries = ragged(generator, [3, 1, 0, 5], 6)
    values, offsets = ragged(generator, [0, 4, 1, 0, 0, 9, 2, 30, 0], 6)
    values[offsets[2]] = -Q[3]
    with native.using(level):
        scores = maxsim.maxsim(Q, queries, values, offsets)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, reference.maxsim(Q, queries, values, offsets), rtol=1e-5, atol=1e-5)
    assert not scores[2].any() and not scores[:, [0, 3, 4, 8]].any()
    assert scores[1, 2] < 0  # a best match may be negative; only nothing at all is 0


def test_nothing_at_all():
    generator = np.random.default_rng(0)
    values, offsets = ragged(generator, [2, 3], 4)
    none, no_rows = ragged(generator, [], 4)
    assert maxsim.maxsim(none, no_rows, values, offsets).shape == (0, 2)
    assert maxsim.maxsim(values, offsets, none, no_rows).shape == (2, 0)
    assert not maxsim.maxsim(none, np.array([0, 0]), values, offsets).any()


def test_blocks_are_whole_documents():
    offsets = np.array([0, 3, 3, 10, 11, 12])
    for most in range(1, 14):
        runs = list(maxsim.blocks(offsets, most))
        assert [start for start, _ in runs] == [0, *(stop for _, stop in runs[:-1])]
        assert runs[-1][1] == 5
        assert all(offsets[stop] - offsets[start] <= most or stop == start + 1 for start, stop in runs)


@pytest.mark.skipif(not COMPILED, reason="the native core was not built")
@pytest.mark.parametrize("quantizer", CODES, ids=repr)
@pytest.mark.parametrize("d", [1, 15, 48, 70])
@pytest.mark.parametrize("unit", [False, True])
def test_codes_equal_their_decoded_vectors(monkeypatch, quantizer, d, unit):
    """Every kind of code, at every level and with threads, against MaxSim over the decoded vectors, in float64."""
    generator = np.random.default_rng(d)
    counts = [0, 1, 2, 3, 4, 5, 0, 40, 7, *generator.integers(0, 20, 120), 0]
    values, offsets = ragged(generator, counts, d)
    if unit:
        values = unit_rows(values)
    Q, queries = ragged(generator, [0, 1, 3, 0, 17, 4], d)
    quantizer = type(quantizer)(**quantizer.get_params()).fit(values)
    codes = quantizer.encode(values)
    want = reference.maxsim(Q, queries, quantizer.decode(codes), offsets)
    chosen = generator.permutation(len(counts))
    results = []
    for level in COMPILED:
        for threads in ("1", "3"):
            monkeypatch.setenv("SEMEME_THREADS", threads)
            with native.using(level):
                prepared = quantizer.native_maxsim(Q)
                results.append(prepared.scores(codes, queries, offsets[:-1], offsets[1:]))
                some = prepared.scores(codes, queries, offsets[chosen], offsets[chosen + 1])
            np.testing.assert_array_equal(some, results[-1][:, chosen])
    np.testing.assert_allclose(results[0], want, rtol=2e-5, atol=2e-5 * max(1.0, float(np.abs(want).max())))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.skipif(not COMPILED, reason="the native core was not built")
def test_what_does_not_fit_is_refused():
    Q, queries = ragged(np.random.default_rng(0), [2], 16)
    codes = np.zeros((3, 64), dtype=np.uint8)
    prepared = TokenCodes(Q, "single")
    start, stop = np.array([0]), np.array([3])
    with pytest.raises(InputError):
        prepared.scores(codes, np.array([0, 5]), start, stop)
    for wrong in (np.array([4]), np.array([-1])):
        with pytest.raises(ValueError, match="fit together"):
            prepared.scores(codes, queries, start, wrong)
    with pytest.raises(ValueError, match="fit together"):
        prepared.scores(codes[:, :60].copy(), queries, start, stop)
    binary = {"bits": 1, "levels": np.zeros(2, np.float32), "first": 1, "head": 1}
    beyond = TokenCodes(Q, "symbols", centres=np.zeros((2, 7), np.float32), **binary)
    rows, spread = np.zeros((7, 16), np.float32), np.zeros(16, np.float32)
    for prepared in (beyond, TokenCodes(Q, "symbols", rows=rows, spread=spread, **binary)):
        with pytest.raises(IndexError, match="centre"):
            prepared.scores(codes + np.uint8(9), queries, start, stop)
    for wrong in ({"rows": rows, "spread": spread[1:]}, {"rows": rows[:, 1:].copy(), "spread": spread}):
        with pytest.raises(ValueError, match="fit together"):
            TokenCodes(Q, "symbols", **wrong, **binary).scores(codes, queries, start, stop)
