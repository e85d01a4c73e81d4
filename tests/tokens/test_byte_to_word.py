"""Words by attention over bytes: what is predicted is what the definition says, subword by subword."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe.errors import InputError  # noqa: E402
from sememe.lab.model import Shape  # noqa: E402
from sememe.lab.train import Recipe, train  # noqa: E402
from sememe.tokens.byte_to_word import ByteToWord  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402

PIECES = [" the", " hou", "se", "s", ".", " ", "n", "'t", " été", "", " a" * 20, "x", "12"]
VOCABULARY = Vocabulary(PIECES)
SHAPE = Shape(dim=16, layers=1, heads=2, context=32)


def model(**options: int) -> ByteToWord:
    torch.manual_seed(0)
    return ByteToWord(VOCABULARY, SHAPE, width=8, heads=2, **options).eval()


def ids(*pieces: str) -> torch.Tensor:
    return torch.tensor([[PIECES.index(piece) for piece in pieces]])


def test_words_begin_at_spaces_and_where_letters_and_signs_meet() -> None:
    text = ids(" the", " hou", "se", "s", ".", " ", "n", "'t", " the", "12", "")
    assert model().begins(text)[0].int().tolist() == [1, 1, 0, 0, 1, 1, 0, 1, 1, 0, 1]
    assert model(longest=2).begins(ids("x", "x", "x", "x", "x"))[0].int().tolist() == [1, 0, 1, 0, 1]


def test_a_subword_costs_what_the_definition_says() -> None:
    """One text at a time, one word at a time, one subword at a time."""
    layer = model(limit=10)
    text = ids(" the", " hou", "se", "s", ".", " ", "n", " a" * 20, "x", "", " été")
    with torch.no_grad():
        found = layer.nll(text)[0]
        words: list[list[int]] = []
        for number, begins in zip(text[0].tolist(), layer.begins(text)[0].tolist()):
            if begins:
                words.append([])
            words[-1].append(number)

        def read(pieces: list[int]) -> torch.Tensor:
            raw = b"".join(VOCABULARY.pieces[n][:10] for n in pieces)[:10]
            spelled = torch.tensor([list(raw) or [256]])
            return layer.reader.read(spelled, torch.ones_like(spelled, dtype=torch.bool))

        wanted, states = [], [layer.start[None]]
        due = 0.0
        for word in words:
            state = layer.backbone(torch.stack(states, dim=1), causal=True)[:, -1]
            for place, number in enumerate(word):
                said = layer._said(state, read(word[:place])).log_softmax(1)[0]
                wanted.append(due - float(said[number]))
                due = 0.0
            due = -float(layer._said(state, read(word)).log_softmax(1)[0, -1])
            states.append(read(word))
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-4, atol=1e-4)


def test_the_future_is_not_seen_and_rows_are_their_own() -> None:
    layer = model()
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(len(PIECES), (4, 12), generator=generator)
    changed = text.clone()
    changed[:, 7:] = torch.randint(len(PIECES), (4, 5), generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(layer.nll(changed)[:, :7], layer.nll(text)[:, :7], rtol=1e-4, atol=1e-5)


def test_it_learns_and_its_input_needs_no_table() -> None:
    layer = model().train()
    order = np.tile(np.array([[0, 1, 2, 4, 5, 8, 0, 3, 11, 4]]), (8, 1))
    before = float(layer.nll(torch.from_numpy(order)).detach().mean())
    train(layer, (order for _ in range(60)), Recipe(steps=60, rate=0.01))
    assert float(layer.nll(torch.from_numpy(order)).detach().mean()) < 0.3 * before
    many = ByteToWord(Vocabulary([f" w{n}" for n in range(5_000)]), SHAPE, width=8, heads=2)
    assert many.input_parameters == layer.input_parameters


def test_what_is_no_subword_is_refused() -> None:
    with pytest.raises(InputError, match=f"id {len(PIECES)} "):
        model().nll(torch.tensor([[len(PIECES)]]))
    with pytest.raises(InputError, match="give sequences"):
        model().nll(torch.tensor([1]))
    with pytest.raises(InputError, match="longest=0"):
        model(longest=0)
