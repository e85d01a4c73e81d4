"""Impact-ordered lists: exact where nothing is left out, and at every level the same where something is."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.kernels import native, reference
from sememe.kernels.impact import BLOCK, ImpactLists, order

COMPILED = native.levels()[1:]
pytestmark = pytest.mark.skipif(not COMPILED, reason="the native core is not built")


def collection(seed, passages, terms, per_passage):
    """Random passages, some without terms, with few different weights so that ties happen."""
    generator = np.random.default_rng(seed)
    pairs = np.unique(generator.integers(0, passages * terms, passages * per_passage // 2))
    rows, numbers = pairs // terms, pairs % terms
    sizes = np.bincount(rows, minlength=passages)
    values = (generator.integers(1, 30, len(rows)) / 8).astype(np.float32)
    codes, scales, places, starts = order(rows, numbers, values, count=terms, passages=passages)
    narrow = np.uint16 if terms <= 1 << 16 else np.uint32
    lists = ImpactLists(
        (rows[places] % BLOCK).astype(np.uint16), codes[places], starts.astype(np.uint32), scales,
        np.concatenate([[0], np.cumsum(sizes)]), numbers.astype(narrow), codes,
    )  # fmt: skip
    return lists, rows, numbers, values, generator


def ask(generator, terms, queries):
    numbers, weights, bounds = [], [], [0]
    for query in range(queries):
        some = np.sort(generator.choice(terms, min(terms, 3 * query), replace=False))
        numbers += [*some, -1]
        weights += [*generator.uniform(0, 2, len(some)), 1.0]
        bounds.append(len(numbers))
    return np.array(numbers, dtype=np.int64), np.float32(weights).astype(np.float64), np.array(bounds)


def truth(lists, rows, terms, numbers, weights, allowed):
    """Scores of one query from the codes, and the passages in order."""
    postings = []
    for number in numbers:
        here = terms == number
        values = lists.own_codes[here].astype(np.float32) * lists.scales[number]
        postings.append(list(zip(rows[here].tolist(), values.tolist())))
    scores = reference.sparse_scores(len(lists.first) - 1, postings, weights.tolist())
    ranked = np.lexsort((np.arange(len(scores)), -scores.astype(np.float32)))
    return scores, [r for r in ranked if scores[r] > 0 and (allowed is None or allowed[r])]


def check(seed, passages, terms, k, masked, share, per_passage=12):
    lists, rows, own, _, generator = collection(seed, passages, terms, per_passage)
    numbers, weights, bounds = ask(generator, terms, 4)
    allowed = generator.random(passages) < 0.3 if masked else None
    answers = []
    for level in COMPILED:
        with native.using(level):
            answers.append(lists.topk(numbers, weights, bounds, k, share=share, slack=0.7, allowed=allowed))
    scores, found = answers[0]
    for other in answers[1:]:
        np.testing.assert_array_equal(other[0], scores)
        np.testing.assert_array_equal(other[1], found)
    overlap = []
    for query, (start, stop) in enumerate(pairwise(bounds)):
        exact, wanted = truth(lists, rows, own, numbers[start:stop], weights[start:stop], allowed)
        mine = found[query][found[query] >= 0].tolist()
        assert len(mine) == min(k, len(wanted))  # also where something is left out
        np.testing.assert_allclose(scores[query, : len(mine)], exact[mine], rtol=1e-7)
        if share == 0:
            assert mine == wanted[:k]
        elif mine:
            overlap.append(len(set(mine) & set(wanted[:k])) / len(mine))
    return overlap


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("terms", [50, 66_000])
def test_two_blocks_of_passages(masked, terms):
    check(1, BLOCK + 3_000, terms, 10, masked, 0.0, per_passage=6)


def test_what_is_left_out_matters_little():
    assert np.mean(check(2, 4_000, 60, 10, False, 0.2)) > 0.8


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 200),
    st.integers(1, 30),
    st.sampled_from([1, 3, 10, 300]),
    st.booleans(),
    st.sampled_from([0.0, 0.0, 0.3, 1.0]),
)
def test_any_collection(seed, passages, terms, k, masked, share):
    check(seed, passages, terms, k, masked, share)


def test_order_is_by_block_term_and_falling_code():
    lists, rows, own, values, _ = collection(3, 500, 20, 8)
    decoded = lists.own_codes * lists.scales[own]
    assert (np.abs(decoded - values) <= lists.scales[own] * 0.5001).all()
    for term in range(20):
        part = slice(lists.starts[term], lists.starts[term + 1])
        here = own == term
        wanted = np.lexsort((rows[here], -lists.own_codes[here].astype(int)))
        assert lists.rows[part].tolist() == rows[here][wanted].tolist()
        assert lists.codes[part].tolist() == lists.own_codes[here][wanted].tolist()


def test_small_weights_are_not_lost():
    values = np.array([1000.0, 0.001, 0.0], dtype=np.float32)
    codes, _, _, _ = order(np.arange(3), np.zeros(3, dtype=np.int64), values, count=1, passages=3)
    assert codes.tolist() == [255, 1, 0]


def test_wrong_arguments_are_refused():
    lists, *_ = collection(0, 100, 4, 3)
    one, bounds = np.ones(1), np.array([0, 1])
    with pytest.raises(IndexError):
        lists.topk(np.array([4]), one, bounds, 5)
    for wrong in ({"share": -1.0}, {"slack": 2.0}, {"allowed": np.ones(50, dtype=bool)}):
        with pytest.raises(ValueError, match="fit together"):
            lists.topk(np.array([0]), one, bounds, 5, **wrong)
