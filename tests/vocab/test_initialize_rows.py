"""The solver that all initializers share: which tokens are the same, what is copied, what the simple methods give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from sememe.errors import InputError, UsageError
from sememe.vocab import TokenizerFile
from sememe.vocab.initialize import Problem, Rows, make, methods, shared_tokens
from sememe.vocab.initialize.rows import Initializer


class Words:
    """A vocabulary written down by hand: each token is its text; ``<...>`` is special, ``<0x..>`` a byte."""

    def __init__(self, tokens, roles=None):
        self.tokens, self.roles = list(tokens), roles or {}
        self.special = frozenset(i for i, t in enumerate(tokens) if t.startswith("<") and not t.startswith("<0x"))
        self.ids = {token: number for number, token in enumerate(self.tokens)}

    def text_of(self, number):
        token = self.tokens[number]
        if number in self.special or not token:
            return None
        return bytes([int(token[3:5], 16)]) if token.startswith("<0x") else token.encode()

    def pieces(self, text):
        text = text.decode() if isinstance(text, bytes) else text
        out, start = [], 0
        while start < len(text):
            stop = next((s for s in range(len(text), start, -1) if text[start:s] in self.ids), None)
            if stop is None:
                return []
            out.append(self.ids[text[start:stop]])
            start = stop
        return out

    def encode_batch(self, texts):
        return [self.pieces(text) for text in texts]


OLD = Words(["<s>", "</s>", "<0x61>", "a", "b", "c", " a", " ab", "d", "e"], {"bos": 0, "eos": 1})
NEW = Words(["<end>", "abc", "a", " a", "<cls>", "de", "q", "", "<0x62>"], {"eos": 0, "cls": 4})


def table(v, d=6, seed=0):
    return np.random.default_rng(seed).standard_normal((v, d)).astype(np.float32)


def test_shared_tokens_by_bytes_and_by_role():
    # "a" is the letter, not the byte; <cls> stands in for <s>; the byte 0x62 is the letter b.
    assert shared_tokens(OLD, NEW).tolist() == [[0, 1], [2, 3], [3, 6], [4, 0], [8, 4]]
    assert Problem.of(OLD, NEW).fresh.tolist() == [1, 5, 6, 7]


@pytest.mark.parametrize("init", ["zero", "mean", "subword-mean", "gaussian"])
def test_shared_rows_are_copied_to_the_bit(init):
    E = table(len(OLD.tokens))
    E[3] = [-0.0, 0.0, 1e-40, -1e-45, 3e38, -1.0]
    problem = Problem.of(OLD, NEW)
    made = make(init).weights(problem, E).apply(E)
    assert made.shape == (len(NEW.tokens), 6) and made.dtype == np.float32
    for new, old in problem.shared.tolist():
        np.testing.assert_array_equal(made[new].view(np.uint32), E[old].view(np.uint32))


def test_simple_methods_by_hand():
    E = table(len(OLD.tokens))
    problem = Problem.of(OLD, NEW)
    assert not make("zero").weights(problem, E).apply(E)[problem.fresh].any()
    mean = E.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(
        make("mean").weights(problem, E).apply(E)[problem.fresh], mean[None].repeat(4, 0), rtol=1e-6
    )
    rows = make("subword-mean").weights(problem, E)
    made = rows.apply(E)
    np.testing.assert_allclose(made[1], (E[3] + E[4] + E[5]) / 3, rtol=1e-5)  # abc = a b c
    np.testing.assert_allclose(made[5], (E[8] + E[9]) / 2, rtol=1e-5)  # de = d e
    np.testing.assert_allclose(made[6:8], mean[None].repeat(2, 0), rtol=1e-5)  # q cannot be spelled, a gap says nothing
    assert rows.counts == {"copied": 5, "made": 2, "fallback": 2}


def test_gaussian_has_the_moments_of_the_old_rows():
    generator = np.random.default_rng(0)
    E = (generator.standard_normal((4000, 5)) @ generator.standard_normal((5, 5)) + 3).astype(np.float32)
    old = Words([f"t{i:04d}" for i in range(4000)])
    new = Words([f"u{i:04d}" for i in range(6000)])
    made = make("gaussian").weights(Problem.of(old, new), E).apply(E)
    np.testing.assert_allclose(made.mean(axis=0), E.mean(axis=0), atol=0.15)
    np.testing.assert_allclose(np.cov(made.T), np.cov(E.T), rtol=0.2, atol=0.3)
    same, other = (make("gaussian").weights(Problem.of(old, new, seed=s), E).apply(E) for s in (0, 1))
    np.testing.assert_array_equal(made, same)
    assert (made != other).any()


def test_rows_beyond_the_vocabulary_are_padding():
    E = np.concatenate([table(len(OLD.tokens)), np.full((6, 6), 1e6, dtype=np.float32)])
    made = make("mean").weights(Problem.of(OLD, NEW), E).apply(E)
    assert np.abs(made).max() < 10


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 9), st.floats(0, 1))
def test_rows_apply_is_the_product(seed, v_new, v_old, share):
    generator = np.random.default_rng(seed)
    dense = generator.standard_normal((v_new, v_old)) * (generator.random((v_new, v_old)) < share)
    drawn = np.flatnonzero(generator.random(v_new) < 0.3)
    dense[drawn] = 0
    values = generator.standard_normal((len(drawn), 4)).astype(np.float32)
    E = generator.standard_normal((v_old, 4)).astype(np.float32)
    rows = Rows(csr_array(dense), drawn, values)
    want = dense @ E
    want[drawn] = values
    np.testing.assert_allclose(rows.apply(E), want, rtol=1e-4, atol=1e-5)
    bias = generator.standard_normal(v_old).astype(np.float32)
    along = rows.along(bias)
    kept = np.diff(csr_array(dense).indptr) > 0
    np.testing.assert_allclose(along[kept], (dense @ bias)[kept], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(along[~kept], bias.mean(), rtol=1e-5, atol=1e-7)


def test_refuses_tables_that_do_not_fit():
    problem = Problem.of(OLD, NEW)
    with pytest.raises(InputError, match="9 rows for a tokenizer of 10"):
        make("mean").weights(problem, table(9))
    bad = table(10)
    bad[4, 2] = np.nan
    with pytest.raises(InputError, match="row 4"):
        make("mean").weights(problem, bad)
    with pytest.raises(InputError, match="donor's table has 8 rows"):
        Problem.of(OLD, NEW, donor=table(8))


def test_methods_by_name():
    names = methods()
    assert {"zero", "mean", "subword-mean", "omp", "wechsel", "ofa", "convex-hull", "hybrid", "focus"} <= set(names)
    assert all(isinstance(make(name), Initializer) for name in names)
    assert make("omp", k=3).get_params() == {"k": 3, "centre": False}
    with pytest.raises(UsageError, match="omp"):
        make("opm")


def test_shared_tokens_of_real_kinds(tokenizers_by_kind):
    """Each kind with itself shares everything; with another, both sides spell the same bytes."""
    opened = {kind: TokenizerFile.open(path) for kind, path in tokenizers_by_kind.items()}
    for kind, one in opened.items():
        pairs = shared_tokens(one, one)
        assert len(pairs) >= 0.99 * sum(1 for token in one.tokens if token)
        assert (pairs[:, 0] == pairs[:, 1]).mean() > 0.99, kind
        for two in opened.values():
            for new, old in shared_tokens(one, two).tolist():
                assert one.text_of(old) == two.text_of(new) or new in two.special
