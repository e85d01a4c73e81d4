"""Number layers beside exact arithmetic, slow loops and published constants."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe.errors import InputError  # noqa: E402
from sememe.tokens.binary_number import BinaryNumberEmbedding, ConditionalMasking  # noqa: E402
from sememe.tokens.fourier_number import FourierNumberEmbedding  # noqa: E402
from sememe.tokens.scalars import MultiScaleScalarEmbedding, WindowToken, windows  # noqa: E402
from sememe.tokens.wavelet_digits import WaveletDigitEmbedding, digit_features, wavelet  # noqa: E402

EDGES = [0, 1, 9, 10, 5, 55, 99_999, 10**9, 10**10 - 1, 4_999_999_999, 5_000_000_000, 9_999_999_995]


@pytest.mark.parametrize("combine", ["linear", "pad"])
def test_ten_digit_numbers_come_back_exactly(combine: str) -> None:
    layer = FourierNumberEmbedding(32, 10, combine=combine)  # type: ignore[arg-type]
    drawn = np.random.default_rng(0).integers(0, 10**10, size=20_000)
    numbers = torch.cat((torch.tensor(EDGES), torch.from_numpy(drawn)))
    assert torch.equal(layer.decode(layer.features(numbers)), numbers)
    if combine == "pad":
        assert torch.equal(layer.decoded(layer(numbers)), numbers)
    assert layer(numbers[:6].view(2, 3)).shape == (2, 3, 32)


def test_eighteen_digits_come_back_in_double_precision() -> None:
    layer = FourierNumberEmbedding(40, 18, combine="pad").double()
    numbers = torch.tensor([10**18 - 1, 123_456_789_012_345_678, 5 * 10**17, 0])
    assert torch.equal(layer.decoded(layer(numbers)), numbers)


def test_features_are_those_of_exact_residues() -> None:
    getcontext().prec = 40
    layer = FourierNumberEmbedding(32, 6, 3, combine="pad").double()
    numbers = layer.parse(["123.456", "0.001", "999999.999", "500000", "0"])
    found = layer.features(numbers)
    for row, text in enumerate(["123.456", "0.001", "999999.999", "500000", "0"]):
        for place in range(9):
            period = Decimal(10) ** (place - 2)  # 10^-2 .. 10^6: the residue modulo it shows the digit below
            turn = 2 * math.pi * float(Decimal(text) % period / period)
            assert found[row, 2 * place : 2 * place + 2].tolist() == pytest.approx(
                [math.cos(turn), math.sin(turn)], abs=1e-12
            )
    assert [Decimal(text) for text in layer.text(numbers)] == [
        Decimal(text) for text in ("123.456", "0.001", "999999.999", "500000", "0")
    ]


def test_a_pair_may_be_off_by_almost_a_twentieth_of_a_turn() -> None:
    layer = FourierNumberEmbedding(20, 10, combine="pad")
    numbers = torch.from_numpy(np.random.default_rng(1).integers(0, 10**10, size=2_000))
    pairs = layer.features(numbers).unflatten(-1, (10, 2))
    for sign in (-1, 1):
        angle = sign * 2 * math.pi * 0.049
        turned = torch.stack(
            (
                math.cos(angle) * pairs[..., 0] - math.sin(angle) * pairs[..., 1],
                math.sin(angle) * pairs[..., 0] + math.cos(angle) * pairs[..., 1],
            ),
            dim=-1,
        )
        assert torch.equal(layer.decode(turned.flatten(-2)), numbers)


def test_the_loss_is_least_at_the_number_itself() -> None:
    for signed, turned in ((False, True), (True, True), (False, False)):
        layer = FourierNumberEmbedding(16, 5, combine="pad", signed=signed, turned=turned)
        numbers = torch.tensor([12_345, 0, 99_999, 40_000])
        hidden = layer(numbers)
        assert layer.loss(hidden, numbers).shape == (4, 5 + signed)
        if turned:
            sharp = layer.number + 50 * (hidden - layer.number)
            assert float(layer.loss(sharp, numbers).detach().max()) < 1e-3
            assert (layer.loss(sharp, numbers.roll(1)).detach().max(1).values > 1).all()


def test_fixed_points_read_a_lone_digit_and_round_the_rest() -> None:
    layer = FourierNumberEmbedding(8, 3, combine="pad", turned=False)
    assert layer.decode(layer.features(torch.tensor([300]))).tolist() == [300]
    assert layer.decode(layer.features(torch.tensor([390]))).tolist() == [490]


def test_signs_fractions_and_what_does_not_fit() -> None:
    layer = FourierNumberEmbedding(16, 4, 2, signed=True)
    numbers = layer.parse(["-12.5", "0", "9999.99", "-0.01"])
    assert numbers.tolist() == [-1_250, 0, 999_999, -1]
    assert torch.equal(layer.decode(layer.features(numbers)), numbers)
    for text in ("1.234", "10000", "x", "nan", "1e99", "1e999999999", "1e-999999999", "1.0" + 40 * "0" + "1"):
        with pytest.raises(InputError):
            layer.parse([text])
    with pytest.raises(InputError, match="is not between 0 and 99"):
        FourierNumberEmbedding(8, 2)(torch.tensor([-1]))
    with pytest.raises(InputError, match="numbers of type"):
        layer(torch.zeros(2))
    with pytest.raises(InputError, match="do not hold"):
        FourierNumberEmbedding(8, 5, combine="pad")
    assert layer(torch.zeros(0, 3, dtype=torch.int64)).shape == (0, 3, 16)


@pytest.mark.parametrize(
    "layer",
    [
        FourierNumberEmbedding(12, 4),
        BinaryNumberEmbedding(12, 10),
        MultiScaleScalarEmbedding(12),
    ],
    ids=["fourier", "binary", "multi-scale"],
)
def test_gradients_and_state(layer: torch.nn.Module) -> None:
    layer = layer.double()
    numbers = torch.tensor([[1, 20], [300, 999]])
    given = numbers.double() / 7 if isinstance(layer, MultiScaleScalarEmbedding) else numbers
    parameters = [p for name, p in layer.named_parameters() if not name.startswith("outward")]
    names = [name for name, _ in layer.named_parameters() if not name.startswith("outward")]

    def outcome(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values)), (given,)).square()

    assert torch.autograd.gradcheck(outcome, tuple(p.detach().clone().requires_grad_() for p in parameters))
    again = type(layer)(*((12, 4) if isinstance(layer, FourierNumberEmbedding) else (12,)))
    if not isinstance(layer, BinaryNumberEmbedding):
        again.double().load_state_dict(layer.state_dict())
        assert torch.equal(again(given), layer(given))
    assert layer.num_parameters == sum(p.numel() for p in layer.parameters())


def test_the_daubechies_wavelet_is_itself() -> None:
    from sememe.tokens.wavelet_digits import _daubechies, _daubechies_filter

    known = [0.23037781, 0.71484657, 0.63088077, -0.02798377, -0.18703481, 0.03084138, 0.03288301, -0.01059740]
    assert _daubechies_filter() == pytest.approx(known, abs=1e-7)
    places, values = _daubechies()
    step = places[1]
    assert (values**2).sum() * step == pytest.approx(1, abs=1e-6)
    for moment in range(4):  # four of them vanish, the fifth does not
        assert abs((values * places**moment).sum() * step) < 1e-9
    assert abs((values * places**4).sum() * step) > 0.1
    shifted = np.roll(values, 1_024)
    shifted[:1_024] = 0
    assert abs((values * shifted).sum() * step) < 1e-6  # orthogonal to its shift by one


def test_digit_features_are_their_formulas() -> None:
    features = digit_features(("haar", "mexican-hat"), (1.0, 2.0))
    for digit in range(10):
        for column, scale in ((0, 1), (1, 2)):
            t = digit / 9 / scale
            assert features[digit, column] == (1 if t < 0.5 else -1) / math.sqrt(scale)
        for column, scale in ((2, 1), (3, 2)):
            x = 4 * (digit / 9 / scale - 0.5)
            hat = 2 / (math.sqrt(3) * math.pi**0.25) * (1 - x * x) * math.exp(-x * x / 2)
            assert features[digit, column] == pytest.approx(hat / math.sqrt(scale))
    assert not wavelet("haar", np.array([-0.1, 1.1])).any()


def test_codebooks_are_distinct_or_refused_and_override_a_table() -> None:
    layer = WaveletDigitEmbedding(24, combine="pad")
    assert layer.separation() > 1e-3
    assert torch.equal(WaveletDigitEmbedding(24).codebook, WaveletDigitEmbedding(24).codebook)
    assert not torch.equal(WaveletDigitEmbedding(24).codebook, WaveletDigitEmbedding(24, seed=1).codebook)
    with pytest.raises(InputError, match="apart after a LayerNorm"):
        WaveletDigitEmbedding(24, ("haar",))
    with pytest.raises(InputError, match="not 0 to 9"):
        layer(torch.tensor([10]))
    table = torch.nn.Embedding(50, 24)
    before, rows = table.weight.detach().clone(), list(range(40, 50))
    layer.override(table, rows)
    assert torch.equal(table.weight[:40], before[:40])
    assert float(table.weight[40:].detach().square().mean().sqrt()) == pytest.approx(
        float(before.square().mean().sqrt()), rel=1e-5
    )
    cosine = torch.nn.functional.cosine_similarity(table.weight[40:], layer.codebook)
    assert torch.allclose(cosine, torch.ones(10))
    with pytest.raises(InputError, match="ten ids"):
        layer.override(table, rows[:9])


def test_a_binary_number_is_the_sum_of_its_bits() -> None:
    layer = BinaryNumberEmbedding(6, 9)
    numbers = torch.arange(512)
    for number in (0, 1, 5, 255, 511):
        expected = layer.inward.bias + sum(
            (layer.inward.weight[:, bit] for bit in range(9) if number >> bit & 1), torch.zeros(6)
        )
        torch.testing.assert_close(layer(torch.tensor(number)), expected)
    with torch.no_grad():  # an output layer that undoes the input layer reads every number
        wide = BinaryNumberEmbedding(16, 9)
        inverse = torch.linalg.pinv(wide.inward.weight)
        wide.outward.weight.copy_(inverse)
        wide.outward.bias.copy_(-inverse @ wide.inward.bias - 0.5)
        assert torch.equal(wide.decoded(wide(numbers)), numbers)
        assert wide.loss(wide(numbers), numbers).shape == (512, 9)
    for bad in (-1, 512):
        with pytest.raises(InputError, match="fit in 9 bits"):
            layer(torch.tensor([bad]))


def test_conditional_masks_walk_the_list_from_the_highest_score() -> None:
    routine = ConditionalMasking(1, hidden=4)
    with torch.no_grad():  # a score that grows with the item
        routine.score[0].weight.fill_(1.0)
        routine.score[0].bias.fill_(10.0)
        routine.score[2].weight.fill_(1.0)
    items = torch.tensor([[[3.0], [1.0], [2.0], [0.5]], [[0.0], [5.0], [4.0], [9.0]]])
    assert routine.order(items).tolist() == [[0, 2, 1, 3], [3, 1, 2, 0]]
    there = torch.tensor([[True, True, False, False], [False, False, False, False]])
    assert routine.order(items, there).tolist() == [[0, 1, -1, -1], [-1, -1, -1, -1]]
    chosen, logits, left = routine.step(items, there)
    assert not chosen[1].any()
    assert torch.isinf(logits[0, 2:]).all()
    assert left.tolist() == [[False, True, False, False], [False] * 4]


def test_scalars_are_the_weighted_sum_of_normed_projections() -> None:
    layer = MultiScaleScalarEmbedding(8, -2, 2, sharpness=0.7).double()
    for x in (0.0, 3.0, -0.02, 250.0, 1e-9, -1e7):
        distances = [math.log10(max(abs(x), 1e-4)) - k for k in range(-2, 3)]
        alpha = np.exp([-(distance**2) / 0.7 for distance in distances])
        alpha /= alpha.sum()
        total = np.zeros(8)
        for k in range(5):
            inner = (
                layer.weight[k].detach().numpy() * np.clip(x / 10.0 ** (k - 2), -1e6, 1e6)
                + layer.bias[k].detach().numpy()
            )
            total += alpha[k] * (inner - inner.mean()) / np.sqrt(inner.var() + 1e-5)
        assert layer(torch.tensor(x, dtype=torch.float64)).tolist() == pytest.approx(total.tolist(), abs=1e-9)
    exponents = torch.tensor([0.01, 0.1, 1.0, 10.0, 100.0], dtype=torch.float64)
    assert layer.weights(exponents).argmax(-1).tolist() == [0, 1, 2, 3, 4]
    assert torch.isfinite(MultiScaleScalarEmbedding(4)(torch.tensor([1e38, -1e38, 1e-45]))).all()
    with pytest.raises(InputError, match="not finite"):
        layer(torch.tensor([math.inf]))
    with pytest.raises(InputError, match="floating-point"):
        layer(torch.tensor([1]))


def test_a_window_is_its_shape_and_its_two_scalars() -> None:
    token = WindowToken(6, 8)
    x = 1e3 * torch.randn(4, 6) + 5e3
    mean, spread = x.mean(-1), x.std(-1, correction=0)
    expected = token.shape((x - mean[:, None]) / spread[:, None]) + token.mean(mean) + token.spread(spread)
    torch.testing.assert_close(token(x), expected)
    flat = token(torch.full((1, 6), 0.1))
    torch.testing.assert_close(flat, token.shape.bias + token.mean(torch.tensor([0.1])) + token.spread(torch.zeros(1)))
    assert windows(torch.arange(10.0), 4).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert windows(torch.arange(10.0), 4, 3).shape == (3, 4)
    with pytest.raises(InputError, match="windows of 5"):
        token(torch.zeros(2, 5))
