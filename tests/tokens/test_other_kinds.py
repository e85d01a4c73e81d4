"""The battery of what is no plain layer: context, output, number and byte layers, byte models and feature tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from sememe import catalog  # noqa: E402
from sememe.errors import InputError  # noqa: E402
from sememe.lab.model import Shape  # noqa: E402
from sememe.tokens.pixel_bytes import PixelBytes  # noqa: E402
from sememe.tokens.plain import PlainTable  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402

V, D, L = 40, 8, 6
SIZES = (5, 7, 3)
SHAPE = Shape(dim=16, layers=1, heads=2, context=32)
VOCABULARY = Vocabulary([f" w{i}" for i in range(V)])
BYTES = Vocabulary([bytes([byte]) for byte in range(256)])


def made(name: str, *arguments: Any, **options: Any) -> Any:
    """One of the catalogue's, small."""
    make = catalog.find(name).make
    return (make.resolve() if hasattr(make, "resolve") else make)(*arguments, **options)


def ids(count: int) -> Callable[[int, int], tuple[Any, ...]]:
    """Random ids below a number, ``(b, l)``."""
    return lambda b, length: (torch.randint(count, (b, length)),)


def states(b: int, length: int) -> tuple[Any, ...]:
    """Random states ``(b, l, d)``."""
    return (torch.randn(b, length, D),)


def fields(b: int, length: int) -> tuple[Any, ...]:
    """Joint ids ``(b, f)``, one a field; ``length`` does not matter."""
    first = [sum(SIZES[:field]) for field in range(len(SIZES))]
    return (torch.stack([start + torch.randint(size, (b,)) for start, size in zip(first, SIZES)], dim=1),)


@dataclass(frozen=True)
class Case:
    """How one technique is made and called.

    ``batch(b, l)`` gives the arguments of a call, whose rows are sequences of their own; ``bad`` are arguments that are
    refused; ``call`` gives the output, rows first, where that is not the module's own.
    """

    make: Callable[[], Any]
    batch: Callable[[int, int], tuple[Any, ...]]
    bad: tuple[Callable[[], tuple[Any, ...]], ...] = ()
    call: Callable[..., Any] = lambda module, *arguments: module(*arguments)
    sequences: bool = True  # whether an empty one makes sense
    random: bool = False  # whether a call draws anew
    smooth: bool = True  # whether its gradient is the derivative, and no straight-through estimate


def outside(count: int) -> tuple[Callable[[], tuple[Any, ...]], ...]:
    """Ids just below and just above what there is."""
    return tuple(lambda bad=bad: (torch.tensor([[0, bad]]),) for bad in (-1, count))


def outside_field() -> tuple[Any, ...]:
    """An id of the second field in the first column."""
    return (torch.tensor([[SIZES[0], SIZES[0], sum(SIZES) - 1]]),)


def with_its_table() -> Any:
    """A tied output stores nothing itself."""
    table = PlainTable(VOCABULARY, D)
    return torch.nn.ModuleList([table, made("tied-output", table)])


HEAD = torch.nn.Linear(D, V).requires_grad_(False)
CASES = {
    "binary-number": Case(
        lambda: made("binary-number", D, bits=6), ids(64), (*outside(64), lambda: (torch.rand(1, 2),))
    ),
    "conditional-mask": Case(
        lambda: made("conditional-mask", D, hidden=8),
        lambda b, length: (torch.randn(b, max(length, 1), D),),
        call=lambda module, items: module.step(items, torch.ones(items.shape[:2], dtype=torch.bool))[0],
        sequences=False,
    ),
    "fourier-number": Case(
        lambda: made("fourier-number", 24, places=4), ids(10_000), (lambda: (torch.rand(1, 2),), *outside(10**9))
    ),
    "multi-scale": Case(
        lambda: made("multi-scale", D),
        lambda b, length: (torch.randn(b, length),),
        (lambda: (torch.tensor([[1.0, float("nan")]]),), lambda: (torch.tensor([[1, 2]]),)),
    ),
    "wavelet-digits": Case(lambda: made("wavelet-digits", D), ids(10), outside(10)),
    "window-token": Case(
        lambda: made("window-token", 5, D),
        lambda b, length: (torch.randn(b, length, 5),),
        (lambda: (torch.randn(1, 2, 4),),),
    ),
    "char-dual": Case(lambda: made("char-dual", VOCABULARY, D, width=4), ids(V), outside(V)),
    "joint-table": Case(
        lambda: made("joint-table", PlainTable(VOCABULARY, D), {"image": 5}, D), ids(V + 7), outside(V + 7)
    ),
    "lexinvariant": Case(lambda: made("lexinvariant", VOCABULARY, D), ids(V), outside(V), random=True),
    "pixelbytes": Case(lambda: made("pixelbytes", PixelBytes(4), D, narrow=3), ids(261), outside(261)),
    "scone": Case(lambda: made("scone", VOCABULARY, D, ngrams=50), ids(V), outside(V)),
    "virtual-width": Case(lambda: made("virtual-width", V, D, expansion=2), ids(V), outside(V)),
    "wavelet": Case(lambda: made("wavelet", D, levels=3, learned=True), states),
    "decoupled": Case(
        lambda: made("decoupled", V, D, input_width=4, output_width=12),
        ids(V),
        outside(V),
        call=lambda module, rows: module.output(module.input(rows)),
    ),
    "projected-output": Case(lambda: made("projected-output", V, D), states),
    "surface-fusion": Case(
        lambda: made("surface-fusion", D),
        lambda b, length: (*(torch.randn(b, n, D) for n in (length, 5, 5)), torch.ones(b, 5, dtype=torch.bool)),
        call=lambda module, rows, source, surface, keep: module(rows, source, surface, keep, HEAD),
    ),
    "tied-output": Case(with_its_table, states, call=lambda both, rows: both[1](rows)),
    "trigram-head": Case(
        lambda: made("trigram-head", D, [f"word{i}" for i in range(V)], rows=64, hashes=4, lower=1), states
    ),
    "vq-logits": Case(lambda: made("vq-logits", V, D, 8, own=3), states),
    "field-tables": Case(lambda: made("field-tables", SIZES, D), fields, (outside_field,), sequences=False),
    "interest": Case(
        lambda: made("interest", D, hidden=8),
        lambda b, length: (torch.randn(b, length, D), torch.randn(b, D), torch.rand(b, length) < 0.7),
        (lambda: (torch.randn(2, 3, D), torch.randn(1, D), torch.ones(2, 3, dtype=torch.bool)),),
    ),
    "optembed": Case(lambda: made("optembed", SIZES, D), fields, (outside_field,), sequences=False, smooth=False),
    "pruned-features": Case(
        lambda: made("pruned-features", SIZES, D, (4, 8, 2), torch.arange(sum(SIZES)) % 3 > 0),
        fields,
        (outside_field,),
        sequences=False,
    ),
    "unified": Case(
        lambda: made("unified", 32, 4, (2, 2, 2)), fields, (lambda: (torch.zeros(1, 2).long(),),), sequences=False
    ),
    "hierarchical-bytes": Case(
        lambda: made("hierarchical-bytes", SHAPE),
        ids(256),
        outside(256),
        call=lambda module, rows: module.nll(rows),
    ),
    "byte-to-word": Case(
        lambda: made("byte-to-word", VOCABULARY, SHAPE, width=8),
        ids(V),
        outside(V),
        call=lambda module, rows: module.nll(rows),
    ),
    "word-pooled": Case(
        lambda: made("word-pooled", SHAPE, slots=2),
        ids(256),
        outside(256),
        call=lambda module, rows: module.nll(rows),
    ),
    "one-hot-bytes": Case(lambda: made("one-hot-bytes", BYTES, 256), ids(256), outside(256)),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """Each in turn, with the same numbers drawn."""
    torch.manual_seed(0)
    return CASES[request.param]


def test_no_kind_is_left_out() -> None:
    tested_elsewhere = ("layer", "fitted layer")
    there = {t.name for t in catalog.techniques(room="tokens") if t.kind not in tested_elsewhere}
    assert set(CASES) == there


def test_rows_are_their_own(case: Case) -> None:
    module, arguments = case.make().eval(), case.batch(3, L)
    with torch.no_grad():
        together = case.call(module, *arguments)
        alone = [case.call(module, *(part[row : row + 1] for part in arguments)) for row in range(3)]
    assert len(together) == 3
    assert torch.isfinite(together).all()
    if case.random:
        assert torch.cat(alone).shape == together.shape
    else:
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_empty_sequences_give_empty_or_constant_answers(case: Case) -> None:
    module, full = case.make().eval(), case.batch(2, L)
    empty = case.batch(2, 0)
    if not case.sequences:
        pytest.skip("this takes no sequences")
    with torch.no_grad():
        out, usual = case.call(module, *empty), case.call(module, *full)
    assert torch.isfinite(out).all()
    # an axis of places is empty; what pools a sequence gives a row all the same
    assert out.shape == (usual.shape if usual.ndim == 2 and usual.shape[1] != L else (2, 0, *usual.shape[2:]))


def test_what_does_not_exist_is_refused(case: Case) -> None:
    module = case.make().eval()
    if not case.bad:
        pytest.skip("any numbers are states")
    for bad in case.bad:
        with pytest.raises(InputError) as caught:
            case.call(module, *bad())
        assert "\n" not in str(caught.value)


def test_a_checkpoint_in_safetensors_is_the_whole_state(case: Case, tmp_path: Path) -> None:
    module, arguments = case.make().eval(), case.batch(2, L)
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    save_file(state, tmp_path / "state.safetensors")
    torch.manual_seed(1)
    again = case.make().eval()
    again.load_state_dict(load_file(tmp_path / "state.safetensors"))
    if not case.random:
        with torch.no_grad():
            assert torch.equal(case.call(module, *arguments), case.call(again, *arguments))


def test_one_seed_makes_one_module(case: Case) -> None:
    made_twice = []
    for _ in range(2):
        torch.manual_seed(7)
        made_twice.append(case.make().state_dict())
    first, second = made_twice
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_gradients_are_those_of_finite_differences(case: Case) -> None:
    module = case.make().eval().double()
    arguments = tuple(part.double() if part.is_floating_point() else part for part in case.batch(2, L))
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained or case.random or not case.smooth:
        pytest.skip("nothing to train, drawn anew, or an estimate")
    HEAD.double()
    try:
        weight = torch.randn(case.call(module, *arguments).shape, dtype=torch.float64)

        def loss() -> Any:
            return (case.call(module, *arguments) * weight).sum()

        loss().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
        slopes = [torch.randn(parameter.shape, dtype=torch.float64) for parameter in trained]
        wanted = sum(float((p.grad * s).sum()) for p, s in zip(trained, slopes) if p.grad is not None)
        found = []
        with torch.no_grad():
            for sign in (1, -1):
                for parameter, slope in zip(trained, slopes):
                    parameter += sign * 1e-6 * slope
                found.append(float(loss()))
                for parameter, slope in zip(trained, slopes):
                    parameter -= sign * 1e-6 * slope
        assert (found[0] - found[1]) / 2e-6 == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    finally:
        HEAD.float()
