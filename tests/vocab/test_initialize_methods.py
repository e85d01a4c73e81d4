"""Each initializer against its formula, written out in plain float64."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_initialize_rows import Words, table

from sememe.contracts import unit_rows
from sememe.errors import InputError
from sememe.kernels import reference
from sememe.vocab.initialize import Problem, WordVectors, align, factorize, make, parallel_vectors
from sememe.vocab.initialize.cooccurrence import pair_counts, positive_information, reduced
from sememe.vocab.initialize.neighbours import nearest, sparsemax
from sememe.vocab.initialize.words import subword_vectors

LETTERS = [chr(97 + i) for i in range(12)]
OLD = Words([*LETTERS, "ab", "cd", "ef", " a", " b", " c", "gh", "<s>"])
NEW = Words(["abc", "cd", "abab", "k", "fgh", "zz", "a", "b", " c", "ef", "gh", "g", "<mask>", "h"])
TEXT = ("abccdfgh", "abab k c", "cdkefgh", "fghabcgh", "zzabcgcd", "abcabab") * 6


def letters(texts):
    """A text encoder of sorts: how often each letter occurs."""
    return np.array([[text.count(letter) for letter in [*LETTERS, "z"]] for text in texts], dtype=np.float32)


def words(dim=5, seed=0):
    generator = np.random.default_rng(seed)
    names = ["ab", "abc", "cd", "cdef", "efgh", "gh", "k", "fgh", "bc"]
    return WordVectors.of(names, generator.standard_normal((9, dim)), np.arange(9, 0, -1))


def problem(**known):
    donor = table(len(NEW.tokens), 7, seed=5) + 0.5
    return Problem.of(OLD, NEW, **(known if known else {"donor": donor}))


def dense(rows):
    return rows.weights.toarray()


CONVEX = {
    "neighbours": {}, "focus": {}, "subword-mean": {}, "convex-hull": {"text": TEXT}, "hybrid": {"embed": letters},
    "wechsel": {"words": (words(), words(seed=1))},
}  # fmt: skip


@pytest.mark.parametrize("init", CONVEX)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_weights_are_convex_and_deterministic(init, seed):
    E = table(len(OLD.tokens), 6, seed)
    given_problem = problem(**CONVEX[init])
    rows, again = (make(init).weights(given_problem, E) for _ in range(2))
    W = dense(rows)
    made = np.setdiff1d(given_problem.fresh, rows.drawn)
    assert len(made) >= 2 and (W >= 0).all()
    np.testing.assert_allclose(W[made].sum(axis=1), 1, rtol=1e-9)
    np.testing.assert_array_equal(rows.apply(E), again.apply(E))
    # A convex sum lies between the extremes of every coordinate.
    new = rows.apply(E)[made]
    assert (new <= E.max(axis=0) + 1e-5).all() and (new >= E.min(axis=0) - 1e-5).all()


@pytest.mark.parametrize("k", [1, 3, 64])
def test_omp_is_the_plain_loop(k):
    generator = np.random.default_rng(k)
    names = [f"t{i:03d}" for i in range(150)]
    old, new = Words(names), Words([f"u{i}" for i in range(9)] + names[20:])
    donor = (generator.standard_normal((139, 40)) + 0.3).astype(np.float32)
    E = generator.standard_normal((150, 12)).astype(np.float32)
    given_problem = Problem.of(old, new, donor=donor)
    made = make("omp", k=k).weights(given_problem, E).apply(E)
    assert given_problem.fresh.tolist() == list(range(9))
    for row in range(9):
        chosen, weights, _ = reference.pursue(donor[row], donor[9:], min(k, 40))
        np.testing.assert_allclose(made[row], weights @ E[20:][chosen], rtol=2e-4, atol=2e-5)


def test_centred_omp_keeps_what_all_rows_have_in_common():
    """A mean that is added to the donor's rows, or to the model's, changes nothing but the model's mean."""
    E, given_problem = table(len(OLD.tokens), 6), problem()
    fresh = given_problem.fresh
    plain = make("omp", k=3, centre=True).weights(given_problem, E).apply(E)
    far = Problem.of(OLD, NEW, donor=given_problem.donor + np.float32(3))
    np.testing.assert_allclose(make("omp", k=3, centre=True).weights(far, E).apply(E), plain, atol=1e-3)
    moved = E + np.float32(5)
    made = make("omp", k=3, centre=True).weights(given_problem, moved).apply(moved)
    np.testing.assert_allclose(made[fresh], plain[fresh] + 5, atol=1e-3)


def test_omp_takes_what_the_donor_can_rebuild():
    """A donor row that is a sum of two shared ones becomes the same sum of the model's rows."""
    E, given_problem = table(len(OLD.tokens), 6), problem()
    donor = given_problem.donor.copy()
    (a, old_a), (b, old_b) = given_problem.shared[[1, 4]]
    fresh = int(given_problem.fresh[0])
    donor[fresh] = 2 * donor[a] - 0.5 * donor[b]
    made = make("omp", k=2).weights(Problem.of(OLD, NEW, donor=donor), E).apply(E)
    chosen = dense(make("omp", k=7).weights(Problem.of(OLD, NEW, donor=donor), E))[fresh]
    np.testing.assert_allclose(chosen @ E, 2 * E[old_a] - 0.5 * E[old_b], atol=1e-4)
    assert np.isfinite(made).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 600), st.integers(1, 70))
def test_nearest_is_a_full_sort(seed, q, n, k):
    generator = np.random.default_rng(seed)
    queries = generator.integers(-3, 4, (q, 3)).astype(np.float32)  # many equal products
    anchors = generator.integers(-3, 4, (n, 3)).astype(np.float32)
    numbers, values = nearest(queries, anchors, k)
    scores = queries @ anchors.T
    np.testing.assert_array_equal(values, -np.sort(-scores, axis=1)[:, : min(k, n)])
    np.testing.assert_array_equal(np.take_along_axis(scores, numbers, axis=1), values)
    assert all(len(set(row)) == len(row) for row in numbers.tolist())


def test_nearest_among_many():
    generator = np.random.default_rng(0)
    queries, anchors = generator.standard_normal((50, 8)), generator.standard_normal((5000, 8))
    numbers, _ = nearest(queries.astype(np.float32), anchors.astype(np.float32), 10)
    want = np.argsort(-(queries.astype(np.float32) @ anchors.astype(np.float32).T), axis=1)[:, :10]
    np.testing.assert_array_equal(numbers, want)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 300), st.floats(0.001, 3))
def test_sparsemax_is_the_projection_onto_the_simplex(seed, n, size):
    generator = np.random.default_rng(seed)
    query = np.ones((1, 1), dtype=np.float32)
    scores = (size * generator.standard_normal((n, 1))).astype(np.float32)
    ((numbers, weights),) = sparsemax(query, scores, most=4)
    got = np.zeros(n)
    got[numbers] = weights
    # By bisection: weights are max(0, score - level), and add up to 1.
    z = scores[:, 0].astype(np.float64)
    low, high = z.min() - 1, z.max()
    for _ in range(200):
        level = (low + high) / 2
        low, high = (level, high) if np.maximum(z - level, 0).sum() > 1 else (low, level)
    np.testing.assert_allclose(got, np.maximum(z - level, 0), atol=1e-9)


def test_neighbours_by_hand():
    E, given_problem = table(len(OLD.tokens), 6), problem()
    W = dense(make("neighbours", k=3, temperature=0.2).weights(given_problem, E))
    centred = given_problem.donor - given_problem.donor.mean(axis=0)
    unit = unit_rows(centred)
    for number in given_problem.fresh.tolist():
        cosine = unit[given_problem.shared[:, 0]] @ unit[number]
        best = np.argsort(-cosine)[:3]
        want = np.zeros(len(OLD.tokens))
        want[given_problem.shared[best, 1]] = np.exp(cosine[best] / 0.2) / np.exp(cosine[best] / 0.2).sum()
        np.testing.assert_allclose(W[number], want, atol=1e-5)


def test_subword_vectors_are_weighted_means_of_words():
    given_words = words()
    found = subword_vectors(OLD, given_words)
    for number, token in enumerate(OLD.tokens):
        counts = np.zeros(9)
        for i, word in enumerate(given_words.words):
            for text in (word, " " + word):
                counts[i] += given_words.counts[i] * (number in set(OLD.pieces(text)))
        want = counts @ given_words.vectors / counts.sum() if counts.any() else np.zeros(5)
        np.testing.assert_allclose(found[number], want, atol=1e-5, err_msg=token)


def test_wechsel_by_hand():
    E = table(len(OLD.tokens), 6)
    sides = (words(), words(seed=1))
    given_problem = Problem.of(OLD, NEW, words=sides)
    rows = make("wechsel", k=4).weights(given_problem, E)
    W = dense(rows)
    old, new = unit_rows(subword_vectors(OLD, sides[0])), unit_rows(subword_vectors(NEW, sides[1]))
    known = np.flatnonzero(old.any(axis=1))
    for number in np.setdiff1d(given_problem.fresh, rows.drawn):
        cosine = old[known] @ new[number]
        best = np.argsort(-cosine)[:4]
        want = np.zeros(len(OLD.tokens))
        want[known[best]] = np.exp(cosine[best] / 0.1) / np.exp(cosine[best] / 0.1).sum()
        np.testing.assert_allclose(W[number], want, atol=1e-4)
    assert {NEW.tokens[number] for number in rows.drawn} == {"abab", "zz", "<mask>"}  # in no word: drawn


def test_hybrid_by_hand():
    E = table(len(OLD.tokens), 6)
    given_problem = Problem.of(OLD, NEW, embed=letters)
    W = dense(make("hybrid", k=1, least=-1.0).weights(given_problem, E))
    number = NEW.tokens.index("abc")
    pieces = [OLD.tokens.index("ab"), OLD.tokens.index("c")]
    old = unit_rows(letters([t.strip() if not t.startswith("<") else "" for t in OLD.tokens]))
    query = unit_rows(letters(["abc"]))[0]
    local = np.exp((old[pieces] @ query + np.array([2, 1]) / 3) / 2 / 0.3)
    want = np.zeros(len(OLD.tokens))
    want[pieces] += 0.7 * local / local.sum()
    cosine = old @ query
    best = np.argsort(-cosine)[:1]
    around = np.exp(cosine[best] / 0.3)
    want[best] += 0.3 * around / around.sum()
    np.testing.assert_allclose(W[number], want, atol=1e-5)
    alone = dense(make("hybrid", share=0.0).weights(given_problem, E))[number]
    np.testing.assert_allclose(alone[pieces], local / local.sum(), atol=1e-5)


def test_factorize_is_the_truncated_decomposition():
    E = table(60, 12)
    u, s, vt = np.linalg.svd(E.astype(np.float64), full_matrices=False)
    for rank in (1, 5, 12):
        factors = factorize(E, rank)
        np.testing.assert_allclose(factors.table, (u[:, :rank] * s[:rank]) @ vt[:rank], atol=1e-4)
        np.testing.assert_allclose(factors.coordinates.T @ factors.coordinates, np.eye(rank), atol=1e-4)
    for rank in (0, 13, True):
        with pytest.raises(InputError, match="rank"):
            factorize(E, rank)


def test_ofa_moves_coordinates():
    E = table(len(OLD.tokens), 8)
    sides = (words(), words(seed=1))
    given_problem = Problem.of(OLD, NEW, words=sides)
    factors = make("ofa", rank=4).factors(given_problem, E)
    old = factorize(E, 4)
    assert factors.coordinates.shape == (len(NEW.tokens), 4)
    np.testing.assert_array_equal(factors.primitives, old.primitives)
    new, before = given_problem.shared.T
    np.testing.assert_array_equal(factors.coordinates[new], old.coordinates[before])
    rows = make("ofa", rank=4).weights(given_problem, E)
    made = rows.apply(E)
    np.testing.assert_array_equal(made[new], E[before])
    np.testing.assert_allclose(made[given_problem.fresh], factors.table[given_problem.fresh], atol=1e-5)


def test_convex_hull_learns_from_the_text():
    """A new token that the text puts where one old token stands moves to that token's row."""
    names = [f"w{i:02d}" for i in range(30)]
    old, new = Words([*names, "X", "Y"]), Words([*names, "X", "Y", "XY"])
    generator = np.random.default_rng(0)
    lines = []
    for _ in range(400):  # X and XY stand among the first words, Y among the last
        near = generator.integers(0, 15, 4)
        lines.append(
            "".join(names[i] for i in near[:2]) + ["X", "XY"][generator.integers(2)] + names[near[2]] + names[near[3]]
        )
        far = generator.integers(15, 30, 4)
        lines.append(names[far[0]] + names[far[1]] + "Y" + names[far[2]] + names[far[3]])
    E = table(32, 16, seed=3)
    given_problem = Problem.of(old, new, text=lines)
    W = dense(make("convex-hull", passes=100, window=2).weights(given_problem, E))[32]
    assert W[30] > 0.5 and W[30] > 4 * W[31]


def test_pair_counts_by_hand():
    documents = [[0, 1, 2, 1], [2, 2], [3]]
    want = np.zeros((4, 4))
    for ids in documents:
        for i, a in enumerate(ids):
            for j, b in enumerate(ids):
                if i != j and abs(i - j) <= 2:
                    want[a, b] += 1 / abs(i - j)
    np.testing.assert_allclose(pair_counts(documents, 4, window=2).toarray(), want)


def test_positive_information_and_its_decomposition():
    counts = pair_counts([np.random.default_rng(0).integers(0, 20, 4000)], 20, window=3)
    dense_counts = counts.toarray()
    smooth = dense_counts.sum(axis=0) ** 0.75
    want = np.log(dense_counts / np.outer(dense_counts.sum(axis=1), smooth / smooth.sum()))
    table_ = positive_information(counts)
    np.testing.assert_allclose(table_.toarray(), np.maximum(want, 0), atol=1e-9)
    u, s, _ = np.linalg.svd(table_.toarray())
    found = reduced(table_, 5)
    np.testing.assert_allclose(found @ found.T, (u[:, :5] * s[:5]) @ u[:, :5].T, atol=1e-4)


def test_word_vectors_are_read_and_aligned(tmp_path):
    source = words(dim=6)
    path = tmp_path / "old.vec.gz"
    lines = [f"{len(source.words)} 6", *(f"{w} {' '.join(map(str, v))}" for w, v in zip(source.words, source.vectors))]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    read = WordVectors.read(path)
    assert read.words == source.words
    np.testing.assert_allclose(read.vectors, source.vectors, rtol=1e-6)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    target = WordVectors.of([w.upper() for w in source.words], source.vectors @ turn)
    turned, _ = align(source, target, [(w, w.upper()) for w in source.words])
    np.testing.assert_allclose(turned.vectors, target.vectors, atol=1e-4)
    with pytest.raises(InputError, match="no pair"):
        align(source, target, [("x", "y")])
    path.write_bytes(gzip.compress(b"a 1 2\nb 1\n"))
    with pytest.raises(InputError, match=":2: has 1 values"):
        WordVectors.read(path)
    with pytest.raises(InputError, match="cannot be read"):
        WordVectors.read(tmp_path / "none.vec")


def test_parallel_vectors_put_translations_together():
    generator = np.random.default_rng(0)
    pairs = [(f"eins{i}", f"one{i}") for i in range(25)]
    old, new = [], []
    for _ in range(300):
        chosen = generator.choice(25, 4, replace=False)
        old.append(" ".join(pairs[i][0] for i in chosen))
        new.append(" ".join(pairs[i][1] for i in generator.permutation(chosen)))
    left, right = parallel_vectors(old, new, dim=24)
    near, _ = nearest(unit_rows(left.vectors), unit_rows(right.vectors), 1)
    assert np.mean([right.words[n][3:] == w[4:] for w, n in zip(left.words, near[:, 0])]) > 0.9


@pytest.mark.parametrize(
    ("init", "options"),
    [("neighbours", {"k": 0}), ("neighbours", {"temperature": 0.0}), ("omp", {"k": 0}), ("hybrid", {"share": 2.0}),
     ("convex-hull", {"support": 0}), ("neighbours", {"space": "words"}), ("gaussian", {"scale": -1.0})],
)  # fmt: skip
def test_refuses_impossible_parameters(init, options):
    known = {"hybrid": {"embed": letters}, "convex-hull": {"text": TEXT}}.get(init, {})
    with pytest.raises(InputError):
        make(init, **options).weights(problem(**known), table(len(OLD.tokens)))


def test_refuses_what_has_nothing_to_build_on():
    apart = Words(["xx", "yy"])
    with pytest.raises(InputError, match="no token in common"):
        make("omp").weights(Problem.of(OLD, apart, donor=table(2)), table(len(OLD.tokens)))
    with pytest.raises(InputError, match="too short"):
        make("convex-hull").weights(Problem.of(OLD, NEW, text=("a",)), table(len(OLD.tokens)))
