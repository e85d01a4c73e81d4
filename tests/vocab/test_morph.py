"""Rows from tokens that are spelled alike: parts, edit distances, and rows that are rebuilt better than by the mean."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad
from test_initialize_rows import Words

from sememe.errors import InputError
from sememe.vocab.initialize import MorphEmbeddingGenerator, Problem, make
from sememe.vocab.initialize.morph import _START, VARIANTS, objective
from sememe.vocab.initialize.relatives import FEATURES, Family
from sememe.vocab.initialize.spelling import Grams, alike, edit_distances, parts

SHORT = st.binary(max_size=6).map(lambda raw: bytes(97 + byte % 3 for byte in raw))
STEMS = [
    "bak",
    "sail",
    "walk",
    "talk",
    "paint",
    "count",
    "need",
    "load",
    "melt",
    "turn",
    "lift",
    "rain",
    "sort",
    "fill",
]
ENDS = ["", "ed", "ing", "er", "s", "ers"]


def morphology(seed=0, dim=24, noise=0.2):
    """Tokens of a stem and an ending, with vectors that are mostly the sum of both."""
    generator = np.random.default_rng(seed)
    stems = {stem: 1.5 * generator.standard_normal(dim) for stem in STEMS}
    ends = {end: 0.7 * generator.standard_normal(dim) for end in ENDS}
    made = {
        f" {stem}{end}": stems[stem] + ends[end] + noise * generator.standard_normal(dim)
        for stem, end in itertools.product(STEMS, ENDS)
    }
    made |= {end: ends[end] for end in ENDS if end}
    letters = {chr(97 + place): generator.standard_normal(dim) for place in range(26)}
    made = letters | {" ": generator.standard_normal(dim)} | made
    return [text.encode() for text in made], np.array(list(made.values()), dtype=np.float32)


def distance(a, b):
    """The recursion as it is defined."""
    if not a or not b:
        return len(a) + len(b)
    return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(SHORT, SHORT), min_size=1, max_size=6))
def test_edit_distances_are_the_recursion(pairs):
    found = edit_distances([a for a, _ in pairs], [b for _, b in pairs])
    assert found.tolist() == [distance(a, b) for a, b in pairs]


@settings(max_examples=60, deadline=None)
@given(SHORT, st.lists(SHORT.filter(bool), max_size=6))
def test_parts_are_the_fewest(text, names):
    known = {name: number for number, name in enumerate(dict.fromkeys(names))}
    found = parts(text, known)
    spelled = {number: name for name, number in known.items()}
    usable = [name for name in known if name != text]
    counts = [
        n
        for n in range(1, len(text) + 1)
        if any(b"".join(chosen) == text for chosen in itertools.product(usable, repeat=n))
    ]
    assert b"".join(spelled[number] for number in found) == (text if counts else b"")
    assert len(found) == (counts[0] if counts else 0)
    if text in known:
        assert parts(text, known, whole=True) == [known[text]]


def test_alike_is_a_full_sort_without_the_token_itself():
    texts, _ = morphology()
    rows = Grams.of(texts).rows(texts)
    numbers, cosines = alike(rows, rows, 5, np.arange(len(texts)))
    dense = (rows @ rows.T).toarray()
    np.fill_diagonal(dense, 0)
    for row in range(len(texts)):
        want = -np.sort(-dense[row])[:5]
        np.testing.assert_allclose(cosines[row], want, atol=1e-6)
        assert row not in numbers[row]


def test_rebuilds_what_it_has_not_seen():
    """Better than the mean of parts and the mean of all, on stems and endings that were never seen together."""
    texts, table = morphology()
    order = np.random.default_rng(1).permutation(np.arange(27, len(texts) - 5))
    held, known = order[:18], np.sort(np.setdiff1d(np.arange(len(texts)), order[:18]))
    names, rows = [texts[n] for n in known], table[known]
    places = {name: number for number, name in enumerate(names)}

    def error(found):
        return float(((found - table[held]) ** 2).mean())

    mean_of_parts = np.stack([rows[parts(texts[n], places)].mean(axis=0) for n in held])
    errors = {}
    for variant in VARIANTS:
        made, found = MorphEmbeddingGenerator(variant).fit(names, rows).rows([texts[n] for n in held])
        assert found.all()
        errors[variant] = error(made)
    assert errors["attention"] < errors["mean"] < error(rows.mean(axis=0))
    assert errors["attention"] < 0.7 * error(mean_of_parts) and errors["patch"] < errors["attention"]


def test_training_follows_the_slope_of_the_error():
    """Value and slope against the error written with the vectors themselves, and its differences."""
    texts, table = morphology()
    relatives = Family(texts, 4).of(texts, own=np.arange(len(texts)))
    found = objective(relatives, table, table)

    def error(weights):
        attention = relatives.attention(weights)
        made = np.einsum("nc,ncd->nd", attention, table[relatives.numbers].astype(np.float64))
        return float(((made - table) ** 2).sum()) / float(((table - table.mean(axis=0)) ** 2).sum())

    at = np.random.default_rng(0).standard_normal(len(FEATURES))
    assert found(_START)[0] == pytest.approx(error(_START))
    assert found(at)[0] > error(at)
    assert check_grad(lambda w: found(w)[0], lambda w: found(w)[1], at) < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_initializer(variant):
    texts, table = morphology()
    old = Words(["<s>", *(text.decode() for text in texts)])
    new = Words([" baker", " sailings", "zq", "", "<mask>", "ßß", " walk", " countable"])
    E = np.concatenate([np.zeros((1, table.shape[1]), np.float32), table])
    problem = Problem.of(old, new)
    rows = make("morph", variant=variant).weights(problem, E)
    made = rows.apply(E)
    assert np.isfinite(made).all()
    np.testing.assert_array_equal(made[6], E[old.ids[" walk"]])
    np.testing.assert_array_equal(made, make("morph", variant=variant).weights(problem, E).apply(E))
    mean = E.mean(axis=0, dtype=np.float64)
    for gap in (3, 4, 5):  # nothing to build on
        np.testing.assert_allclose(made[gap], mean, atol=1e-5)
    if variant != "patch":
        W = rows.weights.toarray()
        assert (W >= 0).all() and W[1].sum() == pytest.approx(1) and W[1, 0] == 0


def test_refuses():
    texts, table = morphology()
    with pytest.raises(InputError, match="variant"):
        MorphEmbeddingGenerator("deep").fit(texts, table)
    with pytest.raises(InputError, match="k=0"):
        make("morph", k=0).weights(Problem.of(Words(["a", "b"]), Words(["ab"])), np.eye(2, dtype=np.float32))
    with pytest.raises(InputError, match="no tokens"):
        make("morph").weights(Problem.of(Words(["<a>", "<b>"]), Words(["ab"])), np.eye(2, dtype=np.float32))
