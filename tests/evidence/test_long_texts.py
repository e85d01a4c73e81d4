"""What the experiments on positions share."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe.evidence.needles import recurring_windows  # noqa: E402
from sememe.evidence.positions import learned_from_waves  # noqa: E402
from sememe.positions.base import Sinusoidal  # noqa: E402


def test_only_the_rows_that_training_sees_begin_as_waves():
    made = learned_from_waves(12, 5, 16, seed=3)
    waves = Sinusoidal(16).place(torch.zeros(1, 12, 16))[0]
    torch.testing.assert_close(made.table[:5], waves[:5])
    assert made.table.requires_grad
    assert float(made.table[5:].detach().abs().max()) < 0.1
    again, other = (learned_from_waves(12, 5, 16, seed=seed) for seed in (3, 4))
    assert torch.equal(again.table, made.table)
    assert not torch.equal(other.table, made.table)


def test_short_texts_hold_as_many_names_as_long_ones_at_least():
    text = np.zeros(2_000, dtype=np.int64)
    for length, pairs in ((32, 8), (128, 8), (512, 32)):
        ids = next(recurring_windows(text, 3, length, 0))
        assert ids.shape == (3, length)
        assert ((ids > 0).sum(1) == 2 * pairs).all()
