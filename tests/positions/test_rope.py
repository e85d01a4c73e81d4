"""Longer rotary positions against slow loops over pairs, and what they promise."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from sememe.errors import InputError
from sememe.lab.model import Shape, SmallLM, seeded, table
from sememe.positions.base import Rotary
from sememe.positions.continuous import ContinuousScaling
from sememe.positions.rope_bands import DimensionWisePositions, Extended, SelfExtend, StringRope
from sememe.positions.rope_hierarchy import HierarchicalRope, python_sections
from sememe.positions.rope_scaling import NTK, Interpolate, YaRN
from sememe.positions.rope_search import contributions, detect
from sememe.positions.rope_switch import SwitchPointRope

WIDTH, CONTEXT, LENGTH = 8, 12, 40


def tensors(length: int = LENGTH, heads: int = 2) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(3, 2, heads, length, WIDTH, generator=torch.Generator().manual_seed(0)))


def by_pairs(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    angle: Callable[[int, int], torch.Tensor],
    causal: bool,
    heat: float,
) -> torch.Tensor:
    """Attention where the query of place m is turned by ``angle(m, n)`` beside the unturned key of place n."""
    length, half = q.shape[-2], WIDTH // 2
    scores = torch.full((*q.shape[:2], length, length), -torch.inf)
    for m in range(length):
        for n in range(m + 1 if causal else length):
            turned = angle(m, n)
            x, y = q[..., m, :half], q[..., m, half:]
            cosine, sine = turned.cos(), turned.sin()
            moved = torch.cat((x * cosine - y * sine, y * cosine + x * sine), dim=-1)
            scores[..., m, n] = (moved * k[..., n, :]).sum(-1) * heat / math.sqrt(WIDTH)
    return scores.softmax(-1) @ v


def check(module: Extended, angle: Callable[[int, int], torch.Tensor], heat: float = 1.0) -> None:
    q, k, v = tensors()
    for causal in (True, False):
        found = module.attend(q, k, v, causal=causal, bias=None)
        torch.testing.assert_close(found, by_pairs(q, k, v, angle, causal, heat), atol=2e-5, rtol=1e-4)


def test_string_shifts_far_distances() -> None:
    module = StringRope(WIDTH, CONTEXT, shift=9, window=2)

    def angle(m: int, n: int) -> torch.Tensor:
        d = abs(m - n)
        return math.copysign(d if d < 9 else d - 9 + 2, m - n) * module.rates

    check(module, angle)


def test_self_extend_groups_far_places() -> None:
    module = SelfExtend(WIDTH, CONTEXT, factor=4, window=5)

    def angle(m: int, n: int) -> torch.Tensor:
        if abs(m - n) < 5:
            return (m - n) * module.rates
        return (m // 4 - n // 4 + math.copysign(5 - 5 // 4, m - n)) * module.rates

    check(module, angle)


def test_dimensions_have_factors_of_their_own() -> None:
    factors = torch.tensor([1.0, 2.0, 4.0, 3.0])
    module = DimensionWisePositions(WIDTH, CONTEXT, factors=factors, window=3)

    def angle(m: int, n: int) -> torch.Tensor:
        if abs(m - n) < 3:
            return (m - n) * module.rates
        steps = torch.floor(m / factors) - torch.floor(n / factors)
        return (steps + math.copysign(1, m - n) * (3 - torch.floor(3 / factors))) * module.rates

    check(module, angle)


def test_heads_have_factors_of_their_own() -> None:
    q, k, v = tensors()
    both = DimensionWisePositions(WIDTH, CONTEXT, factors=[[2.0] * 4, [5.0] * 4])
    for head, factor in enumerate((2.0, 5.0)):
        alone = DimensionWisePositions(WIDTH, CONTEXT, factors=[factor] * 4)
        torch.testing.assert_close(
            both.attend(q, k, v, causal=True, bias=None)[:, head],
            alone.attend(q, k, v, causal=True, bias=None)[:, head],
        )


def test_sections_stand_in_the_slow_dimensions() -> None:
    module = HierarchicalRope(WIDTH, CONTEXT, borders=torch.arange(10) == 0, window=6)
    ids = torch.randint(10, (2, LENGTH), generator=torch.Generator().manual_seed(3))
    module.read(ids)
    q, k, v = tensors()
    sections = (ids == 0).cumsum(1)
    found = module.attend(q, k, v, causal=True, bias=None)
    for row in range(2):

        def angle(m: int, n: int, row: int = row) -> torch.Tensor:
            plain = (m - n) * module.rates
            if m - n < 6:
                return plain
            return torch.where(module.slow, (6 + int(sections[row, m] - sections[row, n])) * module.rates, plain)

        one = slice(row, row + 1)
        wanted = by_pairs(q[one], k[one], v[one], angle, True, 1.0)
        torch.testing.assert_close(found[one], wanted, atol=2e-5, rtol=1e-4)
    assert module.slow.any() and not module.slow.all()


def test_scalings_are_their_formulas() -> None:
    s = LENGTH / CONTEXT
    pairs = torch.arange(4)
    for module, rates, heat in (
        (Interpolate(WIDTH, CONTEXT), Rotary(WIDTH).rates / s, 1.0),
        (Interpolate(WIDTH, CONTEXT, factor=5.0), Rotary(WIDTH).rates / 5, 1.0),
        (NTK(WIDTH, CONTEXT), (10_000 * s ** (8 / 6)) ** (-pairs / 4), 1.0),
    ):
        check(module, lambda m, n, rates=rates: (m - n) * rates, heat)  # type: ignore[misc]
    yarn = YaRN(WIDTH, CONTEXT, factor=4.0, slow=0.1, fast=1.5)
    turns = yarn.rates * CONTEXT / (2 * math.pi)
    kept = ((turns - 0.1) / 1.4).clamp(0, 1)
    check(yarn, lambda m, n: (m - n) * yarn.rates * (kept + (1 - kept) / 4), (0.1 * math.log(4) + 1) ** 2)


EXTENDED = (
    StringRope(WIDTH, 2 * CONTEXT, shift=2 * CONTEXT),
    SelfExtend(WIDTH, CONTEXT),
    DimensionWisePositions(WIDTH, CONTEXT, factors=[4.0] * 4),
    HierarchicalRope(WIDTH, CONTEXT, borders=[True] * 10),
    Interpolate(WIDTH, CONTEXT),
    NTK(WIDTH, CONTEXT, factor=3.0),
    YaRN(WIDTH, CONTEXT),
)


@pytest.mark.parametrize("module", EXTENDED, ids=lambda module: type(module).__name__)
def test_what_fits_the_window_is_read_as_before(module: Extended) -> None:
    q, k, v = tensors(CONTEXT)
    module.read(torch.zeros(2, CONTEXT, dtype=torch.long))
    for causal in (True, False):
        found = module.attend(q, k, v, causal=causal, bias=None)
        plain = Rotary(WIDTH).attend(q, k, v, causal=causal, bias=None)
        torch.testing.assert_close(found, plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize("module", EXTENDED, ids=lambda module: type(module).__name__)
def test_short_texts_of_a_padded_batch_are_read_as_before(module: Extended) -> None:
    if isinstance(module, StringRope | HierarchicalRope):
        pytest.skip("these look at distances and sections alone")
    q, k, v = tensors()
    module.sizes = torch.tensor([CONTEXT, LENGTH])
    hidden = torch.zeros(2, 1, 1, LENGTH)
    hidden[0, ..., CONTEXT:] = -torch.inf
    try:
        found = module.attend(q, k, v, causal=False, bias=hidden)[:1, :, :CONTEXT]
    finally:
        module.sizes = None
    short = [x[:1, :, :CONTEXT] for x in (q, k, v)]
    torch.testing.assert_close(found, Rotary(WIDTH).attend(*short, causal=False, bias=None), atol=1e-5, rtol=0)


def test_one_section_is_no_hierarchy() -> None:
    module = HierarchicalRope(WIDTH, CONTEXT, borders=torch.arange(10) == 0)
    module.read(torch.ones(2, LENGTH, dtype=torch.long))
    q, k, v = tensors()
    plain = Rotary(WIDTH).attend(q, k, v, causal=True, bias=None)
    torch.testing.assert_close(module.attend(q, k, v, causal=True, bias=None), plain, atol=1e-6, rtol=0)


def test_functions_of_python_are_sections() -> None:
    source = "import os\n\n@wrap\ndef f(x):\n    return x\n\nclass A:\n    def g(self):\n        pass\n"
    assert python_sections(source) == [0, 0, 1, 1, 1, 1, 2, 3, 3]
    with pytest.raises(InputError, match="no Python"):
        python_sections("def (")


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = tensors()
    module = SelfExtend(WIDTH, CONTEXT)
    whole = module.attend(q, k, v, causal=True, bias=None)
    monkeypatch.setattr("sememe.positions.rope_bands._MOST_SCORES", 4 * LENGTH * 3)
    torch.testing.assert_close(module.attend(q, k, v, causal=True, bias=None), whole)


def test_layers_have_factors_of_their_own() -> None:
    q, k, v = tensors()
    both = DimensionWisePositions(WIDTH, CONTEXT, factors=[[[2.0] * 4] * 2, [[5.0] * 4] * 2])
    for number, factor in enumerate((2.0, 5.0)):
        alone = DimensionWisePositions(WIDTH, CONTEXT, factors=[factor] * 4)
        torch.testing.assert_close(
            both.layer(number, q).attend(q, k, v, causal=True, bias=None),
            alone.attend(q, k, v, causal=True, bias=None),
        )
    with pytest.raises(InputError, match="2 layers"):
        both.layer(2, q)
    both.set([1.0] * 4)
    found = contributions(
        both, lambda: [both.layer(n, q).attend(q * (1 + n), k, v, causal=True, bias=None) for n in (0, 1)]
    )
    torch.testing.assert_close(found[1], 2 * found[0])


def test_detect_finds_the_factor_that_scores_best() -> None:
    module = DimensionWisePositions(WIDTH, CONTEXT)
    q, k, v = tensors()
    q[..., [3, 7]] = 0  # the slowest pair contributes nothing
    wanted = torch.tensor([2.0, 2.0, 8.0, 1.0])

    def evaluate() -> float:
        module.attend(q, k, v, causal=True, bias=None)
        return -float((module.factors - wanted).abs().sum())

    found = detect(module, evaluate, start=4, scales=(1, 2, 4, 8), groups=2, keep=0.75)
    assert found.shape == (2, 4) and torch.equal(found[:, 3], torch.ones(2))
    assert torch.equal(found, torch.tensor([[2.0, 2.0, 8.0, 1.0]]).expand(2, -1))
    with pytest.raises(InputError, match="did not use"):
        contributions(module, lambda: 0.0)


def test_untrained_clex_is_ntk_scaling() -> None:
    clex = ContinuousScaling(WIDTH, CONTEXT).eval()
    for t in (1, 2, 4):
        found = clex.rates_at(t)
        torch.testing.assert_close(found, NTK(WIDTH, CONTEXT).scaled(torch.tensor(float(t))), rtol=1e-5, atol=0)


def test_clex_solves_its_equation() -> None:
    with seeded(0):
        coarse, fine = ContinuousScaling(WIDTH, CONTEXT), ContinuousScaling(WIDTH, CONTEXT, steps=200)
        torch.nn.init.normal_(coarse.down.weight, std=0.3)
    fine.load_state_dict(coarse.state_dict())
    torch.testing.assert_close(coarse.rates_at(4.0), fine.rates_at(4.0), rtol=2e-2, atol=0)


def test_clex_trains_with_drawn_places_and_forgets_them() -> None:
    with seeded(0):
        lm = SmallLM(table(30, 16), shape=Shape(dim=16, heads=2, context=12), positions="clex")
    clex, ids = lm.trunk.positions, torch.randint(30, (2, 12))
    lm.nll(ids).mean().backward()
    places = clex._drawn[0]
    assert (places.diff() > 0).all() and places[-1] < 8 * 13
    assert clex.down.weight.grad.abs().sum() > 0
    lm.eval()
    with torch.no_grad():
        torch.testing.assert_close(lm(ids), lm(ids))
    assert clex._drawn is None


def test_loaded_weights_of_clex_count_at_once() -> None:
    with seeded(0):
        first, second = ContinuousScaling(WIDTH, CONTEXT).eval(), ContinuousScaling(WIDTH, CONTEXT).eval()
        torch.nn.init.normal_(first.down.weight)
    q, k, _ = tensors()
    stale = second.rotate(q, k)[0]
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.rotate(q, k)[0], first.rotate(q, k)[0])
    assert not torch.equal(second.rotate(q, k)[0], stale)


def slow_switches(spoken: list[int], level: str) -> list[bool]:
    filled, last = [], -1
    for language in spoken:
        last = language if language >= 0 else last
        filled.append(last)
    out = []
    for t, language in enumerate(filled):
        switch = t > 0 and filled[t - 1] >= 0 and language != filled[t - 1]
        if level == "bigram":
            switch = switch and t + 1 < len(filled) and filled[t + 1] == language
        out.append(switch)
    return out


@pytest.mark.parametrize("level", ["unigram", "bigram"])
def test_switches_are_found(level: str) -> None:
    languages = torch.tensor([0, 1, -1, 0, 1])
    module = SwitchPointRope(WIDTH, 2, languages=languages, level=level)  # type: ignore[arg-type]
    ids = torch.randint(5, (20, 15), generator=torch.Generator().manual_seed(0))
    module.read(ids, 1)
    for row in range(20):
        assert module.switches[row].tolist() == [False, *slow_switches(languages[ids[row]].tolist(), level)]


def test_half_of_the_heads_restart_at_switches() -> None:
    module = SwitchPointRope(WIDTH, 2, languages=[0, 1])
    with torch.no_grad():
        module.turns.normal_()
    ids = torch.tensor([[0, 0, 0, 1, 1, 0, 0, 0]])
    module.read(ids)
    q, k, _ = (x[:1, :, :8] for x in tensors())
    found_q, _ = module.rotate(q, k)
    plain_q, _ = Rotary(WIDTH).rotate(q, k)
    assert torch.equal(found_q[:, 0], plain_q[:, 0])
    for t, (place, switches) in enumerate([(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)]):
        angle = place * module.rates + switches * module.turns
        x, y = q[0, 1, t, :4], q[0, 1, t, 4:]
        wanted = torch.cat((x * angle.cos() - y * angle.sin(), y * angle.cos() + x * angle.sin()))
        torch.testing.assert_close(found_q[0, 1, t], wanted)


def test_one_language_is_plain_rotary() -> None:
    module = SwitchPointRope(WIDTH, 2, languages=[0, 1])
    module.read(torch.ones(2, LENGTH, dtype=torch.long))
    q, k, _ = tensors()
    assert all(torch.equal(a, b) for a, b in zip(module.rotate(q, k), Rotary(WIDTH).rotate(q, k)))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: StringRope(WIDTH, CONTEXT, shift=20),
        lambda: SelfExtend(WIDTH, CONTEXT, factor=0),
        lambda: SelfExtend(WIDTH, 0),
        lambda: DimensionWisePositions(WIDTH, CONTEXT, factors=[0.5] * 4),
        lambda: DimensionWisePositions(WIDTH, CONTEXT, factors=[2.0] * 3),
        lambda: HierarchicalRope(WIDTH, CONTEXT, window=50),
        lambda: Interpolate(WIDTH, CONTEXT, factor=0.5),
        lambda: YaRN(WIDTH, CONTEXT, slow=3, fast=2),
        lambda: ContinuousScaling(WIDTH, CONTEXT, most=0.5),
        lambda: SwitchPointRope(WIDTH, 2, switching=3),
        lambda: detect(DimensionWisePositions(WIDTH, CONTEXT), lambda: 0.0, start=0),
    ],
)
def test_what_cannot_be_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        wrong()
