"""The small encoder-decoder, rows of one length, and fusion with the source's embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe import tokens  # noqa: E402
from sememe.errors import InputError  # noqa: E402
from sememe.lab.model import Shape, seeded, table  # noqa: E402
from sememe.lab.seq2seq import SmallSeq2Seq  # noqa: E402
from sememe.lab.train import Recipe, train  # noqa: E402
from sememe.tokens.fixed_norm import FixNorm, ScaleNorm  # noqa: E402
from sememe.tokens.output_fusion import LayerMix, SurfaceFusion  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402

V, SOURCE = 12, 6
SHAPE = Shape(dim=16, layers=2, heads=2, context=14)


@pytest.fixture
def rows() -> Any:
    """Sequences of symbols 1 to 11, up to five of them, and the same again to write."""
    generator = np.random.default_rng(0)
    out = np.zeros((40, 2 * SOURCE), dtype=np.int64)
    for row in out:
        some = generator.integers(1, V, size=generator.integers(1, SOURCE))
        row[: len(some)] = row[SOURCE : SOURCE + len(some)] = some
    return torch.from_numpy(out)


def model(**options: Any) -> SmallSeq2Seq:
    with seeded(0):
        return SmallSeq2Seq(table(V, 16), source=SOURCE, shape=SHAPE, **options)


@pytest.mark.parametrize("order", ["pre", "post"])
def test_losses_are_those_of_writing_symbol_by_symbol(order: Any, rows: Any) -> None:
    made = model(order=order).eval()
    found = made.nll(rows[:5])
    expected = []
    with torch.no_grad():
        for row in rows[:5]:
            size = int((row[:SOURCE] != 0).sum())
            for t in range(size + 1):
                alone = made.write(made.read(row[None, :SOURCE]), row[None, SOURCE : SOURCE + t])
                expected.append(-alone[0, -1, row[SOURCE + t]])
    torch.testing.assert_close(found.detach(), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_what_fills_up_is_not_read(rows: Any) -> None:
    made = model().eval()
    longer = torch.zeros(len(rows), 4, dtype=torch.int64)
    wide = SmallSeq2Seq(made.embedding, source=SOURCE + 4, shape=SHAPE).eval()
    wide.load_state_dict(made.state_dict())
    padded = torch.cat((rows[:, :SOURCE], longer, rows[:, SOURCE:]), dim=1)
    torch.testing.assert_close(made.nll(rows), wide.nll(padded), rtol=1e-4, atol=1e-5)


def test_it_learns_to_copy(rows: Any) -> None:
    made = model(norm=ScaleNorm, fusion=SurfaceFusion(16))
    train(made, (rows.numpy() for _ in range(120)), Recipe(steps=120, rate=1e-2))
    assert (made.greedy(rows, SOURCE) == rows[:, SOURCE:]).all(1).float().mean() > 0.9
    with pytest.raises(InputError, match="order"):
        model(order="middle")


def test_rows_have_one_length_and_logits_are_cosines() -> None:
    layer = tokens.build("fixnorm", Vocabulary([f" {i}" for i in range(50)]), 24, scale=2.5)
    assert isinstance(layer, FixNorm)
    with torch.no_grad():
        layer.directions[7] *= 1_000
    norms = layer.table().norm(dim=1)
    assert (norms - 2.5).abs().max() < 1e-5
    assert torch.equal(layer.weight, layer.table())
    state = torch.randn(24)
    cosine = torch.nn.functional.cosine_similarity(layer.directions, state[None])
    torch.testing.assert_close(layer.weight @ state, 2.5 * state.norm() * cosine)


def test_a_table_of_one_length_is_rebuilt_exactly() -> None:
    wanted = 3 * torch.nn.functional.normalize(torch.randn(50, 8), dim=1)
    layer = FixNorm(Vocabulary.of(50), 8).fit(wanted)
    assert layer.fit_ is not None
    assert layer.fit_.error < 1e-10
    some = wanted * torch.linspace(0, 2, 50)[:, None]
    layer = FixNorm(Vocabulary.of(50), 8).fit(some, weights=np.arange(50) == 49)
    assert layer.length.item() == pytest.approx(6, rel=1e-5)
    assert torch.isfinite(layer.table()).all()


def test_scale_norm_is_its_formula() -> None:
    norm = ScaleNorm(9)
    x = torch.randn(4, 9)
    torch.testing.assert_close(norm(x), 3 * x / x.norm(dim=1, keepdim=True))
    assert torch.isfinite(norm(torch.zeros(1, 9))).all()
    assert sum(p.numel() for p in norm.parameters()) == 1


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_fusion_is_its_formula(kind: Any) -> None:
    fusion, head = SurfaceFusion(8, kind, 0.7), torch.nn.Linear(8, V)
    states, source, surface = torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 8, requires_grad=True)
    states.requires_grad_(True)
    source.requires_grad_(True)
    keep = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    out = fusion(states, source, surface, keep, head)
    for b in range(2):
        there, real = source[b][keep[b]], surface[b][keep[b]]
        for t in range(3):
            weights = ((fusion.ask(states[b, t]) * fusion.tell(there)).sum(1) / 8**0.5).softmax(0)
            other = head(fusion.out(weights @ fusion.take(real)))
            own = head(states[b, t])
            mixed = 0.7 * own.log_softmax(0) + 0.3 * other.log_softmax(0)
            wanted = mixed if kind == "hard" else (own + other).log_softmax(0)
            torch.testing.assert_close(out[b, t], wanted, rtol=1e-4, atol=1e-5)
    out[..., 0].sum().backward()
    assert source.grad is None  # where to look teaches neither side
    assert surface.grad is not None
    with pytest.raises(InputError, match="fusion"):
        SurfaceFusion(8, "other")  # type: ignore[arg-type]


def test_layers_are_mixed_by_weights_and_can_be_left_out(rows: Any) -> None:
    mix = LayerMix(3, 16)
    made = model(mix=mix)
    made.nll(rows).mean().backward()
    assert mix.scores.grad is not None
    assert mix.scores.grad.abs().sum() > 0
    layers = [torch.randn(1, 2, 16) for _ in range(3)]
    whole = mix(layers)
    torch.testing.assert_close(whole, sum(torch.nn.functional.layer_norm(x, (16,)) for x in layers) / 3)
    assert mix.without(0).weights.tolist() == [0.0, 0.5, 0.5]
    torch.testing.assert_close(mix.without(None)(layers), whole)
    with pytest.raises(InputError, match="layer 3"):
        mix.without(3)
