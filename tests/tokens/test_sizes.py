"""Budgets are met in fine steps, and the fast forms of sums and products are the slow ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402

from sememe import tokens  # noqa: E402
from sememe.errors import BudgetError, InputError  # noqa: E402
from sememe.tokens.bag_sums import bag_sums  # noqa: E402
from sememe.tokens.compositional import PathEmbedding  # noqa: E402
from sememe.tokens.factorized import FactorizedEmbedding  # noqa: E402
from sememe.tokens.kronecker import KroneckerEmbedding  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402

FINE = ("byte-attention", "char-mimic", "hash-bucket", "kronecker", "mimick", "multi-hash", "quotient-remainder")
FINE += ("subspace", "trigram-hash", "fourier-id")


@pytest.fixture(scope="module")
def large() -> Vocabulary:
    """8,000 symbols with counts."""
    return Vocabulary([f" {i:x}" for i in range(8_000)], counts=1 / (1.0 + np.arange(8_000)))


@pytest.mark.parametrize("height", [50, 70_000])
def test_sums_and_their_gradients_are_pytorchs(height: int) -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(height, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([3, 0, 40, 1, 0, 7, 0])
    rows = torch.randint(height, (int(counts.sum()),), generator=generator)
    begins = counts.cumsum(0) - counts
    weight = torch.randn(len(counts), 6, generator=generator, dtype=torch.float64)
    found = bag_sums(table, rows, begins)
    wanted = F.embedding_bag(rows, table, begins, mode="sum")
    torch.testing.assert_close(found, wanted)
    (mine,) = torch.autograd.grad((found * weight).sum(), table)
    (its,) = torch.autograd.grad((wanted * weight).sum(), table)
    torch.testing.assert_close(mine, its)
    with torch.no_grad():
        assert torch.equal(bag_sums(table, rows, begins), wanted)
    narrow = bag_sums(table.float(), rows.int(), begins.int())
    torch.testing.assert_close(narrow.double(), wanted, rtol=1e-5, atol=1e-5)


def test_sums_of_nothing_are_zeros() -> None:
    table = torch.randn(4, 3, requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.int64)
    out = bag_sums(table, nothing, torch.zeros(2, dtype=torch.int64))
    out.sum().backward()
    assert not out.any()
    assert table.grad is None or not table.grad.any()


@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize("share", ["25%", "10%", "1%"])
def test_small_shares_of_a_small_table_are_met(name: str, share: str, large: Vocabulary) -> None:
    layer = tokens.build(name, large, 64, share)
    wanted = float(share[:-1]) / 100 * 8_000 * 64
    assert abs(layer.num_bytes / 4 - wanted) <= 0.05 * wanted


@pytest.mark.parametrize("scheme", ["radix", "remainders"])
@pytest.mark.parametrize("share", ["40%", "10%", "4%", "100%"])
def test_rows_side_by_side_have_their_budgets(scheme: str, share: str, large: Vocabulary) -> None:
    layer = tokens.build("quotient-remainder", large, 64, share, scheme=scheme, combine="concat")
    wanted = float(share[:-1]) / 100 * 8_000 * 64
    assert abs(layer.num_bytes / 4 - wanted) <= 0.05 * wanted
    codes = layer.codes.numpy()
    assert len(np.unique(codes, axis=0)) == 8_000
    with pytest.raises(BudgetError, match="nearest"):
        tokens.build("quotient-remainder", large, 64, "0.02%", scheme=scheme, combine="concat")


def test_networks_are_few_and_rows_many(large: Vocabulary) -> None:
    options = PathEmbedding.sized(large, 64, 128_000)
    paths = -(-8_000 // options["rows"])
    each = 2 * 64 * options["hidden"] + options["hidden"] + 64
    assert abs(options["rows"] * 64 + paths * each - 128_000) <= 0.02 * 128_000
    # no fewer networks of that width leave room for the rows that they need
    for fewer in range(1, paths):
        assert -(-8_000 // fewer) * 64 + fewer * each > 1.02 * 128_000


@pytest.mark.parametrize("rows", [200, 3])
def test_few_networks_one_by_one_are_many_at_once(rows: int) -> None:
    """300 symbols: 2 networks are applied in turn, 100 together."""
    layer = PathEmbedding(Vocabulary.of(300), 6, rows=rows, hidden=4)
    ids = torch.randint(300, (50,), generator=torch.Generator().manual_seed(0))
    path = ids // rows
    inner = F.gelu(torch.einsum("nd,ndh->nh", layer.weight[ids % rows], layer.up[path]) + layer.up_bias[path][:, 0])
    wanted = torch.einsum("nh,nhd->nd", inner, layer.down[path]) + layer.down_bias[path][:, 0]
    torch.testing.assert_close(layer(ids), wanted, rtol=1e-4, atol=1e-6)


def test_a_projection_of_two_factors_is_their_product() -> None:
    vocabulary = Vocabulary([b"ab", b"ba", b"", b"abc", b"\xff"])
    layer = KroneckerEmbedding(vocabulary, 8, positions=2, rank=3)
    whole = KroneckerEmbedding(vocabulary, 8, positions=2)
    with torch.no_grad():
        whole.weight.copy_(layer.weight @ layer.narrow)
    ids = torch.arange(5)
    torch.testing.assert_close(layer(ids), whole(ids))
    torch.testing.assert_close(layer(ids), layer.dense(ids))
    assert layer.num_parameters == 3 * (512 + 8)
    with pytest.raises(InputError, match="rank=9"):
        KroneckerEmbedding(vocabulary, 8, rank=9)


def test_two_factors_fit_as_well_as_their_rank_allows() -> None:
    generator = torch.Generator().manual_seed(0)
    vocabulary = Vocabulary([bytes([97 + a, 97 + b]) for a in range(12) for b in range(12)])
    table = torch.randn(144, 10, generator=generator)
    full = KroneckerEmbedding(vocabulary, 10, positions=2).fit(table).table().double()
    ours = KroneckerEmbedding(vocabulary, 10, positions=2, rank=4).fit(table).table().double()
    left = torch.linalg.svdvals(full)[4:].square().sum()
    torch.testing.assert_close((full - ours).square().sum(), left, rtol=1e-3, atol=1e-3)


def test_some_symbols_are_wider(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).permutation(200) + 1.0
    vocabulary = Vocabulary([f"{i}" for i in range(200)], counts=counts)
    layer = FactorizedEmbedding(vocabulary, 16, rank=3, wider=50)
    assert layer.num_parameters == 200 * 3 + 50 + 4 * 16
    table = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    layer.fit(table)
    frequent = np.argsort(-counts, kind="stable")
    whole = FactorizedEmbedding(vocabulary, 16, rank=4).fit(table).table()
    ours = layer.table()
    torch.testing.assert_close(ours[frequent[:50]], whole[frequent[:50]], rtol=1e-4, atol=1e-5)
    narrow = torch.linalg.matrix_rank(ours[frequent[50:]].double(), atol=1e-4)
    assert int(narrow) == 3
    path = tokens.save(layer, tmp_path / "layer")
    assert torch.equal(tokens.load(path, vocabulary).table(), ours)
    with pytest.raises(InputError, match="other counts"):
        tokens.load(path, Vocabulary(vocabulary.pieces))


def test_a_metric_bends_the_best_low_rank() -> None:
    """With an error that costs in two directions only, a table of rank two costs nothing."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(100, 8, generator=generator)
    axes = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    metric = axes[:, :2] @ axes[:, :2].T

    def cost(**options: Any) -> float:
        layer = FactorizedEmbedding(Vocabulary.of(100), 8, rank=2).fit(table, **options)
        away = layer.table() - table
        return float(((away @ metric) * away).sum())

    assert cost(metric=metric.numpy()) < 0.01 * cost()
    with pytest.raises(InputError, match="metric of shape"):
        FactorizedEmbedding(Vocabulary.of(100), 8, rank=2).fit(table, metric=np.eye(7))
