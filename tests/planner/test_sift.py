"""The planner's view of sketches: where they are worth a look, what they find, and that their time grows."""

import numpy as np
import pytest

from sememe.index.cascade_kind import FEWEST
from sememe.planner.planning import SKETCHES_FROM, _worth_sketches
from sememe.planner.space import with_index
from sememe.planner.trial import code, latency, rank
from sememe.planner.view import Asked, View
from sememe.recipe import Recipe
from sememe.testing import clustered_vectors

D = 64


@pytest.mark.parametrize(
    ("codec", "n", "worth"),
    [
        ("int8", SKETCHES_FROM, True),
        ("int8", SKETCHES_FROM - 1, False),
        ("pca:32 | fp16", SKETCHES_FROM, True),
        ("binary", SKETCHES_FROM, False),  # the codes are as short as sketches
        ("pq:16", SKETCHES_FROM, False),
    ],
)
def test_where_sketches_are_measured(codec: str, n: int, worth: bool) -> None:
    assert _worth_sketches(Recipe.parse(f"static | {codec} | flat"), n, D) is worth


@pytest.mark.parametrize("codec", ["int8 | flat", "fp32 | flat"])
def test_sketches_find_what_the_scan_finds(codec: str) -> None:
    rows = clustered_vectors(FEWEST + 30, D)
    X, Q = rows[:-30], rows[-30:]
    n = len(X)
    view = View(X, np.arange(n), np.arange(n), [""] * n)
    asked = Asked(Q, None, None, np.full(30, -1))
    flat = Recipe.parse(f"static | {codec}")
    scanned = code(flat, view, seed=0)
    sifted = code(with_index(flat, "cascade"), view, seed=0)
    assert scanned.graph is None and sifted.graph is not None
    one, other = (rank(coded, view, asked)[:, :10] for coded in (scanned, sifted))
    assert np.mean([len({*a} & {*b}) for a, b in zip(one.tolist(), other.tolist(), strict=True)]) >= 9.9
    assert (
        latency(sifted, asked, encode_ms=0.0, scale=1e6)["p50"]
        > 1e3 * latency(sifted, asked, encode_ms=0.0, scale=1)["p50"]
    )


def test_few_passages_are_scanned() -> None:
    X = clustered_vectors(100, D)
    view = View(X, np.arange(100), np.arange(100), [""] * 100)
    assert code(Recipe.parse("static | int8 | cascade"), view, seed=0).graph is None
