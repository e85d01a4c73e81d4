"""Output layers against their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe import tokens  # noqa: E402
from sememe.errors import InputError  # noqa: E402
from sememe.lab.model import Shape, SmallLM, table  # noqa: E402
from sememe.tokens.output import Penalised, ProjectionRegularizer, TiedOutput, output_vectors  # noqa: E402
from sememe.tokens.output_decoupled import DecoupledEmbedding  # noqa: E402
from sememe.tokens.output_vq import VQLogits  # noqa: E402

V, DIM = 60, 8
SHAPE = Shape(dim=DIM, layers=1, heads=2, context=16)


@pytest.fixture
def ids() -> Any:
    return torch.randint(V, (3, 9), generator=torch.Generator().manual_seed(0))


def test_tied_output_of_any_layer_multiplies_by_its_vectors(ids: Any) -> None:
    states = torch.randn(2, 5, DIM)
    pieces = [f" word{i}" for i in range(V)]
    for layer in (tokens.build("table", pieces, DIM), tokens.build("kronecker", pieces, DIM, positions=4)):
        head = TiedOutput(layer)
        torch.testing.assert_close(head(states), states @ layer.table().T)
        assert not list(head.parameters())
        assert head.out_features == V
        model = SmallLM(layer, head, shape=SHAPE)
        model.nll(ids).mean().backward()
        assert all(p.grad is not None for p in layer.parameters())
    plain = table(V, DIM)
    torch.testing.assert_close(TiedOutput(plain)(states), states @ plain.weight.T)
    with pytest.raises(InputError, match="no weight"):
        TiedOutput(torch.nn.Identity())


def test_projection_begins_as_no_projection_and_is_punished_in_training_only(ids: Any) -> None:
    head = ProjectionRegularizer(V, DIM, strength=0.5)
    states = torch.randn(2, DIM)
    torch.testing.assert_close(head(states), states @ head.weight.T)
    assert head.penalty().item() == pytest.approx(0.5 * DIM**0.5)
    model = Penalised(SmallLM(table(V, DIM), head, shape=SHAPE))
    trained, scored = model.train().nll(ids).mean().item(), model.eval().nll(ids).mean().item()
    assert trained - scored == pytest.approx(0.5 * DIM**0.5, abs=1e-5)
    assert (model.context, model.vocabulary) == (16, V)
    with torch.no_grad():
        head.projection.copy_(torch.randn(DIM, DIM))
    torch.testing.assert_close(head(states), (head.weight @ (head.projection @ states.T)).T)
    with pytest.raises(InputError):
        ProjectionRegularizer(V, DIM, strength=-1)


def test_rows_are_word_vectors() -> None:
    free, tied = SmallLM(table(V, DIM), "free", shape=SHAPE), SmallLM(table(V, DIM), "tied", shape=SHAPE)
    assert np.array_equal(output_vectors(free), free.head.weight.detach().numpy())
    assert np.array_equal(output_vectors(free, "input"), free.embedding.weight.detach().numpy())
    assert np.array_equal(output_vectors(tied), output_vectors(tied, "input"))
    projected = Penalised(SmallLM(table(V, DIM), ProjectionRegularizer(V, DIM), shape=SHAPE))
    assert output_vectors(projected).shape == (V, DIM)
    with pytest.raises(InputError, match="no side"):
        output_vectors(free, "top")


def test_decoupled_from_a_tied_table_keeps_the_logits_and_the_best_input() -> None:
    generator = np.random.default_rng(0)
    old = generator.standard_normal((V, DIM)).astype(np.float32)
    states = torch.randn(4, DIM)
    for wide in (DIM, 3 * DIM):
        made = DecoupledEmbedding.from_tied(old, input_width=3, output_width=wide)
        torch.testing.assert_close(made.output(states), states @ torch.from_numpy(old).T, rtol=1e-5, atol=1e-5)
    left, values, right = np.linalg.svd(old, full_matrices=False)
    best = (left[:, :3] * values[:3]) @ right[:3]
    found = made.input(torch.arange(V)).detach().numpy()
    np.testing.assert_allclose(found, best, atol=1e-4)
    full = DecoupledEmbedding.from_tied(old, input_width=DIM, output_width=4)
    np.testing.assert_allclose(full.input(torch.arange(V)).detach().numpy(), old, atol=1e-4)
    narrow = full.output(states).detach().numpy()
    np.testing.assert_allclose(
        narrow, states.numpy() @ (((left[:, :4] * values[:4]) @ right[:4]).T), rtol=1e-3, atol=1e-3
    )


def test_frequent_rows_are_rebuilt_better_where_counts_are_given() -> None:
    old = np.random.default_rng(0).standard_normal((V, DIM)).astype(np.float32)
    counts = np.where(np.arange(V) < 5, 1e6, 1.0)
    plain = DecoupledEmbedding.from_tied(old, input_width=4).input(torch.arange(5)).detach().numpy()
    weighted = DecoupledEmbedding.from_tied(old, input_width=4, counts=counts).input(torch.arange(5)).detach().numpy()
    assert np.square(weighted - old[:5]).sum() < 0.5 * np.square(plain - old[:5]).sum()


def test_what_is_kept_holds_no_output_table() -> None:
    made = DecoupledEmbedding(V, DIM, 2, 20)
    kept = made.kept()
    assert sum(value.numel() for value in kept.values()) == made.fine_tuning_parameters == V * 2 + 2 * DIM
    assert not any(name.startswith("output") for name in kept)
    with pytest.raises(InputError, match="input_width"):
        DecoupledEmbedding.from_tied(np.zeros((V, DIM), np.float32), input_width=DIM + 1)
    with pytest.raises(InputError, match="finite"):
        DecoupledEmbedding.from_tied(np.full((V, DIM), np.nan), input_width=2)


def test_a_tied_model_folder_is_split_and_an_untied_one_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from sememe.lab.causal import small_llama

    for tied in (True, False):
        small_llama(V, SHAPE, tied=tied).model.save_pretrained(tmp_path / str(tied))
    made = DecoupledEmbedding.from_tied(tmp_path / "True", input_width=DIM)
    rows = output_vectors(tmp_path / "True")
    np.testing.assert_allclose(made.input(torch.arange(V)).detach().numpy(), rows, atol=1e-5)
    with pytest.raises(InputError, match="not tied"):
        DecoupledEmbedding.from_tied(tmp_path / "False", input_width=2)
    assert not np.array_equal(output_vectors(tmp_path / "False"), output_vectors(tmp_path / "False", "input"))


def clustered(seed: int = 0) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    owner = generator.integers(0, 6, V)
    centres = generator.standard_normal((6, DIM)).astype(np.float32)
    return owner, (centres[owner] + 1e-3 * generator.standard_normal((V, DIM))).astype(np.float32)


def test_vq_logits_find_clusters_and_copy_each_value_to_its_symbols() -> None:
    owner, old = clustered()
    made = VQLogits.from_table(old, 12)
    codes = made.place.numpy()
    assert all(len(np.unique(owner[codes == code])) == 1 for code in np.unique(codes))
    states = torch.randn(3, 4, DIM)
    torch.testing.assert_close(made(states), states @ torch.from_numpy(old).T, atol=2e-2, rtol=1e-2)
    slow = torch.stack([states @ made.weight[codes[t]] + made.bias[t] for t in range(V)], dim=-1)
    torch.testing.assert_close(made(states), slow)


@pytest.mark.parametrize("own", [0, 7])
def test_the_loss_without_all_logits_is_the_loss(own: int) -> None:
    _, old = clustered(1)
    counts = np.random.default_rng(2).integers(0, 50, V)
    made = VQLogits.from_table(old, 9, own=own, counts=counts, mapping="random").double()
    with torch.no_grad():
        made.weight.add_(torch.randn_like(made.weight))
        made.bias.add_(torch.randn_like(made.bias))
    states, targets = torch.randn(5, 6, DIM, dtype=torch.float64), torch.randint(V, (5, 6))
    short = made.nll(states, targets)
    long = torch.nn.functional.cross_entropy(made(states).flatten(0, 1), targets.flatten(), reduction="none")
    torch.testing.assert_close(short.flatten(), long)
    grads = [torch.autograd.grad(each.sum(), [made.weight, made.bias]) for each in (short, long)]
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b)


def test_frequent_symbols_keep_their_rows() -> None:
    _, old = clustered(3)
    counts = np.arange(V)[::-1].copy()
    made = VQLogits.from_table(old, 5, own=4, counts=counts)
    states = torch.randn(2, DIM)
    torch.testing.assert_close(made(states)[:, :4], states @ torch.from_numpy(old[:4]).T)
    assert len(made.weight) == 9
    again = VQLogits(V, DIM, 5, 4)
    again.load_state_dict(made.state_dict())
    assert torch.equal(again(states), made(states))


def test_an_empty_code_does_no_harm() -> None:
    made = VQLogits(V, DIM, 4)
    made.place.fill_(1)
    states, targets = torch.randn(3, DIM), torch.tensor([0, 5, 9])
    made.nll(states, targets).sum().backward()
    assert torch.isfinite(made.weight.grad).all()
    assert torch.isfinite(made.bias.grad).all()


def test_wrong_sizes_are_refused() -> None:
    for codes, own in ((0, 0), (V + 1, 0), (3, V + 1)):
        with pytest.raises(InputError):
            VQLogits(V, DIM, codes, own)
    with pytest.raises(InputError, match="mapping"):
        VQLogits.from_table(np.zeros((V, DIM)), 3, mapping="other")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="counts"):
        VQLogits.from_table(np.zeros((V, DIM)), 3, counts=[1])
