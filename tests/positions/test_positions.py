"""Every position encoding of the catalogue in a small model, by name."""

from __future__ import annotations

import pytest
import torch

from sememe import catalog
from sememe.errors import InputError, UsageError
from sememe.lab.model import Shape, SmallEncoder, SmallLM, seeded, table
from sememe.positions.base import Learned, Rotary, named

SHAPE = Shape(dim=32, layers=2, heads=4, context=16)
NAMES = [technique.name for technique in catalog.techniques(room="positions", kind="positions")]


def model(name: str, seed: int = 0) -> SmallLM:
    with seeded(seed):
        return SmallLM(table(50, 32), shape=SHAPE, positions=name)


def some(length: int = 16, rows: int = 3) -> torch.Tensor:
    return torch.randint(50, (rows, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_trains_saves_and_is_the_same_for_a_seed(name: str) -> None:
    first, second = model(name), model(name)
    torch.manual_seed(0)
    first.nll(some()).mean().backward()
    grads = [p.grad for p in first.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in grads if g is not None)
    assert any(g is not None and g.abs().sum() > 0 for g in grads)
    first.eval(), second.eval()
    with torch.no_grad():
        assert torch.equal(first(some()), second(some()))
        other = model(name, seed=1).eval()
        other.load_state_dict(first.state_dict())
        assert torch.equal(other(some()), first(some()))


@pytest.mark.parametrize("name", NAMES)
def test_one_text_reads_like_many_and_knows_no_future(name: str) -> None:
    lm = model(name).eval()
    ids = some()
    with torch.no_grad():
        whole = lm(ids)
        torch.testing.assert_close(lm(ids[1:2]), whole[1:2], atol=1e-5, rtol=0)
        torch.testing.assert_close(lm(ids[:, :9]), whole[:, :10], atol=1e-5, rtol=0)
        assert lm(ids[:, :0]).shape == (3, 1, 50)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "learned"])
def test_reads_four_times_as_much(name: str) -> None:
    lm = model(name).eval()
    with torch.no_grad():
        found = lm(some(64, 2))
    assert found.shape == (2, 65, 50) and torch.isfinite(found).all()


@pytest.mark.parametrize("name", NAMES)
def test_order_matters_to_an_encoder(name: str) -> None:
    with seeded(0):
        encoder = SmallEncoder(table(50, 32), shape=SHAPE, positions=name).eval()
    with torch.no_grad():
        for parameter in encoder.trunk.positions.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        ids = some(15, 1)
        forward, backward = encoder.states(ids), encoder.states(ids.flip(1)).flip(1)
    assert (forward - backward).abs().max() > 1e-4 or name in ("symmetric-alibi", "kerple-log", "kerple-power")
    if name in ("symmetric-alibi", "kerple-log", "kerple-power"):  # they see distances, and no direction
        torch.testing.assert_close(forward, backward, atol=1e-5, rtol=0)


def test_names_that_nobody_knows_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean rotary"):
        named("rotory", width=8, heads=2, layers=2, context=16, dim=16)
    with pytest.raises(InputError, match="need heads"):
        named("kerple-log", width=8)
    assert len(list(named("none").parameters())) == 0


def test_places_of_ones_own_move_rotary_and_learned_positions() -> None:
    x = torch.randn(2, 6, 8)
    at = torch.tensor([[0, 1, 2, 7, 8, 9]]).expand(2, -1)
    learned = Learned(12, 8)
    learned.at = at
    assert torch.equal(learned.place(x), x + learned.table[at])
    rotary = Rotary(8)
    q, k = torch.randn(2, 2, 1, 6, 8)
    far_q, far_k = Rotary(8).rotate(torch.zeros(2, 1, 10, 8).index_copy(2, at[0], q), torch.zeros(2, 1, 10, 8))
    rotary.at = at
    torch.testing.assert_close(rotary.rotate(q, k)[0], far_q[:, :, at[0]])
    assert torch.equal(far_k, torch.zeros_like(far_k))
