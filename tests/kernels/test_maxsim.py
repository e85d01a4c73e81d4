"""MaxSim against its slow twin, at every size of block and with empty rows."""

import numpy as np
import pytest

from sememe.kernels import maxsim, reference


def ragged(generator, counts, d):
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return generator.standard_normal((int(offsets[-1]), d)).astype(np.float32), offsets


@pytest.mark.parametrize("scratch", [1, 7, 100, 1 << 20])
def test_equals_the_reference(monkeypatch, scratch):
    monkeypatch.setattr(maxsim, "_SCRATCH", scratch)
    generator = np.random.default_rng(0)
    Q, queries = ragged(generator, [3, 1, 0, 5], 6)
    values, offsets = ragged(generator, [0, 4, 1, 0, 0, 9, 2, 30, 0], 6)
    values[offsets[2]] = -Q[3]
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
