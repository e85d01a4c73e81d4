"""The chunk-size sweep: coverage by hand, the budget, and the recommendation."""

import numpy as np
import pytest

from sememe.contracts import Span
from sememe.errors import InputError
from sememe.measure.chunk_size import ChunkSizeSweep, SizeResult, recommend
from sememe.testing import HashingEncoder

FILLER = " ".join(f"filler{i}" for i in range(60))
TEXT = f"{FILLER} the anchor lies in the harbour today {FILLER}"
ANSWER = Span(TEXT.index("the anchor"), TEXT.index(" today") + len(" today"))


def sweep(sizes, budget, **options):
    documents = {"a": TEXT, "b": " ".join(f"noise{i}" for i in range(120)), "empty": "  "}
    return ChunkSizeSweep(sizes, budget=budget, **options).run(
        HashingEncoder(64), documents, {"q": "anchor harbour today", "unanswered": "?"}, {"q": ("a", ANSWER)}
    )


def test_small_chunks_find_the_fact_that_a_large_one_hides():
    results = sweep((10, 127), budget=20)
    assert results[10].coverage.tolist() == [1.0] and results[10].first.tolist() == [1.0]
    assert results[127].coverage[0] == 0.0  # the budget ends inside the chunk, before the answer
    assert results[10].chunks == 13 + 12 and results[127].chunks == 2


def test_budget_counts_tokens_not_chunks():
    assert sweep((4,), budget=4)[4].coverage[0] < sweep((4,), budget=12)[4].coverage[0]


def test_late_vectors_take_the_place_of_encoding():
    calls = []

    def embed(text, spans):
        calls.append(len(spans))
        return HashingEncoder(64).encode([text[s.start : s.stop] for s in spans])

    documents, encoder = {"a": TEXT}, HashingEncoder(64)
    plain = ChunkSizeSweep((10,), budget=20).run(encoder, documents, {"q": "anchor"}, {"q": ("a", ANSWER)})
    late = ChunkSizeSweep((10,), budget=20).run(encoder, documents, {"q": "anchor"}, {"q": ("a", ANSWER)}, embed=embed)
    assert calls == [13]
    np.testing.assert_array_equal(plain[10].coverage, late[10].coverage)


def test_recommendation_is_the_largest_that_is_not_worse():
    generator = np.random.default_rng(0)
    base = generator.uniform(0.6, 1.0, size=200)
    same = np.clip(base + generator.normal(0, 0.01, size=200), 0, 1)
    values = {64: base, 128: same, 512: base - 0.2}
    results = {size: SizeResult(size, 1, value, value) for size, value in values.items()}
    assert recommend(results) == 128
    with pytest.raises(InputError):
        recommend({})


def test_overlap_gives_more_chunks():
    assert sweep((10,), budget=20, overlap=0.5)[10].chunks > sweep((10,), budget=20)[10].chunks


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="overlap"):
        ChunkSizeSweep((64,), overlap=1.0)
    with pytest.raises(InputError, match="no query"):
        ChunkSizeSweep((8,)).run(HashingEncoder(), {"a": "b"}, {"q": "b"}, {})
    with pytest.raises(InputError, match="not a document"):
        ChunkSizeSweep((8,)).run(HashingEncoder(), {"a": "b"}, {"q": "b"}, {"q": ("z", Span(0, 1))})
