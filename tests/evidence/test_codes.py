"""The cores of the experiments on codes, against loops."""

import numpy as np

from sememe.evidence.fasttext_zip import DIMENSIONS, Bags, correct, means, prune, quantized, retrained, trained
from sememe.evidence.rabitq import best, overlap


def made_up_bags(texts=200, classes=3, seed=0):
    """Texts whose features tell their class, but for one in four."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=texts)
    counts = generator.integers(1, 9, size=texts)
    own = np.repeat(labels, counts) + classes * generator.integers(0, 20, size=counts.sum())
    other = generator.integers(60, 90, size=counts.sum())
    features = np.where(generator.random(counts.sum()) < 0.75, own, other)
    return Bags(features.astype(np.int64), np.cumsum(counts) - counts, counts, labels)


def test_means_equal_a_loop():
    bags = made_up_bags()
    table = np.random.default_rng(1).standard_normal((90, 5)).astype(np.float32)
    rows = np.array([7, 3, 3, 199])
    for row, found in zip(rows, means(bags, rows, table), strict=True):
        part = bags.features[bags.starts[row] : bags.starts[row] + bags.counts[row]]
        np.testing.assert_allclose(found, table[part].mean(axis=0), atol=1e-6)
    empty = Bags(np.array([4]), np.array([0, 0, 1]), np.array([0, 1, 0]), np.zeros(3, dtype=np.int64))
    np.testing.assert_array_equal(means(empty, np.arange(3), table), [0 * table[0], table[4], 0 * table[0]])


def test_pruning_leaves_every_text_a_feature():
    bags = made_up_bags()
    table = np.random.default_rng(1).standard_normal((90, 5)).astype(np.float32)
    kept = prune(bags, table, 70)
    norms = np.linalg.norm(table, axis=1)
    assert len(np.unique(kept)) == len(kept) == 70
    for start, count in zip(bags.starts, bags.counts, strict=True):
        part = bags.features[start : start + count]
        assert part[norms[part].argmax()] in kept
    left = np.setdiff1d(np.arange(90), kept)
    cover = {int(p[norms[p].argmax()]) for s, c in zip(bags.starts, bags.counts, strict=True)
             for p in [bags.features[s : s + c]]}  # fmt: skip
    filled = [f for f in kept if int(f) not in cover]
    assert not filled or norms[filled].min() >= norms[left].max()


def test_the_classifier_learns_and_survives_its_code():
    train, test = made_up_bags(600), made_up_bags(300, seed=5)
    table, output = trained(train, 90, 3, seed=0)
    assert table.shape == (90, DIMENSIONS) and correct(test, table, output).mean() > 0.85
    coded, size = quantized(table, "length", 0, np.arange(0, 90))
    assert size > 90 * (DIMENSIONS // 2 + 1)
    assert correct(test, coded, retrained(train, coded, output, 0)).mean() > 0.8


def test_overlap_counts_what_both_found():
    scores = np.arange(30.0)[None]
    truth = best(scores)
    assert truth[0].tolist() == list(range(29, 19, -1))
    assert overlap(truth, truth)[0] == 1 and overlap(best(-scores), truth)[0] == 0
    assert overlap(best(np.roll(scores, -4)), truth)[0] == 0.6
