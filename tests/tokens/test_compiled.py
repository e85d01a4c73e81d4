"""`torch.compile`: which layers are one graph, and that those with breaks give the same."""

from __future__ import annotations

import shutil
import sys

import pytest

torch = pytest.importorskip("torch")

from sememe import tokens  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="torch.compile wants a C++ compiler here")
WHOLE = ("table", "factorized", "kronecker", "quotient-remainder", "subspace", "fixnorm")
BROKEN = ("hash-bucket", "mixed-dim")  # how many rows there are, or of which group, is known when they are there


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    """500 symbols."""
    return Vocabulary([f" word{i:x}" for i in range(500)])


def same_twice(layer: torch.nn.Module, compiled: object) -> None:
    """Two batches, forward and backward, as the layer itself."""
    generator = torch.Generator().manual_seed(0)
    trained = list(layer.parameters())
    for _ in range(2):
        ids = torch.randint(500, (2, 9), generator=generator)
        wanted, found = layer(ids), compiled(ids)  # type: ignore[operator]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        weight = torch.randn(wanted.shape, generator=generator)
        slopes = [torch.autograd.grad(out, trained, weight, allow_unused=True) for out in (found, wanted)]
        for mine, its in zip(*slopes):
            if its is not None:  # a group of symbols that the batch has none of
                torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", WHOLE)
def test_these_are_one_graph(name: str, vocabulary: Vocabulary) -> None:
    torch._dynamo.reset()
    layer = tokens.build(name, vocabulary, 16)
    same_twice(layer, torch.compile(layer, fullgraph=True, backend="aot_eager"))


@pytest.mark.parametrize("name", BROKEN)
def test_these_break_and_give_the_same(name: str, vocabulary: Vocabulary) -> None:
    torch._dynamo.reset()
    layer = tokens.build(name, vocabulary, 16)
    same_twice(layer, torch.compile(layer, backend="aot_eager"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_machine_code_gives_the_same(vocabulary: Vocabulary) -> None:
    torch._dynamo.reset()
    layer = tokens.build("kronecker", vocabulary, 16)
    same_twice(layer, torch.compile(layer))
