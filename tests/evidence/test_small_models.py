"""The cores of the experiments on small models of letters, bytes and words, on cases that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe.evidence.byte_to_word import BEFORE, EVERY, SEEN, before_words, bits_of_words  # noqa: E402
from sememe.evidence.char_mimic import by_ngrams  # noqa: E402
from sememe.evidence.fourier_id import spread_by_share  # noqa: E402
from sememe.evidence.lexinvariant import by_counting  # noqa: E402
from sememe.evidence.mimick import DIM, word_vectors  # noqa: E402
from sememe.evidence.mimick import SEEN as OFTEN  # noqa: E402
from sememe.evidence.one_hot_bytes import LOGITS, model  # noqa: E402
from sememe.evidence.transplants import byte_bpe  # noqa: E402
from sememe.evidence.word_pooled import over_the_best  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402


def test_who_counts_knows_what_was_there_before():
    windows = np.random.default_rng(0).integers(5, size=(4, 30))
    found = by_counting(windows, 5)
    for row, window in enumerate(windows):
        for place in range(30):
            times = int((window[:place] == window[place]).sum())
            assert found[row, place] == pytest.approx(-np.log((times + 1) / (place + 5)))


def test_symbols_are_as_far_apart_as_their_share_of_the_text():
    vocabulary = Vocabulary.of(4, np.array([1, 5, 3, 0]))
    angles = spread_by_share(vocabulary)
    widths = np.array([1 / 8 + s / 18 for s in (5, 3, 1, 0)])  # by rank: half even, half by share
    middles = widths.cumsum() - widths / 2
    np.testing.assert_allclose(angles[[1, 2, 0, 3]], np.pi * (2 * middles - 1))


def test_words_behind_clean_and_misspelled_contexts_are_the_same():
    spoken = [f"{word}{number % 7}a" for number, word in enumerate(["river", "stone", "cloud"] * 30)]
    spoken[BEFORE], spoken[BEFORE + EVERY] = "river", "stone"
    text = " ".join(spoken)
    tokenizer = byte_bpe([text], 300)
    (clean, sizes), (wrong, again) = before_words(tokenizer, [text, "too short"])
    assert clean.shape == wrong.shape == (2, SEEN)
    np.testing.assert_array_equal(sizes, again)
    for row, (word, size) in enumerate(zip((" river", " stone"), sizes)):
        assert tokenizer.backend.decode(clean[row, -size:].tolist()) == word
        np.testing.assert_array_equal(clean[row, -size:], wrong[row, -size:])
    assert (clean != wrong).any(1).all()


def test_bits_are_those_of_the_word_alone():
    class Dear(torch.nn.Module):
        def nll(self, ids: object) -> object:
            return ids.float()

    ids = np.array([[100, 1, 2], [100, 100, 3]])
    assert bits_of_words(Dear(), ids, np.array([2, 1])) == pytest.approx((1 + 2 + 3) / 2 / np.log(2))


def test_bytes_as_coordinates_do_not_begin_by_repeating_the_last_one():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = model("one-hot", 0.0)
        ids = torch.randint(256, (4, 64))
        with torch.no_grad():
            logits = made(ids)[:, 1:]
    again = logits.softmax(-1).gather(2, ids[..., None])
    assert float(again.median()) < 0.05
    assert float(logits.std()) == pytest.approx(LOGITS, rel=0.05)
    assert sum(p.numel() for p in made.embedding.parameters()) + sum(p.numel() for p in made.head.parameters()) == 0


def test_rows_that_are_linear_in_letters_are_regained_from_spelling():
    generator = np.random.default_rng(0)
    letters = generator.normal(size=(26, 8)).astype(np.float32)
    pieces = ["".join(map(chr, 97 + generator.permutation(26)[:4])).encode() for _ in range(1_500)]
    table = np.stack([letters[[byte - 97 for byte in piece]].sum(0) for piece in pieces])
    found = by_ngrams(pieces[:1_400], pieces[1_400:], torch.from_numpy(table[:1_400]))
    cosines = (found * table[1_400:]).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(table[1_400:], axis=1)
    assert cosines.mean() > 0.95


def test_words_with_the_same_neighbours_have_alike_vectors():
    nouns, verbs = ("cat", "dog", "cow"), ("runs", "eats", "sleeps")
    sentences = [f"The {noun} {verb} now" for noun in nouns for verb in verbs] * OFTEN

    class Folder:
        def table(self, folder: str, name: str) -> list[tuple[str, str]]:
            return [("", sentence) for sentence in sentences] if folder == "brown" else [("", "a zebra")]

    words, vectors = word_vectors(Folder())
    assert words == sorted((*nouns, *verbs, "now", "the"))
    assert vectors.shape[1] <= DIM
    place = {word: number for number, word in enumerate(words)}
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for group in (nouns, verbs):
        rows = unit[[place[word] for word in group]]
        np.testing.assert_allclose(rows @ rows.T, 1, atol=1e-3)
    assert abs(float(unit[place["cat"]] @ unit[place["eats"]])) < 0.9


def test_pooled_words_are_measured_against_the_better_of_the_others():
    shares = {"pooled": [0.2, 0.3], "bytes": [0.1, 0.2], "subwords": [0.05, 0.4]}
    np.testing.assert_allclose(over_the_best(shares), [2.0, 0.75])
