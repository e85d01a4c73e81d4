"""Averages over the past and wider streams, against loops and against the ordinary model."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from sememe.errors import InputError  # noqa: E402
from sememe.lab.model import Shape, SmallLM, count, seeded, table  # noqa: E402
from sememe.tokens.multires import CausalWavelet, add_wavelets  # noqa: E402
from sememe.tokens.virtual_width import HyperConnection, VirtualWidthEmbedding, virtual_width_lm  # noqa: E402

V = 30
SHAPE = Shape(dim=16, layers=2, heads=2, context=24)


@pytest.fixture
def ids() -> Any:
    return torch.randint(V, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("length", [1, 3, 40])
def test_averages_are_those_of_a_loop(learned: bool, length: int) -> None:
    wavelet = CausalWavelet(10, levels=4, learned=learned)
    assert wavelet.windows.tolist() == [2, 2, 4, 8, 16]
    x = 5 + torch.randn(3, length, 10)
    out = wavelet(x)
    assert torch.equal(out[..., :5], x[..., :5])
    for channel, window in enumerate(wavelet.windows.tolist()):
        for t in range(length):
            mean = x[:, max(0, t - window + 1) : t + 1, 5 + channel].mean(1)
            torch.testing.assert_close(out[:, t, 5 + channel], mean, rtol=1e-4, atol=1e-4)
    assert wavelet(x[:, :0]).shape == (3, 0, 10)


def test_learned_windows_stay_inside_and_learn() -> None:
    wavelet = CausalWavelet(8, levels=3, learned=True)
    x = torch.randn(2, 12, 8)
    wavelet(x).square().sum().backward()
    grad = wavelet.kernel.grad
    assert grad[wavelet.inside].abs().min() > 0
    assert grad[~wavelet.inside].abs().sum() == 0
    assert not list(CausalWavelet(8).parameters())


@pytest.mark.parametrize("learned", [False, True])
def test_the_future_changes_nothing(learned: bool, ids: Any) -> None:
    model = add_wavelets(SmallLM(table(V, 16), shape=SHAPE), 3, learned=learned).eval()
    changed = ids.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % V
    with torch.no_grad():
        torch.testing.assert_close(model(ids)[:, :10], model(changed)[:, :10], rtol=1e-5, atol=1e-5)
        assert not torch.allclose(model(ids)[:, 10:], model(changed)[:, 10:], atol=1e-3)


def test_averages_have_no_parameters_and_come_once(ids: Any) -> None:
    plain = SmallLM(table(V, 16), shape=SHAPE)
    before, size = plain(ids).detach(), count(plain)
    model = add_wavelets(plain, 3)
    assert count(model) == size
    assert not torch.allclose(model(ids), before)
    with pytest.raises(InputError, match="already"):
        add_wavelets(model)
    with pytest.raises(InputError, match="next symbol"):
        model.trunk.blocks[0](torch.zeros(1, 2, 16), None, causal=False, bias=None)
    with pytest.raises(InputError, match="levels"):
        CausalWavelet(8, levels=0)


def test_a_width_of_one_is_the_ordinary_model(ids: Any) -> None:
    with seeded(0):
        wide = virtual_width_lm(V, SHAPE, 1)
    with seeded(0):
        plain = SmallLM(table(V, 16), "free", shape=SHAPE)
    assert {k: v.shape for k, v in wide.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}
    plain.load_state_dict(wide.state_dict())
    assert torch.equal(wide.nll(ids), plain.nll(ids))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_joint_is_its_definition(parts: int, dynamic: bool) -> None:
    joint = HyperConnection(8, 3, parts, place=1, dynamic=dynamic)
    n, m, width = 3 * parts, parts, 8 // parts
    with torch.no_grad():
        for parameter in joint.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    stream = torch.randn(2, 5, n, width)
    inner, write, carried = joint(stream)
    for b in range(2):
        for t in range(5):
            place = stream[b, t]
            first = joint.read @ place
            read, writing, carry = joint.read, joint.write, joint.carry
            if dynamic:
                found = joint.scale * torch.tanh(joint.mixer(joint.norm(first.reshape(-1))))
                read = read + found[: m * n].view(m, n)
                writing = writing + found[m * n : 2 * m * n].view(n, m)
                carry = carry + found[2 * m * n :].view(n, n)
            torch.testing.assert_close(inner[b, t], (read @ place).reshape(-1), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(carried[b, t], carry @ place, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(write[b, t] if dynamic else write, writing)


def test_a_joint_begins_as_a_residual_of_the_whole_stream() -> None:
    for place in range(4):
        joint = HyperConnection(8, 3, 2, place=place)
        stream = torch.randn(1, 1, 6, 4)
        inner, write, carried = joint(stream)
        start = 2 * (place % 3)
        assert torch.equal(inner[0, 0], stream[0, 0, start : start + 2].reshape(-1))
        assert torch.equal(carried, stream)
        said = torch.randn(1, 1, 2, 4)
        assert torch.equal((write @ said)[0, 0], said[0, 0].repeat(3, 1))


@pytest.mark.parametrize("parts", [1, 2])
def test_a_wide_model_learns_everywhere_and_sees_no_future(parts: int, ids: Any) -> None:
    model = virtual_width_lm(V, SHAPE, 3, parts=parts)
    assert model.embedding.weight.shape == (V, 48)
    for joint in model.trunk.joints:
        torch.nn.init.normal_(joint.mixer.weight, std=0.1)
    model.nll(ids).mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    changed = ids.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % V
    with torch.no_grad():
        torch.testing.assert_close(model(ids)[:, :10], model(changed)[:, :10], rtol=1e-5, atol=1e-5)


def test_wide_models_that_are_impossible_are_refused() -> None:
    with pytest.raises(InputError, match="tied"):
        virtual_width_lm(V, SHAPE, 2, head="tied")
    with pytest.raises(InputError, match="parts"):
        HyperConnection(8, 2, 3)
    with pytest.raises(InputError, match="positive"):
        VirtualWidthEmbedding(V, 8, 0)
