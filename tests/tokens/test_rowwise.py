"""The row-wise optimisers against PyTorch's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from sememe.errors import InputError  # noqa: E402
from sememe.kernels import native  # noqa: E402
from sememe.tokens.rowwise import RowwiseAdagrad, RowwiseAdam  # noqa: E402

ROWS, DIM = 200, 12


def run(optimizer: Any, table: Any, steps: int = 20) -> None:
    """Pull looked-up rows towards a target, the same ids each time this is called."""
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(ROWS, DIM, generator=generator)
    for _ in range(steps):
        ids = torch.randint(0, ROWS // 2, (17, 3), generator=generator)
        optimizer.zero_grad()
        found = torch.nn.functional.embedding(ids, table, sparse=True)
        (found - target[ids]).square().sum().backward()
        optimizer.step()


def table() -> Any:
    return torch.nn.Parameter(torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(0)))


def sparse(rows: list[int], values: Any, shape: Any) -> Any:
    return torch.sparse_coo_tensor([rows], values, shape, check_invariants=True)


@pytest.mark.parametrize("level", native.levels())
def test_adam_with_full_moments_equals_sparse_adam(level: str) -> None:
    ours, theirs = table(), table()
    with native.using(level):
        run(RowwiseAdam([ours], lr=0.05, betas=(0.8, 0.95)), ours)
    run(torch.optim.SparseAdam([theirs], lr=0.05, betas=(0.8, 0.95)), theirs)
    torch.testing.assert_close(ours.data, theirs.data, rtol=1e-4, atol=1e-4)
    assert torch.equal(ours.data[ROWS // 2 :], table().data[ROWS // 2 :])


def test_moments_of_a_row_are_the_mean_of_squares() -> None:
    weight = table()
    optimizer = RowwiseAdam([weight], lr=0.1, moments="row")
    weight.grad = sparse([3, 3], torch.ones(2, DIM), weight.shape)
    before = weight.data[3].clone()
    optimizer.step()
    state = optimizer.state[weight]
    assert state["exp_avg_sq"].shape == (ROWS,)
    assert state["exp_avg_sq"][3].item() == pytest.approx(0.001 * 4)
    # the first step of Adam is the rate, whatever the gradient
    torch.testing.assert_close(weight.data[3], before - 0.1, rtol=1e-5, atol=1e-5)


def test_adagrad_equals_torch_where_all_entries_of_a_row_are_alike() -> None:
    ours, theirs = torch.nn.Parameter(torch.ones(9, 4)), torch.nn.Parameter(torch.ones(9, 4))
    mine, torchs = RowwiseAdagrad([ours], lr=0.3), torch.optim.Adagrad([theirs], lr=0.3)
    for step in range(5):
        rows = [step, 2, 2]
        values = torch.full((3, 4), 0.5 + step)
        for weight, optimizer in ((ours, mine), (theirs, torchs)):
            weight.grad = sparse(rows, values, (9, 4))
            optimizer.step()
    torch.testing.assert_close(ours.data, theirs.data)


@pytest.mark.parametrize("make", [RowwiseAdam, RowwiseAdagrad])
def test_learns_and_continues_from_a_saved_state(make: Any) -> None:
    straight, parts = table(), table()
    one = make([straight], lr=0.3)
    first = make([parts], lr=0.3)
    run(first, parts)
    second = make([parts], lr=0.3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    run(second, parts)
    run(one, straight)
    run(one, straight)
    assert torch.equal(straight, parts)
    assert (straight - table()).square().mean() > 0.1


@pytest.mark.parametrize("make", [RowwiseAdam, RowwiseAdagrad])
def test_what_cannot_be_done_is_refused(make: Any) -> None:
    weight = table()
    optimizer = make([weight])
    weight.grad = torch.zeros_like(weight)
    with pytest.raises(InputError, match="not sparse"):
        optimizer.step()
    double = torch.nn.Parameter(torch.zeros(4, 2, dtype=torch.float64))
    double.grad = sparse([1], torch.ones(1, 2, dtype=torch.float64), (4, 2))
    with pytest.raises(InputError, match="float64"):
        make([double]).step()
    with pytest.raises(InputError, match="cannot train"):
        make([weight], lr=-1)
