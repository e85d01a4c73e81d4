"""The cores of the experiments on hashed, compositional and structured layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe.evidence import structure_vq as scan  # noqa: E402
from sememe.evidence.news_words import News, classify, gap, mistyped  # noqa: E402
from sememe.evidence.quotient_remainder import compressed, formula_holds, per_field  # noqa: E402
from sememe.evidence.trigram_hash import SPOKEN, decoding, pairs, word_model, word_streams  # noqa: E402


def spoken(row: np.ndarray) -> str:
    return " ".join(scan.SYMBOLS[i] for i in row if scan.SYMBOLS[i])


def test_scan_commands_mean_what_its_grammar_says() -> None:
    known, new = scan.commands()
    texts = {spoken(row) for row in known} | {spoken(row) for row in new}
    for text in (
        "jump > JUMP .",
        "turn around right > RIGHT RIGHT RIGHT RIGHT .",
        "walk opposite left twice > LEFT LEFT WALK LEFT LEFT WALK .",
        "jump left and run > LEFT JUMP RUN .",
        "look twice after walk right > RIGHT WALK LOOK LOOK .",
    ):
        assert text in texts
    assert not any("jump" in spoken(row) for row in known if spoken(row) != "jump > JUMP .")
    assert all("jump" in spoken(row) for row in new)
    assert len(texts) == len(known) + len(new)
    assert known.shape[1] == scan.LONGEST


def test_answers_are_what_stands_behind_the_arrow() -> None:
    known, _ = scan.commands()
    row = torch.from_numpy(next(r for r in known if spoken(r) == "walk twice > WALK WALK .")[None])
    assert spoken(row[scan.answers(row)].numpy()) == "WALK WALK ."


def test_classes_of_scan_are_parts_of_speech() -> None:
    codes = scan.learned(scan.commands()[0])
    assert scan.purity(codes) == 1.0
    assert len({int(codes[scan.PLACE[verb]]) for verb in scan.VERBS}) == 1
    assert scan.purity(np.zeros_like(codes)) == pytest.approx(9 / 17)


def test_exact_answers_are_counted_by_rows() -> None:
    known, _ = scan.commands()
    rows = known[:40]

    def echo(ids: Any) -> Any:
        whole = torch.cat((ids, torch.full((len(ids), 1), scan.PAD)), dim=1)
        whole[::2, -3:] = scan.PLACE["walk"]  # padding: not counted
        spoiled = scan.answers(whole) & (torch.arange(len(ids)) % 4 == 1)[:, None]
        return torch.nn.functional.one_hot(torch.where(spoiled, scan.ARROW, whole), len(scan.SYMBOLS)).float()

    assert scan.exact(echo, rows[rows[:, -4] == scan.PAD][:20]) == pytest.approx(0.75)


def test_typing_errors_change_one_letter_behind_the_first() -> None:
    generator = np.random.default_rng(0)
    found = [mistyped("government", generator) for _ in range(300)]
    assert all(word[0] == "g" and abs(len(word) - 10) <= 1 for word in found)
    assert len(set(found)) > 50
    assert [mistyped(word, generator) for word in ("the", "1984", "a-b-c")] == ["the", "1984", "a-b-c"]


def test_a_classifier_learns_words_and_leaves_unknown_ones_out() -> None:
    from sememe.tokens.plain import PlainTable
    from sememe.tokens.vocabulary import Vocabulary

    generator = np.random.default_rng(0)
    labels = np.arange(400) % 4
    table = np.full((400, 64), -1)
    table[:, :6] = labels[:, None] * 5 + generator.integers(5, size=(400, 6))
    test = table.copy()
    test[:, 3] = 20  # a word that was not trained
    news = News([f"w{i}" for i in range(21)], 20, table, test, test, labels, labels)
    assert (news.unseen[:5] == 1 / 6).all()

    def make(words: list[str], seed: int) -> PlainTable:
        assert len(words) == 20
        return PlainTable(Vocabulary(words), 64)

    right, typed, size = classify(news, make, 0, open_ended=False, hidden=0, passes=8)
    assert right.mean() > 0.95
    assert (right == typed).all()
    assert size == 20 * 64


def test_gaps_have_intervals_around_them() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = generator.random((3, 2_000)) < 0.8, generator.random((3, 2_000)) < 0.7
    value, low, high = gap(ours, theirs)
    assert low < value < high
    assert value == pytest.approx(0.1, abs=0.03)
    assert low > 0.05


def test_fields_of_a_click_log_are_compressed_alike() -> None:
    sizes = [30, 900, 4_000]
    ids = torch.tensor([[0, 30, 930], [29, 929, 4_929]])
    for ratio in (4, 16, 60):
        layers = [per_field(sizes, ratio, way) for way in ("hash", "product", "sum")]
        counts = [sum(p.numel() for p in layer.parameters()) for layer in layers]
        assert len(set(counts)) == 1
        assert counts[0] == 32 * (30 + sum(compressed(900, ratio)) + sum(compressed(4_000, ratio)))
        assert all(layer(ids).shape == (2, 3, 32) for layer in layers)
    assert formula_holds([900])


def test_words_by_frequency_and_what_is_predicted() -> None:
    from sememe.lab.data import Corpus

    words, train, held = word_streams(Corpus(("a b a", "b a c"), ("a new b",)))
    assert words == ["a", "b", "c", "new"]
    assert train.ids.tolist() == [0, 1, 0, 1, 0, 2]
    assert held.ids.tolist() == [0, 3, 1]
    related, random = pairs(["walk", "talk", "walks", "walking", "xylo", "seven"], 0)
    assert [a.tolist() for a in related] == [[0, 0], [2, 3]]
    assert random[0].shape == (2,)


def test_only_frequent_words_have_a_loss() -> None:
    from sememe.lab.model import seeded
    from sememe.tokens.plain import PlainTable
    from sememe.tokens.vocabulary import Vocabulary

    with seeded(0):
        model = word_model(PlainTable(Vocabulary.of(SPOKEN + 5), 64), "free")
    loss = model.nll(torch.tensor([[0, SPOKEN, 3, SPOKEN + 4, 1]]))[0]
    assert (loss > 0).tolist() == [True, False, True, False, True]


def test_a_head_that_knows_the_patterns_decodes_them() -> None:
    assert decoding(["the", "they", "then", "The", "other", "brother", "."], 0) == 1.0
