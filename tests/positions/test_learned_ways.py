"""Digit strings, carried matrices, and training on segments."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sememe.errors import InputError
from sememe.lab.model import Shape, SmallEncoder, SmallLM, seeded, table
from sememe.positions.base import Positions, Rotary
from sememe.positions.segmented import SegmentedTrainer
from sememe.positions.seqpe import SeqPE
from sememe.positions.tape import TAPE

SHAPE = Shape(dim=16, layers=3, heads=2, context=16)


def lm(positions: str | Positions = "rotary") -> SmallLM:
    with seeded(0):
        return SmallLM(table(40, 16), shape=SHAPE, positions=positions)


def some(length: int = 16) -> torch.Tensor:
    return torch.randint(40, (3, length), generator=torch.Generator().manual_seed(0))


def test_a_position_is_its_digits_alone() -> None:
    with seeded(0):
        seqpe = SeqPE(8, 2, 16, digits=3)
    found = seqpe.vectors(torch.tensor([[7], [42], [7], [999]]))
    assert found.shape == (4, 16) and torch.equal(found[0], found[2])
    assert (found[0] - found[1]).abs().max() > 1e-3
    seen: list[torch.Tensor] = []
    seqpe.symbols.register_forward_hook(lambda *args: seen.append(args[1][0]))
    seqpe.vectors(torch.tensor([[407]]))
    assert seen[0].tolist() == [[4, 0, 7]]
    with pytest.raises(InputError, match="more than 3 digits"):
        seqpe.vectors(torch.tensor([[1_000]]))


def test_a_grid_is_read_row_by_row() -> None:
    seqpe = SeqPE(8, 2, 8, digits=1, grid=(3, 4))
    assert seqpe.places(12).tolist() == [[i // 4, i % 4] for i in range(12)]
    with pytest.raises(InputError, match="in a grid"):
        seqpe.places(13)


def test_scores_gain_the_product_of_the_vectors() -> None:
    with seeded(0):
        seqpe = SeqPE(8, 2, 16).eval()
        q, k, v = torch.randn(3, 2, 2, 6, 8)
    seqpe.read(torch.zeros(2, 6, dtype=torch.long))
    p = seqpe.vectors(torch.arange(6)[:, None]).view(6, 2, 8).transpose(0, 1)
    scores = (q @ k.transpose(-1, -2) + p @ p.transpose(-1, -2)) / 8**0.5
    torch.testing.assert_close(seqpe.attend(q, k, v, causal=False, bias=None), scores.softmax(-1) @ v)


def test_the_penalty_counts_in_training_only_and_teaches_order() -> None:
    with seeded(0):
        model = lm("seqpe")
        torch.manual_seed(0)
        trained = model.nll(some())
        model.eval()
        assert (trained - model.nll(some())).abs().min() > 1e-3
        seqpe = SeqPE(8, 2, 64, distil=0.0)
        optimizer = torch.optim.Adam(seqpe.parameters(), lr=3e-3)
        first = float(sum(seqpe.penalty() for _ in range(5)).detach())
        for _ in range(40):
            seqpe.penalty().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert float(sum(seqpe.penalty() for _ in range(5)).detach()) < 0.8 * first


def test_distances_longer_than_any_text_are_ordered_too() -> None:
    with seeded(0):
        seqpe = SeqPE(8, 2, 32, digits=3)
        optimizer = torch.optim.Adam(seqpe.parameters(), lr=3e-3)
        for _ in range(150):
            seqpe.penalty().backward()
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        found = seqpe.vectors(torch.arange(200)[:, None]).view(200, 2, 8).transpose(0, 1)
        alike = found @ found.transpose(-1, -2)
    near, far = (torch.stack([alike.diagonal(d, 1, 2).mean(-1) for d in part]).mean(0) for part in ((1, 2), (64, 128)))
    assert bool((near > far + 1).all())  # of each head


def test_some_passes_of_training_stand_elsewhere() -> None:
    with seeded(0):
        seqpe = SeqPE(8, 2, 16)
        first = seqpe.vectors(torch.zeros(1, 1, dtype=torch.long)).view(2, 8)
        ids = torch.zeros(1, 17, dtype=torch.long)
        moved = 0
        for _ in range(60):
            seqpe.read(ids)
            moved += not torch.allclose(seqpe._vectors[:, 0], first, atol=1e-5)
        seqpe.eval()
        seqpe.read(ids)
    assert 0 < moved < 30
    assert torch.allclose(seqpe._vectors[:, 0], first, atol=1e-5)


def test_matrices_begin_as_rotations() -> None:
    with seeded(0):
        tape = TAPE(8, 2, 3, 16)
        x, q, k, v = torch.randn(2, 7, 16), *torch.randn(3, 2, 2, 7, 8)
    for causal in (True, False):
        tape.layer(0, x)
        found = tape.attend(q, k, v, causal=causal, bias=None)
        torch.testing.assert_close(found, Rotary(8).attend(q, k, v, causal=causal, bias=None), atol=1e-5, rtol=1e-4)


def test_put_into_a_trained_model_it_changes_nothing_until_it_learns() -> None:
    model = lm().eval()
    with torch.no_grad():
        before = model(some())
        model.trunk.positions = TAPE(8, 2, 3, 16)
        torch.testing.assert_close(model(some()), before, atol=1e-5, rtol=0)
        nn.init.normal_(model.trunk.positions.up[0])
        assert (model(some()) - before).abs().max() > 1e-3


def test_changes_are_by_definition_and_equivariant() -> None:
    with seeded(0):
        tape = TAPE(4, 2, 2, 6)
        nn.init.normal_(tape.up[0])
        x, q, k, v = torch.randn(1, 5, 6), *torch.randn(3, 1, 2, 5, 4)
        turned, _ = torch.linalg.qr(torch.randn(2, 2))
        order = torch.randperm(5)
    with torch.no_grad():
        tape.layer(0, x)
        begun = tape._carried.unflatten(-1, (2, 2)).clone()  # (1, l, blocks, 2, 2)
        tape.attend(q, k, v, causal=False, bias=None)
        tape.layer(1, x)
        changed = tape._carried.unflatten(-1, (2, 2))
        rows = begun.view(1, 5, 2, 2, 2, 2)
        mine = torch.einsum("bhlpc,blhpcr->bhlpr", q.unflatten(-1, (2, 2)).transpose(-1, -2), rows)
        yours = torch.einsum("bhlpc,blhpcr->bhlpr", k.unflatten(-1, (2, 2)).transpose(-1, -2), rows)
        weights = (torch.einsum("bhipr,bhjpr->bhij", mine, yours) / 2).softmax(-1)
        for m in range(5):
            mixed = torch.stack(
                [sum(weights[0, h, m, n] * begun[0, n, 2 * h : 2 * h + 2] for n in range(5)) for h in (0, 1)]
            )
            met = begun[0, m] + mixed.flatten(0, 1)
            gate = nn.functional.silu(tape.gates[0](x[0, m]))
            inner = gate[:, None, None] * torch.einsum("ib,bcr->icr", tape.down[0], met)
            wanted = begun[0, m] + torch.einsum("bi,icr->bcr", tape.up[0], inner)
            torch.testing.assert_close(changed[0, m], wanted, atol=1e-5, rtol=1e-4)
        plain = tape.attend(q, k, v, causal=False, bias=None)

        def run(start: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
            tape.layer(0, parts[0])
            tape._carried = start.flatten(-2)
            tape.attend(*parts[1:], causal=False, bias=None)
            tape.layer(1, parts[0])
            return tape.attend(*parts[1:], causal=False, bias=None)

        torch.testing.assert_close(run(begun @ turned, x, q, k, v), plain, atol=1e-5, rtol=1e-4)
        moved = run(begun[:, order], x[:, order], *(part[:, :, order] for part in (q, k, v)))
        torch.testing.assert_close(moved, plain[:, :, order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("ways", ["chunks", "prefix"])
def test_segments_stand_where_they_stood(ways: str) -> None:
    trainer = SegmentedTrainer(lm("learned"), 16, 64, ways)  # type: ignore[arg-type]
    torch.manual_seed(0)
    at = trainer.places(200)
    assert at.shape == (200, 16) and at.min() == 0 and at.max() == 63
    assert (at.diff(dim=1) > 0).all()
    breaks = (at.diff(dim=1) > 1).sum(1)
    assert breaks.max() == (3 if ways == "chunks" else 1)
    if ways == "prefix":
        assert torch.equal(at[:, :8], torch.arange(8).expand(200, -1))


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_a_segment_costs_what_the_model_says_at_its_places(positions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lm(positions)
    trainer = SegmentedTrainer(model, 16, 16, "chunks")
    ids = some()
    whole = copy.deepcopy(model)
    monkeypatch.setattr(trainer, "places", lambda count, device=None: torch.arange(16).expand(count, -1))
    torch.testing.assert_close(trainer.nll(ids), whole.nll(ids).flatten())  # all of a text is one segment
    assert model.trunk.positions.at is None


def test_a_learned_table_is_stretched_and_trained() -> None:
    model = lm("learned")
    trainer = SegmentedTrainer(model, 16, 64)
    assert model.trunk.positions.table.shape == (65, 16)
    trainer.nll(some(64)).mean().backward()
    assert model.trunk.positions.table.grad.abs().sum() > 0
    assert len(trainer.nll(some(64))) <= 3 * 16
    with pytest.raises(InputError, match="give 64"):
        trainer.nll(some(16))


def test_what_cannot_be_is_refused() -> None:
    for wrong in (
        lambda: SeqPE(8, 2, 20_000),
        lambda: TAPE(7, 2, 2, 8),
        lambda: TAPE(8, 2, 0, 8),
        lambda: SegmentedTrainer(lm(), 16, 8),
        lambda: SegmentedTrainer(lm(), 16, 64, segments=5),
        lambda: SegmentedTrainer(lm(), 16, 64, "pieces"),  # type: ignore[arg-type]
        lambda: SegmentedTrainer(nn.Linear(2, 2), 16, 64),
        lambda: SegmentedTrainer(lm("kerple-log"), 16, 64),
    ):
        with pytest.raises(InputError):
            wrong()


def test_images_need_nothing_new() -> None:
    with seeded(0):
        shape = Shape(dim=16, layers=1, heads=2, context=64)
        seen = SmallEncoder(table(17, 16), shape=shape, positions=SeqPE(8, 2, 8, digits=1, grid=(8, 8)))
        pixels = torch.randint(17, (2, 64))
    vectors = seen.pooled(pixels)
    assert (vectors - seen.pooled(pixels[:, torch.arange(64).flip(0)])).abs().max() > 1e-4
