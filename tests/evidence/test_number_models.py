"""The cores of the experiments on numbers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe.evidence.arithmetic import Adder, DigitAdder, Routine, shuffled, spelled, student, sums  # noqa: E402
from sememe.evidence.binary_number import near_by_value  # noqa: E402
from sememe.evidence.data import DataFolder  # noqa: E402
from sememe.evidence.fourier_number import there_and_back  # noqa: E402
from sememe.evidence.multi_scale import moved, order_of  # noqa: E402
from sememe.evidence.wavelet_digits import DIGITS, PAST, TESTED, digits_of, values_of  # noqa: E402
from sememe.lab.model import Shape  # noqa: E402
from sememe.tokens.binary_number import BinaryNumberEmbedding, ConditionalMasking  # noqa: E402
from sememe.tokens.fourier_number import FourierNumberEmbedding  # noqa: E402

DATA = Path(os.environ.get("SEMEME_DATA", Path(__file__).parents[3] / "shared" / "data"))
real = pytest.mark.skipif(not (DATA / "ett").is_dir(), reason="the evaluation data is not here")
SHAPE = Shape(dim=16, layers=1, heads=2, context=24)


def test_sums_are_spelled_in_both_orders() -> None:
    rows = sums(300, 3, 5)
    assert (rows[:, 0] + rows[:, 1] == rows[:, 2]).all()
    assert rows.max() < 1_999
    for lowest_first in (False, True):
        symbols = spelled(rows, 3, lowest_first=lowest_first)
        assert symbols.shape == (300, 12)
        for row, line in zip(rows[:20], symbols[:20]):
            texts = [f"{number:0{width}d}" for number, width in zip(row, (3, 3, 4))]
            first, second, third = (text[::-1] if lowest_first else text for text in texts)
            assert "".join("0123456789+="[symbol] for symbol in line) == f"{first}+{second}={third}"


def test_a_round_of_batches_shows_every_row_once() -> None:
    rows = sums(40, 2, 0)
    batches = shuffled(rows, 10, 1)
    first = np.concatenate([next(batches) for _ in range(4)])
    second = np.concatenate([next(batches) for _ in range(4)])
    assert sorted(map(tuple, first)) == sorted(map(tuple, second)) == sorted(map(tuple, rows))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    "code", [FourierNumberEmbedding(16, 3), BinaryNumberEmbedding(16, 9)], ids=["fourier", "binary"]
)
def test_adders_give_a_loss_and_an_accuracy(code: torch.nn.Module) -> None:
    model = Adder(code, SHAPE)
    batch = torch.from_numpy(sums(30, 2, 0))
    model.nll(batch).mean().backward()
    assert all(p.grad is not None for p in model.parameters())
    found = code.decoded(model.states(batch[:, :2]))
    assert model.accuracy(batch) == pytest.approx(float((found == batch[:, 2]).float().mean()))
    batch[:, 2] = found.clamp_max(511 if isinstance(code, BinaryNumberEmbedding) else 999)
    assert model.accuracy(batch) == 1.0


def test_digits_are_chosen_one_after_the_other() -> None:
    model = DigitAdder(SHAPE, 2).eval()
    symbols = torch.from_numpy(spelled(sums(8, 2, 0), 2))
    assert model.nll(symbols).shape == (8 * 3,)
    with torch.no_grad():
        for row in symbols:
            said = row[: model.given]
            for _ in range(3):
                said = torch.cat(
                    (said, model.out(model.trunk(model.embed(said[None]), causal=True)[0, -1]).argmax()[None])
                )
            row[:] = said
    assert model.accuracy(symbols) == 1.0
    symbols[0, -1] = (symbols[0, -1] + 1) % 10
    assert model.accuracy(symbols) == 7 / 8


def test_a_routine_with_the_right_scores_sorts_any_list() -> None:
    masking = ConditionalMasking(1, hidden=1)
    with torch.no_grad():
        masking.score[0].weight.fill_(1.0)
        masking.score[0].bias.fill_(1.0)
        masking.score[2].weight.fill_(1.0)
    embed = torch.nn.Embedding(50, 1, _weight=torch.arange(50.0)[:, None])
    routine = Routine(masking, embed)
    lists = np.random.default_rng(0).integers(0, 50, size=(20, 30))
    assert routine.placed(lists) == routine.largest(lists) == 1.0
    sharp = Routine(masking, torch.nn.Embedding(50, 1, _weight=100 * torch.arange(50.0)[:, None]))
    assert float(sharp.nll(torch.from_numpy(lists)).detach().max()) < 1e-4
    with torch.no_grad():
        masking.score[2].weight.fill_(-1.0)
    assert routine.placed(lists) < 0.2


def test_neighbours_by_bits_and_by_chance() -> None:
    bits = (torch.arange(64)[:, None] >> torch.arange(6) & 1).float()
    assert near_by_value(bits) == 1.0
    assert near_by_value(torch.randn(64, 16, generator=torch.Generator().manual_seed(0))) < 0.6


def test_numbers_come_back_from_exact_residues_only() -> None:
    found = there_and_back(0)
    assert found["exact"] == 1.0
    assert found["angles_in_float32"] < 0.5


def test_students_interval() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.array([0.3, 0.5, 0.9])
    expected = stats.t.interval(0.95, 2, values.mean(), values.std(ddof=1) / np.sqrt(3))
    assert student(values) == pytest.approx(expected)
    assert student(values[:1]) == (0.3, 0.3)


@real
def test_measurements_become_digits_of_what_is_known() -> None:
    train, test = digits_of(DataFolder(str(DATA)))
    assert train.shape[1] == (PAST + 1) * DIGITS
    assert test.shape == (TESTED, (PAST + 1) * DIGITS)
    assert train.min() == 0
    assert train.max() == 9
    known = values_of(train.reshape(-1, DIGITS))
    assert known.min() == 0
    assert known.max() == 999
    assert values_of(np.array([[4, 0, 7]])).tolist() == [407]


def test_sizes_lie_evenly_over_the_powers_of_ten() -> None:
    table = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    numbers = torch.from_numpy(moved(table, 8_000, np.random.default_rng(1)))
    counts = torch.bincount(order_of(numbers), minlength=8)
    assert counts.min() > 850
    assert counts.max() < 1_150
    assert order_of(torch.tensor([1.5e-4, -0.5, 1.0, 9_999.0])).tolist() == [0, 3, 4, 7]
