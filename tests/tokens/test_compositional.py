"""Compositional, mixed, factorised and subspace layers against their definitions and exact counts."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sememe import tokens  # noqa: E402
from sememe.errors import BudgetError, InputError  # noqa: E402
from sememe.tokens.compositional import (  # noqa: E402
    PathEmbedding,
    QuotientRemainder,
    coprime_sizes,
    coprime_sizes_for,
    radix_sizes,
    sizes_for,
)
from sememe.tokens.factorized import FactorizedEmbedding, low_rank  # noqa: E402
from sememe.tokens.mixed_dim import MixedDimEmbedding, widths_for  # noqa: E402
from sememe.tokens.subspace import SubspaceEmbedding, cluster  # noqa: E402
from sememe.tokens.vocabulary import Vocabulary  # noqa: E402


def numbered(count: int, zipf: bool = False) -> Vocabulary:
    return Vocabulary([f"w{i}" for i in range(count)], counts=1_000 / (1.0 + np.arange(count)) if zipf else None)


@pytest.mark.parametrize("combine", ["product", "sum", "concat"])
@pytest.mark.parametrize(("scheme", "sizes"), [("radix", [7, 15]), ("radix", [5, 5, 4]), ("remainders", [9, 11, 7])])
def test_rows_are_those_of_the_partitions(scheme: str, sizes: list[int], combine: str) -> None:
    layer = QuotientRemainder(numbered(100), 10, sizes=sizes, scheme=scheme, combine=combine)  # type: ignore[arg-type]
    for number in (0, 1, 6, 7, 14, 35, 99):
        if scheme == "remainders":
            places = [number % size for size in sizes]
        else:
            places, rest = [], number
            for size in sizes:
                places.append(rest % size)
                rest //= size
        rows = [table[place] for table, place in zip(layer.tables, places)]
        wanted = torch.cat(rows) if combine == "concat" else rows[0]
        for row in [] if combine == "concat" else rows[1:]:
            wanted = wanted * row if combine == "product" else wanted + row
        assert torch.equal(layer(torch.tensor([number]))[0], wanted)
    assert len({tuple(row) for row in layer.codes.tolist()}) == 100
    assert len(torch.unique(layer.table(), dim=0)) == 100
    assert layer.num_parameters == (sum(sizes) * 10 if combine != "concat" else _side_by_side(sizes, 10))


def _side_by_side(sizes: list[int], dim: int) -> int:
    widths = [dim // len(sizes) + (place < dim % len(sizes)) for place in range(len(sizes))]
    return sum(size * width for size, width in zip(sizes, widths))


def test_two_tables_are_quotient_and_remainder() -> None:
    layer = QuotientRemainder(numbered(1_000), 4, sizes=[64, 16])
    ids = torch.arange(1_000)
    assert torch.equal(layer(ids), layer.tables[0][ids % 64] * layer.tables[1][ids // 64])


@pytest.mark.parametrize("count", [1, 2, 3, 10, 97, 1_000, 20_000, 1_000_003])
@pytest.mark.parametrize("share", [1.0, 0.25, 0.05, 0.01, 0.001])
def test_sizes_reach_every_id_and_keep_to_their_number_of_rows(count: int, share: float) -> None:
    rows = max(1, round(share * count))
    for found, shared in ((sizes_for(count, rows), False), (coprime_sizes_for(count, rows), True)):
        assert math.prod(found) >= count
        assert not shared or math.lcm(*found) == math.prod(found)
        fewest = min(sum(radix_sizes(count, parts)) for parts in range(2, 9)) if count > 3 else count
        if rows >= 2 * fewest + 20:
            assert abs(sum(found) - rows) <= max(0.05 * rows, 12)


def test_radix_and_coprime_sizes() -> None:
    assert radix_sizes(1_000, 3) == [10, 10, 10]
    assert radix_sizes(1_001, 3) == [11, 11, 9]
    assert coprime_sizes(8, 3) == [8, 9, 11]


def test_a_small_vocabulary_gets_an_ordinary_table() -> None:
    assert QuotientRemainder(numbered(50), 8, sizes=[10, 5], threshold=50).num_parameters == 400
    assert QuotientRemainder(numbered(51), 8, sizes=[10, 6], threshold=50).num_parameters == 128


@pytest.mark.parametrize(
    "bad",
    [{"sizes": [3, 3]}, {"sizes": [6, 4], "scheme": "remainders"}, {"scheme": "x"}, {"combine": "x"}, {"rows": -1}],
)
def test_tables_that_do_not_tell_ids_apart_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InputError):
        QuotientRemainder(numbered(20), 8, **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("combine", ["product", "sum", "concat"])
def test_a_table_of_its_own_kind_is_found_again(combine: str) -> None:
    vocabulary = numbered(60)
    torch.manual_seed(0)
    truth = QuotientRemainder(vocabulary, 6, sizes=[10, 6], combine=combine)  # type: ignore[arg-type]
    with torch.no_grad():
        for table in truth.tables:
            table.copy_(1 + 0.3 * torch.randn_like(table))
    layer = QuotientRemainder(vocabulary, 6, sizes=[10, 6], combine=combine)  # type: ignore[arg-type]
    weights = torch.rand(60) + 0.1
    assert layer.fit(truth.table(), weights=weights).fit_.error < 1e-3  # type: ignore[union-attr]


def test_paths_are_networks_chosen_by_the_quotient() -> None:
    layer = PathEmbedding(numbered(25), 6, rows=10, hidden=4)
    assert layer.num_parameters == 10 * 6 + 3 * (2 * 6 * 4 + 4 + 6)
    for number in (0, 9, 10, 24):
        path = number // 10
        inner = torch.nn.functional.gelu(layer.weight[number % 10] @ layer.up[path] + layer.up_bias[path, 0])
        wanted = inner @ layer.down[path] + layer.down_bias[path, 0]
        torch.testing.assert_close(layer(torch.tensor([[3, number, 17]]))[0, 1], wanted)
    assert len(torch.unique(layer.table(), dim=0)) == 25


def test_widths_follow_popularity_and_the_budget() -> None:
    counts, popular = [10, 100, 1_000, 10_000], np.array([1.0, 0.1, 0.01, 0.001])
    for numbers in (40_000, 80_000, 200_000):
        widths = widths_for(counts, popular, 64, numbers, 0.3)
        total = sum(min(n * 64, (n + 64) * w) for n, w in zip(counts, widths))
        assert abs(total - numbers) <= 0.12 * numbers
        assert widths == sorted(widths, reverse=True)
    narrow = widths_for(counts, popular, 64, 80_000, 0.3)[2:]
    assert narrow[0] / narrow[1] == pytest.approx(10**0.3, rel=0.3)
    # the exhaustive search over scales finds nothing nearer
    best = min(
        abs(
            sum(min(n * 64, (n + 64) * max(1, min(64, math.floor(s * p**0.3 + 0.5)))) for n, p in zip(counts, popular))
            - 80_000
        )
        for s in np.linspace(0.5, 200, 4_000)
    )
    chosen = widths_for(counts, popular, 64, 80_000, 0.3)
    assert abs(sum(min(n * 64, (n + 64) * w) for n, w in zip(counts, chosen)) - 80_000) <= best
    same = widths_for([500, 500, 500], np.array([1.0, 0.5, 0.1]), 64, 30_000, 0.0)
    assert len(set(same)) == 1


def test_projections_of_mixed_widths_begin_with_the_same_axes() -> None:
    layer = MixedDimEmbedding(numbered(400), 16, numbers=1_600, groups=5)
    parts = [p.detach() * len(p) ** 0.5 for p in layer.projections.values()]
    assert len({len(part) for part in parts}) > 2
    widest = max(parts, key=len)
    for part in parts:
        torch.testing.assert_close(part, widest[: len(part)])


def test_groups_by_frequency_hold_the_frequent_symbols_first() -> None:
    generator = np.random.default_rng(0)
    counts = generator.permutation(1_000 / (1.0 + np.arange(200)))
    layer = MixedDimEmbedding(Vocabulary([b"x"] * 200, counts=counts), 16, numbers=1_200, groups=4)
    assert layer.counts == [25, 25, 50, 100]
    order = np.argsort(-counts, kind="stable")
    assert layer.place.numpy()[order].tolist() == list(range(200))
    formula = sum(min(n * 16, (n + 16) * w) for n, w in zip(layer.counts, layer.group_widths))
    assert layer.num_parameters == formula
    for place, group, slot in ((0, 0, 0), (30, 1, 5), (60, 2, 10), (199, 3, 99)):
        number = int(order[place])
        row = layer.tables[group][slot]
        wanted = row @ layer.projections[str(group)] if str(group) in layer.projections else row
        torch.testing.assert_close(layer(torch.tensor([[5, number]]))[0, 1], wanted)


def test_groups_may_be_fields() -> None:
    layer = MixedDimEmbedding(numbered(1_110), 32, numbers=6_000, fields=[10, 100, 1_000])
    assert layer.counts == [10, 100, 1_000]
    assert layer.starts.tolist() == [0, 10, 110, 1_110]
    assert layer.place.tolist() == list(range(1_110))
    assert layer.group_widths[0] == 32
    assert layer.group_widths[1] > layer.group_widths[2]
    with pytest.raises(InputError, match="fields of 11 ids"):
        MixedDimEmbedding(numbered(12), 4, fields=[5, 6])


def test_each_group_is_fitted_by_its_nearest_table_of_that_rank() -> None:
    vocabulary = numbered(300, zipf=True)
    table = torch.randn(300, 24, generator=torch.Generator().manual_seed(1))
    layer = MixedDimEmbedding(vocabulary, 24, numbers=2_500).fit(table)
    rebuilt = layer.table()
    for width, rows in zip(layer.group_widths, layer.place.argsort().split(layer.counts)):
        left = torch.linalg.svdvals(table[rows].double())[width:].square().sum().item()
        assert (table[rows] - rebuilt[rows]).double().square().sum().item() == pytest.approx(left, rel=1e-3, abs=1e-5)


def test_low_rank_is_the_best_and_weights_matter() -> None:
    table = torch.randn(200, 20, generator=torch.Generator().manual_seed(2))
    narrow, projection = low_rank(table, 5)
    left = torch.linalg.svdvals(table.double())[5:].square().sum().item()
    assert (table - narrow @ projection).double().square().sum().item() == pytest.approx(left, rel=1e-4)
    weights = torch.rand(200, generator=torch.Generator().manual_seed(3)) ** 8
    heavy, axes = low_rank(table, 5, weights)

    def loss(a: object, b: object) -> float:
        return float((weights[:, None] * (table - a @ b).square()).sum())  # type: ignore[operator]

    assert loss(heavy, axes) < loss(narrow, projection)
    scaled = table.double() * weights.double().sqrt()[:, None]
    assert loss(heavy, axes) == pytest.approx(torch.linalg.svdvals(scaled)[5:].square().sum().item(), rel=1e-3)
    layer = FactorizedEmbedding(numbered(200), 20, rank=5)
    assert layer.num_parameters == 200 * 5 + 5 * 20


def test_subspaces_are_digits_or_clusters() -> None:
    vocabulary = numbered(500)
    plain = SubspaceEmbedding(vocabulary, 10, rows=8, parts=3, assignment="cartesian")
    assert [part.shape[1] for part in plain.tables] == [4, 3, 3]
    assert plain.codes[423].tolist() == [423 % 8, 423 // 8 % 8, 423 // 64]
    row = torch.cat([plain.tables[k][c] for k, c in enumerate((423 % 8, 423 // 8 % 8, 423 // 64))])
    assert torch.equal(plain(torch.tensor([423]))[0], row)
    assert plain.num_parameters == 80
    assert plain.num_bytes == 4 * 80  # digits are not stored
    with pytest.raises(InputError, match="do not number"):
        SubspaceEmbedding(vocabulary, 10, rows=7, parts=3, assignment="cartesian")
    centres = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    which = torch.randint(8, (500,), generator=torch.Generator().manual_seed(1))
    table = centres[which] + 0.01 * torch.randn(500, 10)
    found = SubspaceEmbedding(vocabulary, 10, rows=8, parts=3).fit(table)
    assert found.num_bytes == 4 * 80 + 3 * 500
    assert found.fit_ is not None and found.fit_.error < 0.2 < plain.fit(table).fit_.error  # type: ignore[union-attr]


def test_subspaces_that_are_large_enough_are_exact() -> None:
    table = torch.randn(40, 9)
    assert SubspaceEmbedding(numbered(40), 9, rows=40).fit(table).fit_.error < 1e-10  # type: ignore[union-attr]


def test_no_cluster_is_left_without_points() -> None:
    points = torch.cat((torch.randn(400, 3), 30 + torch.randn(4, 3)))
    found = cluster(points, 32, None, torch.Generator().manual_seed(0))
    assert len(torch.unique(found)) == 32


def test_budgets_of_every_scheme() -> None:
    vocabulary = numbered(20_000)
    for name, options in (
        ("quotient-remainder", {"scheme": "remainders"}),
        ("quotient-remainder", {"combine": "sum"}),
        ("quotient-path", {}),
        ("mixed-dim", {"alpha": 0.6}),
    ):
        for share in (0.5, 0.2, 0.08):
            layer = tokens.build(name, vocabulary, 64, f"{100 * share}%", **options)
            assert layer.size == pytest.approx(share * 20_000 * 64, rel=0.05)
    with pytest.raises(BudgetError, match="nearest"):
        tokens.build("factorized", vocabulary, 64, 1_000)
