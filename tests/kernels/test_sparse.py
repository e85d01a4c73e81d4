"""Inverted lists, exact: every level gives the answer of a loop in double precision."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sememe.kernels import native, reference
from sememe.kernels.sparse import Lengths, SparseLists, find_terms

COMPILED = native.levels()[1:]
pytestmark = pytest.mark.skipif(not COMPILED, reason="the native core is not built")


def collection(seed, passages, terms, weights):
    """Random lists, some empty, with many equal values so that ties happen; and lengths."""
    generator = np.random.default_rng(seed)
    lists = []
    for _ in range(terms):
        size = int(generator.integers(0, min(passages, int(10 ** generator.uniform(0, 4))) + 1))
        lists.append(np.sort(generator.choice(passages, size, replace=False)).astype(np.uint32))
    starts = np.cumsum([0, *map(len, lists)]).astype(np.uint32)
    count = int(starts[-1])
    values = {
        "u8": generator.integers(0, 256, count).astype(np.uint8),
        "fp16": (generator.integers(0, 40, count) / 16).astype(np.float16),
        "counts": generator.integers(1, 5, count).astype(np.uint8),
        "wide counts": generator.integers(1, 2000, count).astype(np.uint16),
    }[weights]
    lengths = generator.integers(1, 300, passages).astype(np.uint32)
    rows = np.concatenate([*lists, np.zeros(0, np.uint32)])
    return SparseLists(rows, values, weights.split()[-1], starts, passages), lengths, generator


def expected(lists, lengths, numbers, weights, scales, mean, allowed, k):
    postings = []
    for number, scale in zip(numbers, scales):
        part = slice(lists.starts[number], lists.starts[number + 1]) if number >= 0 else slice(0, 0)
        rows, values = lists.rows[part].tolist(), lists.values[part].astype(np.float32).tolist()
        if lists.weights == "counts":
            values = [reference.bm25_part(v, int(lengths[r]), mean, 1.2, 0.75) for r, v in zip(rows, values)]
        elif lists.weights == "u8":
            values = [float(np.float32(v) * scale) for v in values]
        postings.append(list(zip(rows, values)))
    scores = reference.sparse_scores(lists.passages, postings, weights)
    rows = [row for row in np.lexsort((np.arange(len(scores)), -scores.astype(np.float32))) if scores[row] > 0]
    rows = [row for row in rows if allowed is None or allowed[row]][:k]
    return rows, scores[rows]


def check(seed, passages, terms, weights, k, masked):
    lists, lengths, generator = collection(seed, passages, terms, weights)
    bounds = np.array([0, 0, 3, 3 + 2 * terms], dtype=np.int64)  # a query without terms comes first
    numbers = np.concatenate([generator.choice(terms, 2, replace=False), [-1], generator.permutation(2 * terms) // 2])
    factors = generator.uniform(0, 3, len(numbers)).astype(np.float32).astype(np.float64)
    factors[::5] = 0
    scales = generator.uniform(0.001, 0.1, len(numbers)).astype(np.float32)
    allowed = generator.random(passages) < 0.3 if masked else None
    counted, mean = lists.weights == "counts", float(lengths.mean())
    rough = (1.2 * (1 - 0.75 + 0.75 * lengths / mean)).astype(np.float32)
    answers = []
    for level in COMPILED:
        with native.using(level):
            answers.append(
                lists.topk(
                    numbers,
                    factors,
                    bounds,
                    k,
                    scales=scales if weights == "u8" else None,
                    lengths=Lengths(lengths, mean, 1.2, 0.75, rough) if counted else None,
                    allowed=allowed,
                )
            )
    scores, rows = answers[0]
    for other in answers[1:]:
        np.testing.assert_array_equal(other[0], scores)
        np.testing.assert_array_equal(other[1], rows)
    widest = 0
    for query, (start, stop) in enumerate(pairwise(bounds)):
        asked = slice(start, stop)
        wanted, values = expected(lists, lengths, numbers[asked], factors[asked], scales[asked], mean, allowed, k)
        widest = max(widest, len(wanted))
        assert rows[query][rows[query] >= 0].tolist() == wanted
        np.testing.assert_allclose(scores[query, : len(wanted)], values, rtol=1e-7)
        assert (scores[query, len(wanted) :] == -np.inf).all()
    assert rows.shape == scores.shape == (3, widest)


@pytest.mark.parametrize("weights", ["u8", "fp16", "counts", "wide counts"])
@pytest.mark.parametrize("masked", [False, True])
def test_two_blocks_of_passages(weights, masked):
    check(1, 70_000, 12, weights, 10, masked)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 300),
    st.integers(2, 9),
    st.sampled_from(["u8", "fp16", "counts", "wide counts"]),
    st.sampled_from([1, 3, 10, 500]),
    st.booleans(),
)
def test_any_collection(seed, passages, terms, weights, k, masked):
    check(seed, passages, terms, weights, k, masked)


def test_wrong_arguments_are_refused():
    lists, _, _ = collection(0, 100, 4, "fp16")
    one, bounds = np.ones(1), np.array([0, 1])
    with pytest.raises(IndexError):
        lists.topk(np.array([4]), one, bounds, 5)
    with pytest.raises(ValueError, match="fit together"):
        lists.topk(np.array([0]), one, np.array([0, 2]), 5)
    with pytest.raises(ValueError, match="fit together"):
        lists.topk(np.array([0]), one, bounds, 5, allowed=np.ones(50, dtype=bool))
    broken = SparseLists(lists.rows, lists.values, "fp16", np.array([0, 10**6], np.uint32), 100)
    with pytest.raises(IndexError):
        broken.topk(np.array([0]), one, bounds, 5)


TEXT = st.text(st.characters(codec="utf-16"), max_size=3) | st.sampled_from(
    ["\ud800", "a\udc00", "\uffff", "\U00010000"]
)


@settings(max_examples=50, deadline=None)
@given(st.sets(TEXT, max_size=40), st.lists(TEXT, max_size=20))
def test_terms_are_found_by_their_bytes(known, wanted):
    names = sorted(text.encode("utf-8", "surrogatepass") for text in known)
    data = np.frombuffer(b"".join(names) + b"\0", dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, names)]).astype(np.uint32)
    found = find_terms(data, offsets, wanted)
    assert found.tolist() == [names.index(t.encode("utf-8", "surrogatepass")) if t in known else -1 for t in wanted]
