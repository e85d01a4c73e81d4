"""Biases and vectors of distances against their definitions, pair by pair."""

from __future__ import annotations

import math

import pytest
import torch

from sememe.errors import InputError
from sememe.lab.model import Shape, SmallEncoder, table
from sememe.positions.relative import KernelBias, PowerKernelBias, RelativeAttention, SymmetricAlibi, slopes


@pytest.mark.parametrize("heads", [1, 4, 8])
def test_slopes_of_powers_of_two_are_a_geometric_series(heads: int) -> None:
    assert slopes(heads).tolist() == pytest.approx([2 ** (-8 * (i + 1) / heads) for i in range(heads)])


def test_slopes_of_other_numbers_of_heads_come_from_between() -> None:
    found = slopes(6).tolist()
    assert found[:4] == pytest.approx([2**-2, 2**-4, 2**-6, 2**-8])
    assert found[4:] == pytest.approx([2**-1, 2**-3])


def test_linear_biases_are_symmetric_and_by_definition() -> None:
    bias = SymmetricAlibi(4).bias(7)
    for h, slope in enumerate(slopes(4).tolist()):
        for i in range(7):
            for j in range(7):
                assert bias[h, i, j].item() == pytest.approx(-slope * abs(i - j))
    assert torch.equal(bias, bias.transpose(-1, -2))


@pytest.mark.parametrize("kind", [KernelBias, PowerKernelBias])
def test_kernels_are_their_formulas(kind: type) -> None:
    torch.manual_seed(0)
    module = kind(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(3) / 3)
    bias, r1, r2 = module.bias(9), module.r1.tolist(), module.r2.tolist()
    for h in range(3):
        for i in range(9):
            for j in range(9):
                d = abs(i - j)
                wanted = -r1[h] * math.log(1 + r2[h] * d) if kind is KernelBias else -r1[h] * d ** r2[h]
                assert bias[h, i, j].item() == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    assert min(r1) > 0 and min(r2) > 0
    if kind is PowerKernelBias:
        assert max(r2) < 2


def test_minus_a_kernel_is_conditionally_positive_definite() -> None:
    torch.manual_seed(1)
    for kind in (KernelBias, PowerKernelBias):
        bias = kind(4).bias(20).detach().double()
        weights = torch.randn(200, 20, dtype=torch.float64)
        weights -= weights.mean(1, keepdim=True)  # the condition: weights that sum to zero
        forms = torch.einsum("ni,hij,nj->hn", weights, bias, weights)
        assert forms.min() > -1e-6


def test_power_one_is_alibi_and_stays_so() -> None:
    fixed = PowerKernelBias(8, learn=False)
    assert torch.equal(fixed.bias(300), SymmetricAlibi(8).bias(300))
    assert not any(parameter.requires_grad for parameter in fixed.parameters())


def test_kernels_have_gradients_everywhere() -> None:
    for kind in (KernelBias, PowerKernelBias):
        module = kind(2)
        (module.bias(5) * torch.randn(2, 5, 5)).sum().backward()
        for parameter in module.parameters():
            assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().sum() > 0


def test_numbers_of_the_log_kernel_are_held_above_zero_and_can_come_back() -> None:
    module = KernelBias(2)
    with torch.no_grad():
        module.raw1.fill_(-0.5)
    assert module.r1.tolist() == pytest.approx([0.01, 0.01])
    module.bias(5)[:, 4, 0].sum().backward()
    assert (module.raw1.grad < 0).all()  # a larger bias wants a smaller number: the way is open in both directions


@pytest.mark.parametrize("method", ["shaw", "unsigned", "signed", "elementwise", "added"])
def test_scores_are_their_definitions(method: str) -> None:
    torch.manual_seed(0)
    module = RelativeAttention(6, method, reach=3)  # type: ignore[arg-type]
    with torch.no_grad():
        module.table.add_(torch.randn_like(module.table))
    q, k = torch.randn(2, 1, 2, 8, 6)
    scores = module.scores(q, k)
    for h in range(2):
        for i in range(8):
            for j in range(8):
                apart = max(-3, min(3, j - i))
                a = module.table[abs(apart) if method == "unsigned" else apart + 3]
                x, y = q[0, h, i], k[0, h, j]
                if method in ("unsigned", "signed"):
                    wanted = (x @ y) * a
                elif method == "elementwise":
                    wanted = (x * y * a).sum()
                else:
                    wanted = x @ y + x @ a + (y @ a if method == "added" else 0)
                assert scores[0, h, i, j].item() == pytest.approx(wanted.item() / math.sqrt(6), rel=1e-4, abs=1e-5)


def test_distances_know_no_place() -> None:
    torch.manual_seed(0)
    module = RelativeAttention(8)
    q, k = torch.randn(2, 1, 2, 30, 8)
    later = module.scores(torch.cat((q, q), 2), torch.cat((k, k), 2))[..., 30:, 30:]
    torch.testing.assert_close(later, module.scores(q, k), atol=1e-5, rtol=0)


def test_a_mask_hides_places_in_an_encoder() -> None:
    torch.manual_seed(0)
    encoder = SmallEncoder(table(40, 16), shape=Shape(dim=16, heads=2, context=12), positions="relative").eval()
    ids = torch.randint(40, (1, 12))
    keep = torch.ones(1, 12, dtype=torch.bool)
    keep[0, 8:] = False
    with torch.no_grad():
        torch.testing.assert_close(encoder(ids, keep)[:, :8], encoder(ids[:, :8]), atol=1e-5, rtol=0)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="no method"):
        RelativeAttention(8, "other")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="tells no distances"):
        RelativeAttention(8, reach=0)
    for kind in (SymmetricAlibi, KernelBias, PowerKernelBias):
        with pytest.raises(InputError, match="heads"):
            kind(0)
