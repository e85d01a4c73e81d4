"""The cores of the experiments on layers from spelling, on cases that can be checked by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe.evidence import token_layers  # noqa: E402
from sememe.evidence.byte_attention import SHARE  # noqa: E402
from sememe.evidence.char_dual import LENGTH, padded  # noqa: E402
from sememe.evidence.char_mimic import class_means  # noqa: E402
from sememe.evidence.fourier_id import nearest_pair  # noqa: E402
from sememe.evidence.hierarchical_bytes import reached  # noqa: E402
from sememe.evidence.kronecker import answers_to, misspelled_prompts, states_behind  # noqa: E402
from sememe.evidence.mimick import nearest, rowwise  # noqa: E402
from sememe.evidence.small_bytes import byte_stream, of_size  # noqa: E402
from sememe.evidence.transplants import byte_bpe  # noqa: E402
from sememe.evidence.word_pooled import byte_hits, subword_hits, words  # noqa: E402
from sememe.lab.data import Corpus  # noqa: E402
from sememe.lab.model import Shape  # noqa: E402
from sememe.tokens.plain import PlainTable  # noqa: E402


def test_misspelled_prompts_differ_in_one_word_of_a_sentence_begun():
    sentences = ["Some people often believe that rain matters", "They know it", "Nobody knows whether the sea is warm"]
    pairs = misspelled_prompts([f"{sentences[0]} . {sentences[1]} !\n{sentences[2]} ."], 40)
    assert len(pairs) == len(set(pairs)) > 2
    for clean, wrong in pairs:
        assert any(f"{sentence} .".startswith(clean.replace("!", ".")) for sentence in sentences)
        words, others = clean.split(), wrong.split()
        assert 2 <= len(words) <= 8
        changed = [(a, b) for a, b in zip(words, others, strict=True) if a != b]
        assert len(changed) == 1
        word, other = changed[0]
        assert len(word) >= 4
        assert word[0] == other[0]
        assert abs(len(word) - len(other)) <= 1


class Counting(torch.nn.Module):
    """Predicts that the symbol after ``n`` comes next, surely."""

    def __init__(self, symbols: int = 256) -> None:
        super().__init__()
        self.symbols = symbols

    def states(self, ids: object) -> object:
        start = torch.zeros(len(ids), 1, dtype=torch.long)
        return torch.nn.functional.one_hot(torch.cat((start, (ids + 1) % self.symbols), 1), self.symbols).float()

    def head(self, x: object) -> object:
        return x

    def forward(self, ids: object) -> object:
        return self.states(ids)


def test_answers_are_read_behind_the_last_symbol():
    class Sure(Counting):
        def __init__(self) -> None:
            super().__init__()
            self.head = SimpleNamespace(log_prob=lambda states: (5 * states).log_softmax(-1))

    clean, wrong = [[1, 2, 3], [7], [9, 8]], [[1, 3], [9, 7], [5]]
    assert states_behind(Counting(), clean).argmax(-1).tolist() == [4, 8, 9]
    answers, others, nats = answers_to(Sure(), clean, wrong)
    assert answers.tolist() == [4, 8, 9]
    assert others.tolist() == [4, 8, 6]
    likely = np.exp(5) / (np.exp(5) + 255)
    np.testing.assert_allclose(nats, [0, 0, 5 * (likely - likely / np.exp(5))], atol=1e-4)


def test_probabilities_of_many_symbols_add_up_and_are_those_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_layers, "CUTOFFS", (20, 100))
    corpus = Corpus(("aa aa aa bb bb cc " * 30, "dd ee"), ("aa bb cc dd",))
    trial = token_layers.LargeVocabulary(corpus, byte_bpe(corpus.train, 262), Shape(dim=8, layers=1, heads=2))
    counts = np.bincount(np.concatenate(trial.numbers(corpus.train)))
    assert (np.diff(counts) <= 0).all()
    model = trial.model(PlainTable(trial.vocabulary, 8))
    ids = torch.from_numpy(trial.numbers(["aa bb cc dd ee x"])[0])[None]
    with torch.no_grad():
        found = model.head.log_prob(model.states(ids)[0, :-1])
        np.testing.assert_allclose(found.exp().sum(-1), 1, rtol=1e-5)
        torch.testing.assert_close(model.nll(ids)[0], -found.gather(-1, ids[0, :, None])[:, 0])
        place = int(ids[0, 0])
        torch.testing.assert_close(
            model.embedding(ids)[0, 0], model.embedding.layer.weight[trial.vocabulary.by_frequency[place]]
        )


def test_the_share_of_steps_until_another_curve_ends():
    assert reached([4, 3, 2, 1, 1], [5, 4, 4, 4, 2.5]) == pytest.approx(0.375)
    assert reached([2, 1], [5, 3]) == 0
    assert reached([4, 3, 2], [4, 2, 1]) is None


def test_words_are_those_behind_a_space_with_room_around_them():
    window = b"x" * 70 + b" hello, you 42 the"
    assert [window[a:b] for a, b in words(window)] == [b"hello", b"you"]
    assert words(b"one two three") == []


def test_a_word_is_right_where_all_of_it_and_its_end_are():
    window = b"." * 70 + b' !" ab cd'  # the model says the next code point: "b" behind "a" is right, the rest is not
    assert byte_hits(Counting(), [window]).tolist() == [False]

    class Knows(Counting):
        def states(self, ids: object) -> object:
            return torch.nn.functional.one_hot(torch.cat((ids, torch.full((len(ids), 1), 32)), 1), 256).float()

    assert byte_hits(Knows(), [window]).tolist() == [True]
    tokenizer = byte_bpe(["ab cd ab cd ab cd " * 20], 262)

    class Parrot(Knows):
        def states(self, ids: object) -> object:
            last = torch.full((len(ids), 1), ids[0, -2])
            return torch.nn.functional.one_hot(torch.cat((ids, last), 1), 300).float()

    assert subword_hits(Parrot(), tokenizer, [window]).tolist() == [True]
    assert subword_hits(Counting(300), tokenizer, [window]).tolist() == [False]


def test_small_helpers():
    table = torch.randn(700, 3, generator=torch.Generator().manual_seed(0))
    apart = torch.cdist(table.double(), table.double()) + 1e9 * torch.eye(700)
    assert nearest_pair(table) == pytest.approx(float(apart.min()), rel=1e-6)
    assert of_size(lambda width: torch.nn.Linear(width, 1), 30, (8, 16, 32)) == (32, 33)
    assert byte_stream(["ä", "b"]).ids.tolist() == [0xC3, 0xA4, 0x62]
    assert byte_stream(["ab"], [7]).sizes.tolist() == [7]
    means, names = class_means(np.eye(4, dtype=np.float32), ["b", "a", "b", "a"])
    assert names == ["a", "b"]
    np.testing.assert_allclose(means, np.array([[0, 1, 0, 1], [1, 0, 1, 0]]) / 2**0.5, rtol=1e-6)
    rows = np.array([[1.0, 0.0], [0.0, 2.0]], dtype=np.float32)
    assert nearest(np.array([[0.1, 1.0]], dtype=np.float32), rows).tolist() == [1]
    np.testing.assert_allclose(rowwise(rows, rows[::-1]), [0, 0])
    ids = padded(byte_bpe(["ab ab ab"], 258), ["ab", ""])
    assert ids.shape == (2, LENGTH)
    assert (ids[1] == -1).all()
    assert 0 < SHARE < 1
